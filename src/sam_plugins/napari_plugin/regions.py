"""Which part of a large plane the model is shown: the one that what is said asks for.

The windows are those of pictures of any size everywhere (:mod:`sam_plugins.model.large.zoom`): on a
lattice, the finest level of which is as large as the model's input, each next one twice as large.
"""

from __future__ import annotations

from collections.abc import Iterable

from sam_plugins.model.large.zoom import Extent, View, Zoom
from sam_plugins.napari_plugin.coordinates import REGION_SIDE, WHOLE_SIDE
from sam_plugins.napari_plugin.session.planes import Window
from sam_plugins.napari_plugin.session.values import BoxPrompt, PointPrompt, Prompt

_SEEN_PART = 1.5
"""Who sees so many times a window on the screen means a larger object."""


def choose_region(
    size_hw: tuple[int, int], said: Extent, *, seen_side: float = 0, least: Window | None = None
) -> Window:
    """Return which part of a plane to show to the model, for what was said about it.

    Parameters
    ----------
    size_hw : (int, int)
        Of the plane.
    said : Extent
        What it has to hold, well inside.
    seen_side : float
        The longer side of what is seen of the plane on the screen: who looks at a large part means
        a large object.
    least : Window, optional
        No finer level than that of this region.

    Returns
    -------
    Window
        The whole plane where it is no larger than :data:`~coordinates.WHOLE_SIDE`; otherwise a
        square on a lattice, so that neighbouring points share it.

    Examples
    --------
    >>> choose_region((600, 800), Extent(5, 5, 5, 5))
    Window(top=0, left=0, bottom=600, right=800)
    >>> choose_region((9000, 9000), Extent(3000, 300, 3000, 300))
    Window(top=0, left=2560, bottom=1024, right=3584)
    >>> choose_region((9000, 9000), Extent(3000, 300, 5000, 1300)).shape
    (4096, 4096)
    """
    if max(size_hw) <= WHOLE_SIDE:
        return Window(0, 0, *size_hw)
    level = 0 if least is None else _level_of(least)
    while (REGION_SIDE << level) < seen_side / _SEEN_PART:
        level += 1
    return Window(*Zoom(size_hw, REGION_SIDE).view(said, level)[1:])


def wider_region(
    size_hw: tuple[int, int], region: Window, said: Extent, reach: Window
) -> Window | None:
    """Return which larger part of a plane an answer asks for, None where it was seen whole.

    Parameters
    ----------
    size_hw : (int, int)
        Of the plane.
    region : Window
        What the model was shown.
    said : Extent
        What was said.
    reach : Window
        Around the mask that was answered.

    Examples
    --------
    >>> region, click = Window(1024, 1024, 2048, 2048), Extent(1500, 1500, 1500, 1500)
    >>> wider_region((6000, 6000), region, click, Window(1400, 1400, 1600, 1600))
    >>> wider_region((6000, 6000), region, click, Window(1024, 1400, 2048, 1600))
    Window(top=512, left=512, bottom=2560, right=2560)
    """
    if region.shape == tuple(size_hw) or 0 in reach.shape:
        return None
    zoom, view = Zoom(size_hw, REGION_SIDE), View(_level_of(region), *region)
    extent = Extent(reach.left, reach.top, reach.right - 1, reach.bottom - 1)
    if not (zoom.may_be_cut(view, extent) or zoom.is_too_large(view, extent)):
        return None
    return Window(*zoom.view(said.union(extent), view.level + 1)[1:])


def extent_of(prompts: Iterable[Prompt]) -> Extent:
    """Return the part of a plane that prompts are about.

    Raises
    ------
    ValueError
        If there are none.

    Examples
    --------
    >>> extent_of([PointPrompt(3, 4), BoxPrompt(0, 1, 2, 9)])
    Extent(x0=0, y0=1, x1=3, y1=9)
    """
    extents = [_extent(prompt) for prompt in prompts]
    if not extents:
        raise ValueError("there must be at least one prompt, got none")
    whole = extents[0]
    for one in extents[1:]:
        whole = whole.union(one)
    return whole


def _extent(prompt: Prompt) -> Extent:
    """Return the part of a plane that a prompt is about."""
    if isinstance(prompt, PointPrompt):
        return Extent(prompt.x, prompt.y, prompt.x, prompt.y)
    if isinstance(prompt, BoxPrompt):
        return Extent(prompt.x0, prompt.y0, prompt.x1, prompt.y1)
    window = prompt.mask.window
    return Extent(window.left, window.top, window.right - 1, window.bottom - 1)


def _level_of(region: Window) -> int:
    """Return the level of a region."""
    level = 0
    while (REGION_SIDE << level) < max(region.shape):
        level += 1
    return level
