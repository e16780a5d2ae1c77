"""Smart key points that wait in a saved draft, for a box that comes without them.

The editor sends the pending prompts of one tool. Those of the other are in the draft, once that was
saved: so they are known even where the backend was started after they were clicked.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sam_plugins.labelstudio_backend.context import (
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
from sam_plugins.labelstudio_backend.sessions import with_points
from sam_plugins.model.io.label_studio import regions_of


def with_pending(
    box: PixelAsk, task: Task, config: LabelConfig, page: PageAsk, label: str, size_hw: Size
) -> PixelAsk:
    """Return a box with the points of the draft that lie in it.

    Points on a region that is drawn already have been answered: then the box is left alone.

    Parameters
    ----------
    box : PixelAsk
    task : Task
        With its drafts.
    config : LabelConfig
    page : PageAsk
        Where the box was drawn.
    label : str
        Of the box.
    size_hw : (int, int)
        Of the picture.
    """
    points = _points(task, config, page, label, size_hw)
    if points is None:
        return box
    together = with_points(box, points)
    if not (together.point_labels == 1).any() or _is_drawn(together, task, page, size_hw):
        return box
    return together


def _points(
    task: Task, config: LabelConfig, page: PageAsk, label: str, size_hw: Size
) -> PixelAsk | None:
    """Return the pending points of a label, where there are some."""
    items = [
        item
        for draft in task.drafts
        for item in draft.get("result") or ()
        if isinstance(item, Mapping)
    ]
    # Of all that is in a draft, only pending smart points say whether they are positive.
    pending = {_id(item) for item in items if isinstance(item.get("is_positive"), bool)}
    try:
        pages = read_prompts([item for item in items if _id(item) in pending], config)
        for one in pages:
            for ask in one.asks:
                is_here = (one.to_name, one.page, ask.label) == (page.to_name, page.page, label)
                if is_here and ask.clicks:
                    return in_pixels(ask, size_hw)
    except PayloadError:  # of what was not asked with
        return None
    return None


def _id(item: Item) -> str:
    """Return the name of an item."""
    return str(item.get("id"))


def _is_drawn(points: PixelAsk, task: Task, page: PageAsk, size_hw: Size) -> bool:
    """Return whether a positive point lies on a region that is drawn already."""
    columns, rows = np.round(points.points_xy[points.point_labels == 1]).astype(int).T
    for region in regions_of(list(task.drawn()), page.page):
        if not region.shape or region.item.get("to_name", page.to_name) != page.to_name:
            continue
        try:
            if drawn_mask(region.item, size_hw)[rows, columns].any():
                return True
        except PayloadError:  # damaged: nothing is known of it
            continue
    return False
