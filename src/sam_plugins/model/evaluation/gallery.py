"""Which pictures of many are shown: the best, the worst and typical ones, drawn when they are met.

Drawing needs what was just computed, and nobody knows yet how good the others will be. So a picture
is drawn if it is among the best or worst so far, or was drawn by lot among those that may turn out
to be typical: memory does not grow with the number of pictures.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam_plugins.model.evaluation.task_report import Example
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.overlay import draw_overlay
from sam_plugins.model.inference.rgb import to_rgb

Panels = Sequence[tuple[str, NDArray[np.uint8]]]
"""Captions and RGB pictures of shape (H, W, 3)."""

DrawnPanels = tuple[tuple[str, bytes], ...]
"""Captions and JPEGs, as they are kept and travel."""

SHOWN = 3
"""Pictures of each kind."""

_LOT = 24  # pictures that may turn out to be typical
_MAX_SIDE = 480
_JPEG_QUALITY = 85


@dataclass(frozen=True)
class _Drawn:
    """A picture that may be shown."""

    value: float
    name: str
    panels: DrawnPanels


@dataclass
class Gallery:
    """The pictures that are shown in the end.

    Parameters
    ----------
    shown : int
        Pictures of each kind.
    """

    shown: int = SHOWN
    _best: list[_Drawn] = field(default_factory=list)
    _worst: list[_Drawn] = field(default_factory=list)
    _lot: list[_Drawn] = field(default_factory=list)
    _values: list[float] = field(default_factory=list)
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add(self, name: str, value: float, draw: Callable[[], Panels]) -> None:
        """Consider a picture, see :meth:`add_drawn`; ``draw`` returns pictures."""
        self.add_drawn(name, value, lambda: drawn_panels(draw()))

    def add_drawn(self, name: str, value: float, draw: Callable[[], DrawnPanels]) -> None:
        """Consider a picture.

        Parameters
        ----------
        name : str
        value : float
            How good it is, more is better; NaN where nothing was measured, which is not shown.
        draw : callable
            Returns what there is to see, from :func:`drawn_panels`; called only where it may be
            shown.
        """
        if math.isnan(value):
            return
        self._values.append(value)
        place = int(self._rng.integers(len(self._values)))  # a lot for each picture met so far
        is_lot = len(self._lot) < _LOT or place < _LOT
        is_best = len(self._best) < self.shown or value > self._best[-1].value
        is_worst = len(self._worst) < self.shown or value < self._worst[-1].value
        if not (is_lot or is_best or is_worst):
            return
        drawn = _Drawn(value, name, draw())
        if is_best:
            self._best = sorted([*self._best, drawn], key=lambda one: -one.value)[: self.shown]
        if is_worst:
            self._worst = sorted([*self._worst, drawn], key=lambda one: one.value)[: self.shown]
        if len(self._lot) < _LOT:
            self._lot.append(drawn)
        elif is_lot:
            self._lot[place] = drawn

    def chosen(self) -> list[Example]:
        """Return the best, typical (nearest to the median) and worst pictures, each once."""
        middle = float(np.median(self._values)) if self._values else 0.0
        most = min(self.shown, -(-len(self._values) // 3))  # few pictures: some of each kind
        typical = sorted(self._lot, key=lambda one: abs(one.value - middle))
        examples: list[Example] = []
        names: set[str] = set()
        for kind, pictures in (
            ("best", self._best),
            ("worst", self._worst),
            ("typical", typical),
        ):
            fresh = [one for one in pictures if one.name not in names][:most]
            names |= {one.name for one in fresh}
            examples += [Example(kind, one.name, one.value, one.panels) for one in fresh]
        order = ("best", "typical", "worst")
        return sorted(examples, key=lambda one: order.index(one.kind))


def drawn_panels(panels: Panels) -> DrawnPanels:
    """Return pictures as they are kept."""
    return tuple((caption, jpeg(rgb)) for caption, rgb in panels)


def jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """Return a picture as JPEG, reduced to 480 pixels along its longer side."""
    picture = Image.fromarray(rgb)
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def with_labels(image: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a picture with the objects of a label image drawn over it, visible when reduced."""
    width = max(1, math.ceil(max(labels.shape) / _MAX_SIDE))
    return draw_overlay(to_rgb(image), labels, line_width=width)


def painted(
    masks: Sequence[WindowMask | NDArray[np.bool_]], size_hw: tuple[int, int]
) -> NDArray[np.int32]:
    """Return masks as a label image, the larger ones below."""
    labels = np.zeros(size_hw, np.int32)
    whole = slice(0, size_hw[0]), slice(0, size_hw[1])
    placed = [one if isinstance(one, WindowMask) else WindowMask(whole, one) for one in masks]
    areas = np.array([np.count_nonzero(one.mask) for one in placed], np.int64)
    for index in np.argsort(-areas, kind="stable").tolist():
        window, mask = placed[index]
        labels[window][mask] = index + 1
    return labels


def with_boxes(rgb: NDArray[np.uint8], boxes_xyxy: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Return a picture with boxes drawn on it."""
    from PIL import ImageDraw

    picture = Image.fromarray(rgb)
    draw = ImageDraw.Draw(picture)
    width = max(1, math.ceil(max(rgb.shape[:2]) / _MAX_SIDE))
    for x0, y0, x1, y1 in boxes_xyxy.tolist():
        draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=(255, 255, 255), width=width)
    return np.asarray(picture)


def with_points(
    rgb: NDArray[np.uint8], points_xy: Sequence[tuple[float, float]]
) -> NDArray[np.uint8]:
    """Return a picture with points drawn on it."""
    from PIL import ImageDraw

    picture = Image.fromarray(rgb)
    draw = ImageDraw.Draw(picture)
    radius = max(1.5, max(rgb.shape[:2]) / 200)
    for x, y in points_xy:
        corners = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(corners, fill=(255, 255, 255), outline=(0, 0, 0))
    return np.asarray(picture)
