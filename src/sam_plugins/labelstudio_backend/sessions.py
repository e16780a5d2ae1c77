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

    @property
    def place(self) -> tuple[object, ...]:
        """All but who drew."""
        return self.project, self.task, self.to_name, self.page, self.label


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
    minus : PixelAsk, optional
        The clicks with which an accepted region was corrected, as the editor held them.
    before : Made, optional
        That region before the correction.
    """

    key: SessionKey
    ask: PixelAsk
    logits: npt.NDArray[np.float16]
    model_id: str
    minus: PixelAsk | None = None
    before: Made | None = None

    @property
    def accepted(self) -> Made:
        """The region before every correction of it."""
        made = self
        while made.before is not None:
            made = made.before
        return made

    def corrected_by(self, clicks: PixelAsk) -> Made:
        """Return the region that clicks go on from, when it was answered several times.

        A request repeats the clicks before the last one, unless their answer was accepted, and
        misses those that were taken back.
        """
        start: Made = self
        while start.minus is not None and start.before is not None:
            if _goes_on(start.minus, clicks):
                return start
            if not _have_a_click_in_common(start.minus, clicks):
                break  # that correction was accepted
            start = start.before
        return replace(start, minus=None, before=None)


@dataclass
class _Recent:
    """The last prompts of one kind each, with their times."""

    points: PixelAsk | None = None
    points_at: float = 0.0
    boxes: list[PixelAsk] = field(default_factory=list)
    boxes_at: float = 0.0
    answers: deque[str] = field(default_factory=lambda: deque(maxlen=50))

    def with_newer(self, other: _Recent) -> _Recent:
        """Return what two remember, of each kind what was drawn last."""
        points, boxes = (
            max(self, other, key=lambda one: one.points_at),
            max(self, other, key=lambda one: one.boxes_at),
        )
        answers = deque([*self.answers, *other.answers], maxlen=self.answers.maxlen)
        return _Recent(points.points, points.points_at, boxes.boxes, boxes.boxes_at, answers)


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
            recent = self._named(key)
            if recent is None or seconds <= 0:
                return ask
            now = self._now()
            if ask.box_xyxy is None:
                if now - recent.boxes_at > seconds:
                    return ask
                around = [box for box in recent.boxes if is_around(box, ask)]
                if len(around) != 1:
                    return ask
                recent.boxes_at = now  # it is still worked on
                return replace(ask, box_xyxy=around[0].box_xyxy)
            if len(ask.point_labels) or recent.points is None or now - recent.points_at > seconds:
                return ask
            return with_points(ask, recent.points)

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
            recent = self._named(key)
            if recent is not None and any(one in drawn_ids for one in recent.answers):
                del self._recent[key]

    def continued(self, key: SessionKey, ask: PixelAsk, model_id: str) -> Made | None:
        """Return the last answer that an ask corrects: to the same clicks but the last ones.

        Who asks is not compared: a user's name is known only once a draft was saved, and another's
        click at the very same places is the same question.
        """
        with self._lock:
            found = [
                made
                for made in self._made.values()
                if made.model_id == model_id
                and made.key.place == key.place
                and _goes_on(made.ask, ask)
            ]
        return max(reversed(found), key=lambda made: len(made.ask.point_labels), default=None)

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
        """Return the memory of a key, made where there is none; the lock is held."""
        recent = self._named(key) or self._recent.setdefault(key, _Recent())
        self._recent.move_to_end(key)
        while len(self._recent) > _MOST:
            self._recent.popitem(last=False)
        return recent

    def _named(self, key: SessionKey) -> _Recent | None:
        """Return the memory of a key, None for none; the lock is held.

        A user's name is known only once a draft was saved: what was drawn before that is theirs.
        """
        recent = self._recent.get(key)
        nameless = self._recent.pop(replace(key, user=""), None) if key.user else None
        if nameless is None:
            return recent
        self._recent[key] = nameless if recent is None else recent.with_newer(nameless)
        return self._recent[key]


def joined(first: PixelAsk, second: PixelAsk) -> PixelAsk:
    """Return the points of both, and the box of the one that has one."""
    return PixelAsk(
        np.concatenate([first.points_xy, second.points_xy]),
        np.concatenate([first.point_labels, second.point_labels]),
        first.box_xyxy if second.box_xyxy is None else second.box_xyxy,
    )


def _goes_on(earlier: PixelAsk, ask: PixelAsk) -> bool:
    """Return whether an ask is an earlier one and more clicks."""
    count = len(earlier.point_labels)
    first, second = earlier.box_xyxy, ask.box_xyxy
    is_same_box = first is second if first is None or second is None else (first == second).all()
    return bool(
        is_same_box
        and count < len(ask.point_labels)
        and np.array_equal(earlier.points_xy, ask.points_xy[:count])
        and np.array_equal(earlier.point_labels, ask.point_labels[:count])
    )


def _have_a_click_in_common(first: PixelAsk, second: PixelAsk) -> bool:
    """Return whether two requests hold a click at the same place."""
    return bool((first.points_xy[:, None] == second.points_xy[None]).all(axis=-1).any())


def _within(box: npt.NDArray[np.float64], points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which points lie in a box, or hardly outside."""
    margin = _MARGIN * (box[2:] - box[:2])
    is_inside = (points >= box[:2] - margin) & (points <= box[2:] + margin)
    return np.asarray(is_inside.all(axis=1), bool)


def is_around(box: PixelAsk, ask: PixelAsk) -> bool:
    """Return whether every positive point, or without one a negative one, lies in a box."""
    if box.box_xyxy is None:
        return False
    inside = _within(box.box_xyxy, ask.points_xy)
    is_positive = ask.point_labels == 1
    return bool(inside[is_positive].all() if is_positive.any() else inside.any())


def with_points(ask: PixelAsk, points: PixelAsk) -> PixelAsk:
    """Return a box with the points that lie in it."""
    if ask.box_xyxy is None:
        return ask
    inside = _within(ask.box_xyxy, points.points_xy)
    if not inside.any():
        return ask
    return replace(
        ask, points_xy=points.points_xy[inside], point_labels=points.point_labels[inside]
    )
