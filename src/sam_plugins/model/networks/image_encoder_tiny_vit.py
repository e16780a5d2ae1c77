"""MobileSAM's image encoder: TinyViT (Wu et al. 2022) with a stride of 16 (Zhang et al. 2023).

A convolutional stage, then three stages of windowed attention. The last stage keeps the resolution
of the one before, so that the embedding has the size of SAM's.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.model.networks.config import TinyVitConfig
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.networks.image_encoder_vit import check_square_input, make_neck
from sam_plugins.model.networks.layers import is_exported

_MAX_SCORES = 1 << 19
"""Attention scores that are held at once: 2 MiB in float32, what a core has for itself."""

_LAST_STRIDES = (2, 2, 1)
"""Strides between the four stages: MobileSAM drops the last one."""


class ConvNorm(nn.Sequential):
    """Convolution without bias, and batch normalisation."""

    def __init__(
        self, dim: int, out_dim: int, kernel_size: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        conv = nn.Conv2d(
            dim, out_dim, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
        )
        super().__init__(OrderedDict(c=conv, bn=nn.BatchNorm2d(out_dim)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, H, W) to (B, D', H / stride, W / stride).

        Outside training, the kernel is scaled instead of the map, which saves a pass over it.
        """
        conv, norm = self._modules["c"], self._modules["bn"]
        assert conv is not None
        assert isinstance(norm, nn.BatchNorm2d)
        if norm.training or type(conv) is not nn.Conv2d:
            normalised: Tensor = norm(conv(x))
            return normalised
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = norm.weight.float() * torch.rsqrt(norm.running_var.float() + norm.eps)
        offset = norm.bias.float() - norm.running_mean.float() * factor
        weight = (conv.weight.float() * factor[:, None, None, None]).to(conv.weight.dtype)
        return functional.conv2d(
            x,
            weight,
            offset.to(weight.dtype),
            stride=conv.stride,
            padding=conv.padding,
            groups=conv.groups,
        )


class PatchEmbed(nn.Module):
    """Two convolutions with a stride of two each."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, dim // 2, 3, 2), nn.GELU(), ConvNorm(dim // 2, dim, 3, 2)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, D, H / 4, W / 4)."""
        out: Tensor = self.seq(images)
        return out


class InvertedResidual(nn.Module):
    """Expand, filter each channel, reduce (MBConv, Sandler et al. 2018)."""

    def __init__(self, dim: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = dim * expansion
        self.conv1 = ConvNorm(dim, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, H, W) to the same."""
        inner = functional.gelu(self.conv2(functional.gelu(self.conv1(x))))
        return functional.gelu(x + self.conv3(inner))


class Downsample(nn.Module):
    """Change the width, and the resolution by ``stride``, between two stages."""

    def __init__(self, dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, out_dim)
        self.conv2 = ConvNorm(out_dim, out_dim, 3, stride, groups=out_dim)
        self.conv3 = ConvNorm(out_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, H, W) to (B, D', H / stride, W / stride)."""
        out: Tensor = self.conv3(functional.gelu(self.conv2(functional.gelu(self.conv1(x)))))
        return out


class WindowAttention(nn.Module):
    """Attention within a window, with a learned bias for every distance of rows and columns.

    Parameters
    ----------
    dim, num_heads : int
    side : int
        Rows and columns of the window.
    """

    bias_index: Tensor

    def __init__(self, dim: int, num_heads: int, side: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, side * side))
        steps = torch.arange(side * side, device="cpu")
        rows, columns = steps // side, steps % side
        index = (rows[:, None] - rows).abs() * side + (columns[:, None] - columns).abs()
        # Not in official files. Looked up at every call, so that loading cannot leave it behind.
        self.register_buffer("bias_index", index, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map windows (B, S * S, D) to the same."""
        qkv = self.qkv(self.norm(x)).unflatten(-1, (self.num_heads, 3, -1))
        queries, keys, values = qkv.permute(3, 0, 2, 1, 4).unbind(0)
        biases = self.attention_biases[:, self.bias_index]
        # Explicit, and some windows at a time so that their scores stay in a core's cache: with a
        # bias, the fused kernel looks for infinities in it and is slower on a CPU.
        whole = x.device.type != "cpu" or is_exported()
        step = len(x) if whole else max(1, _MAX_SCORES // biases.numel())
        queries = queries * queries.shape[-1] ** -0.5
        attended = torch.cat(
            [
                (((q @ k.transpose(-2, -1)) + biases).softmax(dim=-1) @ v).transpose(1, 2)
                for q, k, v in zip(
                    *(part.split(step) for part in (queries, keys, values)), strict=True
                )
            ]
        )
        out: Tensor = self.proj(attended.flatten(2))
        return out


class Perceptron(nn.Module):
    """Normalisation and two linear layers."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to the same."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(self.norm(x))))
        return out


class TinyVitBlock(nn.Module):
    """Attention in windows, a filter for each channel, a perceptron."""

    def __init__(self, dim: int, num_heads: int, side: int, mlp_ratio: float) -> None:
        super().__init__()
        self.side = side
        self.attn = WindowAttention(dim, num_heads, side)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = Perceptron(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, H, W) to the same."""
        x = x + self._attend(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.local_conv(x)
        added: Tensor = x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return added

    def _attend(self, x: Tensor) -> Tensor:
        """Attend in windows of (B, H, W, D), padded with zeros at the bottom and the right."""
        count, height, width, dim = x.shape
        side = self.side
        x = functional.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = x.shape[1] // side, x.shape[2] // side
        windows = x.reshape(count, rows, side, columns, side, dim).transpose(2, 3)
        attended = self.attn(windows.reshape(-1, side * side, dim))
        attended = attended.reshape(count, rows, columns, side, side, dim).transpose(2, 3)
        out: Tensor = attended.reshape(count, rows * side, columns * side, dim)
        return out[:, :height, :width]


class Stage(nn.Module):
    """Blocks of one resolution, and the step down to the next."""

    def __init__(self, blocks: list[nn.Module], downsample: Downsample | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        if downsample is not None:
            self.downsample = downsample
        self.is_last = downsample is None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, H, W) to the next stage's input."""
        for block in self.blocks:
            x = block(x)
        return x if self.is_last else self.downsample(x)


class TinyVitImageEncoder(nn.Module):
    """TinyViT as MobileSAM uses it.

    Parameters
    ----------
    config : TinyVitConfig
    """

    def __init__(self, config: TinyVitConfig) -> None:
        super().__init__()
        self.img_size = config.image_size
        dims = config.embed_dims
        self.patch_embed = PatchEmbed(dims[0])
        downsamples: list[Downsample | None] = [
            Downsample(dim, out_dim, stride)
            for (dim, out_dim), stride in zip(itertools.pairwise(dims), _LAST_STRIDES, strict=True)
        ]
        downsamples.append(None)
        stages = []
        for index, (dim, depth, downsample) in enumerate(
            zip(dims, config.depths, downsamples, strict=True)
        ):
            heads, side = config.num_heads[index], config.window_sizes[index]
            blocks: list[nn.Module] = [
                InvertedResidual(dim)
                if index == 0
                else TinyVitBlock(dim, heads, side, config.mlp_ratio)
                for _ in range(depth)
            ]
            stages.append(Stage(blocks, downsample))
        self.layers = nn.ModuleList(stages)
        self.neck = make_neck(dims[-1], config.out_dim)

    def forward(self, images: Tensor) -> ImageFeatures:
        """Encode normalised pictures of shape (B, 3, S, S), S being the config's image size.

        Raises
        ------
        ValueError
            If they have another size.
        """
        check_square_input(images, self.img_size)
        x = self.patch_embed(images.contiguous(memory_format=torch.channels_last))
        for stage in self.layers:
            x = stage(x)
        return ImageFeatures(self.neck(x))
