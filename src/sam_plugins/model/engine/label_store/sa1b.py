"""Masks as the SA-1B data set has them: beside each picture a JSON document of the same name.

The keys are those of the data set (Kirillov et al., 2023, and its download page), which
segment_anything's ``SamAutomaticMaskGenerator`` writes, too: ``segmentation`` as COCO RLE,
``predicted_iou``, ``stability_score``, ``point_coords`` (the grid point that was the prompt), and
``crop_box``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sam_plugins.errors import DatasetError
from sam_plugins.model.engine.label_store.exporting import (
    ExportOptions,
    box_xywh,
    chosen,
    copy_picture,
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
    PromptEvent,
    PromptKind,
    ReviewState,
    Split,
    Stage,
)
from sam_plugins.model.io.atomic import make_folder
from sam_plugins.model.io.rle import mask_area

_BY_A_MODEL = ImportOptions(review=ReviewState.PROPOSED)
_EXTRA = ("stability_score", "crop_box")


def import_sa1b(
    store: LabelStore,
    folder: str | os.PathLike[str],
    images_dir: str | os.PathLike[str] | None = None,
    options: ImportOptions | None = None,
) -> ImportReport:
    """Import the masks of a folder of documents, one for each picture.

    Parameters
    ----------
    store : LabelStore
    folder : path-like
        With the documents, ``*.json``.
    images_dir : path-like, optional
        Where the pictures are; beside the documents by default.
    options : ImportOptions, optional
        By default, masks are proposed: a model made them.

    Returns
    -------
    ImportReport
        Documents that cannot be read are among what is skipped.

    Raises
    ------
    DatasetError
        If there is no document, or no picture is found.
    LabelStoreError
        If the store cannot be written.
    """
    folder, options = Path(folder), options or _BY_A_MODEL
    documents = sorted(folder.glob("*.json"))
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder}; name the one that holds the documents")
    if not documents:
        raise DatasetError(f"no document *.json in {folder}; name the folder that holds them")
    folders = [picture_folder(images_dir, folder)]
    return take_in(store, (_incoming(one, folders, options) for one in documents), options, folder)


def export_sa1b(
    store: LabelStore,
    folder: str | os.PathLike[str],
    options: ExportOptions | None = None,
) -> int:
    """Write a copy of each picture, and beside it its masks.

    Where a score is not known it is null.

    Parameters
    ----------
    store : LabelStore
    folder : path-like
    options : ExportOptions, optional

    Returns
    -------
    int
        How many objects were written; crowds are not among them.

    Raises
    ------
    LabelStoreError
        If there is nothing to export, or a picture has changed.
    OutputError
        If something cannot be written.
    """
    folder = make_folder(folder)
    found = chosen(store, options or ExportOptions())
    names = names_of([record for record, _ in found])
    count = 0
    for number, (record, objects) in enumerate(found, start=1):
        name = names[record.image_id]
        picture = copy_picture(store, record, folder, name)
        annotations = [
            _annotation(count + place, one, record)
            for place, one in enumerate((one for one in objects if not one.is_crowd), start=1)
        ]
        count += len(annotations)
        image = {
            "image_id": number,
            "width": record.size_hw[1],
            "height": record.size_hw[0],
            "file_name": picture.name,
            KEY: describe_image(record) | {"plane": None},
        }
        write_json(folder / f"{name}.json", {"image": image, "annotations": annotations})
    return count


def _annotation(number: int, one: LabelledObject, record: ImageRecord) -> dict[str, Any]:
    """Return a mask with the keys of SA-1B."""
    height, width = record.size_hw
    points = [
        list(prompt.values)
        for prompt in one.prompts
        if prompt.kind in {PromptKind.SEED, PromptKind.POINT} and prompt.is_positive
    ]
    return {
        "id": number,
        "segmentation": dict(one.rle),
        "bbox": box_xywh(one.mask()),
        "area": mask_area(one.rle),
        "predicted_iou": one.score,
        "stability_score": one.extra.get("stability_score"),
        "point_coords": points,
        "crop_box": one.extra.get("crop_box", [0, 0, width, height]),
        KEY: describe_object(one) | {"class_name": one.class_name},
    }


def _incoming(path: Path, folders: list[Path], options: ImportOptions) -> Incoming:
    """Return the picture that a document is about; a damaged document is about none."""
    try:
        document = read_json(path)
        image, annotations = document["image"], list(document["annotations"])
        name, size_hw = str(image["file_name"]), (int(image["height"]), int(image["width"]))
        about = dict(image.get(KEY) or {})
        split = None if about.get("split") is None else Split(about["split"])
    except (DatasetError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = str(error) if isinstance(error, DatasetError) else f"no SA-1B document ({error!r})"
        return Incoming(f"{path.name}: {reason}", None, None, lambda _: ())
    picture = find_picture(name, folders)

    def objects_of(record: ImageRecord) -> Iterator[LabelledObject | Skipped]:
        for annotation in annotations:
            where = f"annotation {annotation.get('id')} of {path.name}"
            yield explained(where, _made(record, annotation, options))

    return Incoming(
        where=f"{path.name} ({name})",
        source=None if picture is None else ImageSource(picture, None, about.get("group")),
        size_hw=size_hw,
        objects_of=objects_of,
        is_complete=bool(about.get("is_complete")),
        split=split,
    )


def _made(
    record: ImageRecord, annotation: Mapping[str, Any], options: ImportOptions
) -> Iterator[LabelledObject]:
    """Make the object of one annotation."""
    described = dict(annotation.get(KEY) or {})
    class_name = described.pop("class_name", "object")
    yield restored_object(
        record.image_id,
        annotation["segmentation"],
        class_name,
        described,
        options,
        score=annotation.get("predicted_iou"),
        prompts=tuple(PromptEvent.seed(x, y) for x, y in annotation.get("point_coords") or ()),
        stage=Stage.FULLY_AUTOMATIC,
        extra={key: annotation[key] for key in _EXTRA if annotation.get(key) is not None},
    )
