"""**Segment** on pictures that are larger than what the model sees at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from qtpy.QtCore import Qt  # noqa: E402
from tests.napari_plugin.segmenting import (  # noqa: E402
    CTRL,
    SHIFT,
    Hand,
    answered,
    drafts,
    iou,
    load,
    mask_of,
    rest,
)

from sam_plugins.napari_plugin.images import ImageSource, look_at  # noqa: E402
from sam_plugins.napari_plugin.session.planes import Plane, Window  # noqa: E402
from sam_plugins.napari_plugin.shown import show_model  # noqa: E402
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget  # noqa: E402

SIDE = 2600
Mask = npt.NDArray[np.bool_]


@pytest.fixture(scope="module")
def blob() -> Mask:
    """An object of 1,400 pixels, more than the model sees at its finest."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) - 1250
    there: Mask = np.hypot(y, x) < 700 * (1 + 0.08 * np.sin(5 * np.arctan2(y, x)))
    return there


@pytest.fixture(scope="module")
def picture(blob: Mask) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, 3, blob.shape)
    return np.clip(np.where(blob, 160, 60) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(params=["dask", "multiscale"])
def opened(
    request: Any, viewer: Any, picture: npt.NDArray[np.uint8]
) -> Iterator[tuple[Any, SegmentWidget, Hand]]:
    if request.param == "dask":
        viewer.add_image(da.from_array(picture, chunks=(512, 512)))
    else:
        viewer.add_image([picture, picture[::2, ::2], picture[::4, ::4]], multiscale=True)
    widget = SegmentWidget(viewer, load=load)
    viewer.window.add_dock_widget(widget, name="Segment")
    hand = Hand(viewer)
    hand.settle()
    yield viewer, widget, hand
    widget.controller.close()


def look(viewer: Any, centre: tuple[float, float]) -> None:
    """Zoom in so far that the model is asked at its finest level."""
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
    camera.center = (0, *centre)
    camera.zoom = 1.0
    rest()


def test_an_object_that_goes_on_beyond_what_is_shown_is_asked_for_in_more(
    opened: Any, blob: Mask
) -> None:
    viewer, widget, hand = opened
    look(viewer, (1250, 1900))
    hand.click((1250, 1800))
    assert drafts(widget)[0].sight.region.shape == (1024, 1024)
    answered(widget)
    (draft,) = drafts(widget)
    assert max(draft.sight.region.shape) > 1024
    assert iou(mask_of(draft.mask, blob.shape), blob) > 0.9
    assert widget.controller.replay() == {"same": [draft.key], "other": []}
    hand.key(Qt.Key.Key_Z, CTRL)
    assert drafts(widget) == ()


def test_a_box_asks_for_the_level_that_it_fits_into(opened: Any, blob: Mask) -> None:
    viewer, widget, hand = opened
    viewer.reset_view()
    rest()
    corners = [(490, 490), (1000, 1000), (2010, 2010)]
    hand.drag(corners, SHIFT)
    answered(widget)
    (draft,) = drafts(widget)
    assert draft.sight.region == Window(0, 0, SIDE, SIDE)
    assert iou(mask_of(draft.mask, blob.shape), blob) > 0.95


def test_a_correction_far_away_is_about_the_same_object(opened: Any, blob: Mask) -> None:
    viewer, widget, hand = opened
    look(viewer, (700, 1250))
    hand.click((700, 1250))
    answered(widget)
    look(viewer, (1850, 1250))
    hand.click((1850, 1250))
    answered(widget)
    (draft,) = drafts(widget)
    assert len(draft.prompts) == 2
    region = draft.sight.region
    assert region.top <= 700 < 1850 < region.bottom
    hand.key(Qt.Key.Key_N)
    look(viewer, (300, 300))
    hand.click((300, 300))
    assert len(drafts(widget)) == 2
    assert drafts(widget)[1].sight.region.shape == (1024, 1024)
    answered(widget)


def test_what_is_shown_of_a_large_part_is_the_mean_of_its_pixels() -> None:
    stripes = np.zeros((3072, 3072), np.uint8)
    stripes[::3] = 255  # every third row: a picture of every third pixel is all white or black
    source = ImageSource([da.from_array(stripes, chunks=(512, 512))])
    sight = look_at(source, Plane(), Window(0, 0, 3072, 3072))
    shown = show_model(source, sight)
    assert shown.shape == (1024, 1024, 3)
    assert abs(shown[8:-8].mean() - 85) < 8
    assert shown[8:-8].std() < 30
