"""MobileSAM's encoder against a second one, written from the papers in the plainest way.

The reference below reads a state dict and computes one window, one head and one pair of positions
at a time: TinyViT (Wu et al. 2022, arXiv:2207.10666, section 4.1 and table 1) with LeViT's
attention biases (Graham et al. 2021) and MobileSAM's strides (Zhang et al. 2023, arXiv:2306.14289).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import MOBILE_SAM, SamConfig, TinyVitConfig

State = Mapping[str, Tensor]
TOLERANCE = 1e-5


def conv_norm(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """Convolve, then normalise with the statistics seen in training, in float64."""
    weight = state[f"{name}.c.weight"]
    groups = x.shape[1] // weight.shape[1]
    x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)

    def of(part: str) -> Tensor:
        return state[f"{name}.bn.{part}"][:, None, None]

    scaled = (x - of("running_mean")) / (of("running_var") + 1e-5).sqrt()
    return scaled * of("weight") + of("bias")


def layer_norm(state: State, name: str, x: Tensor) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    scaled = (x - mean) / (variance + 1e-5).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


@functools.cache
def distances(side: int) -> Tensor:
    """Number the distances of rows and columns between all pairs of places, as they are met."""
    places = [(row, column) for row in range(side) for column in range(side)]
    numbers: dict[tuple[int, int], int] = {}
    table = torch.empty(len(places), len(places), dtype=torch.int64)
    for i, (row, column) in enumerate(places):
        for j, (other_row, other_column) in enumerate(places):
            distance = (abs(row - other_row), abs(column - other_column))
            table[i, j] = numbers.setdefault(distance, len(numbers))
    return table


def attention(state: State, name: str, window: Tensor, bias: list[Tensor]) -> Tensor:
    """Attend within one window of shape (positions, channels), head after head."""
    heads = len(bias)
    qkv = linear(state, f"{name}.qkv", layer_norm(state, f"{name}.norm", window))
    width = window.shape[1] // heads
    answers = []
    for head, own in enumerate(qkv.split(3 * width, dim=1)):
        query, key, value = own.split(width, dim=1)
        scores = query @ key.T / math.sqrt(width) + bias[head]
        answers.append(torch.softmax(scores, dim=1) @ value)
    return linear(state, f"{name}.proj", torch.cat(answers, dim=1))


def attend_in_windows(state: State, name: str, x: Tensor, side: int) -> Tensor:
    """Attend within the windows of one picture (channels, rows, columns), zeros at their edges."""
    channels, height, width = x.shape
    bias = [head[distances(side)] for head in state[f"{name}.attention_biases"]]
    out = torch.zeros_like(x)
    for top in range(0, height, side):
        for left in range(0, width, side):
            part = x[:, top : top + side, left : left + side]
            window = torch.zeros(channels, side, side, dtype=x.dtype)
            window[:, : part.shape[1], : part.shape[2]] = part
            answer = attention(state, name, window.flatten(1).T, bias).T
            answer = answer.reshape(channels, side, side)
            out[:, top : top + side, left : left + side] = answer[
                :, : part.shape[1], : part.shape[2]
            ]
    return out


def channels_last(x: Tensor) -> Tensor:
    return x.movedim(1, -1)


def reference(state: State, config: TinyVitConfig, images: Tensor) -> Tensor:
    """Encode pictures with the weights of ``image_encoder``."""
    gelu = functional.gelu
    x = conv_norm(state, "patch_embed.seq.0", images, stride=2)
    x = conv_norm(state, "patch_embed.seq.2", gelu(x), stride=2)
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            name = f"layers.{stage}.blocks.{block}"
            if stage == 0:
                inner = gelu(conv_norm(state, f"{name}.conv1", x))
                inner = gelu(conv_norm(state, f"{name}.conv2", inner))
                x = gelu(conv_norm(state, f"{name}.conv3", inner) + x)
                continue
            side = config.window_sizes[stage]
            x = x + torch.stack([attend_in_windows(state, f"{name}.attn", one, side) for one in x])
            x = conv_norm(state, f"{name}.local_conv", x)
            hidden = layer_norm(state, f"{name}.mlp.norm", channels_last(x))
            hidden = gelu(linear(state, f"{name}.mlp.fc1", hidden))
            x = x + linear(state, f"{name}.mlp.fc2", hidden).movedim(-1, 1)
        if stage + 1 < len(config.depths):
            # Four stages would end at a stride of 32; the last step keeps SAM's 16.
            stride = 1 if stage == 2 else 2
            name = f"layers.{stage}.downsample"
            x = gelu(conv_norm(state, f"{name}.conv1", x))
            x = gelu(conv_norm(state, f"{name}.conv2", x, stride=stride))
            x = conv_norm(state, f"{name}.conv3", x)
    x = functional.conv2d(x, state["neck.0.weight"])
    x = neck_norm(state, "neck.1", x)
    x = functional.conv2d(x, state["neck.2.weight"], padding=1)
    return neck_norm(state, "neck.3", x)


def neck_norm(state: State, name: str, x: Tensor) -> Tensor:
    """Normalise over the channels of each pixel; SAM's neck has another epsilon."""
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    scaled = (x - mean) / (variance + 1e-6).sqrt()
    return scaled * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]


def compare(
    config: SamConfig, shape: tuple[int, ...], randomise: Callable[..., None]
) -> tuple[Tensor, Tensor]:
    """Encode random pictures with our network and with the reference in float64."""
    assert isinstance(config.image_encoder, TinyVitConfig)
    model = build_sam(config).eval()
    randomise(model)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    state = {k: v.double() for k, v in model.image_encoder.state_dict().items()}
    with torch.inference_mode():
        ours = model.encode(images).embedding
        return ours, reference(state, config.image_encoder, images.double())


@pytest.mark.parametrize(
    "shape",
    [(2, 3, 160, 160), (1, 3, 224, 224)],
    ids=["windows need padding", "windows fit"],
)
def test_agrees_with_the_reference(
    shape: tuple[int, ...],
    randomise: Callable[..., None],
    relative_error: Callable[[Tensor, Tensor], float],
) -> None:
    config = replace(MOBILE_SAM, image_encoder=TinyVitConfig(image_size=shape[-1]))
    ours, theirs = compare(config, shape, randomise)
    assert ours.shape == (shape[0], 256, shape[2] // 16, shape[3] // 16)
    assert relative_error(ours, theirs) < TOLERANCE


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_agrees_at_full_size(
    randomise: Callable[..., None], relative_error: Callable[[Tensor, Tensor], float]
) -> None:
    ours, theirs = compare(MOBILE_SAM, (1, 3, 1024, 1024), randomise)
    assert relative_error(ours, theirs) < TOLERANCE


def test_other_numbers_agree_too(
    small_configs: dict[str, SamConfig],
    randomise: Callable[..., None],
    relative_error: Callable[[Tensor, Tensor], float],
) -> None:
    ours, theirs = compare(small_configs["tiny_vit"], (2, 3, 128, 128), randomise)
    assert relative_error(ours, theirs) < TOLERANCE


def test_a_picture_of_another_size_is_refused(small_configs: dict[str, SamConfig]) -> None:
    model = build_sam(small_configs["tiny_vit"])
    with pytest.raises(
        ValueError, match=r"must have shape \(B, 3, 128, 128\), got \(1, 3, 96, 96\)"
    ):
        model.encode(torch.zeros(1, 3, 96, 96))


def test_the_bias_follows_weights_that_are_loaded_later(
    small_configs: dict[str, SamConfig], randomise: Callable[..., None]
) -> None:
    first, second = (build_sam(small_configs["tiny_vit"]).eval() for _ in range(2))
    randomise(second)
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        first.encode(images)  # Nothing may be kept of the weights that are replaced.
        first.load_state_dict(second.state_dict())
        torch.testing.assert_close(first.encode(images), second.encode(images))
