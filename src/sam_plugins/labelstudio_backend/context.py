"""What somebody drew to ask for regions: their percent to our pixels, converted once, here.

A key point of a shared label list comes as two items with one id, the shape and the label; with
labels of its own as one. Percent are measured from the edge of the picture, our pixels from the
centre of the first one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.labelstudio_backend.label_config import PROMPTS, LabelConfig
from sam_plugins.labelstudio_backend.outline import box_of
from sam_plugins.labelstudio_backend.payload import Item
from sam_plugins.labelstudio_backend.problems import PayloadError
from sam_plugins.model.io.label_studio import Region, mask_of
from sam_plugins.model.io.outlines import turned_rectangle

Size = tuple[int, int]
BoolArray = npt.NDArray[np.bool_]

_MOST_ITEMS = 2000


@dataclass(frozen=True)
class Click:
    """A key point, in percent of the picture."""

    x: float
    y: float
    is_positive: bool = True


@dataclass(frozen=True)
class Ask:
    """One region that is asked for.

    Parameters
    ----------
    control : str
        ``from_name`` of what was drawn; of the label list where that is shared.
    label : str
        As drawn, empty for none.
    clicks : tuple of Click
        All of one label are of one region.
    box : tuple of 5 float, optional
        ``x, y, width, height`` in percent, and degrees.
    shape : mapping, optional
        Item of a polygon, an ellipse or a mask.
    text : str
        A phrase.
    """

    control: str = ""
    label: str = ""
    clicks: tuple[Click, ...] = ()
    box: tuple[float, float, float, float, float] | None = None
    shape: Item | None = None
    text: str = ""


@dataclass(frozen=True)
class PageAsk:
    """What is asked for on one page of one picture.

    Parameters
    ----------
    to_name : str
        The picture.
    page : int or None
        Which of several pages; None where there is one.
    asks : tuple of Ask
    rotation : int
        Degrees by which the picture is turned in the editor.
    """

    to_name: str
    page: int | None
    asks: tuple[Ask, ...]
    rotation: int = 0


@dataclass(frozen=True, eq=False)
class PixelAsk:
    """One region that is asked for, in pixels of the picture.

    Parameters
    ----------
    points_xy : ndarray of shape (K, 2), float64
    point_labels : ndarray of shape (K,), int64
        1 on the region, 0 beside it.
    box_xyxy : ndarray of shape (4,), float64, optional
    """

    points_xy: npt.NDArray[np.float64]
    point_labels: npt.NDArray[np.int64]
    box_xyxy: npt.NDArray[np.float64] | None = None

    def without_first(self, count: int) -> PixelAsk:
        """Return the points from one on, without the box."""
        return PixelAsk(self.points_xy[count:], self.point_labels[count:])


def read_prompts(items: Sequence[Item], config: LabelConfig) -> list[PageAsk]:
    """Return what is asked for, page by page.

    Parameters
    ----------
    items : sequence of mapping
        ``params.context.result``.
    config : LabelConfig
        Tells which picture a control is for where an item does not.

    Raises
    ------
    PayloadError
        If an item lacks the numbers of its shape, or there are too many.
    """
    if len(items) > _MOST_ITEMS:
        raise PayloadError(f"context.result must hold up to {_MOST_ITEMS} items, got {len(items)}")
    pages: dict[tuple[str, int | None], list[_Drawn]] = {}
    for drawn in _drawn([item for item in items if _is_prompt(item, config)]):
        to_name = _picture_of(drawn, config)
        image = config.image(to_name)
        page = drawn.page if image is not None and image.is_list else None
        pages.setdefault((to_name, page), []).append(drawn)
    return [_page(to_name, page, drawn) for (to_name, page), drawn in pages.items()]


def in_pixels(ask: Ask, size_hw: Size) -> PixelAsk:
    """Return an ask in pixels; what lies outside is moved to the border.

    Parameters
    ----------
    ask : Ask
    size_hw : (int, int)
        Of the picture, upright.

    Raises
    ------
    PayloadError
        If a box lies beside the picture or has no area, or a shape cannot be drawn.
    """
    height, width = size_hw
    places = np.array([(click.x, click.y) for click in ask.clicks], np.float64).reshape(-1, 2)
    points = places / 100 * [width, height] - 0.5
    points = np.clip(points, 0, [width - 1, height - 1])
    labels = np.array([click.is_positive for click in ask.clicks], np.int64)
    box = None
    if ask.box is not None:
        box = _box(ask.box, size_hw)
    elif ask.shape is not None:
        mask = drawn_mask(ask.shape, size_hw)
        box = np.array(box_of(mask), np.float64) - 0.5  # of the outermost pixels' edges
    return PixelAsk(points, labels, box)


def drawn_mask(item: Item, size_hw: Size) -> BoolArray:
    """Return the mask that an item draws.

    Raises
    ------
    PayloadError
        If it draws none.
    """
    shape = _shape_of(item)
    sizes = ("original_width", "original_height")
    plain = {key: value for key, value in item.items() if key not in sizes}
    try:
        return mask_of(Region("", shape, plain, ""), size_hw)
    except (ValueError, KeyError, TypeError, OverflowError, IndexError) as error:
        raise PayloadError(
            f"a {shape or 'region'} cannot be drawn: {error}; delete it and draw it again"
        ) from error


@dataclass(frozen=True)
class _Drawn:
    """Items of one id, put together."""

    shape: str
    item: Item
    controls: tuple[str, ...]
    label: str
    page: int

    @property
    def value(self) -> Mapping[str, Any]:
        """What was drawn."""
        value = self.item.get("value")
        return value if isinstance(value, Mapping) else {}


def _drawn(items: Sequence[Item]) -> list[_Drawn]:
    """Return items of one id put together, in the order of the first."""
    together: dict[str, list[Item]] = {}
    for number, item in enumerate(items):
        name = item.get("id")
        key = f"id {name}" if isinstance(name, str | int) and name != "" else f"number {number}"
        together.setdefault(f"{key} {_page_number(item)}", []).append(item)
    found = []
    for same in together.values():
        asked = [item for item in same if _shape_of(item) in PROMPTS or _is_text(item)]
        if not asked or _is_doubled(asked[0]):
            continue  # choices, numbers and the like; an answer repeated under the prompt's type
        labelled = [item for item in same if _label_of(item)]
        label = _label_of(labelled[0]) if labelled else ""
        ordered = [item for item in same if item.get("type") == "labels"] + asked
        found.append(
            _Drawn(
                "text" if _is_text(asked[0]) else _shape_of(asked[0]),
                asked[0],
                tuple(str(item.get("from_name") or "") for item in ordered),
                label,
                _page_number(asked[0]),
            )
        )
    return found


def _page(to_name: str, page: int | None, drawn: Sequence[_Drawn]) -> PageAsk:
    """Return what is asked for on a page."""
    clicks: dict[str, Ask] = {}
    others: list[Ask] = []
    for one in drawn:
        ask = Ask(one.controls[0], one.label)
        if one.shape == "keypoint":
            click = Click(
                _number(one, "x"), _number(one, "y"), one.item.get("is_positive") is not False
            )
            known = clicks.get(one.label, ask)
            clicks[one.label] = replace(known, clicks=(*known.clicks, click))
        elif one.shape == "rectangle":
            others.append(replace(ask, box=_rectangle(one)))
        elif one.shape == "text":
            others += [replace(ask, text=phrase) for phrase in _phrases(one)]
        else:
            others.append(replace(ask, shape=one.item))
    rotations = [one.item.get("image_rotation") for one in drawn]
    turned = next((int(r) for r in rotations if isinstance(r, int | float) and math.isfinite(r)), 0)
    if turned % 90:
        raise PayloadError(f"image_rotation must be 0, 90, 180 or 270, got {turned}")
    return PageAsk(to_name, page, (*clicks.values(), *others), turned % 360)


def _picture_of(drawn: _Drawn, config: LabelConfig) -> str:
    """Return the name of the picture that something was drawn on."""
    to_name = drawn.item.get("to_name")
    if isinstance(to_name, str) and config.image(to_name) is not None:
        return to_name
    for name in drawn.controls:  # a text may be for another tag than the picture
        control = config.control(name)
        shown = [to for to in control.to_names if config.image(to)] if control else []
        if shown:
            return shown[0]
    return config.images[0].name


def _shape_of(item: Item) -> str:
    """Return the shape that an item draws: ``keypointlabels`` is a ``keypoint``."""
    return str(item.get("type") or "").lower().removesuffix("labels")


def _is_text(item: Item) -> bool:
    """Return whether an item is a phrase."""
    return str(item.get("type") or "").lower() == "textarea"


def _is_prompt(item: Item, config: LabelConfig) -> bool:
    """Return whether an item is more than a comment."""
    return not _is_text(item) or config.takes_words(str(item.get("from_name") or ""))


def _is_doubled(item: Item) -> bool:
    """Return whether an item is an accepted mask under the type of a key point or a rectangle."""
    value = item.get("value")
    return _shape_of(item) in {"keypoint", "rectangle"} and (
        isinstance(value, Mapping) and "rle" in value
    )


def _label_of(item: Item) -> str:
    """Return the first label of an item."""
    value = item.get("value")
    if isinstance(value, Mapping):
        for key, labels in value.items():
            if str(key).endswith("labels") and isinstance(labels, list) and labels:
                return str(labels[0])
    return ""


def _page_number(item: Item) -> int:
    """Return the page of an item."""
    index = item.get("item_index")
    return index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else 0


def _number(drawn: _Drawn, key: str, default: float | None = None) -> float:
    """Return a finite number of what was drawn."""
    value = drawn.value.get(key, default)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9:
        return float(value)
    raise PayloadError(f"a {drawn.shape} must have the number {key!r} in its value, got {value!r}")


def _rectangle(drawn: _Drawn) -> tuple[float, float, float, float, float]:
    """Return the numbers of a rectangle."""
    x, y, width, height = (_number(drawn, key) for key in ("x", "y", "width", "height"))
    rotation = drawn.value.get("rotation")
    return x, y, width, height, 0.0 if rotation is None else _number(drawn, "rotation")


def _phrases(drawn: _Drawn) -> list[str]:
    """Return the texts of a text area."""
    text = drawn.value.get("text")
    texts = text if isinstance(text, list) else [text]
    return [phrase.strip() for phrase in texts if isinstance(phrase, str) and phrase.strip()]


def _box(box: tuple[float, float, float, float, float], size_hw: Size) -> npt.NDArray[np.float64]:
    """Return the upright box around a rectangle, clipped to the picture."""
    x, y, width, height, degrees = box
    sides = np.array(size_hw[::-1], np.float64) / 100
    corners = turned_rectangle(
        x * sides[0], y * sides[1], width * sides[0], height * sides[1], degrees
    )
    corners = corners - 0.5
    low = np.clip(corners.min(axis=0), -0.5, np.array(size_hw[::-1]) - 0.5)
    high = np.clip(corners.max(axis=0), -0.5, np.array(size_hw[::-1]) - 0.5)
    if (high - low < 0.5).any():
        raise PayloadError(
            "a rectangle must overlap the picture and be half a pixel wide and high, got "
            f"{width:g} x {height:g} percent at {x:g}, {y:g}; draw it larger, around the object"
        )
    return np.concatenate([low, high])
