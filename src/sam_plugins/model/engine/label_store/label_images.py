"""From objects whose masks may overlap to the label images that training and evaluation read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.engine.label_store.types import (
    BoolArray,
    ImageRecord,
    LabelledObject,
    PaintedObjects,
)
from sam_plugins.model.io.atomic import make_folder
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.io.labels import write_labels
from sam_plugins.model.io.rle import decode_mask, mask_area

FOLDER_NAME = "label-images"


def paint_objects(size_hw: tuple[int, int], objects: Sequence[LabelledObject]) -> PaintedObjects:
    """Paint objects into a label image; where masks overlap, the smaller one keeps the pixels.

    Parameters
    ----------
    size_hw : (int, int)
    objects : sequence of LabelledObject
        Crowds among them are left out.

    Returns
    -------
    PaintedObjects
        Labels are consecutive; an object of which nothing is visible has none.
    """
    labels = np.zeros(size_hw, np.int32)
    known = [one for one in objects if not one.is_crowd]
    largest_first = sorted(
        range(len(known)), key=lambda index: mask_area(known[index].rle), reverse=True
    )
    for index in largest_first:
        labels[decode_mask(known[index].rle)] = index + 1
    visible = np.bincount(labels.ravel(), minlength=len(known) + 1)[1:] > 0
    numbers = np.concatenate([[0], np.cumsum(visible)]).astype(np.int32)
    shown = tuple(one for one, is_shown in zip(known, visible, strict=True) if is_shown)
    return PaintedObjects(numbers[labels], shown)


def crowd_mask(size_hw: tuple[int, int], objects: Sequence[LabelledObject]) -> BoolArray:
    """Return where crowds are, shape (H, W)."""
    mask = np.zeros(size_hw, bool)
    for one in objects:
        if one.is_crowd:
            mask |= decode_mask(one.rle)
    return mask


class LabelImages:
    """The label images that a store has written.

    Parameters
    ----------
    folder : Path
        Of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._store = folder
        self._folder = folder / FOLDER_NAME

    def labelled_file(self, record: ImageRecord, objects: Sequence[LabelledObject]) -> LabelledFile:
        """Write the label image of a picture, unless it is there, and say where it lies.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        labels, shown = paint_objects(record.size_hw, objects)
        unknown = crowd_mask(record.size_hw, objects) & (labels == 0)
        visible = np.bincount(labels.ravel(), minlength=len(shown) + 1)
        return LabelledFile(
            id=record.image_id,
            set_name=self._store.name,
            split="" if record.split is None else str(record.split),
            image_path=record.path,
            label_path=self._written(record.image_id, labels),
            ignore_path=(
                self._written(f"{record.image_id}-ignore", unknown.astype(np.uint16))
                if unknown.any()
                else None
            ),
            whole_rles={
                number: one.rle
                for number, one in enumerate(shown, start=1)
                if mask_area(one.rle) > visible[number]
            },
            complete=record.is_complete,
            plane=record.plane,
            is_label_flat=True,
        )

    def _written(self, name: str, labels: NDArray[Any]) -> Path:
        """Write an image under a name that tells its content."""
        digest = hashlib.sha256(np.ascontiguousarray(labels).data).hexdigest()[:12]
        path = make_folder(self._folder) / f"{name}-{digest}.tif"
        if not path.exists():
            write_labels(path, labels)
        return path
