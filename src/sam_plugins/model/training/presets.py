"""Recipes by name: SAM's own, as its paper gives it, and the shipped model's.

What the paper says stands in :data:`PAPER` (Kirillov et al. 2023, appendix A, "Training algorithm",
"Losses" and "Training recipe"); feeding the last logits back is RITM's mask guidance (Sofiiuk et
al. 2021), which it follows. The shipped model departs from it, for reasons that were measured:

==================  ===========================  ==================================================
value               paper                        shipped, and why
==================  ===========================  ==================================================
focal : dice        20 : 1, mean over pixels     2 : 1, balanced by area: from scratch the mean lets
                                                 small objects collapse (see ``losses``)
focal power         2                            1: with 2, masks stay grey for thousands of steps
predicted IoU       1, of the returned masks     4, of all masks
best of three       the best alone               and 5 % of the others, so that no token starves
a lone box          ambiguous: three masks       clear: the single mask, which is what people want
answers per object  1 + 8 + 2                    1 to 3: two CPU cores encode more pictures instead
corrections         evenly from the error        rather deep within the error, where people click
betas, decay        0.9, 0.999; 0.1              0.9, 0.98; 0.05
layer-wise decay    0.8 (H, L), 0.6 (B)          none: its encoder starts from random weights
drop path           0.4 (H, L), 0.6 (B)          none: it does not overfit within its steps
schedule            two drops by ten             half a cosine
==================  ===========================  ==================================================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from sam_plugins.model.networks.config import PyramidConfig, SamConfig, VitConfig
from sam_plugins.model.training.choices import RECIPES, RecipeName
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.losses import LossWeights
from sam_plugins.model.training.prompt_simulation import PromptOptions

_LARGE_DEPTH = 24  # Blocks of ViT-L, the smallest encoder with the values of ViT-H.


@dataclass(frozen=True)
class PaperValues:
    """The values of SAM's training, as its appendix A gives them for ViT-H.

    Parameters
    ----------
    learning_rate, betas, weight_decay
        Of AdamW.
    warmup_steps, steps, drops_at_steps
        Linear warm-up, length, and where the rate is divided by ten.
    layer_decay, drop_path
        Of ViT-H; ViT-L has the same, ViT-B ``layer_decay_b`` and ``drop_path_b``.
    focal, dice, iou, focal_power
        20:1, and the mean squared error of the predicted IoU with a factor of 1.
    box_share, box_noise, max_box_noise
        Point or box with equal chance; noise of 10 % of the side, 20 pixels at most.
    corrections, idle_rounds
        8 points from the error region, and 2 rounds without new information: 11 answers in all.
    """

    learning_rate: float = 8e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.1
    warmup_steps: int = 250
    steps: int = 90_000
    drops_at_steps: tuple[int, int] = (60_000, 86_666)
    layer_decay: float = 0.8
    layer_decay_b: float = 0.6
    drop_path: float = 0.4
    drop_path_b: float = 0.6
    focal: float = 20.0
    focal_power: float = 2.0
    dice: float = 1.0
    iou: float = 1.0
    box_share: float = 0.5
    box_noise: float = 0.1
    max_box_noise: float = 20.0
    corrections: int = 8
    idle_rounds: int = 2


PAPER = PaperValues()

PAPER_LOSSES = LossWeights(
    focal=PAPER.focal,
    focal_power=PAPER.focal_power,
    dice=PAPER.dice,
    iou=PAPER.iou,
    others=0.0,
    single=0.0,
    ambiguous=0.0,
    choice=0.0,
    form="paper",
)

PAPER_PROMPTS = PromptOptions(
    box_share=PAPER.box_share,
    central_share=0.0,
    box_noise=PAPER.box_noise,
    max_box_noise=PAPER.max_box_noise,
    exact_box_share=0.0,
    clicked_box_share=0.0,
    max_corrected=None,
    corrections=PAPER.corrections,
    idle_rounds=PAPER.idle_rounds,
    is_box_ambiguous=True,
    even_errors=True,
)


def resolve_recipe(name: RecipeName, network: SamConfig) -> Literal["paper", "shipped"]:
    """Return which recipe ``"auto"`` means: the paper's for SAM's encoders.

    Raises
    ------
    ValueError
        If there is no recipe of that name.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, got {name!r}")
    if name == "auto":
        return "shipped" if isinstance(network.image_encoder, PyramidConfig) else "paper"
    return name


def paper_recipe(base: TrainingConfig, network: SamConfig) -> TrainingConfig:
    """Return a config with the paper's losses, prompts, optimiser and schedule.

    Parameters
    ----------
    base : TrainingConfig
        Gives length, learning rate, precision and seed. On a short run the warm-up takes a tenth of
        the steps at most, and the rate drops at the same shares as in the paper.
    network : SamConfig
        Decides layer-wise decay and drop path. They belong to a transformer that was pre-trained:
        a pyramid has neither, and TinyViT no drop path.
    """
    encoder = network.image_encoder
    layer_decay, drop_path = 1.0, None
    if not isinstance(encoder, PyramidConfig):
        layer_decay = PAPER.layer_decay
    if isinstance(encoder, VitConfig):
        is_large = encoder.depth >= _LARGE_DEPTH
        layer_decay = PAPER.layer_decay if is_large else PAPER.layer_decay_b
        drop_path = PAPER.drop_path if is_large else PAPER.drop_path_b
    return replace(
        base,
        betas=PAPER.betas,
        weight_decay=PAPER.weight_decay,
        layer_decay=layer_decay,
        drop_path=drop_path,
        warmup_steps=min(PAPER.warmup_steps, base.steps // 10),
        schedule="steps",
        drops_at=tuple(step / PAPER.steps for step in PAPER.drops_at_steps),
        losses=PAPER_LOSSES,
        prompts=PAPER_PROMPTS,
        dense_steps=0,
    )
