"""Fine-tuning on a few labelled pictures: measured on others, and never worse than it began.

The parent is measured on the held-out pictures first, then the average of the weights after every
round, and in the end weights between the parent's and the last ones: a part of the way often keeps
what the parent knew and has most of what was learned (Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models"). What comes out is the best of them, and that may be the parent. With the folder
of a run, all that it takes to go on exactly is kept there.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from sam_plugins.errors import DatasetError, MemoryLimitError, OutputError, TrainingError
from sam_plugins.model.engine.held_out import Round, best_round, compare_rounds, measure_round
from sam_plugins.model.engine.learner import Learner
from sam_plugins.model.engine.learner import usual_batches as _batch_options
from sam_plugins.model.engine.tuning_options import METHODS, FineTuningOptions, Method
from sam_plugins.model.engine.tuning_progress import Run, TrainingProgress
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.io.atomic import require_writable
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.training.processes import OneProcess, Processes
from sam_plugins.model.weights.comparison import Comparison
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.passport import DataSource, Passport

__all__ = ["METHODS", "FineTuned", "FineTuningOptions", "Method", "TrainingProgress", "fine_tune"]


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
        If the loss is no longer a number, or the state is another run's.
    MissingExtraError
        If the method needs a library that is not installed.
    OutputError
        If a file cannot be written, such as on a full disk.
    MemoryLimitError
        If memory runs out. In all of these, what was best so far is kept, and named.
    UnreadableImageError
        If a picture cannot be read.
    """
    options = (options or FineTuningOptions()).for_device(device)
    processes = processes or OneProcess()
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {path.name!r}")
    require_writable(path)
    _require_apart(train_files, held_out_files)
    checkpoint = load_checkpoint(parent)
    tell = on_progress or (lambda _: None)
    learner = Learner.of(
        checkpoint, train_files, options, device, cache, _batch_options(checkpoint.config), tell
    )
    passport = Passport(
        name=name,
        config=checkpoint.config,
        licence=checkpoint.passport.licence if checkpoint.passport else "",
        description=f"{checkpoint.name}, fine-tuned on {len(train_files)} pictures.",
        training_data=(_source(train_files, learner.objects),),
        parent=checkpoint.model_id,
        extra={"fine_tuning": asdict(options)},
    )
    tuning = _Tuning(learner, passport, path, held_out_files, options, device, tell, run, processes)
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
        learner: Learner,
        passport: Passport,
        path: Path,
        held_out_files: Sequence[LabelledFile],
        options: FineTuningOptions,
        device: torch.device | str,
        tell: Callable[[TrainingProgress], None],
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
        self._tell = tell
        self._run = run
        self._processes = processes
        self._is_first = processes.rank == 0

    @property
    def best(self) -> Round:
        """The best round, the earlier one of equals."""
        return best_round(self.rounds)

    def run_rounds(self, parent: str | Path) -> BaseException | None:
        """Train and measure to the end; return what ended it early after a better round."""
        candidate = self._path.with_name(f".{self._path.stem}-candidate.safetensors")
        try:
            self._begin(parent)
            count = self._options.round_count
            for number in range(1, count + 1):
                stop_at = self._options.steps * number // count
                if self.rounds[-1].step < stop_at:
                    self._learner.train_until(
                        stop_at, self._options, self._tell, self._run, self._processes
                    )
                    self._measure(candidate)
            for share in self._options.shares:
                if not any(one.share == share for one in self.rounds):
                    self._measure(candidate, share)
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

    def _measure(self, candidate: Path, share: float = 1.0) -> None:
        """Measure the file of the weights, with its rounding, and keep it if it is better."""
        model = None
        if self._is_first:
            self._learner.save(candidate, self._passport, share=share)
            model = load_model(candidate, device=self._device)
        after = self._add_round(model, share)
        if after is self.best and self._is_first:
            metrics = {"held out": dict(after.figures)}
            passport = replace(self._passport, metrics=metrics)
            if share < 1:
                passport = replace(passport, extra={**passport.extra, "share": share})
            self._learner.save(self._path, passport, share=share)
            if self._run is not None and share < 1:
                # What was kept of an earlier round is not what these weights are made of.
                shutil.rmtree(self._run.adapter_path, ignore_errors=True)
            elif self._run is not None:
                self._learner.save_adapter(self._run.adapter_path, self._passport.parent or "")
        if self._run is not None and self._is_first:
            self._run.write_rounds(self.rounds)
        self._tell(TrainingProgress(self._learner.step, self._options.steps, figures=after.figures))

    def _add_round(self, model: Model | None, share: float = 1.0) -> Round:
        """Measure in the first process, and tell the others."""
        after = None
        if model is not None:
            after = measure_round(
                model,
                self._learner.step,
                files=self._held_out,
                max_objects=self._options.max_objects,
                seed=self._options.seed,
                share=share,
                on_picture=lambda done, total: self._tell(
                    TrainingProgress(
                        self._learner.step, self._options.steps, measuring=(done, total)
                    )
                ),
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
            parts.append(self._run.way_on)
        return "; ".join(parts)


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
