"""Prompts drawn as a map, against one cell at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sam_plugins.model.networks.prompt_map import (
    PromptMap,
    draw_prompts,
    drawn_window,
    prompt_regions,
)

CPU = torch.device("cpu")
SIZE_HW = (12, 20)


def draw(**given: Tensor) -> Tensor:
    """Draw on a small grid; what is not given is None."""
    count = len(next(iter(given.values())))
    parts = {
        name: given.get(name) for name in ("points_xy", "point_labels", "boxes_xyxy", "mask_logits")
    }
    return draw_prompts(SIZE_HW, count, **parts, device=CPU)


def test_points_are_discs_around_their_place() -> None:
    points = torch.tensor([[[9.5, 21.5], [61.0, 3.0], [40.0, 40.0]]])
    drawing = draw(points_xy=points, point_labels=torch.tensor([[1, 1, 0]]))
    assert drawing.shape == (1, 7, *SIZE_HW)
    for channel, label, radius in ((0, 1, 1.5), (1, 1, 6.0), (2, 0, 1.5), (3, 0, 6.0)):
        own = points[0, :2] if label else points[0, 2:]
        for row in range(SIZE_HW[0]):
            for column in range(SIZE_HW[1]):
                heights = []
                for x, y in own.tolist():
                    # Cells are 4 pixels; pixel 1.5 is the centre of the first one.
                    squared = ((x - 1.5) / 4 - column) ** 2 + ((y - 1.5) / 4 - row) ** 2
                    heights.append(math.exp(-squared / (2 * radius**2)))
                expected = max(heights)
                assert float(drawing[0, channel, row, column]) == pytest.approx(expected, abs=1e-6)
    assert float(drawing[0, 0, 5, 2]) == pytest.approx(1)  # (9.5, 21.5) is a cell's centre.


def test_padding_draws_nothing() -> None:
    points = torch.tensor([[[9.0, 21.0]]])
    assert not bool(draw(points_xy=points, point_labels=torch.tensor([[-1]])).any())
    padded = draw(
        points_xy=torch.tensor([[[9.0, 21.0], [50.0, 8.0]]]), point_labels=torch.tensor([[1, -1]])
    )
    plain = draw(points_xy=points, point_labels=torch.tensor([[1]]))
    torch.testing.assert_close(padded, plain, rtol=0, atol=0)


def test_a_box_covers_its_area_with_soft_edges() -> None:
    box = torch.tensor([[7.5, 11.5, 47.5, 27.5]])  # Edges at cells 1.5, 2.5, 11.5 and 6.5.
    drawing = draw(boxes_xyxy=box)[0, 4]
    expected = torch.zeros(SIZE_HW)
    expected[3:7, 2:12] = 1
    torch.testing.assert_close(drawing, expected)
    moved = draw(boxes_xyxy=box + torch.tensor([[1.0, 0.0, 1.0, 0.0]]))[0, 4]
    assert moved[4, 2].item() == pytest.approx(0.75)
    assert moved[4, 12].item() == pytest.approx(0.25)
    assert moved.sum().item() == pytest.approx(expected.sum().item())
    assert not bool(draw(boxes_xyxy=box)[0, [0, 1, 2, 3, 5, 6]].any())


def test_earlier_logits_are_squashed_and_announced() -> None:
    logits = torch.linspace(-40, 40, SIZE_HW[0] * SIZE_HW[1]).reshape(1, 1, *SIZE_HW)
    drawing = draw(mask_logits=logits)
    torch.testing.assert_close(drawing[0, 5], (logits[0, 0] / 10).tanh())
    assert bool((drawing[0, 6] == 1).all())
    assert not bool(drawing[0, :5].any())


def test_four_pixels_are_one_cell() -> None:
    points = torch.tensor([[[17.0, 14.0], [30.0, 21.0]]])
    labels = torch.tensor([[1, 0]])
    boxes = torch.tensor([[10.0, 9.0, 33.0, 24.0]])
    step = torch.tensor([8.0, 4.0])
    here = draw(points_xy=points, point_labels=labels, boxes_xyxy=boxes)
    there = draw(points_xy=points + step, point_labels=labels, boxes_xyxy=boxes + step.repeat(2))
    torch.testing.assert_close(there[:, :, 1:, 2:], here[:, :, :-1, :-2])


def test_regions_are_the_discs_the_box_and_the_earlier_mask() -> None:
    torch.manual_seed(0)
    drawing = torch.rand(2, 7, 3, 4)
    drawing[:, 5] = torch.tensor([-0.5, 0.0, 0.25, 1.0])
    regions = prompt_regions(drawing)
    torch.testing.assert_close(regions[:, :3], drawing[:, :3])
    torch.testing.assert_close(regions[:, 3], drawing[:, 4])
    assert regions[0, 4, 0].tolist() == [0, 0, 0.25, 1]


def test_a_map_is_encoded_at_two_resolutions() -> None:
    torch.manual_seed(0)
    layer = PromptMap(embed_dim=10, skip_dim=6, hidden_dim=4)
    points = torch.tensor([[[17.0, 14.0]], [[60.0, 33.0]]])
    drawn = layer(SIZE_HW, 2, points, torch.tensor([[1], [0]]), None, None)
    assert drawn.dense.shape == (2, 10, 3, 5)
    assert drawn.skip.shape == (2, 6, *SIZE_HW)
    assert drawn.regions.shape == (2, 5, *SIZE_HW)
    assert drawn.corners_yx is None
    one = layer(SIZE_HW, 1, points[1:], torch.tensor([[0]]), None, None)
    torch.testing.assert_close(drawn.dense[1:], one.dense)
    torch.testing.assert_close(drawn.skip[1:], one.skip)


@pytest.fixture(scope="module")
def layer() -> PromptMap:
    torch.manual_seed(0)
    return PromptMap(embed_dim=10, skip_dim=6, hidden_dim=4)


def test_nothing_drawn_adds_nothing_to_the_finest_features(layer: PromptMap) -> None:
    points = torch.tensor([[[17.0, 14.0]]])
    skip = layer(SIZE_HW, 1, points, torch.tensor([[-1]]), None, None).skip
    torch.testing.assert_close(skip, torch.zeros(1, 6, *SIZE_HW))


LARGE_HW = (160, 240)
PROMPTS: dict[str, tuple[Tensor | None, Tensor | None, Tensor | None]] = {
    "clicks": (
        torch.tensor([[[300.0, 200.0], [330.0, 180.0]], [[900.0, 600.0], [0.0, 0.0]]]),
        torch.tensor([[1, 0], [1, -1]]),
        None,
    ),
    "corners of the picture": (
        torch.tensor([[[0.0, 0.0]], [[959.0, 639.0]], [[959.0, 0.0]]]),
        torch.ones(3, 1, dtype=torch.int64),
        None,
    ),
    "boxes": (None, None, torch.tensor([[3.0, 9.0, 50.5, 80.25], [700.0, 500.0, 950.0, 630.0]])),
    "a box and a click outside of it": (
        torch.tensor([[[500.0, 300.0]]]),
        torch.zeros(1, 1, dtype=torch.int64),
        torch.tensor([[400.0, 310.0, 480.0, 400.0]]),
    ),
    "padding alone": (torch.tensor([[[500.0, 300.0]]]), torch.tensor([[-1]]), None),
}


@pytest.mark.parametrize("kind", PROMPTS)
def test_a_window_says_what_the_whole_map_says(layer: PromptMap, kind: str) -> None:
    points, labels, boxes = PROMPTS[kind]
    count = len(boxes) if points is None and boxes is not None else len(points)
    given = (LARGE_HW, count, points, labels, boxes, None)
    whole = layer(*given)  # With gradients, all is drawn.
    with torch.inference_mode():
        part = layer(*given)
    assert part.corners_yx is not None
    assert part.skip.shape[-2:].numel() <= 0.5 * LARGE_HW[0] * LARGE_HW[1]
    torch.testing.assert_close(part.dense, whole.dense, rtol=1e-4, atol=1e-5)
    for name in ("skip", "regions"):
        window = getattr(part, name)
        height, width = window.shape[-2:]
        pasted = torch.zeros_like(getattr(whole, name))
        for one, piece, (y, x) in zip(pasted, window, part.corners_yx, strict=True):
            one[:, y : y + height, x : x + width] = piece
        torch.testing.assert_close(pasted, getattr(whole, name), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_no_objects_and_no_points_are_drawn_too(layer: PromptMap) -> None:
    labels = torch.zeros(0, 1, dtype=torch.int64)
    drawn = layer(LARGE_HW, 0, torch.zeros(0, 1, 2), labels, None, None)
    assert drawn.dense.shape == (0, 10, 40, 60)
    box = torch.tensor([[1.0, 1.0, 9.0, 9.0]])
    none = torch.zeros(1, 0, dtype=torch.int64)
    beside = layer(LARGE_HW, 1, torch.zeros(1, 0, 2), none, box, None)
    torch.testing.assert_close(beside.dense, layer(LARGE_HW, 1, None, None, box, None).dense)


def test_a_window_over_most_of_the_map_is_not_worth_it(layer: PromptMap) -> None:
    box = torch.tensor([[10.0, 10.0, 900.0, 600.0]])
    assert drawn_window(LARGE_HW, 1, None, None, box) is None
    with torch.inference_mode():
        assert layer(LARGE_HW, 1, None, None, box, None).corners_yx is None
        logits = torch.zeros(1, 1, *LARGE_HW)  # Earlier logits are everywhere.
        point, label = torch.tensor([[[300.0, 200.0]]]), torch.tensor([[1]])
        assert layer(LARGE_HW, 1, point, label, None, logits).corners_yx is None
