"""What was followed is corrected, and objects are edited through all slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from qtpy.QtCore import Qt  # noqa: E402
from tests.napari_plugin.segment_stack.following import (  # noqa: E402
    Labels,
    current,
    followed,
    is_following,
    start,
)
from tests.napari_plugin.segmenting import (  # noqa: E402
    CTRL,
    SHIFT,
    Open,
    answered,
    drafts,
    iou,
    objects,
    until,
)

from sam_plugins.model.inference.volume.shapes import deepest_point, window_of  # noqa: E402
from sam_plugins.napari_plugin.errors import NothingThereError  # noqa: E402
from sam_plugins.napari_plugin.samples import nuclei_3d  # noqa: E402
from sam_plugins.napari_plugin.session.planes import Window  # noqa: E402


def test_a_doubtful_slice_is_visited_corrected_and_followed_from_there_only(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    widget, hand, truth = start(viewer, open_segment, embryo)
    hand.key(Qt.Key.Key_P)
    until(lambda: not is_following(widget))
    box = widget.through_stack
    assert box.isVisible()
    assert "Ends below at" in box.summary.text()
    assert box.doubts.count() > 0
    box.doubts.itemClicked.emit(box.doubts.item(0))
    (before,) = followed(widget)
    index = before.doubts[0].index
    assert viewer.dims.current_step[0] == index
    assert widget.controller.active_draft is not None
    start_index = widget.controller.active_draft.sight.plane.at[0]
    if not truth[index].any():
        index = int(np.flatnonzero(truth.any(axis=(1, 2)))[2])
        viewer.dims.set_point(0, index)
    x, y = deepest_point(window_of(truth[index]))
    hand.click((index, y, x))
    answered(widget)
    first, second = drafts(widget)
    assert first.object_key == second.object_key
    assert "from there only" in box.summary.text()
    hand.key(Qt.Key.Key_P)
    until(lambda: not is_following(widget))
    (after,) = followed(widget)
    assert after.anchors != before.anchors
    side = np.sign(start_index - index)
    untouched = [one for one in before.slices if (one.plane.at[0] - start_index) * side > 0]
    assert len(untouched) > 3
    assert all(after.on(found.plane) == found for found in untouched)
    (label,) = widget.controller.commit()
    assert iou(objects(widget) == label, truth) > 0.6
    widget.controller.undo()
    widget.controller.undo()
    assert followed(widget) == (before,)


@pytest.mark.slow
def test_a_negative_click_on_a_followed_slice_corrects_what_is_there(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    widget, hand, _ = start(viewer, open_segment, embryo)
    hand.key(Qt.Key.Key_P)
    until(lambda: not is_following(widget))
    (found,) = followed(widget)
    there = found.slices[3]
    index = there.plane.at[0]
    viewer.dims.set_point(0, index)
    rows, columns = np.nonzero(there.mask.mask)
    window = there.mask.window
    hand.click((index, window.top + rows[0] + 1, window.left + columns[0]), CTRL)
    answered(widget)
    corrected = drafts(widget)[-1]
    assert corrected.object_key == found.key
    assert corrected.prompts[0].mask == there.mask
    assert not corrected.prompts[1].is_positive
    shown = current(widget)[index] > 0
    np.testing.assert_array_equal(shown, corrected.mask.on(Window(0, 0, *shown.shape)))


@pytest.mark.parametrize("is_large", [False, True])
def test_delete_removes_an_object_from_all_slices_and_undo_brings_it_back(
    viewer: Any, open_segment: Open, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    if is_large:
        monkeypatch.setattr("sam_plugins.napari_plugin.object_edits._SEARCHED_AT_ONCE", 0)
    viewer.add_image(nuclei_3d()[0][0][:12])
    widget, hand = open_segment()
    labels = objects(widget)
    labels[2:9, 40:80, 40:80] = 3
    labels[:, 100:120, 100:120] = 4
    before = labels.copy()
    viewer.dims.set_point(0, 5)
    hand.hover((5, 60, 60))
    hand.key(Qt.Key.Key_Delete)
    until(lambda: 3 not in objects(widget))
    np.testing.assert_array_equal(objects(widget) == 4, before == 4)
    hand.key(Qt.Key.Key_Z, CTRL)
    np.testing.assert_array_equal(objects(widget), before)
    hand.hover((5, 60, 60))
    hand.key(Qt.Key.Key_Delete, SHIFT)
    assert 3 not in objects(widget)[5]
    np.testing.assert_array_equal(objects(widget)[4], before[4])


@pytest.mark.parametrize("is_large", [False, True])
def test_merging_and_filling_go_through_all_slices_and_splitting_does_not(
    viewer: Any, open_segment: Open, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    if is_large:
        monkeypatch.setattr("sam_plugins.napari_plugin.object_edits._SEARCHED_AT_ONCE", 0)
    viewer.add_image(nuclei_3d()[0][0][:12])
    widget, hand = open_segment()
    assert widget.segmenter is not None
    edits, labels = widget.segmenter.edits, objects(widget)
    labels[2:9, 40:80, 40:80] = 1
    labels[4:11, 40:80, 80:99] = 2
    labels[3:, 50, 50] = 0
    labels[:, 100:120, 100:120] = 4
    before = labels.copy()
    viewer.dims.set_point(0, 6)
    edits.merge_at([(6, 60, 60), (6, 60, 90)])
    until(lambda: 2 not in objects(widget))
    np.testing.assert_array_equal(objects(widget) == 1, (before == 1) | (before == 2))
    hand.hover((6, 60, 60))
    hand.key(Qt.Key.Key_F)
    until(lambda: bool((objects(widget)[3:9, 50, 50] == 1).all()))
    edits.split_at([(6, 60, 45), (6, 60, 95)])
    assert [len(np.unique(plane)) for plane in objects(widget)[5:8]] == [3, 4, 3]
    for _ in range(3):
        hand.key(Qt.Key.Key_Z, CTRL)
    np.testing.assert_array_equal(objects(widget), before)
    with pytest.raises(NothingThereError, match="two objects or more, got 1"):
        edits.merge_at([(6, 60, 60)])
