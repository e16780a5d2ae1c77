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
    mask_of,
    rest,
)

from sam_plugins.napari_plugin.session.masks import MaskCrop  # noqa: E402
from sam_plugins.napari_plugin.session.planes import Window  # noqa: E402
from sam_plugins.napari_plugin.session.values import Answer, Sight, Turn  # noqa: E402
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget  # noqa: E402

SIDE = 2600
Mask = npt.NDArray[np.bool_]


@pytest.fixture(scope="module")
def blob() -> Mask:
    """An object of 1,400 pixels, more than the model sees at its finest."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) - 1250
    there: Mask = np.hypot(y, x) < 700 * (1 + 0.08 * np.sin(5 * np.arctan2(y, x)))
    return there


class Oracle:
    """Answers with all of the object that can be seen of what is shown."""

    def __init__(self, truth: Mask) -> None:
        self.truth = truth
        self.asked: list[Window] = []

    def is_ready(self, sight: Sight) -> bool:
        return sight.region in self.asked

    def encode(self, sight: Sight) -> None:
        """Nothing has to be encoded."""

    def answer(self, sight: Sight, turns: tuple[Turn, ...]) -> Answer:
        assert turns
        self.asked.append(sight.region)
        seen = self.truth[sight.region.slices]
        mask = MaskCrop.of(seen, (sight.region.top, sight.region.left))
        spot = MaskCrop.of(np.ones((9, 9), bool), (sight.region.top + 500, sight.region.left + 500))
        return Answer((mask, spot), (0.9, 0.5), "oracle")


@pytest.fixture(scope="module")
def picture(blob: Mask) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, 3, blob.shape)
    return np.clip(np.where(blob, 160, 60) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(params=["dask", "multiscale"])
def opened(
    request: Any, viewer: Any, picture: npt.NDArray[np.uint8], blob: Mask
) -> Iterator[tuple[Any, SegmentWidget, Hand]]:
    if request.param == "dask":
        viewer.add_image(da.from_array(picture, chunks=(512, 512)))
    else:
        viewer.add_image([picture, picture[::2, ::2], picture[::4, ::4]], multiscale=True)
    oracle: Any = Oracle(blob)
    widget = SegmentWidget(viewer, load=lambda show: oracle)
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
    answered(widget)
    asked = widget.segmenter.asker.answerer().asked
    assert [max(region.shape) for region in asked[:2]] == [1024, 2048]
    (draft,) = drafts(widget)
    assert max(draft.sight.region.shape) > 1024
    assert np.array_equal(mask_of(draft.mask, blob.shape), blob)
    assert widget.segmenter.replay() == {"same": [draft.key], "other": []}
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
    assert np.array_equal(mask_of(draft.mask, blob.shape), blob)


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
    answered(widget)
