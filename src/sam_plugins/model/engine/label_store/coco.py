"""COCO: one JSON document for many pictures.

The format (https://cocodataset.org/#format-data): ``images``, ``annotations``, ``categories``; a
``segmentation`` is an RLE, compressed or not, or polygons in pixels from the edge of the picture.
``iscrowd`` marks a region of many objects. What COCO has no words for stands under ``sam_plugins``,
which other programs skip.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sam_plugins.errors import DatasetError
from sam_plugins.model.engine.label_store.exporting import (
    ExportOptions,
    box_xywh,
    chosen,
    class_names,
    copy_picture,
    file_name_of,
    names_of,
    write_json,
)
from sam_plugins.model.engine.label_store.importing import (
    ImportOptions,
    ImportReport,
    Incoming,
    Skipped,
    explained,
    find_picture,
    picture_folder,
    read_json,
    take_in,
)
from sam_plugins.model.engine.label_store.portable import (
    KEY,
    describe_image,
    describe_object,
    restored_object,
)
from sam_plugins.model.engine.label_store.store import LabelStore
from sam_plugins.model.engine.label_store.types import (
    ImageRecord,
    ImageSource,
    LabelledObject,
    Split,
)
from sam_plugins.model.io.outlines import fill_polygons
from sam_plugins.model.io.rle import encode_mask, mask_area


def import_coco(
    store: LabelStore,
    path: str | os.PathLike[str],
    images_dir: str | os.PathLike[str] | None = None,
    options: ImportOptions | None = None,
) -> ImportReport:
    """Import the annotations of a COCO document that have a mask.

    Parameters
    ----------
    store : LabelStore
    path : path-like
        The document.
    images_dir : path-like, optional
        Where its pictures are; beside it by default.
    options : ImportOptions, optional

    Returns
    -------
    ImportReport
        Pictures that are not there, and annotations without a mask, are among what is skipped.

    Raises
    ------
    DatasetError
        If the document cannot be read or is no COCO, or none of its pictures is found.
    LabelStoreError
        If the store cannot be written.
    """
    path, options = Path(path), options or ImportOptions()
    document = read_json(path)
    if not isinstance(document, Mapping):
        raise DatasetError(
            f"{path} is no COCO document that we can read: it holds a {type(document).__name__}; "
            "it needs 'images' with 'id' and 'file_name', and 'annotations' with 'image_id'"
        )
    try:
        categories = {one["id"]: str(one["name"]) for one in document.get("categories", [])}
        by_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        for annotation in document["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        images = list(document["images"])
        folders = [picture_folder(images_dir, path.parent)]
        incoming = [
            _incoming(image, by_image[image["id"]], categories, folders, options)
            for image in images
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DatasetError(
            f"{path} is no COCO document that we can read ({type(error).__name__}: {error}); it "
            "needs 'images' with 'id' and 'file_name', and 'annotations' with 'image_id'"
        ) from error
    return take_in(store, incoming, options, path)


def export_coco(
    store: LabelStore,
    path: str | os.PathLike[str],
    images_dir: str | os.PathLike[str] | None = None,
    options: ExportOptions | None = None,
    *,
    title: str | None = None,
) -> int:
    """Write objects as a COCO document, every mask as compressed RLE.

    Parameters
    ----------
    store : LabelStore
    path : path-like
        The document to write.
    images_dir : path-like, optional
        Where to copy the pictures to; by default they are named where they are.
    options : ExportOptions, optional
    title : str, optional
        What the document says that it holds the labels of; by default the name of the store's
        folder.

    Returns
    -------
    int
        How many objects were written.

    Raises
    ------
    LabelStoreError
        If there is nothing to export, or a picture has changed.
    OutputError
        If something cannot be written.
    """
    path = Path(path)
    found = chosen(store, options or ExportOptions())
    names = names_of([record for record, _ in found])
    classes = class_names(one for _, objects in found for one in objects)
    category_ids = {name: number for number, name in enumerate(classes, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (record, objects) in enumerate(found, start=1):
        picture = record.path
        if images_dir is not None:
            picture = copy_picture(store, record, Path(images_dir), names[record.image_id])
        about = describe_image(record)
        if images_dir is not None:
            about["plane"] = None  # it is a picture of its own now
        images.append(
            {
                "id": number,
                "file_name": file_name_of(picture, Path(images_dir or path.parent)),
                "height": record.size_hw[0],
                "width": record.size_hw[1],
                KEY: about,
            }
        )
        for one in objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category_ids[one.class_name],
                    "segmentation": dict(one.rle),
                    "area": mask_area(one.rle),
                    "bbox": box_xywh(one.mask()),
                    "iscrowd": int(one.is_crowd),
                    KEY: describe_object(one),
                }
            )
    write_json(
        path,
        {
            "info": {"description": f"labels of {title or store.folder.name}"},
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": [
                {"id": number, "name": name, "supercategory": ""}
                for name, number in category_ids.items()
            ],
        },
    )
    return len(annotations)


def _incoming(
    image: Mapping[str, Any],
    annotations: list[Mapping[str, Any]],
    categories: Mapping[Any, str],
    folders: list[Path],
    options: ImportOptions,
) -> Incoming:
    """Return one picture of a document."""
    name = str(image["file_name"])
    picture = find_picture(name, folders)
    about = image.get(KEY) or {}
    source = None
    if picture is not None:
        source = ImageSource(picture, about.get("plane"), about.get("group"))
    size = (image.get("height"), image.get("width"))
    size_hw = None if None in size else (int(image["height"]), int(image["width"]))

    def objects_of(record: ImageRecord) -> Iterator[LabelledObject | Skipped]:
        for annotation in annotations:
            where = f"annotation {annotation.get('id')} of {name}"
            yield explained(where, _made(record, annotation, categories, options))

    split = about.get("split")
    return Incoming(
        where=name,
        source=source,
        size_hw=size_hw,
        objects_of=objects_of,
        is_complete=bool(about.get("is_complete")),
        split=None if split is None else Split(split),
    )


def _made(
    record: ImageRecord,
    annotation: Mapping[str, Any],
    categories: Mapping[Any, str],
    options: ImportOptions,
) -> Iterator[LabelledObject]:
    """Make the object of one annotation."""
    rle = _rle(annotation.get("segmentation"), record.size_hw)
    category = annotation.get("category_id")
    described = annotation.get(KEY)
    yield restored_object(
        record.image_id,
        rle,
        categories.get(category, "object" if category is None else str(category)),
        described,
        options,
        is_crowd=bool(annotation.get("iscrowd")),
        score=annotation.get("score"),
    )


def _rle(segmentation: Any, size_hw: tuple[int, int]) -> dict[str, Any]:  # noqa: ANN401
    """Return the mask of a segmentation, whichever of COCO's three ways it is written in."""
    if not segmentation:
        raise ValueError("it has no segmentation, at most a box; give the box to a model")
    if isinstance(segmentation, Mapping):
        if tuple(segmentation["size"]) != size_hw:
            raise ValueError(
                f"its mask is of size {tuple(segmentation['size'])}, the picture of {size_hw}"
            )
        rle = dict(segmentation)
    else:
        rings = [np.reshape(np.asarray(ring, np.float64), (-1, 2)) for ring in segmentation]
        rle = encode_mask(fill_polygons(rings, size_hw))
    if not mask_area(rle):
        raise ValueError("its mask is empty")
    return rle
