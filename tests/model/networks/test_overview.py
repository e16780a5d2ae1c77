"""Large objects from afar, small ones near by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import OverviewConfig, SamConfig
from sam_plugins.model.networks.features import ImageFeatures, PreparedImage
from sam_plugins.model.networks.mask_decoder import MaskOutput
from sam_plugins.model.networks.overview import PromptTensors, decode_in_views, view_from_afar

CONFIG = OverviewConfig(long_side=64, least_extent=60.0)
SIZE_HW, SMALL_HW = (128, 256), (32, 64)


def view(size_hw: tuple[int, int]) -> PreparedImage:
    """A view of which only the size matters."""
    height, width = size_hw
    embedding = torch.zeros(1, 1, height // 16, width // 16)
    return PreparedImage(ImageFeatures(embedding), embedding)


class Scene:
    """A disc that both views see; answers are its outline, whatever the click."""

    def __init__(self, radius: float) -> None:
        self.radius = radius
        self.asked: list[tuple[int, PromptTensors]] = []

    def answer(self, image: PreparedImage, prompts: PromptTensors) -> MaskOutput:
        """Draw the disc around the point or within the box, in the view's low resolution."""
        height, width = (16 * side for side in image.features.embedding.shape[-2:])
        self.asked.append((width, prompts))
        if prompts.points_xy is not None:
            centres = prompts.points_xy[:, 0]
        else:
            assert prompts.boxes_xyxy is not None
            centres = prompts.boxes_xyxy.reshape(-1, 2, 2).mean(1)
        rows, columns = torch.meshgrid(
            torch.arange(height // 4) * 4 + 1.5, torch.arange(width // 4) * 4 + 1.5, indexing="ij"
        )
        scale = width / SIZE_HW[1]
        distances = (
            (columns - centres[:, 0, None, None]) ** 2 + (rows - centres[:, 1, None, None]) ** 2
        ).sqrt()
        logits = (self.radius * scale - distances)[:, None] / scale
        return MaskOutput(logits, torch.full((len(centres), 1), 0.9 if scale < 1 else 0.8))


def ask(scene: Scene, prompts: PromptTensors) -> MaskOutput:
    return decode_in_views(scene.answer, view(SIZE_HW), view(SMALL_HW), prompts, CONFIG)


CLICK = PromptTensors(torch.tensor([[[120.0, 60.0]]]), torch.ones(1, 1))


def test_a_click_on_a_large_object_is_answered_from_afar() -> None:
    scene = Scene(radius=50)
    output = ask(scene, CLICK)
    assert [width for width, _ in scene.asked] == [64]
    points = scene.asked[0][1].points_xy
    assert points is not None
    assert points.tolist() == [[[30.0, 15.0]]]
    # As large as the other view's masks, and in the same place.
    near = Scene(radius=50).answer(view(SIZE_HW), CLICK)
    assert output.logits.shape == near.logits.shape
    both, either = (output.logits > 0) & (near.logits > 0), (output.logits > 0) | (near.logits > 0)
    assert both.sum() / either.sum() > 0.9


def test_a_click_on_a_small_object_is_answered_near_by() -> None:
    scene = Scene(radius=20)
    output = ask(scene, CLICK)
    assert [width for width, _ in scene.asked] == [64, 256]
    assert scene.asked[1][1] is CLICK
    assert output.iou_predictions.item() == pytest.approx(0.8)


def test_a_box_tells_by_itself_and_answers_keep_their_order() -> None:
    boxes = torch.tensor([[10.0, 10, 40, 40], [20, 20, 110, 110], [50, 50, 90, 90]])
    scene = Scene(radius=15)
    output = ask(scene, PromptTensors(boxes_xyxy=boxes))
    assert [(width, len(p.boxes_xyxy)) for width, p in scene.asked] == [(64, 1), (256, 2)]  # type: ignore[arg-type]
    assert output.iou_predictions[:, 0].tolist() == pytest.approx([0.8, 0.9, 0.8])
    centres = [
        4 * torch.nonzero(mask[0] > 0).float().mean(0).flip(0) + 1.5 for mask in output.logits
    ]
    for centre, box in zip(centres, boxes, strict=True):
        assert torch.allclose(centre, box.reshape(2, 2).mean(0), atol=4)


def test_an_earlier_mask_tells_by_itself() -> None:
    logits = torch.full((1, 1, 32, 64), -1.0)
    logits[..., 4:24, 4:24] = 1  # 80 by 80 pixels
    scene = Scene(radius=15)
    ask(scene, replace(CLICK, mask_logits=logits))
    ((width, prompts),) = scene.asked
    assert width == 64
    assert prompts.mask_logits is not None
    assert prompts.mask_logits.shape == (1, 1, 8, 16)
    assert torch.nonzero(prompts.mask_logits[0, 0] > 0).float().mean(0).tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("size_hw", "expected"), [((128, 256), (32, 64)), ((256, 100), (64, 32)), ((64, 95), None)]
)
def test_the_view_is_smaller_or_there_is_none(
    size_hw: tuple[int, int], expected: tuple[int, int] | None
) -> None:
    reduced = view_from_afar(torch.ones(2, 3, *size_hw), CONFIG)
    assert (None if reduced is None else tuple(reduced.shape[-2:])) == expected
    assert reduced is None or torch.allclose(reduced, torch.ones(()))


def test_a_network_with_an_overview_looks_twice_but_not_in_training(
    small_configs: dict[str, SamConfig], relative_error: Callable[[Tensor, Tensor], float]
) -> None:
    torch.manual_seed(0)
    config = replace(small_configs["pyramid"], overview=replace(CONFIG, least_extent=0.0))
    model = build_sam(config).eval()
    picture = torch.randn(1, 3, 128, 256)
    with torch.inference_mode():
        features = model.encode(picture)
        assert features.overview is not None
        assert features.overview.embedding.shape[-2:] == (2, 4)
        assert features.overview.overview is None
        # With every box large, the answers are those about the reduced picture.
        boxes = torch.tensor([[40.0, 20, 200, 110]])
        reduced = view_from_afar(picture, CONFIG)
        assert reduced is not None
        ours = model.decode(features, boxes_xyxy=boxes)
        alone = model.decode(model.encode(reduced), boxes_xyxy=boxes / 4)
        assert ours.logits.shape[-2:] == (32, 64)
        assert relative_error(ours.iou_predictions, alone.iou_predictions) < 1e-5
        prepared = model.decode(model.prepare(features), boxes_xyxy=boxes)
        assert torch.equal(prepared.logits, ours.logits)
        assert model.train().encode(picture).overview is None


def test_features_by_name_and_back() -> None:
    afar = ImageFeatures(torch.tensor(4.0), (torch.tensor(5.0),))
    features = ImageFeatures(torch.tensor(1.0), (torch.tensor(2.0), torch.tensor(3.0)), afar)
    names = features.named_tensors()
    assert list(names) == [
        "embedding",
        "skips.0",
        "skips.1",
        "overview.embedding",
        "overview.skips.0",
    ]
    assert ImageFeatures.from_named_tensors(names) == features
    doubled = features.map(lambda tensor: 2 * tensor).named_tensors()
    assert [value.item() for value in doubled.values()] == [2, 4, 6, 8, 10]
