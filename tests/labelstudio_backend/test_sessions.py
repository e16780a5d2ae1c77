"""What is remembered, for how long, and what belongs together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sam_plugins.labelstudio_backend.context import PixelAsk
from sam_plugins.labelstudio_backend.sessions import Made, SessionKey, Sessions

KEY = SessionKey("1.2", "7", "image", None, "Cell", "me")


def points(*places: tuple[float, float], labels: tuple[int, ...] | None = None) -> PixelAsk:
    chosen = labels or (1,) * len(places)
    return PixelAsk(np.array(places, np.float64).reshape(-1, 2), np.array(chosen, np.int64))


def around(*box: float) -> PixelAsk:
    return PixelAsk(np.zeros((0, 2)), np.zeros(0, np.int64), np.array(box, np.float64))


def test_points_take_the_box_around_them_while_it_is_fresh() -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    sessions.remember_boxes(KEY, [around(0, 0, 10, 10), around(50, 50, 60, 60)])
    fused = sessions.fused(KEY, points((5, 5)), 60)
    assert fused.box_xyxy is not None
    assert fused.box_xyxy.tolist() == [0, 0, 10, 10]
    assert sessions.fused(KEY, points((5, 5), (55, 55)), 60).box_xyxy is None
    assert sessions.fused(KEY, points((30, 30)), 60).box_xyxy is None
    assert sessions.fused(KEY, points((5, 5)), 0).box_xyxy is None
    other = SessionKey("1.2", "7", "image", None, "Cell", "somebody else")
    assert sessions.fused(other, points((5, 5)), 60).box_xyxy is None
    now[0] = 61
    assert sessions.fused(KEY, points((5, 5)), 60).box_xyxy is None


def test_a_box_takes_the_points_within() -> None:
    sessions = Sessions()
    sessions.remember_points(KEY, points((5, 5), (8, 8), (90, 90), labels=(1, 0, 1)))
    fused = sessions.fused(KEY, around(0, 0, 10, 10), 60)
    assert fused.point_labels.tolist() == [1, 0]
    assert sessions.fused(KEY, around(20, 20, 30, 30), 60).point_labels.tolist() == []


def test_what_was_accepted_is_forgotten() -> None:
    sessions = Sessions()
    sessions.remember_boxes(KEY, [around(0, 0, 10, 10)])
    made = Made(KEY, around(0, 0, 10, 10), np.zeros((2, 2), np.float16), "m")
    sessions.remember_made("abc", made)
    sessions.forget_accepted(KEY, {"other"})
    assert sessions.fused(KEY, points((5, 5)), 60).box_xyxy is not None
    sessions.forget_accepted(KEY, {"abc"})
    assert sessions.fused(KEY, points((5, 5)), 60).box_xyxy is None
    assert sessions.made("abc") is made


def test_what_was_drawn_before_the_name_was_known_is_theirs() -> None:
    nameless = replace(KEY, user="")
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    sessions.remember_boxes(nameless, [around(0, 0, 10, 10)])
    made = Made(nameless, around(0, 0, 10, 10), np.zeros((2, 2), np.float16), "m")
    sessions.remember_made("abc", made)
    now[0] = 5
    sessions.remember_points(KEY, points((5, 5)))
    assert sessions.fused(KEY, points((5, 5)), 60).box_xyxy is not None
    assert sessions.fused(KEY, around(0, 0, 9, 9), 60).point_labels.tolist() == [1]
    sessions.forget_accepted(KEY, {"abc"})
    assert sessions.fused(KEY, points((5, 5)), 60).box_xyxy is None
    assert sessions.fused(nameless, points((5, 5)), 60).box_xyxy is None


def test_memory_is_bounded() -> None:
    sessions = Sessions()
    for number in range(6000):
        sessions.remember_points(SessionKey("1", str(number), "i", None, ""), points((1, 1)))
        sessions.remember_made(
            str(number), Made(KEY, points((1, 1)), np.zeros((1, 1), np.float16), "m")
        )
    assert len(sessions._recent) <= 5000
    assert len(sessions._made) <= 400
