"""Fine-tuning on a few labelled pictures: measured on others, and never worse than it began.

The parent is measured on the held-out pictures first, then the average of the weights after every
round. What comes out is the best of them, and that may be the parent.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from sam_plugins.errors import DatasetError
from sam_plugins.model.evaluation.bootstrap import paired_bootstrap
from sam_plugins.model.evaluation.loaded import AutomaticSegmenter, LoadedModel
from sam_plugins.model.evaluation.measure import measure
from sam_plugins.model.inference.loading import Model, load_model, network_of
from sam_plugins.model.io.atomic import require_writable
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.networks.config import PyramidConfig, SamConfig
from sam_plugins.model.networks.efficientnet_lite import EfficientNetLiteFeatures
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.batches import BatchMaker, BatchOptions, CropSize
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.losses import LossWeights
from sam_plugins.model.training.pictures import TrainingPicture, picture_of
from sam_plugins.model.training.state import TrainingState
from sam_plugins.model.training.trainer import train
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.passport import DataSource, Passport
from sam_plugins.model.weights.store import Comparison

Method = Literal["full", "decoder"]

METRIC = "mean of one-click IoU, box IoU and mSA"


@dataclass(frozen=True)
class FineTuningOptions:
    """How a model is fine-tuned.

    Parameters
    ----------
    method : {"full", "decoder"}
        Whether the image encoder learns too. It is better for a new kind of picture, and takes
        about twice the time.
    steps : int
        Of the optimiser, in all.
    rounds : int
        How often the weights are measured on the held-out pictures.
    learning_rate : float
        Of AdamW at its height.
    max_objects : int
        Prompted objects of a held-out picture.
    seed : int
        Of crops and prompts.
    """

    method: Method = "full"
    steps: int = 300
    rounds: int = 6
    learning_rate: float = 1e-4
    max_objects: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.method not in {"full", "decoder"}:
            raise ValueError(f"method must be 'full' or 'decoder', got {self.method!r}")
        if not 1 <= self.rounds <= self.steps:
            raise ValueError(
                f"rounds must lie between 1 and steps, got {self.rounds} rounds of {self.steps}"
            )
        if self.learning_rate <= 0 or self.max_objects < 1:
            raise ValueError(
                "learning_rate must be positive and max_objects 1 or more, "
                f"got {self.learning_rate} and {self.max_objects}"
            )


@dataclass(frozen=True)
class Round:
    """What was measured on the held-out pictures after some steps.

    Attributes
    ----------
    step : int
        0 is the parent.
    pictures : mapping of str to float
        By picture, the mean of its figures; see :data:`METRIC`.
    figures : mapping of str to float
        Means over the pictures of each figure.
    """

    step: int
    pictures: Mapping[str, float]
    figures: Mapping[str, float]

    @property
    def value(self) -> float:
        """Mean over the pictures."""
        return float(np.mean(list(self.pictures.values())))


@dataclass(frozen=True)
class FineTuned:
    """What fine-tuning came to.

    Attributes
    ----------
    path : Path
        The file of the best weights.
    rounds : tuple of Round
        The parent's first.
    best : Round
    comparison : Comparison
        Of the best round with the parent.
    is_complete : bool
        False where somebody interrupted it after a round that was better.
    """

    path: Path
    rounds: tuple[Round, ...]
    best: Round
    comparison: Comparison
    is_complete: bool = True

    @property
    def is_better(self) -> bool:
        """Whether any round was better than the parent at all."""
        return self.best.step > 0


class TrainingProgress(NamedTuple):
    """How far fine-tuning is: ``figures`` are there after each round."""

    step: int
    steps: int
    loss: float
    figures: Mapping[str, float] | None = None


def fine_tune(
    parent: str | Path,
    train_files: Sequence[LabelledFile],
    held_out_files: Sequence[LabelledFile],
    path: Path,
    options: FineTuningOptions | None = None,
    *,
    name: str = "fine-tuned",
    device: torch.device | str = "cpu",
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> FineTuned:
    """Fine-tune a model and write the best weights.

    Parameters
    ----------
    parent : str or Path
        Model to start from, by name or file.
    train_files, held_out_files : sequences of LabelledFile
        Pictures to learn from, and other ones to measure on.
    path : Path
        File to write, ``.safetensors``.
    options : FineTuningOptions, optional
    name : str
        Of the new model.
    device : device
    on_progress : callable, optional
        Told about every step; may raise to stop.

    Returns
    -------
    FineTuned

    Raises
    ------
    DatasetError
        If there is nothing to learn from or to measure on, or a picture is in both.
    TrainingError
        If the loss is no longer a number.
    UnreadableImageError
        If a picture cannot be read.
    """
    options = options or FineTuningOptions()
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {path.name!r}")
    require_writable(path)
    _require_apart(train_files, held_out_files)
    checkpoint = load_checkpoint(parent)
    network = network_of(checkpoint).to(device)
    pictures = [picture_of(file.read(), checkpoint.config.preprocessing) for file in train_files]
    if not any(picture.labels.any() for picture in pictures):
        raise DatasetError("no training picture has a labelled object: label some first")
    config = TrainingConfig(
        steps=options.steps,
        learning_rate=options.learning_rate,
        dense_steps=0,
        warmup_steps=min(20, options.steps // 10),
        losses=LossWeights(background_areas=1.5),
        seed=options.seed,
    )
    _choose_what_learns(network, options.method)
    state = TrainingState.fresh(network, config)
    batches = BatchMaker(pictures, _batch_options(checkpoint.config), options.seed)
    passport = Passport(
        name=name,
        config=checkpoint.config,
        licence=checkpoint.passport.licence if checkpoint.passport else "",
        description=f"{checkpoint.name}, fine-tuned on {len(pictures)} pictures.",
        training_data=(_source(train_files, pictures),),
        parent=checkpoint.model_id,
        extra={"fine_tuning": asdict(options)},
    )
    measure_file = functools.partial(_measure, held_out_files, options)
    rounds = [measure_file(load_model(parent, device=device), 0)]
    best = rounds[0]
    save_model_file(path, state.average, passport)
    candidate = path.with_name(f".{path.stem}-candidate.safetensors")
    is_complete = True
    try:
        for number in range(1, options.rounds + 1):
            stop_at = options.steps * number // options.rounds
            _train_until(stop_at, state, batches, config, on_progress)
            # What is measured is the file, with the rounding of its weights.
            save_model_file(candidate, state.average, passport)
            after = measure_file(load_model(candidate, device=device), state.step)
            rounds.append(after)
            if on_progress is not None:
                on_progress(TrainingProgress(state.step, options.steps, math.nan, after.figures))
            if after.value > best.value:
                best = after
                metrics = {"held out": dict(best.figures)}
                save_model_file(path, state.average, replace(passport, metrics=metrics))
    except KeyboardInterrupt:
        if best.step == 0:
            raise
        is_complete = False
    finally:
        candidate.unlink(missing_ok=True)
    comparison = _compare(rounds[0], best, checkpoint.model_id, options.rounds)
    return FineTuned(path, tuple(rounds), best, comparison, is_complete)


def _require_apart(train: Sequence[LabelledFile], held_out: Sequence[LabelledFile]) -> None:
    """Refuse pictures that are learned from and measured on."""
    if not train or not held_out:
        raise DatasetError(
            "fine-tuning needs pictures to learn from and other ones to measure on, got "
            f"{len(train)} and {len(held_out)}; label more"
        )
    both = {file.image_path.resolve() for file in train} & {
        file.image_path.resolve() for file in held_out
    }
    if both:
        raise DatasetError(
            f"{min(both)} is learned from and measured on: take it out of one of the two"
        )


def _choose_what_learns(network: Sam, method: Method) -> None:
    """Let all learn but what never does, and the image encoder where only decoders shall."""
    network.requires_grad_(requires_grad=True)
    frozen: list[nn.Module] = [
        part for part in network.modules() if isinstance(part, EfficientNetLiteFeatures)
    ]
    if method == "decoder":
        frozen.append(network.image_encoder)
    for part in frozen:
        part.requires_grad_(requires_grad=False)


def _batch_options(config: SamConfig) -> BatchOptions:
    """Return crops of sizes that the image encoder takes; one set, no synthetic pictures."""
    sizes: tuple[CropSize, ...]
    if isinstance(config.image_encoder, PyramidConfig):
        sizes = (CropSize(256, 4, 5, 0.6), CropSize(384, 2, 6, 0.4))
    else:
        sizes = (CropSize(config.image_encoder.image_size, 1, 8, 1.0),)
    return BatchOptions(crop_sizes=sizes, synthetic_share=0.0, set_shares={}, power=1.0)


def _train_until(
    stop_at: int,
    state: TrainingState,
    batches: BatchMaker,
    config: TrainingConfig,
    on_progress: Callable[[TrainingProgress], None] | None,
) -> None:
    """Train some steps more."""

    def report(step: int, values: Mapping[str, float]) -> None:
        if on_progress is not None:
            on_progress(TrainingProgress(step, config.steps, values["loss"]))

    train(state, batches, config, stop_at=stop_at, workers=0, report=report)


def _measure(
    files: Sequence[LabelledFile], options: FineTuningOptions, model: Model, step: int
) -> Round:
    """Ask for the objects of the held-out pictures, and segment them as a whole."""
    report = measure(
        model.model_id,
        files,
        model=LoadedModel(model),
        segmenter=AutomaticSegmenter(model) if model.has_instance_decoder else None,
        with_floor=False,
        max_objects=options.max_objects,
        seed=options.seed,
    )
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for score in report.object_scores:
        own = values[f"{score.set_name}/{score.image_id}"]
        own["one click"].append(score.point_confident_iou)
        own["box"].append(score.box_iou)
    for picture in report.picture_scores:
        if not math.isnan(picture.msa):
            values[f"{picture.set_name}/{picture.image_id}"]["mSA"].append(picture.msa)
    if not report.object_scores:
        raise DatasetError("no held-out picture has a labelled object: label some first")
    means = {
        name: {figure: float(np.mean(numbers)) for figure, numbers in own.items()}
        for name, own in values.items()
    }
    figures = sorted({figure for own in means.values() for figure in own})
    return Round(
        step=step,
        pictures={name: float(np.mean(list(own.values()))) for name, own in means.items()},
        figures={
            figure: float(np.mean([own[figure] for own in means.values() if figure in own]))
            for figure in figures
        },
    )


def _compare(parent: Round, best: Round, parent_id: str, rounds: int) -> Comparison:
    """Compare two rounds picture by picture.

    The best of several rounds is better by chance more easily than one: the interval is as much
    wider (Bonferroni).
    """
    names = sorted(parent.pictures)
    interval = paired_bootstrap(
        [best.pictures[name] for name in names],
        [parent.pictures[name] for name in names],
        level=1 - 0.05 / rounds,
        resamples=20_000,
    )
    return Comparison(
        parent=parent_id,
        metric=METRIC,
        value=best.value,
        parent_value=parent.value,
        low=None if math.isnan(interval.low) else interval.low,
        high=None if math.isnan(interval.high) else interval.high,
        pictures=len(names),
    )


def _source(files: Sequence[LabelledFile], pictures: Sequence[TrainingPicture]) -> DataSource:
    """Describe the pictures that were learned from."""
    digest = hashlib.sha256()
    for file in files:
        for path in (file.image_path, file.label_path):
            inside = sorted(one for one in path.rglob("*") if one.is_file())  # of a Zarr folder
            for one in inside or [path]:
                digest.update(one.read_bytes())
    return DataSource(
        name=", ".join(sorted({file.set_name for file in files})),
        sha256=digest.hexdigest(),
        pictures=len(files),
        objects=sum(len(picture.boxes_xyxy) for picture in pictures),
    )
