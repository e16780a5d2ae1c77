"""The decoder's transformer: prompts and image attend to each other (SAM, appendix A).

The answers are those of the official code. A prompt is a dozen tokens and a picture 4,096, so
without gradients the products are put in an order that projects tokens and not pixels; and what the
first layer computes of the picture alone is computed once for a picture.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam_plugins.model.networks.layers import MlpBlock


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than its input.

    Shape legend: N prompts, T queries, S keys, D channels.
    """

    def __init__(self, dim: int, num_heads: int, downsample_rate: int = 1) -> None:
        super().__init__()
        inner = dim // downsample_rate
        if inner % num_heads:
            raise ValueError(f"num_heads must divide the inner width {inner}, got {num_heads}")
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def heads(self, x: Tensor) -> Tensor:
        """(N, T, D) to (N, heads, T, D / heads)."""
        heads: Tensor = x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return heads

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, residual: Tensor | None = None
    ) -> Tensor:
        """Attend from ``queries`` (N, T, D) to ``keys`` and ``values`` (N, S, D).

        With a ``residual`` (N, T, D), the answer is added to it.
        """
        if self.folds(queries.shape[-2], keys.shape[-2]):
            if queries.shape[-2] < keys.shape[-2]:
                seen = self._few_queries(queries, keys, values)
                return seen if residual is None else residual + seen
            k = self.heads(self.k_proj(keys))
            scores = self._scores(k, self.q_proj.weight, queries).unflatten(1, k.shape[1:3])
            return self.answer_pixels(scores, k, values, residual)
        q, k, v = (
            self.heads(self.q_proj(queries)),
            self.heads(self.k_proj(keys)),
            self.heads(self.v_proj(values)),
        )
        # Explicit: with a dozen tokens on one side and heads of 8 or 16 channels, the fused kernel
        # is 2 to 6 times as slow on a CPU, and the weights are small.
        scale = q.shape[-1] ** -0.5
        if k.shape[-2] < q.shape[-2]:
            # Few keys: a softmax over short rows is slow, one across long rows is not.
            attended = ((k * scale) @ q.transpose(-2, -1)).softmax(dim=-2).transpose(-2, -1) @ v
        else:
            attended = ((q * scale) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out if residual is None else residual + out

    def folds(self, queries: int, keys: int) -> bool:
        """Tell whether the projections of the longer side are better moved to the shorter one."""
        few, many = sorted((queries, keys))
        layers = (self.q_proj, self.k_proj, self.v_proj, self.out_proj)
        return (
            few < many
            and few * self.num_heads <= self.q_proj.out_features
            and not torch.is_grad_enabled()
            and all(type(layer) is nn.Linear for layer in layers)  # an adapter is more than that
        )

    def _few_queries(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from T tokens to S pixels without projecting a pixel.

        ``q (W k + b)`` is ``(q W) k`` and a number that is the same for every key, which a softmax
        does not see; and the weighted mean of projected values is the projected weighted mean.
        """
        q = self.heads(self.q_proj(queries))
        weights = self._scores(q, self.k_proj.weight, keys).softmax(dim=-1)
        seen = torch.bmm(weights, values).unflatten(1, q.shape[1:3])
        attended = seen @ self._by_head(self.v_proj.weight).transpose(-2, -1)
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2) + self.v_proj.bias)
        return out

    def answer_pixels(
        self, scores: Tensor, k: Tensor, values: Tensor, residual: Tensor | None = None
    ) -> Tensor:
        """Attend from S pixels to T tokens, the pixels never projected.

        Parameters
        ----------
        scores : Tensor of shape (N, heads, T, S)
            Of tokens with pixels that were projected without the bias.
        k : Tensor of shape (N, heads, T, D / heads)
            Projected tokens.
        values : Tensor of shape (N, T, D)
        residual : Tensor of shape (N or 1, S, D), optional
            Added.

        Returns
        -------
        Tensor of shape (N, S, D)
        """
        scale = k.shape[-1] ** -0.5
        offsets = (k * self._by_head(self.q_proj.bias[:, None]).mT).sum(-1, keepdim=True) * scale
        # A softmax over short rows is slow, one across long rows is not.
        weights = scores.add_(offsets).softmax(dim=-2).flatten(1, 2).transpose(-2, -1)
        folded = self.out_proj.weight.unflatten(1, (self.num_heads, -1)).permute(1, 2, 0)
        answers = self.heads(self.v_proj(values)) @ folded
        # The weights of every head sum to 1: each may bring its part of the bias.
        answers = answers.flatten(1, 2) + self.out_proj.bias / self.num_heads
        if residual is None:
            return torch.bmm(weights, answers)
        return torch.baddbmm(residual, weights, answers)

    def _scores(self, tokens: Tensor, weight: Tensor, pixels: Tensor) -> Tensor:
        """Score T projected tokens (N, heads, T, D / heads) with pixels (N, S, D), unprojected.

        Returns
        -------
        Tensor of shape (N, heads * T, S)
        """
        folded = (tokens * tokens.shape[-1] ** -0.5) @ self._by_head(weight)
        # Not by the operator, which copies the pixels in bfloat16.
        return torch.bmm(folded.flatten(1, 2), pixels.transpose(-2, -1))

    def _by_head(self, weight: Tensor) -> Tensor:
        """(inner, D) to (heads, inner / heads, D)."""
        heads: Tensor = weight.unflatten(0, (self.num_heads, -1))
        return heads

    def shared_side(self, projected: Tensor) -> Tensor:
        """(1, S, inner) of one picture to (heads, S, inner / heads), in one piece."""
        heads: Tensor = projected[0].unflatten(-1, (self.num_heads, -1)).transpose(0, 1)
        return heads.contiguous()

    def few_of_shared(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from the tokens of N prompts to one picture that is projected already.

        Parameters
        ----------
        queries : Tensor of shape (N, T, D)
        keys, values : Tensor of shape (heads, S, D / heads)
            From :meth:`shared_side`.
        """
        q = self.heads(self.q_proj(queries))
        attended = torch.bmm(self.scores_of_shared(q, keys).softmax(dim=-1), values)
        attended = attended.unflatten(1, (q.shape[0], q.shape[2])).permute(1, 2, 0, 3)
        out: Tensor = self.out_proj(attended.flatten(2))
        return out

    def scores_of_shared(self, tokens: Tensor, pixels: Tensor) -> Tensor:
        """Score the tokens (N, heads, T, E) of all prompts with pixels (heads, S, E).

        Returns
        -------
        Tensor of shape (heads, N * T, S)
            All prompts in one product: the pixels are read once.
        """
        scaled = (tokens * tokens.shape[-1] ** -0.5).transpose(0, 1).flatten(1, 2)
        return torch.bmm(scaled, pixels.transpose(-2, -1))


class SharedImage(NamedTuple):
    """What the first layer computes of one picture, the same for every prompt without a mask.

    Shape legend: S pixels, D channels, E channels of a head.

    Attributes
    ----------
    pixels : Tensor of shape (1, S, D)
        The embedding, with what stands for no mask.
    positions : Tensor of shape (1, S, D)
        Positional encoding.
    keys, values : Tensor of shape (heads, S, E)
        What tokens attend to.
    queries : Tensor of shape (heads, S, E)
        What attends to tokens, without the bias.
    """

    pixels: Tensor
    positions: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor


class TwoWayBlock(nn.Module):
    """Self-attention of tokens, tokens to image, a perceptron on tokens, image to tokens."""

    def __init__(
        self, dim: int, num_heads: int, mlp_dim: int, *, is_first: bool, downsample_rate: int = 2
    ) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, num_heads, downsample_rate)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MlpBlock(dim, mlp_dim, nn.ReLU)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, num_heads, downsample_rate)
        self.is_first = is_first

    def forward(
        self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Update ``tokens`` (N, T, D) and ``image`` (N, S, D); the encodings keep their shapes."""
        if self.is_first:  # The tokens are their own encoding here: no addition, and no residual.
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_pe
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)

        image_keys = image + image_pe
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_pe, image_keys, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))

        image = self.cross_attn_image_to_token(image_keys, tokens + token_pe, tokens, image)
        return tokens, self.norm4(image)

    def share(self, pixels: Tensor, positions: Tensor) -> SharedImage:
        """Compute what does not depend on tokens, of one picture (1, S, D)."""
        to_image, to_token = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        placed = pixels + positions
        return SharedImage(
            pixels,
            positions,
            to_image.shared_side(to_image.k_proj(placed)),
            to_image.shared_side(to_image.v_proj(pixels)),
            to_token.shared_side(nn.functional.linear(placed, to_token.q_proj.weight)),
        )

    def forward_shared(self, tokens: Tensor, shared: SharedImage) -> tuple[Tensor, Tensor]:
        """Do what :meth:`forward` does in the first layer, about one picture."""
        token_pe = tokens
        tokens = self.norm1(self.self_attn(tokens, tokens, tokens))
        seen = self.cross_attn_token_to_image.few_of_shared(
            tokens + token_pe, shared.keys, shared.values
        )
        tokens = self.norm2(tokens + seen)
        tokens = self.norm3(tokens + self.mlp(tokens))
        attention = self.cross_attn_image_to_token
        k = attention.heads(attention.k_proj(tokens + token_pe))
        scores = attention.scores_of_shared(k, shared.queries)
        scores = scores.unflatten(1, (k.shape[0], k.shape[2])).transpose(0, 1)
        image = attention.answer_pixels(scores, k, tokens, shared.pixels)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """A few two-way blocks and a last attention from tokens to the image.

    Shape legend: N prompts, T tokens, D channels, h and w of the image embedding.
    """

    def __init__(
        self, depth: int, dim: int, num_heads: int, mlp_dim: int, downsample_rate: int = 2
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(dim, num_heads, mlp_dim, is_first=i == 0, downsample_rate=downsample_rate)
            for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(dim, num_heads, downsample_rate)
        self.norm_final_attn = nn.LayerNorm(dim)

    def share(self, image: Tensor, image_pe: Tensor) -> SharedImage | None:
        """Compute what the first layer needs of one picture, both (1, D, h, w).

        Returns
        -------
        SharedImage or None
            None with gradients, or with adapters in the layer.
        """
        first = self.layers[0]
        assert isinstance(first, TwoWayBlock)
        attentions = (first.cross_attn_token_to_image, first.cross_attn_image_to_token)
        if not all(attention.folds(1, 2) for attention in attentions):
            return None
        return first.share(_rows(image), _rows(image_pe).to(image.dtype))

    def forward(
        self, image: Tensor | SharedImage, image_pe: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the blocks.

        Parameters
        ----------
        image : Tensor of shape (N, D, h, w), or SharedImage
            Image embedding of every prompt, or of one picture from :meth:`share`.
        image_pe : Tensor of shape (1 or N, D, h, w)
            Its positional encoding.
        tokens : Tensor of shape (N, T, D)
            Output and prompt tokens, which serve as their own positional encoding.

        Returns
        -------
        tokens : Tensor of shape (N, T, D)
        image : Tensor of shape (N, h * w, D)
        """
        token_pe = tokens
        layers = list(self.layers)
        if isinstance(image, SharedImage):
            first = layers.pop(0)
            assert isinstance(first, TwoWayBlock)
            positions = image.positions
            tokens, pixels = first.forward_shared(tokens, image)
        else:
            pixels = _rows(image)
            # Of the image's type: in mixed precision, a sum with float32 would make all of it that.
            positions = _rows(image_pe).to(pixels.dtype)
        for layer in layers:
            tokens, pixels = layer(tokens, pixels, token_pe, positions)
        attended = self.final_attn_token_to_image(tokens + token_pe, pixels + positions, pixels)
        return self.norm_final_attn(tokens + attended), pixels


def _rows(maps: Tensor) -> Tensor:
    """Return maps (N, D, h, w) as rows of pixels (N, h * w, D), one after the other in memory."""
    return maps.flatten(2).transpose(1, 2).contiguous()
