"""From points, boxes, masks and text to the tokens and maps that the mask decoder reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from sam_plugins.model.networks.layers import LayerNorm2d
from sam_plugins.model.networks.prompt_map import DrawnPrompts, PromptMap


class EncodedPrompts(NamedTuple):
    """What the mask decoder needs to know of N prompts.

    ``tokens`` is (N, T, D); ``dense`` (N, D, h, w) is added to the image embedding; ``drawn`` joins
    the finest features and says where to look, and is None for networks without a prompt map.
    ``is_empty`` says that ``dense`` is only what stands for no mask.
    """

    tokens: Tensor
    dense: Tensor
    drawn: DrawnPrompts | None = None
    is_empty: bool = False


class RandomFourierFeatures(nn.Module):
    """Positional encoding by random spatial frequencies (Tancik et al. 2020)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, num_features: int, scales: tuple[float, float] = (1.0, 1.0)) -> None:
        """Draw frequencies; ``scales`` is the log-uniform range of their standard deviation."""
        super().__init__()
        frequencies = nn.init.normal_(torch.empty(2, num_features))
        if not frequencies.is_meta:  # Arithmetic without numbers would import torch._dynamo.
            low, high = math.log(scales[0]), math.log(scales[1])
            frequencies *= torch.exp(torch.linspace(low, high, num_features))
        self.register_buffer("positional_encoding_gaussian_matrix", frequencies)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Keep the frequencies in float32 when the network becomes half precision."""
        exact = self.positional_encoding_gaussian_matrix
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        now = self.positional_encoding_gaussian_matrix
        if now.dtype in {torch.float16, torch.bfloat16}:
            self.positional_encoding_gaussian_matrix = exact.to(now.device)
        return self

    def forward(self, positions_xy: Tensor) -> Tensor:
        """Encode positions in [0, 1] of shape (..., 2) as (..., 2 * num_features)."""
        # bfloat16 would round angles of tens of radians to a tenth of a turn.
        with torch.autocast(positions_xy.device.type, enabled=False):
            angles = (2 * positions_xy - 1) @ self.positional_encoding_gaussian_matrix
            angles = 2 * math.pi * angles
            return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """Encode prompts given in pixels of the network's input (SAM, section 3 and appendix A).

    Positions are measured against a reference square of ``image_size`` pixels whatever the size of
    the input is, so a distance in pixels looks the same in a small and in a large input.

    Shape legend: N prompts (objects), K points, D channels, h and w of the image embedding.
    """

    not_a_point = -1

    def __init__(
        self,
        embed_dim: int,
        image_size: int,
        *,
        stride: int = 16,
        mask_in_dim: int = 16,
        prompt_map_dims: tuple[int, int] | None = None,
        text_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.image_size = image_size
        self.stride = stride
        scales = (1.0, 1.0) if prompt_map_dims is None else (1.0, 16.0)
        self.pe_layer = RandomFourierFeatures(embed_dim // 2, scales)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.prompt_map = None
        if prompt_map_dims is None:
            self.mask_downscaling = nn.Sequential(
                nn.Conv2d(1, mask_in_dim // 4, kernel_size=2, stride=2),
                LayerNorm2d(mask_in_dim // 4),
                nn.GELU(),
                nn.Conv2d(mask_in_dim // 4, mask_in_dim, kernel_size=2, stride=2),
                LayerNorm2d(mask_in_dim),
                nn.GELU(),
                nn.Conv2d(mask_in_dim, embed_dim, kernel_size=1),
            )
            self.no_mask_embed = nn.Embedding(1, embed_dim)
        else:
            self.prompt_map = PromptMap(embed_dim, *prompt_map_dims)
        self.text_projection = None if text_dim is None else nn.Linear(text_dim, embed_dim)

    def positional_encoding(
        self, size_hw: tuple[int, int], origin_xy: tuple[float, float] = (0.0, 0.0)
    ) -> Tensor:
        """Return the encoding (1, D, h, w) of the centres of an image embedding's cells."""
        height, width = size_hw
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        step = self.stride / self.image_size
        y = (torch.arange(height, device=matrix.device, dtype=matrix.dtype) + 0.5) * step
        x = (torch.arange(width, device=matrix.device, dtype=matrix.dtype) + 0.5) * step
        if origin_xy != (0.0, 0.0):
            x = x + origin_xy[0] / self.image_size
            y = y + origin_xy[1] / self.image_size
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        encoded: Tensor = self.pe_layer(torch.stack([grid_x, grid_y], dim=-1))
        return encoded.permute(2, 0, 1)[None].to(self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        """Type of what is returned; positions are computed in float32 whatever it is."""
        return self.not_a_point_embed.weight.dtype

    def _place(self, positions_xy: Tensor, origin_xy: tuple[float, float]) -> Tensor:
        """Encode input pixels (..., 2); an integer is a pixel's centre, hence the half."""
        positions_xy = positions_xy + 0.5
        if origin_xy != (0.0, 0.0):
            positions_xy = positions_xy + positions_xy.new_tensor(origin_xy)
        encoded: Tensor = self.pe_layer(positions_xy / self.image_size)
        return encoded

    def _point_tokens(
        self, points_xy: Tensor, labels: Tensor, origin_xy: tuple[float, float]
    ) -> Tensor:
        """Tokens (N, K, D) of points with labels 1, 0 or -1 (padding)."""
        is_padding = (labels == self.not_a_point)[..., None]
        tokens = torch.where(is_padding, 0.0, self._place(points_xy, origin_xy))
        tokens = tokens + is_padding * self.not_a_point_embed.weight
        for label in (0, 1):
            tokens = tokens + (labels == label)[..., None] * self._kind(label)
        return tokens

    def _kind(self, index: int) -> Tensor:
        """Return a kind of point: 0 background, 1 object, 2 and 3 a box's corners; (1, D)."""
        weight = self.point_embeddings[index].weight
        assert isinstance(weight, Tensor)
        return weight

    def _box_tokens(self, boxes_xyxy: Tensor, origin_xy: tuple[float, float]) -> Tensor:
        """Tokens (N, 2, D) of the two corners."""
        corners = self._place(boxes_xyxy.unflatten(-1, (2, 2)), origin_xy)
        kinds = torch.cat([self._kind(2), self._kind(3)])
        return corners + kinds

    def forward(
        self,
        *,
        size_hw: tuple[int, int],
        points_xy: Tensor | None = None,
        point_labels: Tensor | None = None,
        boxes_xyxy: Tensor | None = None,
        mask_logits: Tensor | None = None,
        text_embeddings: Tensor | None = None,
        origin_xy: tuple[float, float] = (0.0, 0.0),
    ) -> EncodedPrompts:
        """Encode N prompts.

        Parameters
        ----------
        size_hw : tuple of int
            Rows and columns of the image embedding.
        points_xy, point_labels : Tensor of shape (N, K, 2) and (N, K), optional
            Input pixels; labels 1 (object), 0 (background), -1 (padding).
        boxes_xyxy : Tensor of shape (N, 4), optional
        mask_logits : Tensor of shape (N, 1, 4 h, 4 w), optional
            Low-res logits of an earlier answer.
        text_embeddings : Tensor of shape (N, E), optional
        origin_xy : tuple of float
            Added to all positions before they are encoded.

        Raises
        ------
        ValueError
            If no prompt is given at all, points without labels, or a text without a text
            projection, or if points, labels, boxes, masks and texts are not of as many prompts.
        """
        given = (points_xy, boxes_xyxy, mask_logits, text_embeddings)
        first = next((value for value in given if value is not None), None)
        if first is None:
            raise ValueError("at least one of points, boxes, mask logits or text must be given")
        if (points_xy is None) != (point_labels is None):
            raise ValueError(
                "points_xy and point_labels must be given together: 1 object, 0 background"
            )
        _require_same_count(
            points_xy=points_xy,
            point_labels=point_labels,
            boxes_xyxy=boxes_xyxy,
            mask_logits=mask_logits,
            text_embeddings=text_embeddings,
        )
        if (
            points_xy is not None
            and point_labels is not None
            and points_xy.shape[1] != point_labels.shape[1]
        ):
            raise ValueError(
                "point_labels must have one label for each point, got "
                f"{point_labels.shape[1]} labels for {points_xy.shape[1]} points"
            )
        tokens: list[Tensor] = []
        if points_xy is not None and point_labels is not None:
            if boxes_xyxy is None:  # A padding point stands where a box's corners would.
                points_xy = nn.functional.pad(points_xy, (0, 0, 0, 1))
                point_labels = nn.functional.pad(point_labels, (0, 1), value=self.not_a_point)
            tokens.append(self._point_tokens(points_xy, point_labels, origin_xy))
        if boxes_xyxy is not None:
            tokens.append(self._box_tokens(boxes_xyxy, origin_xy))
        if text_embeddings is not None:
            if self.text_projection is None:
                raise ValueError("this model has no text projection: give points, boxes or masks")
            tokens.append(self.text_projection(text_embeddings)[:, None])
        count = first.shape[0]
        sparse = torch.cat(tokens, dim=1) if tokens else first.new_zeros(count, 0, self.embed_dim)
        sparse = sparse.to(self._dtype)
        if self.prompt_map is not None:
            drawn: DrawnPrompts = self.prompt_map(
                (4 * size_hw[0], 4 * size_hw[1]),
                count,
                points_xy,
                point_labels,
                boxes_xyxy,
                mask_logits,
            )
            return EncodedPrompts(sparse, drawn.dense, drawn)
        if mask_logits is not None:
            return EncodedPrompts(sparse, self.mask_downscaling(mask_logits))
        empty = self.no_mask_embed.weight.reshape(1, -1, 1, 1)
        return EncodedPrompts(sparse, empty.expand(count, -1, *size_hw), is_empty=True)


def _require_same_count(**given: Tensor | None) -> None:
    """Refuse parts of prompts that are not of as many prompts."""
    counts = {name: value.shape[0] for name, value in given.items() if value is not None}
    if any(count != next(iter(counts.values())) for count in counts.values()):
        found = ", ".join(f"{name} of {count}" for name, count in counts.items())
        raise ValueError(f"all parts must be of as many prompts N, got {found}")
