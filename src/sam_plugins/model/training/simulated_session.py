"""One training step's forward pass: encode, ask, correct, and add up the losses."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sam_plugins.model.networks.config import Preprocessing
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.networks.mask_decoder import MaskOutput
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.batches import TrainingBatch
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.losses import (
    MaskLosses,
    instance_loss,
    prompt_loss,
    reduce_masks,
)
from sam_plugins.model.training.processes import OneProcess, Processes, own_part
from sam_plugins.model.training.prompt_simulation import (
    boxes_xyxy,
    correction_points,
    first_points_xy,
)

ONE_PROCESS = OneProcess()


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
    outer: Tensor | None  # (N, h, w)

    def at(self, index: Tensor) -> _Objects:
        """Pick some."""
        return _Objects(
            self.masks[index],
            self.target[index],
            self.known[index],
            self.image_index[index],
            None if self.outer is None else self.outer[index],
        )


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Turn uint8 RGB crops (B, 3, H, W) into network input."""
    mean = torch.tensor(preprocessing.pixel_mean, device=images.device)[:, None, None]
    std = torch.tensor(preprocessing.pixel_std, device=images.device)[:, None, None]
    return (images.float() - mean) / std


def simulate_session(
    model: Sam,
    batch: TrainingBatch,
    config: TrainingConfig,
    step: int,
    processes: Processes = ONE_PROCESS,
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
    processes : Processes
        Of several, each answers for its own pictures, and the losses of all add up.

    Returns
    -------
    StepResult
    """
    device = batch.images.device
    rng = np.random.default_rng([config.seed, step, 1])
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")
    own = own_part(len(batch.mask_known), processes)
    with autocast:
        features = _encoded(model, batch, own)
        has_maps = model.instance_decoder is not None and features is not None
        maps = model.instances(features) if has_maps and features is not None else None
    if maps is not None and features is not None and step < config.dense_steps:
        features = features.map(Tensor.detach)
    sums = _Sums(batch.mask_known.device)
    loss = torch.zeros((), device=device)
    if maps is not None:
        of_instances = instance_loss(
            maps,
            batch.instance_targets[own.start : own.stop],
            batch.instance_targets[:, 3].float().sum(),
            foreground_dice=config.losses.foreground_dice,
            pictures=len(batch.mask_known),
        )
        sums.add("instances", of_instances)
        loss = loss + config.losses.instances * of_instances
    elif model.instance_decoder is not None:
        sums.add("instances", torch.zeros((), device=device))
    known = reduce_masks(batch.mask_known)
    outer = batch.outer_masks if config.losses.outer else None
    objects = _Objects(
        batch.masks,
        reduce_masks(batch.masks),
        known[batch.image_index],
        batch.image_index,
        None if outer is None else reduce_masks(outer),
    )
    count = len(batch.masks)
    rounds = config.prompts.draw_rounds(rng)
    # A crop stands for any part of a larger input.
    reach = np.maximum(0, model.prompt_encoder.image_size - np.array(batch.mask_known.shape[:0:-1]))
    origin_xy = (float(rng.integers(reach[0] + 1)), float(rng.integers(reach[1] + 1)))
    with_box = rng.random(count) < config.prompts.box_share
    with_both = with_box & (rng.random(count) < config.prompts.clicked_box_share)
    for name, chosen in (("box", with_box & ~with_both), ("both", with_both), ("point", ~with_box)):
        index = torch.from_numpy(np.flatnonzero(chosen)).to(device)
        if len(index) == 0:
            continue
        chosen_objects = objects.at(index)
        asked = _Dialogue(model, features, chosen_objects, config, origin_xy, name, own, processes)
        answers = asked.run(rounds, rng, generator, autocast)
        share = len(index) / count / (1 + len(rounds))
        for answer in answers:
            loss = loss + share * answer.part * answer.losses.total
        for key, value in _named(name, answers, len(rounds)).items():
            sums.add(key, value)
    sums.add("loss", loss)
    return StepResult(loss, sums.totals(processes) | {"objects": float(count)})


class _Sums:
    """Figures of which every process knows its part; in the same order in each."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._values: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor) -> None:
        """Note a part."""
        self._values[name] = value.detach().float().to(self._device)

    def totals(self, processes: Processes) -> dict[str, float]:
        """Return the sums over all processes."""
        summed = processes.total(torch.stack(list(self._values.values())))
        return dict(zip(self._values, summed.tolist(), strict=True))


def _encoded(model: Sam, batch: TrainingBatch, own: range) -> ImageFeatures | None:
    """Return the features of this process's pictures, None where it has none."""
    part = slice(own.start, own.stop)
    if not own:
        return None
    if batch.features is not None:
        return batch.features.map(lambda tensor: tensor[part])
    return model.encode(normalise(batch.images[part], model.config.preprocessing))


class _Answer(NamedTuple):
    """Losses of an answer: means over the own objects, which are a part of all asked for."""

    number: int
    losses: MaskLosses
    part: float


def _named(name: str, answers: list[_Answer], more: int) -> dict[str, Tensor]:
    """Return this process's part of what the first and the last of all answers were like."""
    names = ["best", "confident", "single", "iou_error", *["corrected"] * (more > 0)]
    found = {f"{name}_{one}": torch.zeros(()) for one in names}
    for number, losses, part in answers:
        if number == 0:
            found[f"{name}_best"] = part * losses.best_iou
            found[f"{name}_confident"] = part * losses.confident_iou
            found[f"{name}_single"] = part * losses.single_iou
            found[f"{name}_iou_error"] = part * losses.iou_error
        elif number == more:
            found[f"{name}_corrected"] = part * losses.single_iou
    return found


@dataclass(frozen=True)
class _Dialogue:
    """Questions and answers about some objects, of which the own pictures' are answered here.

    Prompts are drawn for all of them, so that they do not depend on how many processes there are.
    """

    model: Sam
    features: ImageFeatures | None  # Of the own pictures.
    objects: _Objects
    config: TrainingConfig
    origin_xy: tuple[float, float]
    first: str  # "box", "point" or "both"
    own_images: range
    processes: Processes

    @cached_property
    def own(self) -> Tensor:
        """Which objects are answered here."""
        index = self.objects.image_index
        is_own = (index >= self.own_images.start) & (index < self.own_images.stop)
        return torch.nonzero(is_own)[:, 0]

    @property
    def num_own(self) -> int:
        """How many these are."""
        return len(self.own)

    def run(
        self,
        rounds: tuple[bool, ...],
        rng: np.random.Generator,
        generator: torch.Generator,
        autocast: torch.autocast,
    ) -> list[_Answer]:
        """Ask, then correct or feed back; return what was answered about own objects."""
        asked, options = self, self.config.prompts
        device = self.objects.masks.device
        masks = self.objects.masks.cpu().numpy()
        boxes = points = labels = mask_logits = None
        if self.first != "point":
            boxes = torch.from_numpy(boxes_xyxy(masks, rng, options)).to(device)
        if self.first != "box":
            first = first_points_xy(masks, rng, options.central_share)
            points = torch.from_numpy(first).to(device)[:, None]
            labels = torch.ones(len(masks), 1, dtype=torch.long, device=device)
        answers: list[_Answer] = []
        for number in range(1 + len(rounds)):
            is_ambiguous = number == 0 and self._is_ambiguous
            seen = None
            if asked.num_own:
                with autocast:
                    output = asked._answer(points, labels, boxes, mask_logits)
                losses = asked._loss(output, is_ambiguous=is_ambiguous)
                answers.append(_Answer(number, losses, asked.num_own / len(asked.objects.masks)))
                seen = _trusted(output.logits, output.iou_predictions, is_ambiguous)
            if number == len(rounds):
                break
            mask_logits = asked._of_all(seen)
            if number > 0 and len(mask_logits) > (options.max_corrected or math.inf):
                kept = torch.from_numpy(rng.permutation(len(mask_logits))[: options.max_corrected])
                kept = kept.to(device)
                asked = replace(asked, objects=asked.objects.at(kept))
                mask_logits = mask_logits[kept]
                boxes, points, labels = (
                    None if values is None else values[kept] for values in (boxes, points, labels)
                )
            if not rounds[number]:
                continue
            new, signs = correction_points(
                mask_logits[:, 0],
                asked.objects.target,
                asked.objects.known,
                generator,
                even=options.even_errors,
            )
            points = new[:, None] if points is None else torch.cat([points, new[:, None]], 1)
            labels = signs[:, None] if labels is None else torch.cat([labels, signs[:, None]], 1)
        return answers

    @property
    def _is_ambiguous(self) -> bool:
        """Whether the first prompt may mean several objects."""
        if self.first == "box":
            return self.config.prompts.is_box_ambiguous
        return self.first == "point"

    def _answer(
        self,
        points: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        mask_logits: Tensor | None,
    ) -> MaskOutput:
        """Answer the prompts of the own objects."""
        own = self.own

        def part(values: Tensor | None) -> Tensor | None:
            is_whole = values is None or self.num_own == len(values)
            return values if is_whole or values is None else values[own]

        assert self.features is not None
        index = self.objects.image_index[own] - self.own_images.start
        return self.model.decode(
            self.features,
            points_xy=part(points),
            point_labels=part(labels),
            boxes_xyxy=part(boxes),
            mask_logits=part(mask_logits),
            image_index=index,
            origin_xy=self.origin_xy,
        )

    def _loss(self, output: MaskOutput, *, is_ambiguous: bool) -> MaskLosses:
        """Compare an answer with the own objects."""
        outer = self.objects.outer
        return prompt_loss(
            output.logits,
            output.iou_predictions,
            self.objects.target[self.own],
            self.objects.known[self.own],
            is_ambiguous=is_ambiguous,
            weights=self.config.losses,
            # A box says which of them is meant.
            outer=None if outer is None or self.first != "point" else outer[self.own],
        )

    def _of_all(self, seen: Tensor | None) -> Tensor:
        """Return the logits (N, 1, h, w) of all objects from those of the own ones."""
        if self.processes.count == 1:
            assert seen is not None
            return seen
        target = self.objects.target
        logits = target.new_zeros((len(target), 1, *target.shape[1:]))
        if seen is not None:
            logits[self.own] = seen
        return self.processes.total(logits)


def _trusted(logits: Tensor, iou_predictions: Tensor, is_ambiguous: bool) -> Tensor:
    """Logits (N, 1, h, w) of the mask that a user would have seen."""
    if not is_ambiguous:
        return logits[:, :1].detach().float()
    best = 1 + iou_predictions[:, 1:].argmax(dim=1)
    each = torch.arange(len(best), device=best.device)
    return logits.detach()[each, best][:, None].float()
