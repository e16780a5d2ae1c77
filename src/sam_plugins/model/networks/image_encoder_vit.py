"""SAM's image encoder: a plain vision transformer with windows (Kirillov et al. 2023, appendix A).

The architecture is ViTDet's (Li et al. 2022): 14 x 14 windows, a few blocks with global attention,
and relative positions that are decomposed into rows and columns. The answers are those of the
official code; the way there is shorter: padding never passes a linear layer, and global attention
goes through one head and a few queries at a time, so that its 4096 x 4096 scores never exist all at
once but stay in the cache of a core.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.model.networks.config import VitConfig
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.networks.layers import DropPath, LayerNorm2d, MlpBlock, is_exported

_MAX_SCORES = 1 << 19
"""Attention scores that are held at once: 2 MiB in float32, what a core has for itself."""

_MAX_SCORES_ON_GPU = 1 << 27


class PatchEmbed(nn.Module):
    """Cut a picture into patches and project each of them."""

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, h, w, D)."""
        patches: Tensor = self.proj(images).permute(0, 2, 3, 1)
        return patches


class RelativeAttention(nn.Module):
    """Multi-head attention on a square grid with decomposed relative positions.

    Shape legend: B windows or images, G heads, S side of the grid, D channels, E those of a head.

    Parameters
    ----------
    dim, num_heads : int
    side : int
        Rows and columns of the grid.
    """

    def __init__(self, dim: int, num_heads: int, side: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.side = side
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        head_dim = dim // num_heads
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, head_dim))

    def attend(self, qkv: Tensor) -> Tensor:
        """Attend within grids: (B, S, S, 3 D) to (B, S, S, D), before the last projection."""
        count, side = qkv.shape[0], self.side
        area = side * side
        heads = qkv.reshape(count, area, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).flatten(1, 2)
        # Three of shape (B * G, S * S, E), in one piece: else each product below copies its keys.
        queries, keys, values = heads.contiguous().unbind(0)
        by_row, by_column = self._position_scores(queries)
        scale = queries.shape[-1] ** -0.5
        limit = _MAX_SCORES if qkv.device.type == "cpu" else _MAX_SCORES_ON_GPU
        if is_exported():  # As one product; who runs the graph chooses the parts.
            limit = len(queries) * area**2
        # Some heads as a whole, or one head and some of its queries.
        together = max(1, limit // area**2)
        step = min(area, max(1, limit // area))
        # Without gradients, all parts go through the same memory: fresh memory costs as much as the
        # softmax. With them, every part is new.
        room = attended = None
        if not (torch.is_grad_enabled() or is_exported()):
            room = by_row.new_empty(min(together, len(queries)), step, side, side)
            attended = torch.empty_like(values)
        blocks: list[Tensor] = []
        for first in range(0, len(queries), together):
            own = slice(first, first + together)
            for start in range(0, area, step):
                part = slice(start, start + step)
                rows, columns = by_row[own, part, :, None], by_column[own, part, None, :]
                space = None if room is None else room[: rows.shape[0], : rows.shape[1]]
                scores = torch.add(rows, columns, out=space).flatten(-2)
                scores = scores.baddbmm_(
                    queries[own, part], keys[own].transpose(-2, -1), alpha=scale
                )
                weights = torch.softmax(scores, -1, out=None if space is None else scores)
                if attended is None:
                    blocks.append((weights @ values[own]).flatten(0, 1))
                else:
                    torch.bmm(weights, values[own], out=attended[own, part])
        if attended is None:
            attended = torch.cat(blocks)
        attended = attended.reshape(count, self.num_heads, area, -1)
        return attended.transpose(1, 2).reshape(count, side, side, -1)

    def _position_scores(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B * G, S * S, S) of every query with rows and with columns of keys."""
        steps = torch.arange(self.side, device=queries.device)
        distance = steps[:, None] - steps[None, :] + self.side - 1
        grid = queries.unflatten(1, (self.side, self.side))
        by_row = torch.einsum("nrce,rke->nrck", grid, self.rel_pos_h[distance])
        by_column = torch.einsum("nrce,cke->nrck", grid, self.rel_pos_w[distance])
        return by_row.flatten(1, 2), by_column.flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the whole grid (B, S, S, D)."""
        out: Tensor = self.proj(self.attend(self.qkv(x)))
        return out

    def forward_windows(self, x: Tensor) -> Tensor:
        """Attend within windows of S x S of a grid (B, h, w, D) of any size.

        The official code pads with zeros before the projection, so that padding has the
        projection's bias as its key and value: here it gets them without a projection.
        """
        height, width = x.shape[1:3]
        qkv = self.qkv(x)
        pad_h, pad_w = -height % self.side, -width % self.side
        if pad_h or pad_w:
            bias = self.qkv.bias.to(qkv.dtype)
            padded = qkv.new_empty(len(qkv), height + pad_h, width + pad_w, qkv.shape[-1])
            padded[:, :height, :width] = qkv
            padded[:, :height, width:] = bias
            padded[:, height:] = bias
            qkv = padded
        count, rows, columns = qkv.shape[0], qkv.shape[1] // self.side, qkv.shape[2] // self.side
        windows = qkv.reshape(count, rows, self.side, columns, self.side, -1).transpose(2, 3)
        attended = self.attend(windows.flatten(0, 2))
        attended = attended.unflatten(0, (count, rows, columns)).transpose(2, 3)
        attended = attended.flatten(3, 4).flatten(1, 2)[:, :height, :width]
        # In one piece: else the weights are copied for every row of the grid.
        out: Tensor = self.proj(attended.contiguous())
        return out


class StreamNorm(nn.LayerNorm):
    """Layer normalisation of a stream that is kept in float32, for layers of half precision."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` of shape (..., D) in its own type, and return the weights' type."""
        dtype = self.weight.dtype
        if x.dtype == dtype:
            return super().forward(x)
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return functional.layer_norm(x, self.normalized_shape, weight, bias, self.eps).to(dtype)


class Block(nn.Module):
    """A transformer block with attention over windows, or over everything."""

    def __init__(self, config: VitConfig, *, is_global: bool) -> None:
        super().__init__()
        self.is_global = is_global
        side = config.image_size // config.patch_size if is_global else config.window_size
        self.norm1 = StreamNorm(config.embed_dim, eps=1e-6)
        self.attn = RelativeAttention(config.embed_dim, config.num_heads, side)
        self.norm2 = StreamNorm(config.embed_dim, eps=1e-6)
        self.mlp = MlpBlock(config.embed_dim, int(config.embed_dim * config.mlp_ratio))
        self.drop_path = DropPath(0.0)  # Training may set a rate.

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, h, w, D) to the same."""
        normed = self.norm1(x)
        seen = self.attn(normed) if self.is_global else self.attn.forward_windows(normed)
        x = x + self.drop_path(seen)
        added: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return added


class VitImageEncoder(nn.Module):
    """SAM's ViT: B, L and H differ by the numbers of their config.

    Parameters
    ----------
    config : VitConfig
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.img_size = config.image_size
        side = config.image_size // config.patch_size
        self.patch_embed = PatchEmbed(config.patch_size, config.embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, side, side, config.embed_dim))
        self.blocks = nn.ModuleList(
            Block(config, is_global=index in config.global_attention_blocks)
            for index in range(config.depth)
        )
        self.neck = make_neck(config.embed_dim, config.out_dim)

    def forward(self, images: Tensor) -> ImageFeatures:
        """Encode normalised pictures of shape (B, 3, S, S), S being the config's image size.

        Raises
        ------
        ValueError
            If they have another size.
        """
        check_square_input(images, self.img_size)
        x = self.patch_embed(images) + self.pos_embed
        dtype = x.dtype
        # What the blocks add up to stays in float32, or rounding it 24 times would be most of the
        # error of half precision.
        x = x.to(torch.promote_types(dtype, torch.float32))
        for block in self.blocks:
            x = block(x)
        return ImageFeatures(self.neck(x.to(dtype).permute(0, 3, 1, 2)))


def make_neck(dim: int, out_dim: int) -> nn.Sequential:
    """Make the convolutions that reduce an encoder's channels to those of the embedding."""
    return nn.Sequential(
        nn.Conv2d(dim, out_dim, kernel_size=1, bias=False),
        LayerNorm2d(out_dim),
        nn.Conv2d(out_dim, out_dim, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_dim),
    )


def check_square_input(images: Tensor, size: int) -> None:
    """Refuse input of another size than positions were learned for.

    Raises
    ------
    ValueError
        With the size that is expected.
    """
    if images.shape[-2:] != (size, size):
        raise ValueError(
            f"images must have shape (B, 3, {size}, {size}), got {tuple(images.shape)}; "
            "resize and pad them"
        )
