"""What a student minimises: the distance of its maps, and of its answers, from its teacher's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.networks.mask_decoder import MaskOutput

_CELL = 4  # input pixels along a cell of the low-resolution masks


def map_loss(made: ImageFeatures, wanted: ImageFeatures, scales: Sequence[float]) -> Tensor:
    """Compare the maps of a picture.

    Parameters
    ----------
    made, wanted : ImageFeatures
        The student's and the teacher's; finer maps that only the student has do not count.
    scales : sequence of float
        Mean variance of the channels of each of the teacher's maps, the embedding first.

    Returns
    -------
    Tensor
        Mean over the maps of their mean square error by their variance.

    Examples
    --------
    >>> one, other = (ImageFeatures(torch.full((1, 8, 4, 4), value)) for value in (1.0, 3.0))
    >>> map_loss(one, other, [2.0])
    tensor(2.)
    """
    here, there = made.named_tensors(), wanted.named_tensors()
    errors = [
        functional.mse_loss(here[name], there[name]) / scale
        for name, scale in zip(there, scales, strict=True)
    ]
    return torch.stack(errors).mean()


def answer_loss(answer: MaskOutput, wanted: MaskOutput, input_size_hw: tuple[int, int]) -> Tensor:
    """Compare the masks and scores of N clicks.

    Parameters
    ----------
    answer, wanted : MaskOutput
        The student's and the teacher's.
    input_size_hw : (int, int)
        Of the picture as the network sees it: padding does not count.

    Returns
    -------
    Tensor
        Divergence of the probabilities (Kullback-Leibler), 1 less a soft Dice coefficient, and the
        square error of the scores; each a mean, and 0 where the answers are equal.
    """
    height, width = (-(-side // _CELL) for side in input_size_hw)
    logits = answer.logits[..., :height, :width].flatten(2).float()
    wanted_logits = wanted.logits[..., :height, :width].flatten(2).float()
    target = wanted_logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits
    divergence = entropy(logits, target) - entropy(wanted_logits, target)
    probability = logits.sigmoid()
    overlap = (probability * target).sum(-1)
    squares = (probability.square() + target.square()).sum(-1)
    dice = 1 - (2 * overlap + 1) / (squares + 1)
    scores = functional.mse_loss(answer.iou_predictions.float(), wanted.iou_predictions.float())
    return divergence + dice.mean() + scores
