"""Large objects are answered from a smaller view of the picture.

A network that learned on crops knows objects of the sizes that crops hold: of one that fills a
photograph of 1024 pixels it sees parts. So a model with an overview encodes every picture twice,
the second time much smaller, and answers every prompt in the view in which its object has a size
that the network knows. Masks from the overview are enlarged; their outlines are as much coarser as
the objects are larger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from sam_plugins.model.networks.config import OverviewConfig
from sam_plugins.model.networks.features import PreparedImage
from sam_plugins.model.networks.mask_decoder import MaskOutput

_INPUT_MULTIPLE = 32
_LOW_RES_STRIDE = 4
_LEAST_REDUCTION = 1.5
"""A picture that the overview would hardly reduce has none."""


@dataclass(frozen=True)
class PromptTensors:
    """Prompts of N objects in pixels of a view, as :meth:`Sam.decode` takes them."""

    points_xy: Tensor | None = None
    point_labels: Tensor | None = None
    boxes_xyxy: Tensor | None = None
    mask_logits: Tensor | None = None
    text_embeddings: Tensor | None = None
    image_index: Tensor | None = None

    def at(self, index: Tensor) -> PromptTensors:
        """Pick some objects."""
        values = ((one.name, getattr(self, one.name)) for one in fields(self))
        return PromptTensors(
            **{name: None if value is None else value[index] for name, value in values}
        )

    def resized(self, size_hw: tuple[int, int], new_hw: tuple[int, int]) -> PromptTensors:
        """Move the prompts to a view of another size; both are heights and widths in pixels."""
        scale = [new / old for new, old in zip(new_hw[::-1], size_hw[::-1], strict=True)]
        points, boxes, logits = self.points_xy, self.boxes_xyxy, self.mask_logits
        return replace(
            self,
            points_xy=None if points is None else points * points.new_tensor(scale),
            boxes_xyxy=None if boxes is None else boxes * boxes.new_tensor(scale * 2),
            mask_logits=None if logits is None else _resize(logits, _low_res(new_hw)),
        )

    def extents(self) -> Tensor | None:
        """Return the size of every object (N,), where the prompts tell: the root of its area."""
        if self.boxes_xyxy is not None:
            corners = self.boxes_xyxy.reshape(-1, 2, 2)
            return (corners[:, 1] - corners[:, 0]).clamp(min=0).prod(-1).sqrt()
        if self.mask_logits is not None:
            return _extents(self.mask_logits[:, 0])
        return None


def view_from_afar(images: Tensor, config: OverviewConfig) -> Tensor | None:
    """Reduce pictures to the overview's size, or return None where they hardly shrink.

    Parameters
    ----------
    images : Tensor of shape (B, 3, H, W)
        Normalised and padded.
    config : OverviewConfig

    Returns
    -------
    Tensor of shape (B, 3, h, w), or None
        h and w are multiples of 32.
    """
    height, width = images.shape[-2:]
    reduction = max(height, width) / config.long_side
    if reduction < _LEAST_REDUCTION:
        return None
    size = [
        max(1, round(side / reduction / _INPUT_MULTIPLE)) * _INPUT_MULTIPLE
        for side in (height, width)
    ]
    return functional.interpolate(images, size, mode="bilinear", antialias=True)


def decode_in_views(
    answer: Callable[[PreparedImage, PromptTensors], MaskOutput],
    image: PreparedImage,
    overview: PreparedImage,
    prompts: PromptTensors,
    config: OverviewConfig,
) -> MaskOutput:
    """Answer every prompt in the view that suits its object.

    Boxes and earlier masks tell how large an object is. A click does not: the overview is asked,
    and where its most confident mask is small, the picture at its full size is.

    Parameters
    ----------
    answer : callable
        Answers all prompts in one view.
    image, overview : PreparedImage
        The two views.
    prompts : PromptTensors
        In pixels of ``image``.
    config : OverviewConfig

    Returns
    -------
    MaskOutput
        As large as that of ``image``.
    """
    size_hw, small_hw = _size_hw(image), _size_hw(overview)
    small_prompts = prompts.resized(size_hw, small_hw)
    extents = prompts.extents()
    from_afar = None
    if extents is None:
        from_afar = answer(overview, small_prompts)
        extents = _largest_side(small_hw, size_hw) * _extents(_most_confident(from_afar))
    is_large = extents > config.least_extent
    if not is_large.any():
        return answer(image, prompts)
    large, small = torch.nonzero(is_large)[:, 0], torch.nonzero(~is_large)[:, 0]
    chosen = (
        answer(overview, small_prompts.at(large))
        if from_afar is None
        else MaskOutput(from_afar.logits[large], from_afar.iou_predictions[large])
    )
    chosen = MaskOutput(_resize(chosen.logits, _low_res(size_hw)), chosen.iou_predictions)
    if len(small) == 0:
        return chosen
    near = answer(image, prompts.at(small))
    order = torch.argsort(torch.cat([large, small]))
    return MaskOutput(
        torch.cat([chosen.logits, near.logits])[order],
        torch.cat([chosen.iou_predictions, near.iou_predictions])[order],
    )


def _size_hw(image: PreparedImage) -> tuple[int, int]:
    """Return the size of a view's input."""
    height, width = image.features.embedding.shape[-2:]
    return 16 * height, 16 * width


def _low_res(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the masks of a view."""
    return size_hw[0] // _LOW_RES_STRIDE, size_hw[1] // _LOW_RES_STRIDE


def _largest_side(small_hw: tuple[int, int], size_hw: tuple[int, int]) -> float:
    """Return how much larger the picture is than its overview."""
    return max(size_hw) / max(small_hw)


def _most_confident(output: MaskOutput) -> Tensor:
    """Return one mask of every object, (N, h, w)."""
    best = output.iou_predictions.argmax(1)
    return output.logits[torch.arange(len(best), device=best.device), best]


def _extents(logits: Tensor) -> Tensor:
    """Return the roots of the areas of masks (N, h, w), in pixels of the view's input."""
    return _LOW_RES_STRIDE * (logits > 0).flatten(1).sum(1).sqrt()


def _resize(logits: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Bring logits (N, C, h, w) to another size."""
    if tuple(logits.shape[-2:]) == size_hw:
        return logits
    return functional.interpolate(
        logits, size_hw, mode="bilinear", align_corners=False, antialias=True
    )
