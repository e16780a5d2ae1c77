"""Fine-tuning on a few labelled pictures: measured on others, and never worse than it began.

The parent is measured on the held-out pictures first, then the average of the weights after every
round. What comes out is the best of them, and that may be the parent.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn

from sam_plugins.errors import DatasetError
from sam_plugins.model.engine.held_out import Round, compare_rounds, measure_round
from sam_plugins.model.inference.loading import load_model, network_of
from sam_plugins.model.io.atomic import require_writable
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.networks.config import PyramidConfig, SamConfig
from sam_plugins.model.networks.efficientnet_lite import EfficientNetLiteFeatures
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.batches import BatchMaker, BatchOptions, CropSize
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.losses import LossWeights
from sam_plugins.model.training.pictures import picture_of
from sam_plugins.model.training.state import TrainingState
from sam_plugins.model.training.trainer import train
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.loading import LoadedCheckpoint, load_checkpoint
from sam_plugins.model.weights.passport import DataSource, Passport
from sam_plugins.model.weights.store import Comparison

Method = Literal["full", "decoder"]


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
    stopped_by : BaseException or None
        What ended it early, after a round that was better: Ctrl-C, or an order of the system. Who
        called decides whether to raise it again.
    """

    path: Path
    rounds: tuple[Round, ...]
    best: Round
    comparison: Comparison
    stopped_by: BaseException | None = None

    @property
    def is_better(self) -> bool:
        """Whether any round was better than the parent at all."""
        return self.best.step > 0


class TrainingProgress(NamedTuple):
    """How far fine-tuning is: a loss after each step, ``figures`` after each round."""

    step: int
    steps: int
    loss: float | None = None
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
    learner = _Learner.of(checkpoint, train_files, options, device)
    passport = Passport(
        name=name,
        config=checkpoint.config,
        licence=checkpoint.passport.licence if checkpoint.passport else "",
        description=f"{checkpoint.name}, fine-tuned on {len(train_files)} pictures.",
        training_data=(_source(train_files, learner.objects),),
        parent=checkpoint.model_id,
        extra={"fine_tuning": asdict(options)},
    )
    measured = functools.partial(
        measure_round, files=held_out_files, max_objects=options.max_objects, seed=options.seed
    )
    rounds = [measured(load_model(parent, device=device), 0)]
    best, stopped_by = rounds[0], None
    learner.save(path, passport)
    candidate = path.with_name(f".{path.stem}-candidate.safetensors")
    try:
        for number in range(1, options.rounds + 1):
            learner.train_until(options.steps * number // options.rounds, on_progress)
            # What is measured is the file, with the rounding of its weights.
            learner.save(candidate, passport)
            after = measured(load_model(candidate, device=device), learner.step)
            rounds.append(after)
            if on_progress is not None:
                on_progress(TrainingProgress(learner.step, options.steps, figures=after.figures))
            if after.value > best.value:
                learner.save(path, replace(passport, metrics={"held out": dict(after.figures)}))
                best = after
    except (KeyboardInterrupt, SystemExit) as error:
        if best.step == 0:
            raise
        stopped_by = error
    finally:
        candidate.unlink(missing_ok=True)
    comparison = compare_rounds(
        rounds[0], best, checkpoint.model_id, chosen_of=max(1, len(rounds) - 1)
    )
    return FineTuned(path, tuple(rounds), best, comparison, stopped_by)


@dataclass(frozen=True)
class _Learner:
    """A network in training, and what it learns from."""

    state: TrainingState[Sam]
    batches: BatchMaker
    config: TrainingConfig
    objects: int

    @classmethod
    def of(
        cls,
        checkpoint: LoadedCheckpoint,
        files: Sequence[LabelledFile],
        options: FineTuningOptions,
        device: torch.device | str,
    ) -> _Learner:
        """Read the pictures and prepare a copy of the parent."""
        pictures = [picture_of(file.read(), checkpoint.config.preprocessing) for file in files]
        objects = sum(len(picture.boxes_xyxy) for picture in pictures)
        if not objects:
            raise DatasetError("no training picture has a labelled object: label some first")
        config = TrainingConfig(
            steps=options.steps,
            learning_rate=options.learning_rate,
            dense_steps=0,
            warmup_steps=min(20, options.steps // 10),
            losses=LossWeights(background_areas=1.5),
            seed=options.seed,
        )
        network = network_of(checkpoint).to(device)
        _choose_what_learns(network, options.method)
        batches = BatchMaker(pictures, _batch_options(checkpoint.config), options.seed)
        return cls(TrainingState.fresh(network, config), batches, config, objects)

    @property
    def step(self) -> int:
        """Steps done."""
        return self.state.step

    def save(self, path: Path, passport: Passport) -> None:
        """Write the average of the weights."""
        save_model_file(path, self.state.average, passport)

    def train_until(
        self, stop_at: int, on_progress: Callable[[TrainingProgress], None] | None
    ) -> None:
        """Train some steps more."""

        def report(step: int, values: Mapping[str, float]) -> None:
            if on_progress is not None:
                on_progress(TrainingProgress(step, self.config.steps, values["loss"]))

        train(self.state, self.batches, self.config, stop_at=stop_at, workers=0, report=report)


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


def _source(files: Sequence[LabelledFile], objects: int) -> DataSource:
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
        objects=objects,
    )
