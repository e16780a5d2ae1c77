"""Labelled pictures in memory, ready to be cropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TrainingPicture:
    """A picture with its objects.

    Attributes
    ----------
    set_name, id : str
        Where it comes from.
    rgb : ndarray of shape (H, W, 3), uint8
        What the model sees.
    labels : ndarray of shape (H, W), uint16
        0 is background.
    ignore : ndarray of shape (H, W), bool, or None
        True where the truth is not known.
    whole_rles : mapping of int to COCO RLE
        Whole masks of objects that others cover in part.
    complete : bool
        Whether every visible object carries a mask.
    is_upright : bool
        Whether up and down mean something, as in photographs.
    network_scale : float
        Factor by which the picture is enlarged when the network sees it.
    """

    set_name: str
    id: str
    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint16]
    ignore: BoolArray | None = None
    whole_rles: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    complete: bool = True
    is_upright: bool = False
    network_scale: float = 1.0

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Visible pixels of each label, background included."""
        counted: NDArray[np.int64] = np.bincount(self.labels.ravel())
        return counted

    @cached_property
    def boxes_xyxy(self) -> NDArray[np.float32]:
        """Bounding box of every object there is, shape (n, 4), edges of pixels."""
        windows = [window for window in ndimage.find_objects(self.labels) if window is not None]
        edges = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in windows]
        return np.array(edges, np.float32).reshape(-1, 4)
