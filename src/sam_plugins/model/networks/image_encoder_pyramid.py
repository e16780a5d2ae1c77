"""The shipped model's image encoder: a convolutional pyramid, fused top down.

Trained on few pictures, convolutions learn faster than a plain transformer, and a pyramid keeps
fine maps for small objects. Dense 3 x 3 convolutions are used instead of depthwise ones because two
CPU cores run them at two to four times as many operations in a second. Normalisation is over the
whole picture, of groups of channels (Wu and He 2018) within a stage and of single channels between
stages: with the layer normalisation of single pixels, training from scratch lost sight of the
picture.

What 1,822 pictures cannot teach, above all how things look in photographs, an EfficientNet-Lite
trained on ImageNet adds: its maps, which stay as they are, join those of the stages.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.model.networks.config import PYRAMID_STRIDE, PyramidConfig
from sam_plugins.model.networks.efficientnet_lite import STAGE_DIMS, EfficientNetLiteFeatures
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.networks.layers import ContextBlock, DropPath, group_norm, scaled_convolution


class ChannelNorm(nn.GroupNorm):
    """Normalise every channel on its own (Ulyanov et al. 2016).

    Where maps leave a stage, offsets between channels must not drown what differs between places.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__(num_channels, num_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, D, H, W); a map of a single cell, which the functional refuses, is zero."""
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions on a residual path (He et al. 2016), normalised before."""

    def __init__(self, dim: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm = group_norm(dim)
        self.conv1 = nn.Conv2d(dim, dim, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, kernel_size=3, padding=1)
        self.drop_path = DropPath(drop_path)
        self.scale = nn.Parameter(torch.full((dim, 1, 1), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, H, W) to the same."""
        hidden = functional.gelu(self.conv1(self.norm(x)))
        added: Tensor = x + self.drop_path(scaled_convolution(hidden, self.conv2, self.scale))
        return added


class PretrainedMaps(nn.Module):
    """Maps of an EfficientNet-Lite at strides 8, 16 and 32, for the stages of a pyramid to add.

    It looks at half the picture's size: there, what fills a quarter of the picture is about as
    large as what it was trained on, and it takes a quarter of the time.

    Parameters
    ----------
    stage_dims : tuple of 3 int
        Channels of the stages at strides 8, 16 and 32.
    """

    def __init__(self, stage_dims: tuple[int, ...]) -> None:
        super().__init__()
        self.features = EfficientNetLiteFeatures()
        self.projections = nn.ModuleList(
            nn.Conv2d(dim, out, kernel_size=1)
            for dim, out in zip(STAGE_DIMS, (*stage_dims, stage_dims[-1]), strict=True)
        )
        # A pyramid that was trained without them computes at first what it did.
        for parameter in self.projections.parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map pictures (B, 3, H, W) to three maps, finest first."""
        features = self.features(functional.avg_pool2d(images, 2))
        # Each group of channels to mean 0 and deviation 1; scale and offset are the projections'.
        with torch.no_grad():
            normal = [functional.group_norm(x, math.gcd(8, x.shape[1])) for x in features]
        maps = [conv(x) for conv, x in zip(self.projections, normal, strict=True)]
        coarsest = functional.interpolate(maps.pop(), scale_factor=2.0, mode="nearest")
        maps[-1] = maps[-1] + coarsest[..., : maps[-1].shape[-2], : maps[-1].shape[-1]]
        return maps


class PyramidImageEncoder(nn.Module):
    """Stages at strides 4, 8, 16 and 32, fused top down (FPN, Lin et al. 2017).

    Parameters
    ----------
    config : PyramidConfig
    """

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        dims = config.stage_dims
        self.pretrained = PretrainedMaps(dims[1:]) if config.uses_efficientnet else None
        self.stem = nn.Sequential(
            nn.Conv2d(3, dims[0] // 2, kernel_size=3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(dims[0] // 2, dims[0], kernel_size=3, stride=2, padding=1),
        )
        depth = sum(config.stage_depths) + config.context_depth
        rates = iter(torch.linspace(0, config.drop_path, depth, device="cpu").tolist())
        self.stages = nn.ModuleList(
            nn.Sequential(*[BasicBlock(dim, next(rates)) for _ in range(count)])
            for dim, count in zip(dims, config.stage_depths, strict=True)
        )
        self.downsamples = nn.ModuleList(
            nn.Sequential(ChannelNorm(fine), nn.Conv2d(fine, coarse, kernel_size=2, stride=2))
            for fine, coarse in itertools.pairwise(dims)
        )
        self.context = nn.Sequential(
            *[ContextBlock(dims[-1], drop_path=next(rates)) for _ in range(config.context_depth)]
        )
        fused = (*config.skip_dims[::-1], config.out_dim, config.out_dim)
        self.laterals = nn.ModuleList(
            nn.Sequential(ChannelNorm(dim), nn.Conv2d(dim, out, kernel_size=1))
            for dim, out in zip(dims, fused, strict=True)
        )
        # From each fused map to the next finer one.
        self.top_downs = nn.ModuleList(
            nn.Conv2d(coarse, fine, kernel_size=1) if coarse != fine else nn.Identity()
            for fine, coarse in itertools.pairwise(fused)
        )
        self.smooths = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, dim, kernel_size=3, padding=1), ChannelNorm(dim))
            for dim in fused[:-1]
        )

    def forward(self, images: Tensor) -> ImageFeatures:
        """Encode normalised pictures.

        Parameters
        ----------
        images : Tensor of shape (B, 3, H, W)
            H and W are multiples of 32.

        Raises
        ------
        ValueError
            If they are not.
        """
        if images.shape[-1] % PYRAMID_STRIDE or images.shape[-2] % PYRAMID_STRIDE:
            raise ValueError(
                f"height and width of the input must be multiples of {PYRAMID_STRIDE}, "
                f"got {tuple(images.shape[-2:])}; pad it"
            )
        images = images.contiguous(memory_format=torch.channels_last)
        pretrained = None if self.pretrained is None else self.pretrained(images)
        x = self.stages[0](self.stem(images))
        maps = [x]
        for index, downsample in enumerate(self.downsamples):
            x = downsample(x)
            if pretrained is not None:
                x = x + pretrained[index]
            x = self.stages[index + 1](x)
            maps.append(x)
        maps[-1] = self.context(x)
        fused = self.laterals[-1](maps[-1])
        outputs: list[Tensor] = []
        for index in reversed(range(len(self.smooths))):
            above = functional.interpolate(
                self.top_downs[index](fused), scale_factor=2.0, mode="nearest"
            )
            fused = self.laterals[index](maps[index]) + above
            outputs.append(self.smooths[index](fused))
        return ImageFeatures(outputs[0], tuple(outputs[1:]))
