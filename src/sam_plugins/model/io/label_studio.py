"""Regions of Label Studio: which there are in a result, and the masks that they draw.

Places are in percent of the picture, 0 at its left or upper edge.
"""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_plugins.model.io.brush_rle import decode_brush
from sam_plugins.model.io.outlines import fill_ellipse, fill_polygons, turned_rectangle

BoolArray = npt.NDArray[np.bool_]

SHAPES = ("brush", "bitmask", "polygon", "rectangle", "ellipse")
"""Kinds of regions that can be objects."""

ANSWERS = frozenset(
    (
        "choices", "datetime", "number", "pairwise", "ranker", "rating", "relation", "taxonomy",
        "textarea",
    )
)  # fmt: skip
"""Kinds of items that answer a question, and draw nothing."""


@dataclass(frozen=True)
class Region:
    """A region of an annotation or a prediction.

    Attributes
    ----------
    id : str
    shape : str
        One of :data:`SHAPES`, or empty where it is a prompt, a text or the like.
    item : mapping
        The item that draws it.
    class_name : str
    """

    id: str
    shape: str
    item: Mapping[str, Any]
    class_name: str

    @property
    def origin(self) -> str:
        """Where Label Studio says that it comes from."""
        return str(self.item.get("origin"))

    @property
    def score(self) -> float | None:
        """The model's score, where it has one."""
        return self.item.get("score")


def regions_of(result: Sequence[Mapping[str, Any]], page: int | None = None) -> list[Region]:
    """Return the regions of one picture; items of one id are one region.

    Where an accepted suggestion kept the label of its prompt, a second item repeats the mask under
    the prompt's type, which draws nothing.

    Parameters
    ----------
    result : sequence of mapping
        Items of an annotation or a prediction.
    page : int or None
        Which of several pictures of a task; None where it has one.
    """
    together: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for number, item in enumerate(result):
        if page is None or page_of(item) == page:
            together[str(item.get("id", f"number {number}"))].append(item)
    regions = []
    for region_id, items in together.items():
        kinds = [str(item.get("type", "")).removesuffix("labels") for item in items]
        drawn = [place for place, kind in enumerate(kinds) if kind in SHAPES] or [0]
        item, kind = items[drawn[0]], kinds[drawn[0]]
        shape = kind if kind in SHAPES else ""
        regions.append(Region(region_id, shape, item, _class_of([item, *items])))
    return regions


def page_of(item: Mapping[str, Any]) -> int:
    """Return the page that an item is on: the first where none is told, -1 for what is none."""
    page = item.get("item_index")
    if page is None:
        return 0
    is_whole = isinstance(page, int) or (isinstance(page, float) and page.is_integer())
    return int(page) if is_whole else -1


def _class_of(items: Sequence[Mapping[str, Any]]) -> str:
    """Return the first label of a region."""
    for item in items:
        value = item.get("value")
        if not isinstance(value, Mapping):
            continue
        for key, labels in value.items():
            if key.endswith("labels") and isinstance(labels, list) and labels:
                return str(labels[0])
    return "object"


def mask_of(region: Region, size_hw: tuple[int, int]) -> BoolArray:
    """Return the mask of a region, shape (H, W).

    ``image_rotation`` tells how the picture was turned on the screen; places are told on the
    picture as it is, so nothing is turned here.

    Raises
    ------
    ValueError
        If it is of another picture, empty, or damaged.
    KeyError
        If it lacks a value.
    """
    item = region.item
    said = (item.get("original_height"), item.get("original_width"))
    if None not in said and tuple(said) != size_hw:
        raise ValueError(f"it is of a picture of {said} (height, width), this one has {size_hw}")
    mask = _DRAWERS[region.shape](item["value"], size_hw)
    if not mask.any():
        raise ValueError("its mask is empty")
    return mask


def _brush(value: Mapping[str, Any], size_hw: tuple[int, int]) -> BoolArray:
    """Draw a brush mask."""
    return decode_brush(value["rle"], size_hw)


def _bitmask(value: Mapping[str, Any], size_hw: tuple[int, int]) -> BoolArray:
    """Draw a mask that is a PNG within a data URL."""
    head, _, content = str(value["imageDataURL"]).partition(",")
    if not head.startswith("data:image/png"):
        raise ValueError(f"a bitmask must be a PNG in a data URL, got {head[:30]!r}")
    try:
        with Image.open(io.BytesIO(base64.b64decode(content)), formats=("PNG",)) as picture:
            alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"its bitmask cannot be read: {error}") from error
    if alpha.shape != size_hw:
        raise ValueError(f"its bitmask is of size {alpha.shape}, the picture of {size_hw}")
    mask: BoolArray = alpha >= 128
    return mask


def _polygon(value: Mapping[str, Any], size_hw: tuple[int, int]) -> BoolArray:
    """Draw a polygon."""
    return fill_polygons([np.asarray(value["points"], np.float64) * _pixels(size_hw)], size_hw)


def _rectangle(value: Mapping[str, Any], size_hw: tuple[int, int]) -> BoolArray:
    """Draw a rectangle, which is turned in pixels, not in percent."""
    x, width = np.array([value["x"], value["width"]], np.float64) * size_hw[1] / 100
    y, height = np.array([value["y"], value["height"]], np.float64) * size_hw[0] / 100
    corners = turned_rectangle(x, y, width, height, float(value.get("rotation") or 0))
    return fill_polygons([corners], size_hw)


def _ellipse(value: Mapping[str, Any], size_hw: tuple[int, int]) -> BoolArray:
    """Draw an ellipse."""
    centre = np.array([value["x"], value["y"]], np.float64) * _pixels(size_hw)
    radii = np.array([value["radiusX"], value["radiusY"]], np.float64) * _pixels(size_hw)
    return fill_ellipse(
        (float(centre[0]), float(centre[1])),
        (float(radii[0]), float(radii[1])),
        size_hw,
        float(value.get("rotation") or 0),
    )


_DRAWERS: dict[str, Callable[[Mapping[str, Any], tuple[int, int]], BoolArray]] = {
    "brush": _brush,
    "bitmask": _bitmask,
    "polygon": _polygon,
    "rectangle": _rectangle,
    "ellipse": _ellipse,
}


def _pixels(size_hw: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return what turns percent into pixels, x first."""
    return np.array([size_hw[1], size_hw[0]], np.float64) / 100
