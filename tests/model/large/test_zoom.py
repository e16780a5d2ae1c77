"""Windows for prompts: they hold what is asked for, near their middle, at the level it needs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_plugins.model.large.zoom import Extent, View, Zoom

SIDES = st.integers(1, 5000)


@given(SIDES, SIDES, st.integers(16, 600), st.data())
@settings(max_examples=150, deadline=None)
def test_a_window_holds_what_is_asked_for_with_room_around_it(
    height: int, width: int, tile: int, data: st.DataObject
) -> None:
    xs = sorted(data.draw(st.floats(0, width - 1)) for _ in range(2))
    ys = sorted(data.draw(st.floats(0, height - 1)) for _ in range(2))
    extent = Extent(xs[0], ys[0], xs[1], ys[1])
    zoom = Zoom((height, width), tile)
    view = zoom.view(extent)
    side = tile << view.level
    assert 0 <= view.top <= extent.y0 <= extent.y1 <= view.bottom <= height
    assert 0 <= view.left <= extent.x0 <= extent.x1 <= view.right <= width
    assert view.size_hw == (min(side, height), min(side, width))
    assert view.level == zoom.top or max(xs[1] - xs[0], ys[1] - ys[0]) <= side / 2
    assert not zoom.may_be_cut(view, extent)
    around = zoom.around(view, extent)
    assert sum(weight for weight, _ in around) == pytest.approx(1)
    for _, one in around:
        assert one.size_hw == view.size_hw


def test_the_level_is_the_finest_that_will_do() -> None:
    zoom = Zoom((8192, 8192), 1024)
    assert zoom.top == 3
    assert zoom.view(Extent(4000, 4000, 4512, 4100)).level == 0
    assert zoom.view(Extent(4000, 4000, 4513, 4100)).level == 1
    assert zoom.view(Extent(0, 0, 8191, 10)) == View(3, 0, 0, 8192, 8192)
    assert zoom.view(Extent(4000, 4000, 4001, 4001), least_level=2).level == 2
    assert zoom.view(Extent(4000, 4000, 4001, 4001), least_level=9).level == 3


def test_windows_fade_in_and_out_as_something_moves() -> None:
    zoom = Zoom((3000, 4000), 400)
    weights: dict[View, float] = {}
    for x in range(500, 900, 2):
        now = {view: w for w, view in zoom.around(View(0, 0, 0, 400, 400), Extent(x, 900, x, 900))}
        for view in weights.keys() | now.keys():
            assert abs(now.get(view, 0) - weights.get(view, now.get(view, 0))) <= 0.021
        weights = now


def test_a_mask_that_reaches_an_edge_may_go_on_but_not_beyond_the_picture() -> None:
    zoom = Zoom((3000, 4000), 400)
    corner = View(0, 0, 0, 400, 400)
    assert not zoom.may_be_cut(corner, Extent(0, 0, 380, 380))
    assert zoom.may_be_cut(corner, Extent(0, 0, 399, 380))
    assert zoom.is_too_large(corner, Extent(0, 0, 380, 380))
    assert not zoom.is_too_large(corner, Extent(0, 0, 300, 300))
