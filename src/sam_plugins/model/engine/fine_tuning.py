"""Fine-tuning on a few labelled pictures: measured on others, and never worse than it began.

The parent is measured on the held-out pictures first, then the average of the weights after every
round. What comes out is the best of them, and that may be the parent. With the folder of a run, all
that it takes to go on exactly is kept there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sam_plugins.errors import DatasetError, MemoryLimitError, OutputError, TrainingError
from sam_plugins.model.engine.cached_batches import CachedBatches
from sam_plugins.model.engine.held_out import Round, compare_rounds, measure_round
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import Model, load_model, network_of
from sam_plugins.model.io.atomic import require_writable
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.networks.config import PyramidConfig, SamConfig
from sam_plugins.model.networks.efficientnet_lite import EfficientNetLiteFeatures
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.batches import Batches, BatchMaker, BatchOptions, CropSize
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.lora import add_lora, has_lora, merged_state, save_adapter
from sam_plugins.model.training.losses import LossWeights
from sam_plugins.model.training.pictures import TrainingPicture, picture_of
from sam_plugins.model.training.presets import RecipeName, paper_recipe, resolve_recipe
from sam_plugins.model.training.processes import OneProcess, Processes
from sam_plugins.model.training.recipe import TrainingRecipe
from sam_plugins.model.training.state import TrainingState
from sam_plugins.model.training.trainer import train
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.loading import LoadedCheckpoint, load_checkpoint
from sam_plugins.model.weights.passport import DataSource, Passport
from sam_plugins.model.weights.store import Comparison

Method = Literal["full", "decoder", "lora"]
METHODS: tuple[Method, ...] = ("full", "decoder", "lora")
SPARSE_RIM_CELLS = 1
"""On incompletely labelled pictures, who drew an outline has looked at both of its sides: so much
is trusted to be background, and no more, for an unlabelled object may touch."""


@dataclass(frozen=True)
class FineTuningOptions:
    """How a model is fine-tuned.

    Parameters
    ----------
    method : {"full", "decoder", "lora"}
        Whether the image encoder learns too, stays as it is, or gets low-rank adapters, which needs
        the library ``peft``. All of it is better for a very new kind of picture.
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
    recipe : {"auto", "paper", "shipped"}
        Losses, prompts, optimiser and schedule: those of SAM's paper or of the shipped model, see
        :mod:`~sam_plugins.model.training.presets`; by default the paper's for its own encoders.
    crop_sizes : tuple of CropSize, optional
        Sizes of crops; those that the image encoder takes by default.
    lora_rank : int
        With the method ``"lora"``, of every adapter.
    views : int
        With the method ``"decoder"``, how often each picture is encoded, mirrored, turned and with
        other contrast; 0 encodes crops anew at every step.
    precision : {"bfloat16", "float32"}
        Of the forward pass.
    save_every_seconds : float
        How often the state of a run is saved, besides after every round.
    """

    method: Method = "full"
    steps: int = 300
    rounds: int = 6
    learning_rate: float = 1e-4
    max_objects: int = 20
    seed: int = 0
    recipe: RecipeName = "auto"
    crop_sizes: tuple[CropSize, ...] | None = None
    lora_rank: int = 8
    views: int = 4
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    save_every_seconds: float = 120.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.lora_rank < 1 or self.views < 0:
            raise ValueError(
                "lora_rank must be 1 or more and views 0 or more, "
                f"got {self.lora_rank} and {self.views}"
            )
        if self.crop_sizes is not None and (
            not self.crop_sizes
            or any(one.pixels % 32 or min(vars(one).values()) <= 0 for one in self.crop_sizes)
        ):
            raise ValueError(
                "crop_sizes must hold sizes with positive values, pixels in multiples of 32, got "
                f"{self.crop_sizes}"
            )
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
    """How far fine-tuning is: a loss after each step, ``figures`` after each round.

    ``seconds_left`` guesses from the time of the steps so far; None at first.
    """

    step: int
    steps: int
    loss: float | None = None
    figures: Mapping[str, float] | None = None
    seconds_left: float | None = None


class Run(Protocol):
    """Where a run keeps what it needs to go on, and what people look at."""

    @property
    def state_path(self) -> Path:
        """The file to go on from."""

    @property
    def adapter_path(self) -> Path:
        """The folder of the best adapters."""

    def rounds(self) -> list[Round]:
        """Return what was measured so far."""

    def write_rounds(self, rounds: Sequence[Round]) -> None:
        """Note what was measured."""

    def cut_log(self, step: int) -> None:
        """Forget what was logged after a step."""

    def append_log(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """Note the figures of a step."""

    def draw(self, model: Model, rounds: Sequence[Round], files: Sequence[LabelledFile]) -> None:
        """Draw curves, and what a model does after the last round."""

    def close(self, *, is_complete: bool) -> None:
        """End the logs, and remove the state of a complete run."""


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
    run: Run | None = None,
    processes: Processes | None = None,
    cache: EmbeddingCache | None = None,
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
    run : Run, optional
        Keeps the state; a run that was interrupted goes on where it was.
    processes : Processes, optional
        Of several, each does its part; the first one measures and writes.
    cache : EmbeddingCache, optional
        With the method ``"decoder"``, where the embeddings of the pictures may be already.

    Returns
    -------
    FineTuned

    Raises
    ------
    DatasetError
        If there is nothing to learn from or to measure on, or a picture is in both.
    TrainingError
        If the loss is no longer a number, a library is missing, or the state is another run's.
    OutputError
        If a file cannot be written, such as on a full disk.
    MemoryLimitError
        If memory runs out. In all of these, what was best so far is kept, and named.
    UnreadableImageError
        If a picture cannot be read.
    """
    options = options or FineTuningOptions()
    processes = processes or OneProcess()
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {path.name!r}")
    require_writable(path)
    _require_apart(train_files, held_out_files)
    checkpoint = load_checkpoint(parent)
    learner = _Learner.of(checkpoint, train_files, options, device, cache)
    passport = Passport(
        name=name,
        config=checkpoint.config,
        licence=checkpoint.passport.licence if checkpoint.passport else "",
        description=f"{checkpoint.name}, fine-tuned on {len(train_files)} pictures.",
        training_data=(_source(train_files, learner.objects),),
        parent=checkpoint.model_id,
        extra={"fine_tuning": asdict(options)},
    )
    tuning = _Tuning(
        learner, passport, path, held_out_files, options, device, on_progress, run, processes
    )
    stopped_by = tuning.run_rounds(parent)
    rounds, best = tuning.rounds, tuning.best
    comparison = compare_rounds(
        rounds[0], best, checkpoint.model_id, chosen_of=max(1, len(rounds) - 1)
    )
    return FineTuned(path, tuple(rounds), best, comparison, stopped_by)


class _Tuning:
    """The rounds of one fine-tuning, and the best of them."""

    def __init__(
        self,
        learner: _Learner,
        passport: Passport,
        path: Path,
        held_out_files: Sequence[LabelledFile],
        options: FineTuningOptions,
        device: torch.device | str,
        on_progress: Callable[[TrainingProgress], None] | None,
        run: Run | None,
        processes: Processes,
    ) -> None:
        self.rounds: list[Round] = []
        self._learner = learner
        self._passport = passport
        self._path = path
        self._held_out = held_out_files
        self._options = options
        self._device = device
        self._tell = on_progress or (lambda _: None)
        self._run = run
        self._processes = processes
        self._is_first = processes.rank == 0

    @property
    def best(self) -> Round:
        """The best round, the earlier one of equals."""
        return max(self.rounds, key=lambda one: one.value)

    def run_rounds(self, parent: str | Path) -> BaseException | None:
        """Train and measure to the end; return what ended it early after a better round."""
        candidate = self._path.with_name(f".{self._path.stem}-candidate.safetensors")
        try:
            self._begin(parent)
            for number in range(1, self._options.rounds + 1):
                stop_at = self._options.steps * number // self._options.rounds
                if self.rounds[-1].step < stop_at:
                    self._learner.train_until(
                        stop_at, self._options, self._tell, self._run, self._processes
                    )
                    self._measure(candidate)
        except (KeyboardInterrupt, SystemExit) as error:
            self._close()
            if not self.rounds or self.best.step == 0:
                raise
            return error
        except (TrainingError, OutputError, MemoryLimitError) as error:
            self._close()
            kept = self._kept()
            if not kept:
                raise
            raise type(error)(f"{error}; {kept}") from error
        finally:
            if self._is_first:
                candidate.unlink(missing_ok=True)
        self._close(is_complete=True)
        return None

    def _begin(self, parent: str | Path) -> None:
        """Take up a run that was interrupted, or measure the parent."""
        run = self._run
        if run is not None:
            self.rounds = run.rounds()
            if self.rounds and run.state_path.exists():
                self._learner.load(run.state_path)
            if self._is_first:
                run.cut_log(self._learner.step)
            self.rounds = [one for one in self.rounds if one.step <= self._learner.step]
        if not self.rounds:
            model = None
            if self._is_first:
                # The parent stands until something is better.
                self._learner.save(self._path, self._passport)
                model = load_model(parent, device=self._device)
            self._add_round(model)

    def _measure(self, candidate: Path) -> None:
        """Measure the file of the weights, with its rounding, and keep it if it is better."""
        model = None
        if self._is_first:
            self._learner.save(candidate, self._passport)
            model = load_model(candidate, device=self._device)
        before = self.best
        after = self._add_round(model)
        if after.value > before.value and self._is_first:
            metrics = {"held out": dict(after.figures)}
            self._learner.save(self._path, replace(self._passport, metrics=metrics))
            if self._run is not None:
                self._learner.save_adapter(self._run.adapter_path, self._passport.parent or "")
        if self._run is not None and self._is_first:
            self._run.write_rounds(self.rounds)
        self._tell(TrainingProgress(self._learner.step, self._options.steps, figures=after.figures))

    def _add_round(self, model: Model | None) -> Round:
        """Measure in the first process, and tell the others."""
        after = None
        if model is not None:
            after = measure_round(
                model,
                self._learner.step,
                files=self._held_out,
                max_objects=self._options.max_objects,
                seed=self._options.seed,
            )
        after = self._processes.tell(after)
        assert after is not None
        self.rounds.append(after)
        if self._run is not None and model is not None:
            if len(self.rounds) == 1:
                self._run.write_rounds(self.rounds)
            self._run.draw(model, self.rounds, self._held_out)
        return after

    def _close(self, *, is_complete: bool = False) -> None:
        """End the logs."""
        if self._run is not None and self._is_first:
            self._run.close(is_complete=is_complete)

    def _kept(self) -> str:
        """Say what there is after a failure."""
        parts = []
        if self.rounds and self.best.step > 0:
            parts.append(f"the best weights so far, of step {self.best.step}, are {self._path}")
        if self._run is not None and self._run.state_path.exists():
            folder = self._run.state_path.parent
            parts.append(f"go on from the last state with `sam-plugins train {folder} --resume`")
        return "; ".join(parts)


@dataclass(frozen=True)
class _Learner:
    """A network in training, and what it learns from."""

    state: TrainingState
    batches: Batches
    config: TrainingConfig
    objects: int

    @classmethod
    def of(
        cls,
        checkpoint: LoadedCheckpoint,
        files: Sequence[LabelledFile],
        options: FineTuningOptions,
        device: torch.device | str,
        cache: EmbeddingCache | None,
    ) -> _Learner:
        """Read the pictures and prepare a copy of the parent."""
        pictures = [
            _without_ignored(picture_of(file.read(), checkpoint.config.preprocessing))
            for file in files
        ]
        objects = sum(len(picture.boxes_xyxy) for picture in pictures)
        if not objects:
            raise DatasetError("no training picture has a labelled object: label some first")
        config = _training_config(options, checkpoint.config)
        network = network_of(checkpoint).to(device)
        _choose_what_learns(network, options.method)
        if options.method == "lora":
            add_lora(network, rank=options.lora_rank, seed=options.seed)
            network.to(device)
        batch_options = _batch_options(checkpoint.config)
        if options.crop_sizes is not None:
            batch_options = replace(batch_options, crop_sizes=options.crop_sizes)
        batch_options = replace(batch_options, rim_cells=SPARSE_RIM_CELLS)
        batches: Batches
        if options.method == "decoder" and options.views:
            batches = CachedBatches(
                pictures,
                Model(network_of(checkpoint).to(device), checkpoint.model_id),
                batch_options,
                options.seed,
                views=options.views,
                cache=cache,
            )
        else:
            batches = BatchMaker(pictures, batch_options, options.seed)
        return cls(TrainingState.fresh(network, config), batches, config, objects)

    @property
    def step(self) -> int:
        """Steps done."""
        return self.state.step

    def load(self, path: Path) -> None:
        """Go on from a saved state."""
        model = self.state.model
        self.state.load(path, TrainingRecipe.of(model.config, self.config, self.batches))

    def save(self, path: Path, passport: Passport) -> None:
        """Write the average of the weights, with adapters merged into it."""
        save_model_file(path, self._plain_average(), passport)

    def save_adapter(self, folder: Path, parent_id: str) -> None:
        """Write the adapters alone, where there are any."""
        if has_lora(self.state.model):
            save_adapter(folder, self.state.model, self.state.average, parent_id)

    def _plain_average(self) -> Mapping[str, Tensor]:
        """Return the average under the names of a network without adapters."""
        if not has_lora(self.state.model):
            return self.state.average
        return merged_state(self.state.model, self.state.average)

    def train_until(
        self,
        stop_at: int,
        options: FineTuningOptions,
        tell: Callable[[TrainingProgress], None],
        run: Run | None,
        processes: Processes,
    ) -> None:
        """Train some steps more."""
        first, started = self.step, time.monotonic()
        last = started

        def report(step: int, values: Mapping[str, float]) -> None:
            nonlocal last
            now = time.monotonic()
            if run is not None:
                run.append_log(step, values, now - last)
            last = now
            left = (now - started) / (step - first) * (self.config.steps - step)
            tell(TrainingProgress(step, self.config.steps, values["loss"], seconds_left=left))

        train(
            self.state,
            self.batches,
            self.config,
            stop_at=stop_at,
            state_path=None if run is None else run.state_path,
            save_every_seconds=options.save_every_seconds,
            workers=0,
            report=report,
            processes=processes,
        )


def _training_config(options: FineTuningOptions, network: SamConfig) -> TrainingConfig:
    """Return the numbers of a fine-tuning by one of the recipes."""
    config = TrainingConfig(
        steps=options.steps,
        learning_rate=options.learning_rate,
        dense_steps=0,
        warmup_steps=min(20, options.steps // 10),
        losses=LossWeights(background_areas=1.5),
        precision=options.precision,
        seed=options.seed,
    )
    if resolve_recipe(options.recipe, network) == "paper":
        return paper_recipe(config, network)
    return config


def _without_ignored(picture: TrainingPicture) -> TrainingPicture:
    """Return a picture whose labels end where the truth does: nobody asks for the rest."""
    if picture.ignore is None:
        return picture
    labels = np.where(picture.ignore, 0, picture.labels).astype(picture.labels.dtype)
    return replace(picture, labels=labels)


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
    if method != "full":
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
        for path in (file.image_path, file.label_path, file.ignore_path):
            if path is None:
                continue
            inside = sorted(one for one in path.rglob("*") if one.is_file())  # of a Zarr folder
            for one in inside or [path]:
                digest.update(one.read_bytes())
    return DataSource(
        name=", ".join(sorted({file.set_name for file in files})),
        sha256=digest.hexdigest(),
        pictures=len(files),
        objects=objects,
    )
