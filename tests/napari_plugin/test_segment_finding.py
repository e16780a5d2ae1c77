"""Scribbles, outlines, and many objects at once in a real window: those like some, those of words.

The shipped model on real nuclei; the CLIP has random weights, for none can be had offline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from napari.utils.notifications import notification_manager  # noqa: E402
from qtpy.QtCore import Qt  # noqa: E402
from scipy.ndimage import distance_transform_edt  # noqa: E402
from tests.model.inference.tiny_clip import write_tiny_clip  # noqa: E402
from tests.napari_plugin.segmenting import (  # noqa: E402
    CTRL,
    Hand,
    Nuclei,
    Open,
    answered,
    drafts,
    iou,
    mask_of,
    until,
)

from sam_plugins.napari_plugin.params import SegmentParams  # noqa: E402
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget  # noqa: E402


@pytest.fixture(scope="module")
def nuclei(test_data: Path) -> Nuclei:
    return Nuclei.read(test_data)


@pytest.fixture
def open_segment(viewer: Any, open_segment: Open, nuclei: Nuclei) -> Open:
    """Return what opens **Segment** on the nuclei, and waits until they are encoded."""
    viewer.add_image(nuclei.image, name="nuclei")

    def open_it(params: SegmentParams | None = None) -> tuple[SegmentWidget, Hand]:
        widget, hand = open_segment(params)
        until(widget.segmenter.is_ready)  # type: ignore[union-attr]
        return widget, hand

    return open_it


def found_in(masks: list[npt.NDArray[np.bool_]], truth: npt.NDArray[Any]) -> int:
    """Return how many of the true objects are found with an IoU over one half."""
    numbers = np.unique(truth[truth > 0])
    return sum(any(iou(mask, truth == number) > 0.5 for mask in masks) for number in numbers)


def inside(mask: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the pixel of a mask that is farthest from its edge."""
    y, x = np.unravel_index(distance_transform_edt(np.pad(mask, 1)).argmax(), np.add(mask.shape, 2))
    return float(y - 1), float(x - 1)


def masks_of(widget: SegmentWidget, shape: tuple[int, ...]) -> list[npt.NDArray[np.bool_]]:
    return [mask_of(draft.mask, shape) for draft in drafts(widget)]


def until_idle(widget: SegmentWidget) -> None:
    until(lambda: not widget.segmenter.asker.is_busy)  # type: ignore[union-attr]


def test_all_nuclei_like_one_are_found_accepted_and_undone(
    open_segment: Open, nuclei: Nuclei
) -> None:
    widget, hand = open_segment()
    assert widget.segmenter is not None
    layer = widget.segmenter.objects
    hand.click(nuclei.nucleus(3)[1])
    answered(widget)
    (first,) = drafts(widget)
    hand.key(Qt.Key.Key_L)
    until_idle(widget)
    masks = masks_of(widget, nuclei.labels.shape)
    assert drafts(widget)[0] == first
    count = len(np.unique(nuclei.labels)) - 1
    assert found_in(masks, nuclei.labels) >= 0.7 * count
    assert np.sum(masks, axis=0).max() == 1  # no two of them overlap

    undecided = len(drafts(widget))
    other = drafts(widget)[1]
    hand.hover(inside(masks[1]))
    hand.key(Qt.Key.Key_A)
    np.testing.assert_array_equal(layer.data == 1, masks[1])
    assert other not in drafts(widget)
    hand.hover(inside(masks[2]))
    hand.key(Qt.Key.Key_D)
    assert len(drafts(widget)) == undecided - 2
    hand.key(Qt.Key.Key_C)
    assert len(np.unique(layer.data)) - 1 == undecided - 1
    assert drafts(widget) == ()
    replayed = widget.segmenter.replay()
    assert (len(replayed["same"]), replayed["other"]) == (undecided - 1, [])
    for _ in range(4):  # commit, drop, accept, find
        hand.key(Qt.Key.Key_Z, CTRL)
    assert drafts(widget) == (first,)
    assert not layer.data.any()


def test_committed_objects_are_examples_and_are_not_found_again(
    viewer: Any, open_segment: Open, nuclei: Nuclei
) -> None:
    widget, hand = open_segment()
    assert widget.segmenter is not None
    with pytest.raises(Exception, match="no object yet that others could be like"):
        widget.segmenter.finder.similar()
    for rank in (0, 1):
        hand.click(nuclei.nucleus(rank)[1])
        answered(widget)
        hand.key(Qt.Key.Key_C)
    before = np.asarray(widget.segmenter.objects.data) > 0
    widget.segmenter.finder.similar()
    until_idle(widget)
    masks = masks_of(widget, nuclei.labels.shape)
    assert found_in(masks, nuclei.labels) >= 0.6 * (len(np.unique(nuclei.labels)) - 3)
    assert all((mask & before).sum() <= mask.sum() / 2 for mask in masks)
    known = len(drafts(widget))
    hand.click(nuclei.nucleus(0)[1])  # another object, and not more about the last one found
    answered(widget)
    assert len(drafts(widget)) == known + 1
    assert len(drafts(widget)[-1].prompts) == 1


def test_words_find_masks_with_a_clip_and_say_what_is_missing(
    open_segment: Open, nuclei: Nuclei, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    widget, _ = open_segment()
    controller = widget.controller
    controller.find_words()
    assert "type into Words" in str(notification_manager.records[-1].message)
    controller.set_params(SegmentParams(words="a nucleus", clip=str(tmp_path / "none")))
    controller.find_words()
    until_idle(widget)
    assert str(tmp_path / "none") in str(notification_manager.records[-1].message)
    clip = write_tiny_clip(tmp_path / "clip")
    masks = []
    for words, others in (("a nucleus", "a star"), ("a star", "a nucleus")):
        # What this CLIP has learned is nothing: of two phrases it takes either for each mask.
        controller.set_params(SegmentParams(words=words, other_words=others, clip=str(clip)))
        controller.find_words()
        until_idle(widget)
        masks += masks_of(widget, nuclei.labels.shape)
        if drafts(widget):
            controller.undo()
        assert drafts(widget) == ()
    assert found_in(masks, nuclei.labels) >= 0.7 * (len(np.unique(nuclei.labels)) - 1)


@pytest.mark.parametrize("tool", ["scribble", "lasso"])
def test_strokes_and_outlines(open_segment: Open, nuclei: Nuclei, tool: Any) -> None:
    widget, hand = open_segment(SegmentParams(tool=tool))
    truth, (y, x) = nuclei.nucleus()
    if tool == "scribble":
        path = [(y, x - 5), (y, x - 2), (y, x + 2), (y, x + 5)]
    else:
        angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        radius = np.sqrt(truth.sum() / np.pi)
        path = [(y + radius * np.sin(a), x + radius * np.cos(a)) for a in angles]
    hand.drag(path)
    answered(widget)
    (draft,) = drafts(widget)
    kinds = {type(prompt).__name__ for prompt in draft.prompts}
    assert kinds == {"PointPrompt" if tool == "scribble" else "MaskPrompt"}
    assert iou(mask_of(draft.mask, truth.shape), truth) > (0.8 if tool == "scribble" else 0.6)
    hand.click((y, x))
    answered(widget)
    (draft,) = drafts(widget)
    assert len(draft.turns) == 2
    assert iou(mask_of(draft.mask, truth.shape), truth) > 0.8
