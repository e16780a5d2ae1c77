"""From positions to pixels and back, for any picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_plugins.napari_plugin.coordinates import (
    NotInPlaneError,
    RegionPixels,
    box_between,
    displayed_axes,
    is_inside,
    place_of,
)
from sam_plugins.napari_plugin.session.planes import Plane, Window

sizes = st.integers(1, 40000)


@given(st.integers(0, 3000), st.integers(0, 3000), sizes, sizes, st.integers(1, 1024), st.data())
def test_points_go_there_and_back(
    top: int, left: int, height: int, width: int, side: int, data: st.DataObject
) -> None:
    pixels = RegionPixels(Window(top, left, top + height, left + width), (side, 2 * side))
    x = data.draw(st.floats(left - 0.5, left + width - 0.5))
    y = data.draw(st.floats(top - 0.5, top + height - 0.5))
    back = pixels.to_plane(*pixels.to_model(x, y))
    assert back == pytest.approx((x, y), abs=1e-6 * max(height, width))


def test_edges_of_the_region_are_edges_of_the_picture() -> None:
    pixels = RegionPixels(Window(100, 200, 300, 600), (50, 100))
    assert pixels.to_model(199.5, 99.5) == (-0.5, -0.5)
    assert pixels.to_model(599.5, 299.5) == (99.5, 49.5)
    assert pixels.to_model(1e9, -1e9) == (99.5, -0.5)


def test_planes_of_any_axes() -> None:
    assert place_of((3.4, 7.0, 1.6), (0, 2), (9, 12, 9)).plane == Plane((0, 2), (7,))
    swapped = place_of((3.0, 7.0), (1, 0), (9, 9))
    assert (swapped.x, swapped.y) == (3.0, 7.0)
    assert place_of((2.5, 0, 0), (1, 2), (9, 4, 4)).plane.at == (3,)
    with pytest.raises(NotInPlaneError, match=r"planes 0 to 8 on axis 0, got 9; move the slider"):
        place_of((8.6, 0, 0), (1, 2), (9, 4, 4))


def test_axes_of_layers_with_fewer_axes_than_the_viewer() -> None:
    assert displayed_axes((3, 2), 4, 3) == (2, 1)
    with pytest.raises(NotInPlaneError, match=r"needs a picture of two axes, got 3"):
        displayed_axes((0, 1, 2), 3, 3)
    with pytest.raises(NotInPlaneError, match=r"lacks one that is displayed; roll the axes"):
        displayed_axes((0, 2), 3, 2)


def test_boxes_are_clipped_and_need_a_pixel() -> None:
    assert box_between((9, 9), (2, 3), (20, 20)) == (2, 3, 9, 9)
    assert box_between((2, 2), (2.5, 9), (20, 20)) is None
    assert box_between((-9, -9), (-1, -1), (20, 20)) is None
    assert not is_inside(np.nan, 0, (4, 4))
