"""EfficientNet-Lite 0 without its classifier: features learned from ImageNet, kept as they are.

EfficientNet (Tan and Le 2019) in the variant for phones: no squeeze-and-excitation, ReLU6. The
batch normalisations are folded into the convolutions, so what is left needs no statistics.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.model.networks.config import IMAGENET_MEAN, IMAGENET_STD

STAGE_DIMS = (24, 40, 112, 192)
"""Channels of the maps at strides 4, 8, 16 and 32."""

_STEM_DIM = 32
_BATCH_NORM_EPS = 1e-3
_MEAN, _STD = 127.0, 128.0
"""What this network subtracts from, and divides into, values of the range 0 to 255."""

_BLOCKS = (
    # Input and output channels, expansion, kernel size, stride.
    (32, 16, 1, 3, 1),
    (16, 24, 6, 3, 2),
    (24, 24, 6, 3, 1),
    (24, 40, 6, 5, 2),
    (40, 40, 6, 5, 1),
    (40, 80, 6, 3, 2),
    (80, 80, 6, 3, 1),
    (80, 80, 6, 3, 1),
    (80, 112, 6, 5, 1),
    (112, 112, 6, 5, 1),
    (112, 112, 6, 5, 1),
    (112, 192, 6, 5, 2),
    (192, 192, 6, 5, 1),
    (192, 192, 6, 5, 1),
    (192, 192, 6, 5, 1),
)
"""All but the last block, whose many weights add little to a map."""

_LAST_BLOCK_OF_STAGE = (2, 4, 10, 14)


class SameConv2d(nn.Conv2d):
    """TensorFlow's "same" padding, for strides of 1 and 2: an odd border pixel is at the end."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, H, W) to (B, E, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return functional.conv2d(
                x, self.weight, self.bias, padding=kernel // 2, groups=self.groups
            )
        # The last window starts within the last stride of pixels.
        height, width = (kernel - stride + size % stride for size in x.shape[-2:])
        padding = (width // 2, width - width // 2, height // 2, height - height // 2)
        return functional.conv2d(
            functional.pad(x, padding), self.weight, self.bias, self.stride, groups=self.groups
        )


class InvertedResidual(nn.Module):
    """Expand, filter every channel, project (MobileNetV2, Sandler et al. 2018)."""

    def __init__(self, dim: int, out_dim: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = dim * expansion
        self.expand = nn.Conv2d(dim, hidden, kernel_size=1) if expansion > 1 else None
        self.depthwise = SameConv2d(hidden, hidden, kernel, stride, groups=hidden)
        self.project = nn.Conv2d(hidden, out_dim, kernel_size=1)
        self.is_residual = stride == 1 and dim == out_dim

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, H, W) to (B, E, H / stride, W / stride)."""
        hidden = x if self.expand is None else functional.relu6(self.expand(x))
        added: Tensor = self.project(functional.relu6(self.depthwise(hidden)))
        return x + added if self.is_residual else added


class EfficientNetLiteFeatures(nn.Module):
    """Maps of EfficientNet-Lite 0 at strides 4, 8, 16 and 32; nothing in it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, _STEM_DIM, 3, 2)
        self.blocks = nn.ModuleList(InvertedResidual(*numbers) for numbers in _BLOCKS)
        self.requires_grad_(requires_grad=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return four maps, finest first.

        Parameters
        ----------
        images : Tensor of shape (B, 3, H, W)
            Normalised by :data:`~sam_plugins.model.networks.config.IMAGENET_MEAN` and
            :data:`~sam_plugins.model.networks.config.IMAGENET_STD`.
        """
        mean, std = (
            images.new_tensor(values).reshape(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)
        )
        x = functional.relu6(self.stem((images * std + (mean - _MEAN)) / _STD))
        maps: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _LAST_BLOCK_OF_STAGE:
                maps.append(x)
        return tuple(maps)


def fold_batch_norms(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a checkpoint of the whole classifier into weights of the features.

    Parameters
    ----------
    checkpoint : mapping of str to Tensor
        With the names of the ``efficientnet_lite_pytorch`` package.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    KeyError
        If a tensor is missing.
    """
    folded = _folded(checkpoint, "_conv_stem", "_bn0", "stem")
    for index, (_, _, expansion, _, _) in enumerate(_BLOCKS):
        theirs, ours = f"_blocks.{index}.", f"blocks.{index}."
        if expansion > 1:
            folded |= _folded(checkpoint, f"{theirs}_expand_conv", f"{theirs}_bn0", f"{ours}expand")
        folded |= _folded(
            checkpoint, f"{theirs}_depthwise_conv", f"{theirs}_bn1", f"{ours}depthwise"
        )
        folded |= _folded(checkpoint, f"{theirs}_project_conv", f"{theirs}_bn2", f"{ours}project")
    return folded


def _folded(
    checkpoint: Mapping[str, Tensor], convolution: str, norm: str, name: str
) -> dict[str, Tensor]:
    """Fold one normalisation into the convolution before it."""
    factor = checkpoint[f"{norm}.weight"] / torch.sqrt(
        checkpoint[f"{norm}.running_var"] + _BATCH_NORM_EPS
    )
    weight = checkpoint[f"{convolution}.weight"] * factor.reshape(-1, 1, 1, 1)
    bias = checkpoint[f"{norm}.bias"] - checkpoint[f"{norm}.running_mean"] * factor
    return {f"{name}.weight": weight, f"{name}.bias": bias}
