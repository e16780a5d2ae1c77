"""Labelled pictures in COCO's format: one JSON of annotations and a folder of pictures.

The format (https://cocodataset.org/#format-data): ``images`` with ``id`` and ``file_name``,
``annotations`` with ``image_id``, ``category_id``, ``segmentation`` (polygons, or a run-length
code) and ``iscrowd``, and ``categories``. The corner of the first pixel is at 0.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_plugins.errors import DatasetError, UnreadableImageError
from sam_plugins.model.io.images import read_image
from sam_plugins.model.io.labelled import LabelledImage, WholeMasks
from sam_plugins.model.io.rle import decode_mask, encode_mask

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class CocoFile:
    """A picture of a COCO set; a :class:`~sam_plugins.model.io.labelled.LabelledSource`.

    Attributes
    ----------
    id : str
        The ``id`` of the picture in the file.
    set_name : str
        Name of the JSON file, without its ending.
    image_path : Path
    annotations : tuple of mapping
        As in the file.
    category_names : mapping of int to str
    complete : bool
        Whether every visible object carries a mask.
    """

    id: str
    set_name: str
    image_path: Path
    annotations: tuple[Mapping[str, Any], ...]
    category_names: Mapping[int, str]
    complete: bool = True

    def read(self) -> LabelledImage:
        """Read the picture and draw its objects.

        Returns
        -------
        LabelledImage
            Objects are numbered as the annotations come. Where they overlap the smaller one owns
            the pixels and the other is a whole mask beside. Crowds are ignored regions, objects
            without a pixel are left out.

        Raises
        ------
        UnreadableImageError
            If the picture is missing or cannot be decoded.
        DatasetError
            If an annotation cannot be drawn on it.
        """
        image = read_image(self.image_path)
        size_hw = _size_of(image, self.image_path)
        ignore = np.zeros(size_hw, bool)
        masks: dict[int, BoolArray] = {}
        categories: dict[int, str] = {}
        for number, annotation in enumerate(self.annotations, start=1):
            try:
                mask = draw_segmentation(annotation["segmentation"], size_hw)
            except (KeyError, TypeError, ValueError) as error:
                raise DatasetError(
                    f"annotation {annotation.get('id', number)} of {self.image_path.name} in "
                    f"{self.set_name} must have polygons or a run-length code for a picture of "
                    f"{size_hw[0]} x {size_hw[1]} pixels ({error}); export the set again"
                ) from error
            if annotation.get("iscrowd"):
                ignore |= mask
            elif mask.any():
                masks[number] = mask
                if annotation.get("category_id") in self.category_names:
                    categories[number] = self.category_names[annotation["category_id"]]
        labels = np.zeros(size_hw, np.int32)
        for number in sorted(masks, key=lambda one: -int(np.count_nonzero(masks[one]))):
            labels[masks[number]] = number
        covered = {
            number: encode_mask(mask)
            for number, mask in masks.items()
            if not (labels[mask] == number).all()
        }
        return LabelledImage(
            id=self.id,
            image=image,
            labels=labels,
            ignore=ignore if ignore.any() else None,
            whole_masks=WholeMasks(covered),
            complete=self.complete,
            set_name=self.set_name,
            categories=categories,
        )


def list_coco_files(
    annotations: str | os.PathLike[str],
    images_dir: str | os.PathLike[str],
    *,
    complete: bool = True,
) -> list[CocoFile]:
    """List the pictures of a COCO set.

    Parameters
    ----------
    annotations : path-like
        The JSON file.
    images_dir : path-like
        Folder of the pictures.
    complete : bool
        Whether every visible object carries a mask.

    Returns
    -------
    list of CocoFile
        All pictures of the file, as it lists them; those without objects too.

    Raises
    ------
    UnreadableImageError
        If the file cannot be read.
    DatasetError
        If it is no COCO file or lists no picture, or pictures are missing.
    """
    path, folder = Path(annotations), Path(images_dir)
    content = _read(path)
    by_image: dict[Any, list[Mapping[str, Any]]] = {}
    try:
        for one in content["annotations"]:
            by_image.setdefault(one["image_id"], []).append(one)
        names = {int(one["id"]): str(one["name"]) for one in content.get("categories", [])}
        files = [
            CocoFile(
                id=str(entry["id"]),
                set_name=path.stem,
                image_path=folder / entry["file_name"],
                annotations=tuple(by_image.get(entry["id"], ())),
                category_names=names,
                complete=complete,
            )
            for entry in content["images"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{path} must be a COCO file with images, annotations and categories "
            f"({type(error).__name__}: {error}); export the set again"
        ) from error
    if not files:
        raise DatasetError(f"{path} lists no picture; export the set again")
    missing = [
        entry["file_name"]
        for entry, file in zip(content["images"], files, strict=True)
        if not file.image_path.is_file()
    ]
    if missing:
        raise DatasetError(
            f"{len(missing)} of the {len(files)} pictures of {path} are not in {folder}, such as "
            f"{', '.join(missing[:3])}; name the folder that holds them"
        )
    return files


def draw_segmentation(segmentation: Any, size_hw: tuple[int, int]) -> BoolArray:  # noqa: ANN401
    """Return the mask of a COCO ``segmentation``.

    Parameters
    ----------
    segmentation : list of list of float, or mapping
        Polygons ``[x0, y0, x1, y1, ...]``, of which the mask is the union, or a run-length code.
    size_hw : (int, int)
        Of the picture.

    Returns
    -------
    ndarray of shape (H, W), bool
        Pixels whose centre lies within a polygon.

    Raises
    ------
    ValueError
        If a polygon has fewer than three corners, or the code is of another size.

    Examples
    --------
    >>> draw_segmentation([[1, 0, 3, 0, 3, 1, 1, 1]], (2, 4)).astype(int)
    array([[0, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    if isinstance(segmentation, Mapping):
        mask = decode_mask(segmentation)
        if mask.shape != size_hw:
            raise ValueError(f"a run-length code of {mask.shape[0]} x {mask.shape[1]} pixels")
        return mask
    from skimage.draw import polygon

    drawn = np.zeros(size_hw, bool)
    for corners in _polygons(segmentation):
        rows, columns = polygon(  # type: ignore[no-untyped-call]
            corners[:, 1] - 0.5, corners[:, 0] - 0.5, size_hw
        )
        drawn[rows, columns] = True
    return drawn


def _polygons(segmentation: Sequence[Sequence[float]]) -> list[NDArray[np.float64]]:
    """Return the corners of each polygon, shape (n, 2)."""
    polygons = [np.asarray(one, np.float64) for one in segmentation]
    for one in polygons:
        if one.ndim != 1 or one.size < 6 or one.size % 2:
            raise ValueError(f"a polygon of {one.size} numbers; three corners are the least")
    return [one.reshape(-1, 2) for one in polygons]


def _read(path: Path) -> Mapping[str, Any]:
    """Return the content of a JSON file that holds an object."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UnreadableImageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"{path} is no JSON ({error}); export the set again") from error
    if not isinstance(content, dict):
        raise DatasetError(
            f"{path} must be a COCO file with images, annotations and categories, got a "
            f"{type(content).__name__}; a detector's results go with --detections"
        )
    return content


def _size_of(image: NDArray[Any], path: Path) -> tuple[int, int]:
    """Return height and width of a picture of one channel or colours."""
    if image.ndim not in {2, 3}:
        raise DatasetError(f"expected a picture with height and width in {path}, got {image.shape}")
    return int(image.shape[0]), int(image.shape[1])
