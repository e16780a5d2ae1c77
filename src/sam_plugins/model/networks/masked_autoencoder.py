"""A masked autoencoder (He et al. 2022, arXiv:2111.06377), under the names of its official files.

A plain ViT sees a quarter of the patches of a picture; a light decoder draws all of them. What the
encoder learns that way starts SAM's image encoder: :mod:`sam_plugins.model.weights.mae` reads the
names. Positions are fixed sines and cosines of x (first half of the channels) and y, as there.

Shape legend: B pictures, L patches, V of them visible, D channels, p pixels of a patch's side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.model.networks.config import VitConfig
from sam_plugins.model.networks.image_encoder_vit import PatchEmbed


@dataclass(frozen=True)
class MaeConfig:
    """The numbers of a masked autoencoder.

    Parameters
    ----------
    encoder : VitConfig
        The image encoder of the SAM that it shall start: width, depth, heads and patch size count
        here, while windows, neck and the size of the input are SAM's alone.
    image_size : int
        Side of the square pictures of pre-training, in pixels.
    decoder_dim, decoder_depth, decoder_heads : int
        The paper's are 512, 8 and 16, for every size of the encoder.

    Examples
    --------
    >>> MaeConfig().side
    14
    """

    encoder: VitConfig = field(default_factory=VitConfig)
    image_size: int = 224
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16

    def __post_init__(self) -> None:
        """Check what has to divide what."""
        if self.image_size < 1 or self.image_size % self.encoder.patch_size:
            raise ValueError(
                f"image_size must be a multiple of the patches of {self.encoder.patch_size} "
                f"pixels, got {self.image_size}"
            )
        if min(self.encoder.depth, self.decoder_depth) < 1:
            raise ValueError(
                "encoder and decoder need a block at least, got depths of "
                f"{self.encoder.depth} and {self.decoder_depth}"
            )
        for what, dim, heads in (
            ("encoder", self.encoder.embed_dim, self.encoder.num_heads),
            ("decoder", self.decoder_dim, self.decoder_heads),
        ):
            if dim % 4 or dim % heads:
                raise ValueError(
                    f"the width of the {what} must be a multiple of 4 and of its heads, got "
                    f"{dim} and {heads} heads"
                )

    @property
    def side(self) -> int:
        """Patches along a side of the picture."""
        return self.image_size // self.encoder.patch_size

    @property
    def patches(self) -> int:
        """L, patches of a picture."""
        return self.side**2


class MaeOutput(NamedTuple):
    """What the decoder draws.

    Attributes
    ----------
    patches : Tensor of shape (B, L, 3 p p)
        Of every patch, in the order of :func:`patchify`; normalised, as :func:`normalised_patches`.
    is_masked : Tensor of shape (B, L), bool
        Whether the encoder did not see the patch.
    """

    patches: Tensor
    is_masked: Tensor


class MaskedAutoencoder(nn.Module):
    """Encoder of what is visible, decoder of everything.

    Parameters
    ----------
    config : MaeConfig
    """

    def __init__(self, config: MaeConfig) -> None:
        super().__init__()
        self.config = config
        encoder, side = config.encoder, config.side
        dim, narrow = encoder.embed_dim, config.decoder_dim
        self.patch_embed = PatchEmbed(encoder.patch_size, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(position_table(dim, side), requires_grad=False)
        self.blocks = nn.ModuleList(
            _Block(dim, encoder.num_heads, encoder.mlp_ratio) for _ in range(encoder.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.decoder_embed = nn.Linear(dim, narrow)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.decoder_pos_embed = nn.Parameter(position_table(narrow, side), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            _Block(narrow, config.decoder_heads, 4.0) for _ in range(config.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(narrow, eps=1e-6)
        self.decoder_pred = nn.Linear(narrow, 3 * encoder.patch_size**2)
        self._initialise()

    def forward(self, images: Tensor, order: Tensor, visible: int) -> MaeOutput:
        """Draw pictures of which some patches are seen.

        Parameters
        ----------
        images : Tensor of shape (B, 3, S, S)
            Normalised pictures, S being ``config.image_size``.
        order : Tensor of shape (B, L), integer
            Each row holds the numbers of all patches, in any order.
        visible : int
            V: the first patches of the order are seen, the others drawn.

        Raises
        ------
        ValueError
            If pictures or order have another shape, or nothing is visible or masked.
        """
        size, count = self.config.image_size, self.config.patches
        if images.shape[1:] != (3, size, size) or order.shape != (len(images), count):
            raise ValueError(
                f"images must have shape (B, 3, {size}, {size}) and order (B, {count}), got "
                f"{tuple(images.shape)} and {tuple(order.shape)}"
            )
        if not 0 < visible < count:
            raise ValueError(f"visible must lie between 1 and {count - 1} patches, got {visible}")
        seen = self._encode(images, order[:, :visible])
        drawn = self._decode(seen, order)
        is_masked = torch.ones_like(order, dtype=torch.bool)
        is_masked.scatter_(1, order[:, :visible], value=False)
        return MaeOutput(drawn, is_masked)

    def _encode(self, images: Tensor, places: Tensor) -> Tensor:
        """Encode the visible patches: (B, 1 + V, D), the class token first."""
        patches = self.patch_embed(images).flatten(1, 2) + self.pos_embed[:, 1:]
        seen = patches.gather(1, _for_rows(places, patches))
        first = self.cls_token + self.pos_embed[:, :1]
        x = torch.cat([first.expand(len(seen), -1, -1), seen], dim=1)
        for block in self.blocks:
            x = block(x)
        encoded: Tensor = self.norm(x)
        return encoded

    def _decode(self, seen: Tensor, order: Tensor) -> Tensor:
        """Draw all patches, (B, L, 3 p p)."""
        x = self.decoder_embed(seen)
        hidden = order.shape[1] - (x.shape[1] - 1)
        unknown = self.mask_token.to(x.dtype).expand(len(x), hidden, -1)
        shuffled = torch.cat([x[:, 1:], unknown], dim=1)
        # The inverse of a permutation is where its numbers stand.
        patches = shuffled.gather(1, _for_rows(order.argsort(dim=1), shuffled))
        x = torch.cat([x[:, :1], patches], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        drawn: Tensor = self.decoder_pred(self.decoder_norm(x))[:, 1:]
        return drawn

    def _initialise(self) -> None:
        """Draw weights as the paper does (appendix A.1: Xavier, uniform); tokens are narrow."""
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))


class _Attention(nn.Module):
    """Plain multi-head attention."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of (B, L, D)."""
        heads = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(*heads.unbind(0))
        out: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return out


class _Perceptron(nn.Module):
    """The two linear layers of a block."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to the same."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class _Block(nn.Module):
    """A transformer block over tokens."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = _Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = _Perceptron(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, D) to the same."""
        x = x + self.attn(self.norm1(x))
        added: Tensor = x + self.mlp(self.norm2(x))
        return added


def position_table(dim: int, side: int) -> Tensor:
    """Return sines and cosines of the places of patches, (1, 1 + side * side, dim).

    The first row, of the class token, is zero. A quarter of the channels each holds sin x, cos x,
    sin y and cos y, at wavelengths from 2 pi to 20,000 pi in steps of equal ratio (Vaswani et al.
    2017), x and y counted in patches.

    Examples
    --------
    >>> position_table(4, 2)[0, 2]  # the second patch of the first row: x is 1, y is 0
    tensor([0.8415, 0.5403, 0.0000, 1.0000])
    """
    quarter = dim // 4
    steps = torch.arange(quarter, dtype=torch.float64) / quarter
    frequencies = 10_000.0**-steps
    places = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    waves = torch.cat([places.sin(), places.cos()], dim=1)  # (side, dim / 2)
    by_x = waves[None].expand(side, side, -1)
    by_y = waves[:, None].expand(side, side, -1)
    table = torch.cat([by_x, by_y], dim=-1).flatten(0, 1)
    return torch.cat([table.new_zeros(1, dim), table])[None].float()


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut pictures (B, 3, S, S) into patches (B, L, p p 3): rows, columns, colours."""
    rows = images.unflatten(2, (-1, patch_size)).unflatten(4, (-1, patch_size))
    patches: Tensor = rows.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    return patches


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """Put patches of :func:`patchify` together again: (B, 3, S, S)."""
    side = round(patches.shape[1] ** 0.5)
    grid = patches.unflatten(1, (side, side)).unflatten(3, (patch_size, patch_size, 3))
    images: Tensor = grid.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
    return images


def patch_statistics(patches: Tensor, flat: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the values of every patch, each (B, L, 1).

    ``flat`` is added to the variance, which may be 0; the default is that of the official code.
    """
    deviation = (patches.var(dim=-1, keepdim=True) + flat).sqrt()
    return patches.mean(dim=-1, keepdim=True), deviation


def normalised_patches(images: Tensor, patch_size: int, flat: float = 1e-6) -> Tensor:
    """Return what is to be drawn: every patch less its own mean, by its own deviation."""
    patches = patchify(images.float(), patch_size)
    mean, deviation = patch_statistics(patches, flat)
    return (patches - mean) / deviation


def reconstruction_loss(output: MaeOutput, target: Tensor) -> Tensor:
    """Return the mean square error over the masked patches.

    Parameters
    ----------
    output : MaeOutput
    target : Tensor of shape (B, L, 3 p p)
        From :func:`normalised_patches`.
    """
    error = (output.patches.float() - target).square().mean(dim=-1)
    return error[output.is_masked].mean()


def _for_rows(places: Tensor, rows: Tensor) -> Tensor:
    """Return numbers of rows as ``gather`` takes them."""
    return places[..., None].expand(-1, -1, rows.shape[-1])
