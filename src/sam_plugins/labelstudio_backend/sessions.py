"""What people drew a moment ago, so that points and boxes of one object are taken together.

Label Studio's editor sends the pending prompts of one tool and one label: after two points a box
comes alone, and after a box a point. What came before is remembered here for a short while.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sam_plugins.labelstudio_backend.context import PixelAsk

_MOST = 5000
_MOST_MADE = 400  # 128 KB each: they are all that grows while people click
_MARGIN = 0.05


@dataclass(frozen=True)
class SessionKey:
    """Whose prompts belong together.

    Parameters
    ----------
    project, task, to_name, page, label
        Where they were drawn, and for what.
    user : str
        Who drew them, as far as it is known.
    """

    project: str
    task: str
    to_name: str
    page: int | None
    label: str
    user: str = ""


@dataclass(frozen=True, eq=False)
class Made:
    """A region that was answered.

    Parameters
    ----------
    key : SessionKey
    ask : PixelAsk
        What it was the answer to.
    logits : ndarray of shape (h, w), float16
        Its low-resolution mask.
    model_id : str
        Of the model; no other can go on from there.
    """

    key: SessionKey
    ask: PixelAsk
    logits: npt.NDArray[np.float16]
    model_id: str


@dataclass
class _Recent:
    """The last prompts of one kind each, with their times."""

    points: PixelAsk | None = None
    points_at: float = 0.0
    boxes: list[PixelAsk] = field(default_factory=list)
    boxes_at: float = 0.0
    answers: deque[str] = field(default_factory=lambda: deque(maxlen=50))


class Sessions:
    """A short memory; safe with threads.

    Parameters
    ----------
    now : callable, optional
        The time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._recent: OrderedDict[SessionKey, _Recent] = OrderedDict()
        self._made: OrderedDict[str, Made] = OrderedDict()
        self._lock = threading.Lock()

    def fused(self, key: SessionKey, ask: PixelAsk, seconds: float) -> PixelAsk:
        """Return an ask together with what was drawn for the same object a moment ago.

        A box takes the points within it, points take the box around them; the rest belongs to other
        objects. Nothing else is changed.

        Parameters
        ----------
        key : SessionKey
        ask : PixelAsk
            Points or a box.
        seconds : float
            How long ago that may be; 0 for never.
        """
        with self._lock:
            recent = self._recent.get(key)
            if recent is None or seconds <= 0:
                return ask
            now = self._now()
            if ask.box_xyxy is None:
                if now - recent.boxes_at > seconds:
                    return ask
                around = [box for box in recent.boxes if _is_around(box, ask)]
                return replace(ask, box_xyxy=around[-1].box_xyxy) if len(around) == 1 else ask
            if len(ask.point_labels) or recent.points is None or now - recent.points_at > seconds:
                return ask
            return _with_points(ask, recent.points)

    def remember_points(self, key: SessionKey, ask: PixelAsk) -> None:
        """Remember the points of the last request."""
        with self._lock:
            recent = self._of(key)
            recent.points, recent.points_at = ask, self._now()

    def remember_boxes(self, key: SessionKey, asks: list[PixelAsk]) -> None:
        """Remember the boxes of the last request."""
        with self._lock:
            recent = self._of(key)
            recent.boxes, recent.boxes_at = asks, self._now()

    def forget_accepted(self, key: SessionKey, drawn_ids: Container[str]) -> None:
        """Forget prompts whose answer was accepted: what is drawn next is another object.

        Parameters
        ----------
        key : SessionKey
        drawn_ids : container of str
            Of the regions in drafts and annotations.
        """
        with self._lock:
            recent = self._recent.get(key)
            if recent is not None and any(one in drawn_ids for one in recent.answers):
                del self._recent[key]

    def remember_made(self, region_id: str, made: Made) -> None:
        """Remember a region that was answered, so that it can be corrected once accepted."""
        with self._lock:
            self._made[region_id] = made
            if made.key in self._recent:
                self._recent[made.key].answers.append(region_id)
            while len(self._made) > _MOST_MADE:
                self._made.popitem(last=False)

    def made(self, region_id: str) -> Made | None:
        """Return a region that was answered a while ago."""
        with self._lock:
            return self._made.get(region_id)

    def _of(self, key: SessionKey) -> _Recent:
        """Return the memory of a key; the lock is held."""
        recent = self._recent.setdefault(key, _Recent())
        self._recent.move_to_end(key)
        while len(self._recent) > _MOST:
            self._recent.popitem(last=False)
        return recent


def joined(first: PixelAsk, second: PixelAsk) -> PixelAsk:
    """Return the points of both, and the box of the one that has one."""
    return PixelAsk(
        np.concatenate([first.points_xy, second.points_xy]),
        np.concatenate([first.point_labels, second.point_labels]),
        first.box_xyxy if second.box_xyxy is None else second.box_xyxy,
    )


def _within(box: npt.NDArray[np.float64], points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which points lie in a box, or hardly outside."""
    margin = _MARGIN * (box[2:] - box[:2])
    is_inside = (points >= box[:2] - margin) & (points <= box[2:] + margin)
    return np.asarray(is_inside.all(axis=1), bool)


def _is_around(box: PixelAsk, ask: PixelAsk) -> bool:
    """Return whether every positive point, or without one a negative one, lies in a box."""
    if box.box_xyxy is None:
        return False
    inside = _within(box.box_xyxy, ask.points_xy)
    is_positive = ask.point_labels == 1
    return bool(inside[is_positive].all() if is_positive.any() else inside.any())


def _with_points(ask: PixelAsk, points: PixelAsk) -> PixelAsk:
    """Return a box with the points that lie in it."""
    if ask.box_xyxy is None:
        return ask
    inside = _within(ask.box_xyxy, points.points_xy)
    if not inside.any():
        return ask
    return replace(
        ask, points_xy=points.points_xy[inside], point_labels=points.point_labels[inside]
    )
