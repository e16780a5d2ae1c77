"""What training minimises: masks, predicted IoU, and the maps of the instance decoder.

SAM's mask loss is 20 times a focal loss, averaged over all pixels, plus a dice loss (Kirillov et
al. 2023, appendix A). From scratch, the mean lets the mask of a small object collapse to nothing:
its pixels are a thousandth of the sum. Here the focal term is a mean over the object plus a sum
over the background, divided by a multiple of the object's area, so that every size counts the same.
``form="paper"`` gives SAM's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sam_plugins.model.networks.instance_decoder import InstanceMaps

_CHOICE_TEMPERATURE = 0.1
"""IoU by which one mask must be better than another to be chosen e times as often."""

FOCAL_ALPHA = 0.25
"""Weight of the object's pixels in the paper's focal loss, the background's being the rest: the
paper names no value; this is that of RetinaNet (Lin et al. 2017) and DETR, which it follows."""


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts.

    Parameters
    ----------
    focal, dice, iou, instances : float
        Terms of the sum.
    focal_power : float
        How little the focal term cares about pixels that are nearly right. With SAM's 2, masks
        trained from scratch stay grey for thousands of steps.
    background_areas : float
        The focal term's sum over the background is divided by so many areas of the object. With 4,
        masks trained from scratch do not collapse to nothing; but a false pixel then counts a
        quarter of a missing one, and masks come out too large, by a third on small particles.
    others : float
        Share of the mean over all masks of an ambiguous prompt, beside the best of them, so that no
        output token is left without a gradient.
    single : float
        Share of the single mask's loss where the prompt is ambiguous.
    ambiguous : float
        Share of the best of the masks for ambiguous prompts where the prompt is clear.
    foreground_dice : float
        Dice of the foreground, picture by picture, beside the entropy of the instance decoder's
        maps: a mean over all cells of a batch hardly notices that a few dim objects come out half
        as large again.
    outer : float
        Weight of the whole object around a part that a point is in, as another of the masks: the
        masks of an ambiguous point should be whole and part (SAM, section 3), but where each point
        has one truth alone, a model learns three looks of the same object. 0 asks for the part
        alone.
    choice : float
        Cross-entropy between which of those masks is best and which the predicted IoU would choose:
        what makes an object hard moves all its masks alike and hides the order from squared errors.
    form : {"balanced", "paper"}
        Of the focal term, see above. With ``"paper"``, the predicted IoU is learned of the masks
        that are returned alone, and ``background_areas`` is not read.
    """

    focal: float = 2.0
    focal_power: float = 1.0
    dice: float = 1.0
    background_areas: float = 4.0
    iou: float = 4.0
    instances: float = 3.0
    foreground_dice: float = 0.0
    others: float = 0.05
    single: float = 0.3
    ambiguous: float = 0.3
    choice: float = 0.1
    outer: float = 0.0
    form: Literal["balanced", "paper"] = "balanced"

    def __post_init__(self) -> None:
        """Check the form."""
        if self.form not in {"balanced", "paper"}:
            raise ValueError(f"form must be balanced or paper, got {self.form!r}")


class MaskLosses(NamedTuple):
    """Loss of one answer and what it was made of; scalars.

    Attributes
    ----------
    total : Tensor
        To back-propagate.
    best_iou, confident_iou, single_iou : Tensor
        Mean IoU of the best mask for ambiguous prompts, of the one the model trusts most, and of
        the single mask; no gradient.
    iou_error : Tensor
        Mean absolute error of the predicted IoU; no gradient.
    """

    total: Tensor
    best_iou: Tensor
    confident_iou: Tensor
    single_iou: Tensor
    iou_error: Tensor


def reduce_masks(masks: Tensor, factor: int = 4) -> Tensor:
    """Average masks over cells: the share of each low-res cell that the object covers.

    Parameters
    ----------
    masks : Tensor of shape (N, H, W), uint8, bool or float
    factor : int
        Pixels along a cell.

    Returns
    -------
    Tensor of shape (N, H / factor, W / factor), float32
    """
    return functional.avg_pool2d(masks[:, None].float(), factor)[:, 0]


def mask_losses(logits: Tensor, target: Tensor, known: Tensor, weights: LossWeights) -> Tensor:
    """Compare masks with their objects.

    Parameters
    ----------
    logits : Tensor of shape (N, C, h, w)
    target : Tensor of shape (N, h, w)
        Share of each cell that the object covers, 0 to 1.
    known : Tensor of shape (N, h, w)
        1 where the truth is known, 0 where nothing counts.
    weights : LossWeights

    Returns
    -------
    Tensor of shape (N, C)
    """
    logits = logits.flatten(2).float()
    target = target.flatten(1)[:, None]
    known = known.flatten(1)[:, None]
    probability = logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(
        logits, target.expand_as(logits), reduction="none"
    )
    # The focal factor for soft targets: a power of the distance between answer and truth.
    focal = entropy * (probability - target).abs().pow(weights.focal_power) * known
    covered = target * known
    if weights.form == "paper":
        return _paper_losses(focal, probability, target, known, weights)
    area = covered.sum(-1)
    inside = (focal * target).sum(-1) / (area + 1)
    outside = (focal * (1 - target)).sum(-1) / (weights.background_areas * (area + 1))
    overlap = (probability * covered).sum(-1)
    squares = (probability.square() * known).sum(-1) + (target * covered).sum(-1)
    dice = 1 - (2 * overlap + 1) / (squares + 1)
    return weights.focal * (inside + outside) + weights.dice * dice


def _paper_losses(
    focal: Tensor, probability: Tensor, target: Tensor, known: Tensor, weights: LossWeights
) -> Tensor:
    """Mean focal loss over all known cells, and dice of sums, not of squares (DETR's)."""
    side = FOCAL_ALPHA * target + (1 - FOCAL_ALPHA) * (1 - target)
    mean = (focal * side).sum(-1) / known.sum(-1).clamp(min=1)
    covered = target * known
    overlap = (probability * covered).sum(-1)
    sums = (probability * known).sum(-1) + covered.sum(-1)
    dice = 1 - (2 * overlap + 1) / (sums + 1)
    return weights.focal * mean + weights.dice * dice


def low_res_iou(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """IoU (N, C) of masks cut at 0 with objects cut at one half, both on the low-res grid."""
    inside = (logits.flatten(2) > 0).float() * known.flatten(1)[:, None]
    truth = ((target > 0.5).float() * known).flatten(1)[:, None]
    overlap = (inside * truth).sum(-1)
    union = inside.sum(-1) + truth.sum(-1) - overlap
    return overlap / union.clamp(min=1)


def prompt_loss(
    logits: Tensor,
    iou_predictions: Tensor,
    target: Tensor,
    known: Tensor,
    *,
    is_ambiguous: bool,
    weights: LossWeights,
    outer: Tensor | None = None,
) -> MaskLosses:
    """Loss of one answer to N prompts of one kind.

    Parameters
    ----------
    logits : Tensor of shape (N, C, h, w)
        Mask 0 is the single mask, the others are for ambiguous prompts.
    iou_predictions : Tensor of shape (N, C)
    target, known : Tensor of shape (N, h, w)
    is_ambiguous : bool
        For a single point, only the best of the masks 1 to C - 1 is corrected (SAM, section 3); a
        clear prompt corrects mask 0. Either also trains the other kind, with a smaller share.
    weights : LossWeights
    outer : Tensor of shape (N, h, w), optional
        The whole object around each of the N; 0 where there is none. For a single point, another
        mask than the best one is corrected towards it, the pair being that with the least loss.
    """
    losses = mask_losses(logits, target, known, weights)
    many = losses[:, 1:]
    best_loss, best = many.min(dim=1)
    is_nested = None
    if outer is not None and weights.outer and is_ambiguous:
        is_nested = outer.flatten(1).any(1)
        of_outer = mask_losses(logits[:, 1:], outer, known, weights)
        pair_loss, part = _pair_loss(many, weights.outer * of_outer)
        best_loss = torch.where(is_nested, pair_loss, best_loss)
        best = torch.where(is_nested, part, best)
    best_loss = best_loss + weights.others * many.mean(dim=1)
    if is_ambiguous:
        per_prompt = best_loss + weights.single * losses[:, 0]
    else:
        per_prompt = losses[:, 0] + weights.ambiguous * best_loss
    with torch.no_grad():
        iou = low_res_iou(logits, target, known)
        expected = iou
        if is_nested is not None and outer is not None:
            of_either = torch.maximum(iou, low_res_iou(logits, outer, known))
            of_either[:, 0] = iou[:, 0]
            expected = torch.where(is_nested[:, None], of_either, iou)
        each = torch.arange(len(iou), device=iou.device)
        trusted = iou_predictions[:, 1:].argmax(dim=1)
        error = (iou_predictions - iou).abs().mean()
    returned = slice(None)
    if weights.form == "paper":
        returned = slice(1, None) if is_ambiguous else slice(0, 1)
    iou_loss = functional.mse_loss(iou_predictions[:, returned].float(), expected[:, returned])
    choice = _choice_loss(iou_predictions[:, 1:].float(), iou[:, 1:])
    return MaskLosses(
        per_prompt.mean() + weights.iou * iou_loss + weights.choice * choice,
        iou[each, best + 1].mean(),
        iou[each, trusted + 1].mean(),
        iou[:, 0].mean(),
        error,
    )


def _pair_loss(part: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least sum of losses (N, C) of two different masks, and which is the part's."""
    sums = part[:, :, None] + whole[:, None]
    same = torch.eye(part.shape[1], dtype=torch.bool, device=part.device)
    least, place = sums.masked_fill(same, torch.inf).flatten(1).min(dim=1)
    return least, place // part.shape[1]


def _choice_loss(predicted: Tensor, iou: Tensor) -> Tensor:
    """Cross-entropy between two softened choices among masks, from IoUs of shape (N, C)."""
    wanted = (iou / _CHOICE_TEMPERATURE).softmax(dim=1)
    found = (predicted / _CHOICE_TEMPERATURE).log_softmax(dim=1)
    return -(wanted * found).sum(dim=1).mean()


def instance_loss(
    maps: InstanceMaps,
    targets: Tensor,
    known_cells: Tensor | None = None,
    *,
    foreground_dice: float = 0.0,
    pictures: int | None = None,
) -> Tensor:
    """Loss of the instance decoder.

    Parameters
    ----------
    maps : InstanceMaps
        Logits, each (B, 1, h, w).
    targets : Tensor of shape (B, 4, h, w)
        Foreground, centre, border distance, and where they are known.
    known_cells : Tensor, optional
        How many cells the sum is divided by, where these are a part of a batch; those of
        ``targets`` by default.
    foreground_dice : float
        Weight of the foreground's dice, see :class:`LossWeights`.
    pictures : int, optional
        Pictures of the whole batch, where these are a part of it; B by default.
    """
    foreground, centre, border, known = targets.float().unbind(1)
    size = (known.sum() if known_cells is None else known_cells) + 1
    entropy = functional.binary_cross_entropy_with_logits
    seen = entropy(maps.foreground[:, 0].float(), foreground, reduction="none")
    # Centres are few among many cells: they weigh more.
    peaks = entropy(maps.centre[:, 0].float(), centre, reduction="none") * (1 + 8 * centre)
    slope = entropy(maps.border[:, 0].float(), border, reduction="none") * (1 + 2 * foreground)
    total: Tensor = ((seen + peaks + slope) * known).sum() / size
    if foreground_dice:
        dice = soft_dice(maps.foreground[:, 0].float().sigmoid(), foreground, known)
        total = total + foreground_dice * dice.sum() / (pictures or len(dice))
    return total


def soft_dice(probability: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Dice loss (B,) of maps (B, h, w) with shares of cells, from squares."""
    overlap = (probability * target * known).sum((1, 2))
    squares = ((probability.square() + target.square()) * known).sum((1, 2))
    return 1 - (2 * overlap + 1) / (squares + 1)
