"""A training run with text prompts: ask by what CLIP sees, correct with points, learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sam_plugins.errors import TrainingError
from sam_plugins.model.networks.efficientnet_lite import EfficientNetLiteFeatures
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.batches import TrainingBatch
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.losses import MaskLosses, instance_loss, prompt_loss, reduce_masks
from sam_plugins.model.training.prompt_simulation import correction_points, first_points_xy
from sam_plugins.model.training.simulated_session import normalise
from sam_plugins.model.training.text_prompts import (
    CropEncoder,
    TextPromptOptions,
    object_embeddings,
)

Report = Callable[[int, Mapping[str, float]], None]
"""Called after every step with its number and what was measured."""


class Batches(Protocol):
    """Batches by step, such as a :class:`~sam_plugins.model.training.batches.BatchMaker`."""

    def batch(self, step: int) -> TrainingBatch:
        """Return the batch of a step; the same whenever it is asked for."""


def train_text_prompts(
    network: Sam,
    batches: Batches,
    encoder: CropEncoder,
    config: TrainingConfig,
    options: TextPromptOptions | None = None,
    *,
    method: Literal["decoder", "full"] = "decoder",
    report: Report | None = None,
) -> None:
    """Train a network with a text slot, in place.

    Parameters
    ----------
    network : Sam
        From :func:`~sam_plugins.model.training.text_prompts.with_text_slot`; afterwards it is in
        evaluation mode.
    batches : Batches
    encoder : CropEncoder
        It does not learn.
    config : TrainingConfig
        Steps, learning rate, losses, precision, seed.
    options : TextPromptOptions, optional
    method : {"decoder", "full"}
        Whether the image encoder stays as it is.
    report : callable, optional
        May raise to stop.

    Raises
    ------
    ValueError
        If the network takes no text embeddings, or those of another length, or ``method`` is
        unknown.
    TrainingError
        If the loss is no longer a number.
    """
    options = options or TextPromptOptions()
    dim = network.config.prompt_encoder.text_dim
    if dim != encoder.dim:
        raise ValueError(
            f"the network must take text embeddings of {encoder.dim} values, got a slot of {dim}; "
            "make it with with_text_slot"
        )
    if method not in {"decoder", "full"}:
        raise ValueError(f"method must be 'decoder' or 'full', got {method!r}")
    network.train().requires_grad_(requires_grad=True)
    # What was learned from ImageNet never learns, and its batch statistics must not move either.
    frozen: list[nn.Module | None] = [
        part for part in network.modules() if isinstance(part, EfficientNetLiteFeatures)
    ]
    if method == "decoder":
        frozen += [network.image_encoder, network.instance_decoder]
    for part in frozen:
        if part is not None:
            part.eval().requires_grad_(requires_grad=False)
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        learning, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
    )
    device = learning[0].device
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step)
        batch = batches.batch(step).to(device)
        session = _Session(network, batch, encoder, config, options, step)
        loss, values = session.run(learns_instances=method == "full")
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss of step {step} is not a number; train with a lower learning rate"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learning, config.max_gradient_norm)
        optimizer.step()
        if report is not None:
            report(step, values)
    network.eval().requires_grad_(requires_grad=False)


@dataclass(frozen=True)
class _Session:
    """The forward pass of a step; the seed and the step decide every prompt."""

    model: Sam
    batch: TrainingBatch
    encoder: CropEncoder
    config: TrainingConfig
    options: TextPromptOptions
    step: int

    def run(self, *, learns_instances: bool) -> tuple[Tensor, dict[str, float]]:
        """Return the loss, and what to write in the log."""
        model, batch, options = self.model, self.batch, self.options
        device = batch.images.device
        rng = np.random.default_rng([self.config.seed, self.step, 2])
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        is_half = self.config.precision == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=is_half):
            features = model.encode(normalise(batch.images, model.config.preprocessing))
            maps = (
                model.instances(features) if learns_instances and model.instance_decoder else None
            )
        loss = batch.images.new_zeros((), dtype=torch.float32)
        if maps is not None:
            losses = self.config.losses
            loss = loss + losses.instances * instance_loss(
                maps, batch.instance_targets, foreground_dice=losses.foreground_dice
            )
        areas = batch.masks.flatten(1).sum(dim=1, dtype=torch.int64)
        by_text = torch.from_numpy(rng.random(len(areas)) < options.text_share).to(device)
        by_text &= areas >= options.min_area
        rounds = 1 + int(rng.choice(len(options.rounds), p=options.rounds))
        embeddings = object_embeddings(batch, self.encoder, options, rng)
        values: dict[str, float] = {}
        for name, chosen in (("text", by_text), ("point", ~by_text)):
            index = torch.nonzero(chosen)[:, 0]
            if not len(index):
                continue
            texts = embeddings[index] if name == "text" else None
            answers = self._ask(features, index, texts, rounds, rng, generator)
            share = len(index) / len(areas) / len(answers)
            loss = loss + share * torch.stack([answer.total for answer in answers]).sum()
            values[f"{name}_single"] = float(answers[0].single_iou)
            values[f"{name}_best"] = float(answers[0].best_iou)
        return loss, values | {"loss": float(loss.detach())}

    def _ask(
        self,
        features: ImageFeatures,
        index: Tensor,
        texts: Tensor | None,
        rounds: int,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> list[MaskLosses]:
        """Ask for some objects in the same way, then correct; return the losses of each answer."""
        batch, device = self.batch, self.batch.images.device
        images = batch.image_index[index]
        masks = batch.masks[index]
        target, known = reduce_masks(masks), reduce_masks(batch.mask_known)[images]
        points = labels = mask_logits = None
        if texts is None:
            first = first_points_xy(masks.cpu().numpy(), rng, self.config.prompts.central_share)
            points = torch.from_numpy(first).to(device)[:, None]
            labels = torch.ones(len(index), 1, dtype=torch.long, device=device)
        is_half = self.config.precision == "bfloat16"
        answers: list[MaskLosses] = []
        for number in range(rounds):
            with torch.autocast(device.type, torch.bfloat16, enabled=is_half):
                output = self.model.decode(
                    features,
                    points_xy=points,
                    point_labels=labels,
                    mask_logits=mask_logits,
                    text_embeddings=texts,
                    image_index=images,
                )
            is_ambiguous = number == 0 and texts is None
            answers.append(
                prompt_loss(
                    output.logits,
                    output.iou_predictions,
                    target,
                    known,
                    is_ambiguous=is_ambiguous,
                    weights=self.config.losses,
                )
            )
            which = output.iou_predictions[:, 1:].argmax(dim=1) + 1
            which = which if is_ambiguous else torch.zeros_like(which)
            each = torch.arange(len(which), device=device)
            mask_logits = output.logits.detach()[each, which][:, None].float()
            new, signs = correction_points(mask_logits[:, 0], target, known, generator)
            points = new[:, None] if points is None else torch.cat([points, new[:, None]], 1)
            labels = signs[:, None] if labels is None else torch.cat([labels, signs[:, None]], 1)
        return answers
