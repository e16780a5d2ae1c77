"""Prompts say what is wrong with them as soon as it can be known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sam_plugins.model.inference.prompts import Prompts


def test_lists_are_taken_as_arrays_of_the_right_type() -> None:
    prompts = Prompts([[[1, 2], [3, 4]]], [[1, 0]], [[0, 0, 5, 5]])
    assert prompts.points_xy is not None
    assert prompts.points_xy.dtype == np.float32
    assert prompts.point_labels is not None
    assert prompts.point_labels.dtype == np.int64
    assert len(prompts) == 1


def test_points_alone_are_on_their_objects() -> None:
    prompts = Prompts(np.zeros((3, 2, 2)))
    assert prompts.point_labels is not None
    assert prompts.point_labels.tolist() == [[1, 1]] * 3


def test_one_object_needs_no_leading_axis() -> None:
    prompts = Prompts.for_object([[1, 2]], [0], [0, 0, 5, 5], np.zeros((4, 6)))
    shapes = [
        value.shape
        for value in (
            prompts.points_xy,
            prompts.point_labels,
            prompts.boxes_xyxy,
            prompts.mask_logits,
        )
        if value is not None
    ]
    assert shapes == [(1, 1, 2), (1, 1), (1, 4), (1, 1, 4, 6)]


def test_a_slice_holds_the_same_prompts_of_fewer_objects() -> None:
    boxes = np.array([[0, 0, 1, 1], [1, 1, 2, 2], [2, 2, 3, 3]])
    some = Prompts(np.arange(6).reshape(3, 1, 2), boxes_xyxy=boxes)[1:]
    assert len(some) == 2
    assert some.boxes_xyxy is not None
    assert some.boxes_xyxy.tolist() == boxes[1:].tolist()
    assert some.points_xy is not None
    assert some.points_xy.tolist() == [[[2, 3]], [[4, 5]]]
    assert some.mask_logits is None


def two_objects() -> Prompts:
    return Prompts([[[1, 2]], [[3, 4]]], boxes_xyxy=[[0, 0, 5, 5], [1, 1, 6, 6]])


@pytest.mark.parametrize(
    ("which", "left"),
    [
        (0, [0]),
        (-1, [1]),
        (np.int64(1), [1]),
        (slice(1, None), [1]),
        (slice(5, None), []),
        ([1, 0], [1, 0]),
        ([], []),
        (np.array([False, True]), [1]),
    ],
)
def test_the_axis_of_the_objects_stays(which: Any, left: list[int]) -> None:
    prompts, some = two_objects(), two_objects()[which]
    assert len(some) == len(left)
    for name in ("points_xy", "point_labels", "boxes_xyxy"):
        np.testing.assert_array_equal(getattr(some, name), getattr(prompts, name)[left])
        assert not getattr(some, name).flags.writeable


def test_iterating_goes_from_object_to_object() -> None:
    each = list(two_objects())
    assert [len(one) for one in each] == [1, 1]
    assert [one.points_xy.tolist() for one in each if one.points_xy is not None] == [
        [[[1, 2]]],
        [[[3, 4]]],
    ]


@pytest.mark.parametrize("which", [2, -3, (0, 0), None, "a", [5], np.array([True]), 1.0])
def test_an_index_of_no_object_is_refused(which: Any) -> None:
    with pytest.raises(IndexError, match="prompts must be indexed"):
        two_objects()[which]


def test_prompts_do_not_change_when_the_arrays_do_that_they_came_from() -> None:
    points = np.zeros((1, 1, 2), np.float32)
    labels = np.ones((1, 1), np.int64)
    boxes = np.array([[0, 0, 5, 5]], np.float32)
    logits = np.zeros((1, 1, 4, 4), np.float32)
    prompts = Prompts(points, labels, boxes, logits)
    for given in (points, labels, boxes, logits):
        given[:] = -99
    assert prompts.points_xy is not None
    assert prompts.points_xy.tolist() == [[[0, 0]]]
    assert prompts.point_labels is not None
    assert prompts.point_labels.tolist() == [[1]]
    assert prompts.boxes_xyxy is not None
    assert prompts.boxes_xyxy.tolist() == [[0, 0, 5, 5]]
    assert prompts.mask_logits is not None
    assert not prompts.mask_logits.any()
    with pytest.raises(ValueError, match="read-only"):
        prompts.boxes_xyxy[0, 2] = -1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "at least one of points, boxes, mask logits or text"),
        ({"points_xy": [[1, 2]]}, r"points_xy must have shape \(N, K, 2\), got \(1, 2\)"),
        ({"points_xy": [[1, 2]]}, "got .*; Prompts.for_object takes those of one object without"),
        ({"points_xy": [[1, 2, 3, 4]]}, r"got \(1, 4\); boxes go to boxes_xyxy"),
        (
            {"points_xy": [[[1, 2]]], "point_labels": [[1, 2, 3, 4]]},
            r"got \(1, 4\); boxes go to boxes_xyxy",
        ),
        (
            {"points_xy": [[[1, 2]]] * 2, "point_labels": [[1], [1, 0]]},
            r"point_labels must be numbers of shape \(N, K\), got rows of different lengths",
        ),
        ({"points_xy": [[[1, 2, 3]]]}, r"points_xy must have shape \(N, K, 2\), got \(1, 1, 3\)"),
        ({"points_xy": [[["a", "b"]]]}, r"points_xy must be numbers of shape \(N, K, 2\)"),
        ({"points_xy": [[[1, 2], [3]]]}, r"points_xy must be numbers of shape \(N, K, 2\)"),
        ({"points_xy": [[[1, np.nan]]]}, "points_xy must be finite, got NaN"),
        ({"points_xy": [[[1, 2]]], "point_labels": [[1, 1]]}, "one label for each point"),
        ({"points_xy": [[[1, 2]]], "point_labels": [[2]]}, r"point_labels must be 1 .*got 2"),
        ({"points_xy": [[[1, 2]]], "point_labels": [[0.5]]}, r"point_labels must be 1 .*got 0.5"),
        ({"point_labels": [[1]]}, "point_labels must come with points_xy"),
        ({"points_xy": [[[1, 2]]], "point_labels": [[-1]]}, "got only padding"),
        ({"points_xy": np.zeros((2, 0, 2))}, "at least one point for each object"),
        ({"boxes_xyxy": [1, 2, 3, 4]}, r"boxes_xyxy must have shape \(N, 4\), got \(4,\)"),
        ({"boxes_xyxy": [[5, 5, 5, 9]]}, r"left < right and top < bottom, got \[5.0, 5.0, 5.0, 9"),
        ({"boxes_xyxy": [[1, 9, 5, 5]]}, "left < right and top < bottom"),
        ({"boxes_xyxy": [[1, 2, np.inf, 4]]}, "boxes_xyxy must be finite"),
        ({"mask_logits": np.zeros((1, 3, 4, 4))}, "choose one of the earlier masks"),
        ({"mask_logits": np.zeros((4, 4))}, r"mask_logits must have shape \(N, 1, h, w\)"),
        ({"text_embeddings": np.zeros(5)}, r"text_embeddings must have shape \(N, E\)"),
        (
            {"points_xy": np.zeros((2, 1, 2)), "boxes_xyxy": [[0, 0, 1, 1]]},
            "same number of objects, got points_xy 2, point_labels 2, boxes_xyxy 1",
        ),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prompts(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"points_xy": [1, 2]}, r"points_xy must have shape \(K, 2\), got \(2,\)$"),
        (
            {"points_xy": [[1, 2]], "point_labels": [[1]]},
            r"point_labels must have shape \(K,\), got \(1, 1\)",
        ),
        ({"box_xyxy": [[1, 2, 3, 4]]}, r"box_xyxy must have shape \(4,\), got \(1, 4\)"),
        ({"mask_logits": 3}, r"mask_logits must have shape \(h, w\), got \(\)"),
        (
            {"mask_logits": np.zeros((2, 3, 4, 4))},
            r"mask_logits must have shape \(h, w\), got \(2, 3, 4, 4\)",
        ),
        ({"points_xy": [[1, 2], [3]]}, r"shape \(K, 2\), got rows of different lengths"),
    ],
)
def test_what_is_wrong_with_one_object_is_said_in_its_shapes(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Prompts.for_object(**given)


def test_leading_axes_of_a_mask_may_stay() -> None:
    for shape in ((4, 6), (1, 4, 6), (1, 1, 4, 6)):
        logits = Prompts.for_object(mask_logits=np.zeros(shape)).mask_logits
        assert logits is not None
        assert logits.shape == (1, 1, 4, 6)


def test_single_points_need_two_axes() -> None:
    assert Prompts.single_points([[1, 2], [3, 4]]).points_xy is not None
    with pytest.raises(ValueError, match=r"points_xy must have shape \(N, 2\), got \(2,\)"):
        Prompts.single_points([1, 2])


@pytest.mark.parametrize("point", [(-1, 5), (5, -1), (20, 5), (5, 10), (5, 15)])
def test_points_outside_of_the_picture_are_refused(point: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"x from 0 to 19 and y from 0 to 9, got .*order of x"):
        Prompts([[[3, 3], point]]).check_inside((10, 20))


def test_the_border_belongs_to_the_picture_and_padding_is_nowhere() -> None:
    Prompts([[[-0.5, 9.5], [19.5, 0], [-99, -99]]], [[1, 0, -1]]).check_inside((10, 20))


@pytest.mark.parametrize("box", [(-9, 1, -2, 5), (1, -9, 5, -2), (21, 1, 25, 5), (1, 11, 5, 15)])
def test_boxes_must_touch_the_picture(box: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="boxes_xyxy must overlap the picture of 20 x 10 pixels"):
        Prompts(boxes_xyxy=[(1, 1, 2, 2), box]).check_inside((10, 20))


def test_boxes_may_reach_beyond_the_picture() -> None:
    Prompts(boxes_xyxy=[(-5, -5, 30, 30)]).check_inside((10, 20))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"points_xy": [[[1 + 2j, 3]]]}, r"points_xy must be numbers of .*, got complex128"),
        ({"points_xy": [[["1", "2"]]]}, r"points_xy must be numbers of shape \(N, K, 2\), got <U1"),
        ({"boxes_xyxy": np.array([["1", 2, 3, 4]], object)}, r"boxes_xyxy must be numbers of"),
        (
            {"points_xy": [[[1, 2]]], "point_labels": [[1 + 0j]]},
            r"point_labels must be whole numbers, got complex128",
        ),
        (
            {"boxes_xyxy": [[-3e38, -3e38, 3e38, 3e38]]},
            r"boxes_xyxy must be in pixels of .* 3e\+38",
        ),
        ({"points_xy": [[[1, 3e38]]]}, r"points_xy must be in pixels of the picture, got 3e\+38"),
        ({"points_xy": [[[1, 1e300]]]}, r"points_xy must be finite"),
    ],
)
def test_numbers_that_are_no_places_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prompts(**given)


def test_a_box_may_reach_far_beyond_the_picture() -> None:
    Prompts(boxes_xyxy=[[-1e9, -1e9, 1e9, 1e9]]).check_inside((40, 60))


def test_tensors_are_taken_and_those_with_gradients_refused() -> None:
    points = torch.tensor([[[1.0, 2.0]]])
    assert Prompts(points).points_xy is not None
    message = (
        r"^points_xy must be numbers of .*, got a Tensor that NumPy cannot read; pass points_xy\."
    )
    with pytest.raises(TypeError, match=message):
        Prompts(points.requires_grad_())
    with pytest.raises(TypeError, match=r"pass box_xyxy\.detach\(\)\.cpu\(\)$"):
        Prompts.for_object(box_xyxy=torch.ones(4, requires_grad=True))  # type: ignore[arg-type]
