"""The decoder's transformer: prompts and image attend to each other (SAM, appendix A)."""

from __future__ import annotations

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

    def _heads(self, x: Tensor) -> Tensor:
        """(N, T, D) to (N, heads, T, D / heads)."""
        heads: Tensor = x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return heads

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from ``queries`` (N, T, D) to ``keys`` and ``values`` (N, S, D)."""
        q, k, v = (
            self._heads(self.q_proj(queries)),
            self._heads(self.k_proj(keys)),
            self._heads(self.v_proj(values)),
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
        return out


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

        image = image + self.cross_attn_image_to_token(image_keys, tokens + token_pe, tokens)
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

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Run the blocks.

        Parameters
        ----------
        image, image_pe : Tensor of shape (N, D, h, w) and (1 or N, D, h, w)
            Image embedding and its positional encoding.
        tokens : Tensor of shape (N, T, D)
            Output and prompt tokens, which serve as their own positional encoding.

        Returns
        -------
        tokens : Tensor of shape (N, T, D)
        image : Tensor of shape (N, h * w, D)
        """
        image = image.flatten(2).transpose(1, 2)
        # Of the image's type: in mixed precision, a sum with float32 would make all of it float32.
        image_pe = image_pe.flatten(2).transpose(1, 2).to(image.dtype)
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe)
        attended = self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens + attended), image
