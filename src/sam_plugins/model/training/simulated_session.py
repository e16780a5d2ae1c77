"""One training step's forward pass: encode, ask, correct, and add up the losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sam_plugins.model.networks.config import Preprocessing
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.batches import TrainingBatch
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.losses import (
    MaskLosses,
    instance_loss,
    prompt_loss,
    reduce_masks,
)
from sam_plugins.model.training.prompt_simulation import (
    boxes_xyxy,
    correction_points,
    first_points_xy,
)


@dataclass(frozen=True)
class StepResult:
    """The loss of a step, and what to write in the log."""

    loss: Tensor
    values: dict[str, float]


@dataclass(frozen=True)
class _Objects:
    """Objects that are asked for in the same way, of any image of the batch."""

    masks: Tensor  # (N, H, W) uint8
    target: Tensor  # (N, h, w)
    known: Tensor  # (N, h, w)
    image_index: Tensor  # (N,)

    def at(self, index: Tensor) -> _Objects:
        """Pick some."""
        return _Objects(
            self.masks[index], self.target[index], self.known[index], self.image_index[index]
        )


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Turn uint8 RGB crops (B, 3, H, W) into network input."""
    mean = torch.tensor(preprocessing.pixel_mean, device=images.device)[:, None, None]
    std = torch.tensor(preprocessing.pixel_std, device=images.device)[:, None, None]
    return (images.float() - mean) / std


def simulate_session(
    model: Sam, batch: TrainingBatch, config: TrainingConfig, step: int
) -> StepResult:
    """Run a simulated annotation session on a batch.

    Parameters
    ----------
    model : Sam
    batch : TrainingBatch
        On the model's device.
    config : TrainingConfig
    step : int
        Together with the seed, decides every prompt.

    Returns
    -------
    StepResult
    """
    device = batch.images.device
    rng = np.random.default_rng([config.seed, step, 1])
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")
    with autocast:
        features = model.encode(normalise(batch.images, model.config.preprocessing))
        maps = None if model.instance_decoder is None else model.instances(features)
    if maps is not None and step < config.dense_steps:
        features = ImageFeatures(
            features.embedding.detach(), tuple(skip.detach() for skip in features.skips)
        )
    values: dict[str, float] = {}
    loss = batch.images.new_zeros((), dtype=torch.float32)
    if maps is not None:
        of_instances = instance_loss(maps, batch.instance_targets)
        values["instances"] = float(of_instances.detach())
        loss = loss + config.losses.instances * of_instances
    known = reduce_masks(batch.mask_known)
    objects = _Objects(
        batch.masks, reduce_masks(batch.masks), known[batch.image_index], batch.image_index
    )
    count = len(batch.masks)
    rounds = 1 + int(rng.choice(len(config.prompts.rounds), p=config.prompts.rounds))
    # A crop stands for any part of a larger input.
    reach = np.maximum(0, model.prompt_encoder.image_size - np.array(batch.images.shape[:1:-1]))
    origin_xy = (float(rng.integers(reach[0] + 1)), float(rng.integers(reach[1] + 1)))
    with_box = rng.random(count) < config.prompts.box_share
    with_both = with_box & (rng.random(count) < config.prompts.clicked_box_share)
    for name, chosen in (("box", with_box & ~with_both), ("both", with_both), ("point", ~with_box)):
        index = torch.from_numpy(np.flatnonzero(chosen)).to(device)
        if len(index) == 0:
            continue
        asked = _Dialogue(model, features, objects.at(index), config, origin_xy, name)
        answers = asked.run(rounds, rng, generator, autocast)
        share = len(index) / count / len(answers)
        loss = loss + share * torch.stack([answer.total for answer in answers]).sum()
        values |= _named(name, answers)
    return StepResult(loss, values | {"loss": float(loss.detach()), "objects": float(count)})


def _named(name: str, answers: list[MaskLosses]) -> dict[str, float]:
    """Return what the first and the last answer were like."""
    first, last = answers[0], answers[-1]
    found = {
        f"{name}_best": first.best_iou,
        f"{name}_confident": first.confident_iou,
        f"{name}_single": first.single_iou,
        f"{name}_iou_error": first.iou_error,
    }
    if len(answers) > 1:
        found[f"{name}_corrected"] = last.single_iou
    return {key: float(value) for key, value in found.items()}


@dataclass(frozen=True)
class _Dialogue:
    """Questions and answers about some objects."""

    model: Sam
    features: ImageFeatures
    objects: _Objects
    config: TrainingConfig
    origin_xy: tuple[float, float]
    first: str  # "box", "point" or "both"

    def run(
        self,
        rounds: int,
        rng: np.random.Generator,
        generator: torch.Generator,
        autocast: torch.autocast,
    ) -> list[MaskLosses]:
        """Ask, then correct; return the losses of every answer."""
        objects, options = self.objects, self.config.prompts
        device = objects.masks.device
        masks = objects.masks.cpu().numpy()
        boxes = points = labels = mask_logits = None
        if self.first != "point":
            boxes = torch.from_numpy(boxes_xyxy(masks, rng, options)).to(device)
        if self.first != "box":
            first = first_points_xy(masks, rng, options.central_share)
            points = torch.from_numpy(first).to(device)[:, None]
            labels = torch.ones(len(masks), 1, dtype=torch.long, device=device)
        answers: list[MaskLosses] = []
        for number in range(rounds):
            with autocast:
                output = self.model.decode(
                    self.features,
                    points_xy=points,
                    point_labels=labels,
                    boxes_xyxy=boxes,
                    mask_logits=mask_logits,
                    image_index=objects.image_index,
                    origin_xy=self.origin_xy,
                )
            is_ambiguous = number == 0 and self.first == "point"
            answers.append(
                prompt_loss(
                    output.logits,
                    output.iou_predictions,
                    objects.target,
                    objects.known,
                    is_ambiguous=is_ambiguous,
                    weights=self.config.losses,
                )
            )
            if number + 1 == rounds:
                break
            mask_logits = _trusted(output.logits, output.iou_predictions, is_ambiguous)
            if number > 0 and len(objects.masks) > options.max_corrected:
                chosen = rng.permutation(len(objects.masks))[: options.max_corrected]
                kept = torch.from_numpy(chosen).to(device)
                objects, mask_logits = objects.at(kept), mask_logits[kept]
                boxes = None if boxes is None else boxes[kept]
                points = None if points is None else points[kept]
                labels = None if labels is None else labels[kept]
            new, signs = correction_points(
                mask_logits[:, 0], objects.target, objects.known, generator
            )
            points = new[:, None] if points is None else torch.cat([points, new[:, None]], 1)
            labels = signs[:, None] if labels is None else torch.cat([labels, signs[:, None]], 1)
        return answers


def _trusted(logits: Tensor, iou_predictions: Tensor, is_ambiguous: bool) -> Tensor:
    """Logits (N, 1, h, w) of the mask that a user would have seen."""
    if not is_ambiguous:
        return logits[:, :1].detach().float()
    best = 1 + iou_predictions[:, 1:].argmax(dim=1)
    each = torch.arange(len(best), device=best.device)
    return logits.detach()[each, best][:, None].float()
