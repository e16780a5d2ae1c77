"""Windows, planes, masks and differences: laws that hold for any of them."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam_plugins.napari_plugin.session.changes import LabelChange
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import ArrayCanvas, Plane, Window
from sam_plugins.napari_plugin.session.values import Answer, BoxPrompt, Draft, Sight, Turn

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=19))
SIGHT = Sight(Plane(), Window(0, 0, 9, 9))


@given(masks, st.integers(0, 50), st.integers(0, 50))
def test_a_crop_holds_the_mask_and_nothing_else(
    mask: npt.NDArray[np.bool_], y: int, x: int
) -> None:
    crop = MaskCrop.of(mask, (y, x))
    whole = np.zeros((80, 80), bool)
    whole[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    assert crop == MaskCrop.of(whole)
    np.testing.assert_array_equal(crop.on(Window(0, 0, 80, 80)), whole)
    assert crop.area == mask.sum()
    assert MaskCrop.from_document(crop.document) == crop


def test_a_part_of_a_crop_is_drawn_where_windows_meet() -> None:
    crop = MaskCrop.of(np.ones((4, 4), bool), (2, 2))
    assert crop.on(Window(0, 0, 3, 4)).astype(int).tolist() == [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 1, 1],
    ]
    assert not crop.on(Window(20, 20, 30, 30)).any()
    assert crop.contains(2.4, 5.4)
    assert not crop.contains(1.4, 5)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3), 2)))
def test_a_plane_reads_what_it_wrote_along_any_axes(axes: tuple[int, int]) -> None:
    array = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)
    other = ({0, 1, 2} - set(axes)).pop()
    plane = Plane(axes, (2,))
    expected = np.take(array, 2, other)
    expected = expected.T if axes[0] > axes[1] else expected
    canvas = ArrayCanvas(array.copy())
    np.testing.assert_array_equal(canvas.read(plane), expected)
    assert plane.size_hw(array.shape) == expected.shape
    window = Window(1, 0, 3, 2)
    canvas.write(plane, window, np.array([[100, 101], [102, 103]], np.uint16))
    assert canvas.read(plane, window).tolist() == [[100, 101], [102, 103]]
    assert (canvas.array != array).sum() == 4


def test_a_plane_beside_the_array_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must lie in the array, got the shape \(3, 4, 5\)"):
        Plane((1, 2), (3,)).size_hw((3, 4, 5))
    with pytest.raises(ValueError, match=r"axes must be two different ones of 2 axes"):
        Plane((1, 1))


@given(st.data())
def test_a_change_goes_there_and_back(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))
    labels = hnp.arrays(np.uint32, shape, elements=st.integers(0, 3))
    before, after = data.draw(labels), data.draw(labels)
    canvas = ArrayCanvas(before.copy())
    change = LabelChange.between(Plane(), Window(0, 0, *shape), before, after)
    if change is None:
        np.testing.assert_array_equal(before, after)
        return
    change.redo(canvas)
    np.testing.assert_array_equal(canvas.array, after)
    change.undo(canvas)
    np.testing.assert_array_equal(canvas.array, before)


def test_undoing_leaves_what_was_painted_by_hand() -> None:
    canvas = ArrayCanvas(np.zeros((1, 3), np.uint8))
    after = np.array([[5, 5, 0]], np.uint8)
    change = LabelChange.between(Plane(), Window(0, 0, 1, 3), canvas.read(Plane()), after)
    assert change is not None
    change.redo(canvas)
    canvas.array[0, 1] = 9
    change.undo(canvas)
    assert canvas.array.tolist() == [[0, 9, 0]]


def test_a_large_object_costs_a_bit_a_pixel() -> None:
    before = np.zeros((512, 512), np.uint32)
    after = before.copy()
    after[100:300, 100:300] = 7
    change = LabelChange.between(Plane(), Window(0, 0, 512, 512), before, after)
    assert change is not None
    assert change.nbytes == 200 * 200 / 8


def test_labels_must_be_integers() -> None:
    with pytest.raises(TypeError, match=r"labels must be integers, got float64"):
        ArrayCanvas(np.zeros((2, 2)))


def test_a_box_needs_an_area_and_an_answer_its_scores() -> None:
    with pytest.raises(ValueError, match=r"x0 < x1 and y0 < y1, got \(3, 0, 3, 4\)"):
        BoxPrompt(3, 0, 3, 4)
    with pytest.raises(ValueError, match=r"got 1 masks and 2 scores"):
        Answer((MaskCrop.of(np.ones((1, 1), bool)),), (0.1, 0.2))


def test_a_draft_shows_the_last_mask_until_the_next_is_there() -> None:
    small, large = (MaskCrop.of(np.ones((n, n), bool)) for n in (1, 2))
    draft = Draft(1, SIGHT, (Turn((BoxPrompt(0, 0, 2, 2),)),), Answer((small, large), (0.3, 0.6)))
    assert draft.mask == large
    assert draft.with_choice(0).mask == small
    waiting = draft.with_choice(0).with_turn(Turn((BoxPrompt(0, 0, 1, 1),)))
    assert waiting.answer is None
    assert waiting.mask == small
