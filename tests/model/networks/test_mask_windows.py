"""Masks drawn where they are expected, against masks drawn as a whole."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from sam_plugins.model.inference.candidates import MaskFilter
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.networks import mask_decoder, mask_windows
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.networks.mask_decoder import MaskOutput
from sam_plugins.model.networks.mask_windows import (
    Window,
    expected_windows,
    is_small,
    sound_part,
    window_edge,
)
from sam_plugins.model.networks.prompt_map import DrawnPrompts

GRID_HW = (256, 192)  # Low-res pixels: an embedding of 64 x 48 cells.
LABEL = torch.tensor([[1]])


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load_model("default", device="cpu")


@pytest.fixture(scope="module")
def features(shipped: Model) -> ImageFeatures:
    """Of small discs, and of a large one below them, in 1,024 x 1,024 pixels."""
    y, x = np.mgrid[:1024, :1024]
    rgb: npt.NDArray[np.uint8] = np.full((1024, 1024, 3), 20, np.uint8)
    for cy, cx in ((150, 150), (150, 400), (20, 700), (300, 1000)):
        rgb[np.hypot(y - cy, x - cx) < 30] = 180
    rgb[np.hypot(y - 700, x - 500) < 150] = 180
    embedding = encode_rgb(shipped, rgb)
    return ImageFeatures(embedding.features, embedding.skips)


@torch.inference_mode()
def answer(
    model: Model, features: ImageFeatures, monkeypatch: pytest.MonkeyPatch, **asked: Tensor
) -> tuple[MaskOutput, MaskOutput]:
    """Answer prompts with windows, and without."""
    with_windows = model.network.decode(features, **asked)
    with monkeypatch.context() as patch:
        patch.setattr(mask_decoder, "_may_draw_windows", lambda *_: False)
        return with_windows, model.network.decode(features, **asked)


@pytest.mark.parametrize("place", [(150, 150), (400, 150), (700, 20), (1000, 300)])
def test_small_objects_have_the_same_masks(
    shipped: Model,
    features: ImageFeatures,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[int, int],
) -> None:
    point = torch.tensor([[place]], dtype=torch.float32)
    near, whole = answer(shipped, features, monkeypatch, points_xy=point, point_labels=LABEL)
    assert near.logits.shape == whole.logits.shape
    inside = (slice(None),) * 2 + tuple(
        slice(max(0, side // 4 - 40), side // 4 + 40) for side in place[::-1]
    )
    torch.testing.assert_close(near.logits[inside], whole.logits[inside], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(near.iou_predictions, whole.iou_predictions, rtol=0, atol=0.02)
    # Elsewhere it is one background, such as the window ends with.
    corner = near.logits[0, :, -1, 0]
    assert (corner < 0).all()
    assert ((near.logits[0] == corner[:, None, None]).flatten(1).sum(1) > 0.7 * 65_536).all()


def test_an_object_that_leaves_its_window_is_drawn_as_a_whole(
    shipped: Model, features: ImageFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_windows, "_AROUND_POINT", 4)
    asked = {"points_xy": torch.tensor([[[150.0, 150.0]]]), "point_labels": LABEL}
    near, whole = answer(shipped, features, monkeypatch, **asked)
    assert (whole.logits[0] > 0).flatten(1).sum(1).min() > 100  # The window has 64 pixels or 144.
    torch.testing.assert_close(near.logits, whole.logits, rtol=0, atol=0)
    torch.testing.assert_close(near.iou_predictions, whole.iou_predictions, rtol=0, atol=0)


def test_boxes_and_earlier_masks_say_where_too(
    shipped: Model, features: ImageFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = torch.tensor([[370.0, 120.0, 430.0, 180.0]])
    near, whole = answer(shipped, features, monkeypatch, boxes_xyxy=box)
    torch.testing.assert_close(near.logits > 0, whole.logits > 0)
    assert (near.logits == near.logits[..., -1:, :1]).float().mean() > 0.9
    earlier = whole.logits[:, :1]
    point = torch.tensor([[[410.0, 160.0]]])
    near, whole = answer(
        shipped,
        features,
        monkeypatch,
        points_xy=point,
        point_labels=LABEL,
        mask_logits=earlier,
    )
    assert ((near.logits > 0) == (whole.logits > 0)).float().mean() > 0.9999
    assert (near.logits == near.logits[..., -1:, :1]).float().mean() > 0.9


def test_what_is_asked_beside_a_prompt_changes_nothing(
    shipped: Model, features: ImageFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = torch.tensor([[120.0, 120, 180, 180], [350, 550, 650, 850], [970, 270, 1020, 330]])
    together, _ = answer(shipped, features, monkeypatch, boxes_xyxy=boxes)
    for number in range(len(boxes)):
        alone, _ = answer(shipped, features, monkeypatch, boxes_xyxy=boxes[number : number + 1])
        torch.testing.assert_close(alone.logits[0], together.logits[number], rtol=1e-3, atol=1e-2)


def test_prompts_about_several_pictures_have_windows_of_their_own(
    shipped: Model, features: ImageFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored = ImageFeatures(features.embedding.flip(-1), tuple(m.flip(-1) for m in features.skips))
    both = ImageFeatures(
        torch.cat([features.embedding, mirrored.embedding]),
        tuple(torch.cat(pair) for pair in zip(features.skips, mirrored.skips, strict=True)),
    )
    boxes = torch.tensor([[120.0, 120, 180, 180], [843, 120, 903, 180]])
    index = torch.tensor([0, 1])
    near, whole = answer(shipped, both, monkeypatch, boxes_xyxy=boxes, image_index=index)
    assert ((near.logits > 0) == (whole.logits > 0)).all()
    assert (near.logits[1] > 0).any()
    torch.testing.assert_close(near.iou_predictions, whole.iou_predictions, rtol=0, atol=0.02)


def test_a_box_that_leaves_the_picture_has_a_mask_in_it(
    shipped: Model, features: ImageFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = torch.tensor([[970.0, 270.0, 1060.0, 330.0]])
    near, whole = answer(shipped, features, monkeypatch, boxes_xyxy=box)
    assert ((near.logits > 0) == (whole.logits > 0)).float().mean() > 0.999


def test_bfloat16_has_windows_too(features: ImageFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    half = load_model("default", device="cpu", dtype=torch.bfloat16)
    point = torch.tensor([[[150.0, 150.0]]])
    near, whole = answer(
        half, features.map(Tensor.bfloat16), monkeypatch, points_xy=point, point_labels=LABEL
    )
    assert near.logits.dtype == torch.bfloat16
    assert ((near.logits > 0) == (whole.logits > 0)).float().mean() > 0.999
    assert (near.logits == near.logits[..., -1:, :1]).float().mean() > 0.7


def test_whole_masks_can_be_asked_for(
    shipped: Model, features: ImageFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"points_xy": torch.tensor([[[150.0, 150.0]]]), "point_labels": LABEL}
    _, whole = answer(shipped, features, monkeypatch, **asked)
    with torch.inference_mode():
        told = shipped.network.decode(features, **asked, draws_whole=True)
    torch.testing.assert_close(told.logits, whole.logits, rtol=0, atol=0)


@pytest.mark.parametrize(("at_edge", "is_whole"), [(-0.5, True), (-1.5, False)])
def test_a_doubt_at_the_edge_of_a_window_has_the_mask_drawn_as_a_whole(
    shipped: Model,
    features: ImageFeatures,
    monkeypatch: pytest.MonkeyPatch,
    at_edge: float,
    is_whole: bool,
) -> None:
    drawn: list[tuple[int, ...]] = []
    products = mask_decoder._products

    def background(upscaled: Tensor, weights: Tensor) -> Tensor:
        logits = torch.full_like(products(upscaled, weights), -3)
        drawn.append(tuple(logits.shape[-2:]))
        logits[:, 2, 86, 40] = at_edge  # Of 88 rows, the last that no zero reached.
        return logits

    monkeypatch.setattr(mask_decoder, "_products", background)
    with torch.inference_mode():
        answered = shipped.network.decode(
            features, points_xy=torch.tensor([[[150.0, 150.0]]]), point_labels=LABEL
        )
    assert drawn == [(88, 88), (256, 256)][: 1 + is_whole]
    assert float(answered.logits[0, 2, 86, 40]) == at_edge
    # Beyond the window is what its edge is in the mean.
    edge = 2 * 87 - 1
    fill = -3 if is_whole else (at_edge - 3 * (edge - 1)) / edge
    assert float(answered.logits[0, 2, 200, 200]) == pytest.approx(fill, abs=1e-5)


def test_masks_may_be_cut_wherever_their_stability_is_looked_up() -> None:
    assert (
        -MaskFilter(min_predicted_iou=0.5, min_stability=0.5).stability_offset
        >= mask_windows.LEAST_DOUBT
    )


def test_training_goes_on_after_a_click(shipped: Model, features: ImageFeatures) -> None:
    network = load_model("default", device="cpu").network
    asked = {"points_xy": torch.tensor([[[150.0, 150.0]]]), "point_labels": LABEL}
    with torch.inference_mode():
        network.decode(features, **asked)
    tokens = network.mask_decoder.mask_tokens.weight
    tokens.requires_grad_(True)
    network.decode(features.map(Tensor.clone), **asked).logits.sum().backward()
    assert tokens.grad is not None
    assert bool(tokens.grad.any())


def test_training_draws_whole_masks(shipped: Model, features: ImageFeatures) -> None:
    drawn = shipped.network.prompt_encoder(
        size_hw=(64, 64), points_xy=torch.tensor([[[150.0, 150.0]]]), point_labels=LABEL
    ).drawn
    assert drawn is not None
    assert drawn.expected is None


def test_windows_are_whole_cells_around_what_is_asked() -> None:
    points = torch.tensor([[[400.0, 500.0], [420.0, 500.0]], [[0.0, 0.0], [9.0, 9.0]]])
    labels = torch.tensor([[1, 0], [1, -1]])
    first, second = expected_windows(GRID_HW, 2, points, labels, None, None)
    # Columns 100 and 105 of the grid, row 125, and 48 around.
    assert first == Window(19, 13, 44, 39)
    assert second == Window(0, 0, 12, 12)
    (box,) = expected_windows(GRID_HW, 1, None, None, torch.tensor([[80.0, 160, 400, 240]]), None)
    assert box == Window(6, 1, 19, 29)
    mask = torch.full((1, 1, *GRID_HW), -5.0)
    mask[0, 0, 100:120, 60:90] = 5
    assert expected_windows(GRID_HW, 1, None, None, None, mask) == (Window(21, 11, 34, 27),)


def test_prompts_without_a_place_have_no_window() -> None:
    nowhere = torch.full((1, 1, *GRID_HW), -5.0)
    assert expected_windows(GRID_HW, 1, None, None, None, nowhere) == (None,)
    padding = torch.tensor([[[9.0, 9.0]]]), torch.tensor([[-1]])
    assert expected_windows(GRID_HW, 1, *padding, None, None) == (None,)
    assert expected_windows(GRID_HW, 2, None, None, None, None) == (None, None)


def test_a_prompt_beyond_the_input_has_a_window_at_its_edge() -> None:
    beyond = torch.tensor([[[5000.0, -5000.0]]])
    assert expected_windows(GRID_HW, 1, beyond, LABEL, None, None) == (Window(0, 47, 1, 48),)


def test_only_small_windows_save_something() -> None:
    assert is_small(Window(0, 0, 24, 24), (64, 48))
    assert not is_small(Window(0, 0, 40, 40), (64, 48))


def test_the_edge_stands_for_what_is_beyond() -> None:
    window = Window(0, 4, 8, 12)  # At the upper border of the picture.
    assert sound_part(window, (64, 48)) == (slice(0, 31), slice(1, 31))
    edge, counts = window_edge(window, (64, 48))
    assert float(counts.sum()) == pytest.approx(16 * 64 * 48)
    rows, columns = np.divmod(edge.numpy(), 32)
    assert set(rows[(columns > 1) & (columns < 30)]) == {30}
    assert set(columns) == set(range(1, 31))
    assert len(edge) == 2 * 31 + 28
    inner = counts[:30, 2:30]
    assert bool((inner == 1).all())
    whole_edge, whole_counts = window_edge(Window(0, 0, 64, 48), (64, 48))
    assert len(whole_edge) == 0
    assert bool((whole_counts == 1).all())


def test_what_is_drawn_is_cut_to_a_window() -> None:
    skip = torch.arange(12.0 * 12).reshape(1, 1, 12, 12)
    drawn = DrawnPrompts(skip, skip, skip, corners_yx=((8, 16),))
    cut = drawn.within(Window(3, 2, 10, 6))  # Rows 12 to 39, columns 8 to 23.
    assert cut.corners_yx == ((0, 8),)
    torch.testing.assert_close(cut.skip, skip[..., 4:, :8])
    away = drawn.within(Window(10, 10, 12, 12))
    assert away.skip.numel() == 0
