"""A second look at finished masks, to say how good they are.

SAM reads the IoU of a mask from a token that never saw the mask. Trained on little data, such a
head lags far behind the masks; here, what the mask looks like is added: how sure its pixels are,
how stable its edge is, and which features it covers. The idea of scoring a mask from the mask is
Mask Scoring R-CNN's (Huang et al. 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam_plugins.model.networks.layers import Mlp

_NUM_STATISTICS = 5


class MaskScorer(nn.Module):
    """Score masks by their own logits and the features below them.

    Gradients do not flow into the masks: they must not become ugly for an honest score.
    """

    def __init__(self, token_dim: int, feature_dim: int, hidden_dim: int = 128) -> None:
        super().__init__()
        self.head = Mlp(token_dim + 2 * feature_dim + _NUM_STATISTICS, hidden_dim, 1, 3)

    def forward(
        self,
        logits: Tensor,
        features: Tensor,
        mask_tokens: Tensor,
        counts: Tensor | None = None,
    ) -> Tensor:
        """Score N times C masks.

        Parameters
        ----------
        logits : Tensor of shape (N, C, H, W)
        features : Tensor of shape (N, F, H, W)
            Upscaled features that the masks were made of.
        mask_tokens : Tensor of shape (N, C, D)
        counts : Tensor of shape (H, W), optional
            For how many pixels each stands, where these are a part of the masks; 1 by default.

        Returns
        -------
        Tensor of shape (N, C)
            Logits of a quality from 0 to 1.
        """
        logits = logits.detach().float().flatten(2)
        features = features.detach().flatten(2).transpose(1, 2)
        probability = logits.sigmoid()
        each = None if counts is None else counts.flatten().float()
        statistics = mask_statistics(logits, probability, each)
        # How sure a pixel is not to be near the edge weighs twice: the interior, then the rim.
        doubt = probability * (1 - probability)
        if each is not None:
            probability, doubt = probability * each, doubt * each
        area = probability.sum(-1, keepdim=True)
        weights = torch.cat([probability, doubt], dim=1).to(features.dtype)
        interior, rim = (weights @ features).float().chunk(2, dim=1)
        interior = interior / (area + 1)
        rim = rim / (doubt.sum(-1, keepdim=True) + 1)
        seen = torch.cat([mask_tokens.detach().float(), interior, rim, statistics], dim=-1)
        score: Tensor = self.head(seen.to(next(self.head.parameters()).dtype))
        return score[..., 0]


def mask_statistics(logits: Tensor, probability: Tensor, counts: Tensor | None = None) -> Tensor:
    """Describe masks by five numbers.

    Parameters
    ----------
    logits, probability : Tensor of shape (N, C, P)
        Of P pixels.
    counts : Tensor of shape (P,), optional
        For how many pixels each stands; 1 by default.

    Returns
    -------
    Tensor of shape (N, C, 5)
        IoU expected if the probabilities are right, mean probability inside, stability of the mask
        when the threshold moves by 1, logarithm of the area, share of the probability inside.
    """

    def total_of(values: Tensor) -> Tensor:
        return values.sum(-1) if counts is None else (values * counts).sum(-1)

    inside = logits > 0
    area = total_of(inside).float()
    total = total_of(probability)
    within = total_of(probability * inside)
    expected_iou = within / (area + total - within + 1e-3)
    stability = total_of(logits > 1) / (total_of(logits > -1) + 1e-3)
    return torch.stack(
        [
            expected_iou,
            within / (area + 1e-3),
            stability,
            torch.log1p(area) / 5 - 1,
            within / (total + 1e-3),
        ],
        dim=-1,
    )
