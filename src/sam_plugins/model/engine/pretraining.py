"""Pre-training of a plain ViT on unlabelled pictures: a folder in which a run can go on.

What the folder holds::

    config.json           the run's numbers; another run can start from them
    pictures.csv          what was learned from and what was held out, with digests
    state.safetensors     to go on from
    log.csv, held_out.csv losses, step by step and check by check
    reconstructions.png   held-out pictures: original, masked, reconstruction
    mae.safetensors       the autoencoder under the official names, when the run is complete
    sam.safetensors       a SAM whose image encoder starts from it; its decoders are fresh
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from sam_plugins.errors import OutputError
from sam_plugins.model.inference.memory import memory_limits
from sam_plugins.model.io.alone import LOCK_NAME, working_alone
from sam_plugins.model.io.atomic import (
    atomic_path,
    folder_for_results,
    write_bytes,
)
from sam_plugins.model.io.leftovers import remove_leftovers
from sam_plugins.model.networks.config import Preprocessing, SamConfig
from sam_plugins.model.networks.masked_autoencoder import (
    MaeOutput,
    MaskedAutoencoder,
    reconstruction_loss,
)
from sam_plugins.model.training.checked_run import (
    LOG_NAME,
    STATE_NAME,
    marks_of,
    run_with_checks,
)
from sam_plugins.model.training.drawing import draw_reconstructions, drawing_targets
from sam_plugins.model.training.masked_pictures import MaskedBatch, MaskedBatches
from sam_plugins.model.training.precision import resolve_precision
from sam_plugins.model.training.pretraining_config import PretrainingConfig
from sam_plugins.model.training.run_log import RunLog, read_log
from sam_plugins.model.training.run_recipe import PlainRecipe
from sam_plugins.model.training.run_steps import move_weights
from sam_plugins.model.training.simulated_session import normalise
from sam_plugins.model.training.state import TrainingState
from sam_plugins.model.training.unlabelled import NamedChannels, UnlabelledPictures
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.mae import mae_start, start_sam
from sam_plugins.model.weights.passport import MAE_KIND, DataSource, Passport

MAE_NAME = "mae.safetensors"
SAM_NAME = "sam.safetensors"
CHECKS_NAME = "held_out.csv"
FIGURE_NAME = "reconstructions.png"

_SHOWN = 8
_FOR_CONSTANT = 4
_CHECK_COLUMNS = ("step", "loss", "constant")


class PretrainingProgress(NamedTuple):
    """How far a run is."""

    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Check:
    """What was measured on the held-out pictures.

    Attributes
    ----------
    step : int
    loss : float
        Mean square error of the normalised pixels of masked patches.
    constant : float
        The same of one answer to every patch, the better one of nothing and the mean of patches
        that were learned from: what can be had without looking.
    """

    step: int
    loss: float
    constant: float


@dataclass(frozen=True)
class Pretrained:
    """What a run came to.

    Attributes
    ----------
    mae_path, sam_path : Path
        The autoencoder, and a SAM that starts from it.
    pictures, held_out : int
        How many were learned from, and measured on.
    checks : tuple of Check
        In the order of steps; empty without held-out pictures.
    """

    mae_path: Path
    sam_path: Path
    pictures: int
    held_out: int
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Hooks:
    """Who is told what happens; any of them may raise to stop.

    Attributes
    ----------
    on_failure : callable, optional
        Told of every file that cannot be read, which is left out; without it the first one raises.
    on_reading : callable, optional
        Told how many files of how many were read, before training.
    on_progress : callable, optional
        Told after every step.
    """

    on_failure: Callable[[Path, Exception], None] | None = None
    on_reading: Callable[[int, int], None] | None = None
    on_progress: Callable[[PretrainingProgress], None] | None = None


def pretrain(
    paths: Sequence[Path],
    folder: Path,
    config: PretrainingConfig | None = None,
    *,
    channels: NamedChannels | None = None,
    device: torch.device | str = "cpu",
    workers: int = 0,
    overwrite: bool = False,
    save_every_seconds: float = 60.0,
    hooks: Hooks | None = None,
) -> Pretrained:
    """Pre-train an image encoder as a masked autoencoder, or go on with a run that was stopped.

    Parameters
    ----------
    paths : sequence of Path
        Pictures of any format that we read; of stacks, a few planes.
    folder : Path
        Of the run. The state of an earlier one with the same config and pictures is gone on from.
    config : PretrainingConfig, optional
    channels : optional
        Which channels to show where pictures have many.
    device : device
    workers : int
        Processes that prepare batches; they do not change what is computed.
    overwrite : bool
        Start again where the folder holds a run.
    save_every_seconds : float
        So much is lost at most when the process is killed.
    hooks : Hooks, optional

    Raises
    ------
    OutputError
        If the folder holds a complete run, or cannot be written.
    FolderBusyError
        If another process is at work on the same run.
    DatasetError
        If no picture can be read.
    TrainingError
        If the folder holds a run with another config or other pictures, or the loss is no longer a
        number.
    MemoryLimitError
        If memory runs out.
    """
    config, hooks = config or PretrainingConfig(), hooks or Hooks()
    with folder_for_results(folder, beside=LOCK_NAME), working_alone(folder):
        remove_leftovers(folder)
        if overwrite:
            for name in (MAE_NAME, SAM_NAME, STATE_NAME, LOG_NAME, CHECKS_NAME, FIGURE_NAME):
                (folder / name).unlink(missing_ok=True)
        if (folder / MAE_NAME).exists():
            raise OutputError(
                f"{folder} holds a complete run ({MAE_NAME}): choose another folder, or start "
                "again with overwrite=True"
            )
        learned, held_out = UnlabelledPictures.open(
            paths,
            max_side=config.max_side,
            channels=channels,
            on_failure=hooks.on_failure,
            on_progress=hooks.on_reading,
        ).split(config.held_out_share)
        precision = resolve_precision(config.precision, device, state_path=folder / STATE_NAME)
        config = replace(config, precision=precision)
        run = _Run.of(folder, config, learned, held_out, device)
        run.write_description()
        with memory_limits(
            f"pre-training with {config.batch_size} pictures a step",
            lambda: f"batch_size={max(1, config.batch_size // 4)} needs about a quarter of it",
        ):
            run.complete(hooks.on_progress, workers, save_every_seconds)
        return run.result()


@dataclass(frozen=True)
class _Run:
    """A run in its folder."""

    folder: Path
    config: PretrainingConfig
    batches: MaskedBatches
    held_out: MaskedBatches
    state: TrainingState[MaskedAutoencoder]
    recipe: PlainRecipe

    @classmethod
    def of(
        cls,
        folder: Path,
        config: PretrainingConfig,
        learned: UnlabelledPictures,
        held_out: UnlabelledPictures,
        device: torch.device | str,
    ) -> _Run:
        """Build the network, or read where an earlier slice left it."""
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            network = MaskedAutoencoder(config.network)
        network.to(device)
        recipe = PlainRecipe(
            {
                "kind": MAE_KIND,
                "config": config.to_dict(),
                "data_digest": learned.digest,
                "held_out_digest": held_out.digest,
            }
        )
        # What a run yields is its last weights, as in the paper: no average is kept.
        state = TrainingState(network, {}, _optimizer(network, config))
        if (folder / STATE_NAME).exists():
            state.load(folder / STATE_NAME, recipe)
        return cls(
            folder,
            config,
            MaskedBatches(learned, config),
            MaskedBatches(held_out, config),
            state,
            recipe,
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.state.model.cls_token.device

    @property
    def preprocessing(self) -> Preprocessing:
        """Of the SAM that it starts: its square, and SAM's mean and deviation of colours."""
        size = self.config.sam_image_size
        return Preprocessing(min_long_side=size, max_long_side=size)

    def write_description(self) -> None:
        """Write down what is computed, and from what."""
        document = json.dumps(self.config.to_dict(), indent=1)
        write_bytes(self.folder / "config.json", document.encode())
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("use", "path", "plane", "digest"))
        for use, batches in (("learned", self.batches), ("held out", self.held_out)):
            for file in batches.pictures.files:
                plane = ",".join(f"{axis}={index}" for axis, index in file.plane.items())
                writer.writerow((use, file.path, plane, file.digest))
        write_bytes(self.folder / "pictures.csv", text.getvalue().encode())

    def complete(
        self,
        on_progress: Callable[[PretrainingProgress], None] | None,
        workers: int,
        save_every_seconds: float,
    ) -> None:
        """Learn until the last step, with checks on the way."""
        config = self.config

        def on_step(loss: float) -> None:
            if on_progress is not None:
                on_progress(PretrainingProgress(self.state.step, config.steps, loss))

        run_with_checks(
            self.state,
            self.batches,
            self.learn,
            self.check,
            marks=marks_of(config.steps, config.checks),
            folder=self.folder,
            recipe=self.recipe,
            save_every_seconds=save_every_seconds,
            workers=workers,
            on_step=on_step,
        )
        self._write_weights()

    def learn(self, batch: MaskedBatch) -> Mapping[str, float]:
        """Do one step."""
        self.state.model.train()
        loss, _, _ = self._loss(batch)
        return move_weights(
            self.state,
            loss,
            learning_rate=self.config.learning_rate_at(self.state.step),
            max_gradient_norm=self.config.max_gradient_norm,
        )

    @torch.no_grad()
    def check(self) -> None:
        """Measure the held-out pictures and draw some; once for a step."""
        count, known = len(self.held_out.pictures), {one.step for one in self.checks()}
        if count == 0 or self.state.step in known:
            return
        self.state.model.eval()
        mean = self.mean_target()
        totals = np.zeros(3)  # of the network, of the mean, of nothing
        first = None
        for start in range(0, count, _SHOWN):
            batch = self.held_out.fixed(start, min(count, start + _SHOWN))
            loss, output, target = self._loss(batch)
            answers = [one.expand_as(target) for one in (mean, torch.zeros_like(mean))]
            blind = [
                float(reconstruction_loss(MaeOutput(one, output.is_masked), target))
                for one in answers
            ]
            # Every picture has as many masked patches.
            totals += np.array([float(loss), *blind]) * len(batch.images) / count
            first = first or (batch, output)
        assert first is not None
        self._draw(*first)
        with RunLog(self.folder / CHECKS_NAME, _CHECK_COLUMNS, self.state.step) as log:
            values = {"loss": totals[0], "constant": totals[1:].min()}
            log.add({"step": self.state.step, **values})

    def mean_target(self) -> torch.Tensor:
        """Return the mean of what there is to draw (3 p p), over the first crops."""
        patch_size = self.config.network.encoder.patch_size
        first = [self.batches.batch(step).images for step in range(_FOR_CONSTANT)]
        mean = drawing_targets(torch.cat(first), patch_size).mean(dim=(0, 1))
        return mean.to(self.device)

    def checks(self) -> tuple[Check, ...]:
        """Return what was measured so far."""
        return tuple(
            Check(int(row["step"]), float(row["loss"]), float(row["constant"]))
            for row in read_log(self.folder / CHECKS_NAME)
            if int(row["step"]) <= self.state.step
        )

    def result(self) -> Pretrained:
        """Return what the run came to."""
        return Pretrained(
            self.folder / MAE_NAME,
            self.folder / SAM_NAME,
            len(self.batches.pictures),
            len(self.held_out.pictures),
            self.checks(),
        )

    def _loss(self, batch: MaskedBatch) -> tuple[torch.Tensor, MaeOutput, torch.Tensor]:
        """Return the loss of a batch, what was drawn, and what there was to draw."""
        batch = batch.to(self.device)
        images = normalise(batch.images, self.preprocessing)
        is_half = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=is_half):
            output: MaeOutput = self.state.model(images, batch.order, self.config.visible)
        target = drawing_targets(batch.images, self.config.network.encoder.patch_size)
        return reconstruction_loss(output, target), output, target

    def _draw(self, batch: MaskedBatch, output: MaeOutput) -> None:
        """Draw what was seen and what was made of it."""
        sheet = draw_reconstructions(
            batch.images,
            MaeOutput(*(part.cpu() for part in output)),
            self.config.network.encoder.patch_size,
        )
        with atomic_path(self.folder / FIGURE_NAME) as temporary:
            sheet.save(temporary, "PNG")

    def _write_weights(self) -> None:
        """Write the SAM that starts from the autoencoder, then the autoencoder itself."""
        state = {name: value.cpu() for name, value in self.state.model.state_dict().items()}
        config = SamConfig(self.config.sam_encoder, preprocessing=self.preprocessing)
        checks = self.checks()
        passport = Passport(
            name=f"{self.folder.resolve().name}-mae",
            config=config,
            description="A masked autoencoder: starts the image encoder of a SAM.",
            training_data=(
                DataSource(
                    "unlabelled pictures",
                    sha256=self.batches.pictures.digest,
                    pictures=len(self.batches.pictures),
                ),
            ),
            metrics={"held out": {"loss": checks[-1].loss, "constant": checks[-1].constant}}
            if checks
            else {},
            extra={"weights_of": MAE_KIND, "pretraining": self.config.to_dict()},
        )
        sam = start_sam(mae_start(state, self.config.sam_encoder), config, seed=self.config.seed)
        whole = replace(
            passport,
            name=f"{self.folder.resolve().name}-start",
            description="Its image encoder is pre-trained, all else is fresh: train it.",
            metrics={},
            extra={"pretraining": self.config.to_dict()},
        )
        float32 = torch.float32
        save_model_file(self.folder / SAM_NAME, sam.state_dict(), whole, dtype=float32)
        save_model_file(self.folder / MAE_NAME, state, passport, dtype=float32)


def _optimizer(network: nn.Module, config: PretrainingConfig) -> torch.optim.AdamW:
    """Make AdamW as the paper: matrices and kernels decay, vectors and tokens do not."""
    learned = {name: p for name, p in network.named_parameters() if p.requires_grad}
    is_free = {name: p.ndim < 2 or name.endswith("_token") for name, p in learned.items()}
    groups = [
        {
            "params": [p for name, p in learned.items() if is_free[name] == free],
            "weight_decay": 0.0 if free else config.weight_decay,
        }
        for free in (False, True)
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))
