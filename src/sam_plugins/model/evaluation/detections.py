"""Boxes to ask with: those of a detector, from a file, or the true ones, moved at random."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_plugins.errors import DatasetError, UnreadableImageError
from sam_plugins.model.evaluation.prompts import TrueObject
from sam_plugins.model.io.labelled import LabelledSource

NOISE = 0.1
"""Standard deviation of a noised side, of the box's width or height (SAM, appendix A)."""

MAX_NOISE = 20.0
"""Pixels that a side moves at most (SAM, appendix A)."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of one picture.

    Attributes
    ----------
    boxes_xyxy : ndarray of shape (n, 4), float32
        Pixels; an integer is a pixel's centre.
    scores : ndarray of shape (n,), float64, or None
        How sure the detector is.
    categories : tuple of n (str or None)
        What the detector takes each for, where it says so.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float64] | None
    categories: tuple[str | None, ...]


def noised_boxes(
    objects: Sequence[TrueObject],
    size_hw: tuple[int, int],
    *,
    name: str,
    categories: Mapping[int, str] | None = None,
    noise: float = NOISE,
    seed: int = 0,
) -> Boxes:
    """Return the tight boxes of objects with their sides moved at random.

    Parameters
    ----------
    objects : sequence of TrueObject
    size_hw : (int, int)
        Of the picture, whose border no box crosses.
    name : str
        Of the picture: with the seed it decides the noise, whatever other pictures there are.
    categories : mapping of int to str, optional
        What each object is, by label.
    noise : float
        Standard deviation, in widths and heights of the box; 0 for the tight boxes.
    seed : int

    Raises
    ------
    ValueError
        If ``noise`` is negative.
    """
    if not noise >= 0:
        raise ValueError(f"noise must be 0 or more, got {noise}")
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    tight = np.array([one.box_xyxy for one in objects], np.float64).reshape(-1, 4)
    sides = np.tile(tight[:, 2:] - tight[:, :2] + 1, 2)
    moved = tight + np.clip(rng.normal(size=tight.shape) * noise * sides, -MAX_NOISE, MAX_NOISE)
    # A side that crosses the opposite one would turn the box inside out.
    low, high = np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])
    last = np.array([size_hw[1], size_hw[0]]) - 1
    boxes = np.concatenate([np.clip(low, 0, last), np.clip(high, 0, last)], axis=1)
    names = categories or {}
    return Boxes(boxes.astype(np.float32), None, tuple(names.get(one.object_id) for one in objects))


@dataclass(frozen=True, eq=False)
class Detections:
    """The boxes of a detector on many pictures.

    Parameters
    ----------
    by_image : mapping of str to Boxes
        By the ``image_id`` of the file, as text.
    source : str
        Name of the file.
    """

    by_image: Mapping[str, Boxes]
    source: str

    def of(self, set_name: str, image_id: str, size_hw: tuple[int, int]) -> Boxes:
        """Return the boxes of a picture by its id, or by set and id (``cells/a``); maybe none."""
        boxes = self.by_image.get(f"{set_name}/{image_id}", self.by_image.get(image_id))
        if boxes is None:
            return Boxes(np.zeros((0, 4), np.float32), np.zeros(0), ())
        last = np.array([size_hw[1], size_hw[0]] * 2, np.float32) - 0.5
        inside = np.clip(boxes.boxes_xyxy, -0.5, last)
        has_area = np.logical_and(*(inside[:, 2:] > inside[:, :2]).T)
        assert boxes.scores is not None
        return Boxes(
            inside[has_area],
            boxes.scores[has_area],
            tuple(boxes.categories[index] for index in np.flatnonzero(has_area).tolist()),
        )

    def require_pictures(self, files: Sequence[LabelledSource]) -> None:
        """Refuse results of other pictures.

        Raises
        ------
        DatasetError
            If there is no box for any of the pictures.
        """
        ids = {name for file in files for name in (file.id, f"{file.set_name}/{file.id}")}
        if ids.isdisjoint(self.by_image):
            raise DatasetError(
                f"{self.source} has no box for any of the {len(files)} pictures: its image_id are "
                f"such as {', '.join(sorted(self.by_image)[:3]) or 'none'}, theirs such as "
                f"{', '.join(file.id for file in files[:3])}; export the results of these pictures"
            )


def read_detections(
    path: str | os.PathLike[str], category_names: Mapping[int, str] | None = None
) -> Detections:
    """Read a detector's results in COCO's format.

    Parameters
    ----------
    path : path-like
        JSON: a list of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``
        (https://cocodataset.org/#format-results), the corner of the first pixel at 0. For pictures
        that are no COCO set, ``image_id`` is the picture's name without its ending, or
        ``SET/NAME``.
    category_names : mapping of int to str, optional
        Names of the categories of the annotations.

    Raises
    ------
    UnreadableImageError
        If the file cannot be read.
    DatasetError
        If it holds something else.
    """
    source = Path(path)
    try:
        entries = json.loads(source.read_bytes())
    except OSError as error:
        raise UnreadableImageError(f"cannot read {source}: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"{source} is no JSON ({error}); export the results again") from error
    names = category_names or {}
    collected: dict[str, list[tuple[list[float], float, str | None]]] = {}
    if not isinstance(entries, list):
        raise DatasetError(_expected(source, f"an object with {sorted(entries)[:5]}"))
    for entry in entries:
        try:
            x, y, width, height = (float(value) for value in entry["bbox"])
            one = (
                [x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5],
                float(entry["score"]),
                _name_of(entry, names),
            )
            collected.setdefault(str(entry["image_id"]), []).append(one)
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(_expected(source, json.dumps(entry)[:120])) from error
    return Detections(
        {
            image: Boxes(
                np.array([box for box, _, _ in found], np.float32).reshape(-1, 4),
                np.array([score for _, score, _ in found]),
                tuple(name for _, _, name in found),
            )
            for image, found in collected.items()
        },
        source.name,
    )


def _name_of(entry: Mapping[str, Any], names: Mapping[int, str]) -> str | None:
    """Return the name of a result's category, None where nobody knows it."""
    number = entry.get("category_id")
    return None if number is None else names.get(int(number))


def _expected(source: Path, got: str) -> str:
    """Return the message about a file that holds no results."""
    return (
        f"{source} must hold a list of COCO results with image_id, bbox and score, got {got}; "
        "export the detector's results in that format"
    )
