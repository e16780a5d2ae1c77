"""Smart key points and boxes that wait in a saved draft, for prompts that come without them.

The editor sends the pending prompts of one tool. Those of the other are in the draft, once that was
saved: so they are known even where the backend was started after they were drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from sam_plugins.labelstudio_backend.context import (
    Ask,
    PageAsk,
    PixelAsk,
    Size,
    drawn_mask,
    in_pixels,
    read_prompts,
)
from sam_plugins.labelstudio_backend.label_config import LabelConfig
from sam_plugins.labelstudio_backend.payload import Item, Task
from sam_plugins.labelstudio_backend.problems import PayloadError
from sam_plugins.labelstudio_backend.sessions import is_around, with_points
from sam_plugins.model.io.label_studio import regions_of

_RECTANGLES = {"rectangle", "rectanglelabels"}


def with_pending(
    ask: PixelAsk, task: Task, config: LabelConfig, page: PageAsk, label: str, size_hw: Size
) -> PixelAsk:
    """Return a box with the points of the draft that lie in it, or points with the box around them.

    What is drawn as a region already has been answered: where points lie on one, or one lies in the
    box, the ask is left alone.

    Parameters
    ----------
    ask : PixelAsk
        A box, or points.
    task : Task
        With its drafts.
    config : LabelConfig
    page : PageAsk
        Where it was drawn.
    label : str
        Of it.
    size_hw : (int, int)
        Of the picture.
    """
    if ask.box_xyxy is None:
        return _with_box(ask, task, config, page, label, size_hw)
    points = _points(task, config, page, label, size_hw)
    if points is None:
        return ask
    together = with_points(ask, points)
    is_positive = together.point_labels == 1
    if not is_positive.any():
        return ask
    columns, rows = np.round(together.points_xy[is_positive]).astype(int).T
    if any(mask[rows, columns].any() for _, mask in _drawn(task, page, size_hw)):
        return ask
    return together


def _with_box(
    points: PixelAsk, task: Task, config: LabelConfig, page: PageAsk, label: str, size_hw: Size
) -> PixelAsk:
    """Return points with the one pending box that is around them."""
    around = [
        box
        for box in _boxes(task, config, page, label, size_hw)
        if box.box_xyxy is not None and is_around(box, points)
    ]
    if len(around) != 1 or around[0].box_xyxy is None:
        return points
    left, top, right, bottom = np.clip(np.round(around[0].box_xyxy), 0, None).astype(int)
    inside = np.s_[top : bottom + 1, left : right + 1]
    for shape, mask in _drawn(task, page, size_hw):
        if shape != "rectangle" and 2 * np.count_nonzero(mask[inside]) > np.count_nonzero(mask):
            return points
    return PixelAsk(points.points_xy, points.point_labels, around[0].box_xyxy)


def _points(
    task: Task, config: LabelConfig, page: PageAsk, label: str, size_hw: Size
) -> PixelAsk | None:
    """Return the pending points of a label, where there are some."""

    def is_pending(item: Item) -> bool:
        # Of all that is in a draft, only pending smart points say whether they are positive.
        return isinstance(item.get("is_positive"), bool)

    found = (ask for ask in _asks(task, config, page, label, is_pending) if ask.clicks)
    return next((in_pixels(ask, size_hw) for ask in found), None)


def _boxes(
    task: Task, config: LabelConfig, page: PageAsk, label: str, size_hw: Size
) -> Iterator[PixelAsk]:
    """Yield the rectangles of a label that may be pending: nothing in a draft says that they are.

    One that was drawn to stay asks for the same object as one that was drawn to ask for it.
    """

    def is_pending(item: Item) -> bool:
        control = config.control(str(item.get("from_name")))
        is_drawn = str(item.get("type")).lower() in _RECTANGLES and item.get("origin") == "manual"
        return is_drawn and control is not None and control.is_smart

    for ask in _asks(task, config, page, label, is_pending):
        if ask.box is not None:
            try:
                yield in_pixels(ask, size_hw)
            except PayloadError:  # beside the picture
                continue


def _asks(
    task: Task,
    config: LabelConfig,
    page: PageAsk,
    label: str,
    is_pending: Callable[[Item], bool],
) -> Iterator[Ask]:
    """Yield what pending items of the drafts ask for under a label, on a page."""
    items = [
        item
        for draft in task.drafts
        for item in draft.get("result") or ()
        if isinstance(item, Mapping)
    ]
    pending = {_id(item) for item in items if is_pending(item)}
    try:
        pages = read_prompts([item for item in items if _id(item) in pending], config)
    except PayloadError:  # of what was not asked with
        return
    for one in pages:
        if (one.to_name, one.page) == (page.to_name, page.page):
            yield from (ask for ask in one.asks if ask.label == label)


def _id(item: Item) -> str:
    """Return the name of an item."""
    return str(item.get("id"))


def _drawn(task: Task, page: PageAsk, size_hw: Size) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield shape and mask of what is drawn already on a page."""
    for region in regions_of(list(task.drawn()), page.page):
        if not region.shape or region.item.get("to_name", page.to_name) != page.to_name:
            continue
        try:
            yield region.shape, drawn_mask(region.item, size_hw)
        except PayloadError:  # damaged: nothing is known of it
            continue
