"""A small image encoder that learns to answer as a large one (MobileSAM; Zhang et al. 2023).

MobileSAM's recipe (arXiv:2306.14289, section 3): the student's image embedding is drawn towards
the teacher's by their mean square error, apart from prompts and masks; then the teacher's prompt
encoder and mask decoder are put behind it as they are. The teacher encodes every picture once, and
its embeddings are kept on the disk. Where the teacher's decoders read finer maps as well, these are
learned in the same way.

Here every map counts by its own variance: a loss of 1 is that of a student that always answers the
mean of each channel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sam_plugins.errors import OutputError
from sam_plugins.model.engine.agreement import click_agreement
from sam_plugins.model.engine.lesson import Example, Examples, Lesson
from sam_plugins.model.engine.students import StudentKind, build_student, student_config
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.memory import memory_limits
from sam_plugins.model.io.alone import LOCK_NAME, working_alone
from sam_plugins.model.io.atomic import (
    folder_for_results,
    make_folder,
    require_writable,
    write_bytes,
)
from sam_plugins.model.io.leftovers import remove_leftovers
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.checked_run import (
    LOG_NAME,
    STATE_NAME,
    marks_of,
    run_with_checks,
)
from sam_plugins.model.training.distillation_config import DistillationConfig
from sam_plugins.model.training.distillation_losses import answer_loss, map_loss
from sam_plugins.model.training.precision import resolve_precision
from sam_plugins.model.training.run_log import RunLog, read_log
from sam_plugins.model.training.run_recipe import PlainRecipe
from sam_plugins.model.training.run_steps import move_weights
from sam_plugins.model.training.state import TrainingState
from sam_plugins.model.training.unlabelled import (
    NamedChannels,
    UnlabelledPictures,
)
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import DataSource, Passport

CHECKS_NAME = "held_out.csv"

_CHECK_COLUMNS = ("step", "loss", "confident_iou", "same_iou", "clicks")


class DistillationProgress(NamedTuple):
    """How far a run is.

    Attributes
    ----------
    stage : {"reading", "teacher", "student"}
        Pictures are read, the teacher encodes them, the student learns.
    done, of : int
        Pictures or steps.
    """

    stage: Literal["reading", "teacher", "student"]
    done: int
    of: int


@dataclass(frozen=True)
class Check:
    """What was measured on the held-out pictures.

    Attributes
    ----------
    step : int
    loss : float
        Mean square error of the maps, by their variance.
    confident_iou, same_iou : float
        See :class:`~sam_plugins.model.engine.agreement.Agreement`.
    clicks : int
    """

    step: int
    loss: float
    confident_iou: float
    same_iou: float
    clicks: int


@dataclass(frozen=True)
class Distilled:
    """What a run came to.

    Attributes
    ----------
    path : Path
        The student's model file.
    teacher_id : str
    pictures, held_out : int
    teacher_weights, student_weights : int
        Of the image encoders.
    checks : tuple of Check
        The first is the student's before it learned; empty without held-out pictures.
    """

    path: Path
    teacher_id: str
    pictures: int
    held_out: int
    teacher_weights: int
    student_weights: int
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Hooks:
    """Who is told what happens; any of them may raise to stop.

    Attributes
    ----------
    on_failure : callable, optional
        Told of every file that cannot be read, which is left out; without it the first one raises.
    on_progress : callable, optional
    """

    on_failure: Callable[[Path, Exception], None] | None = None
    on_progress: Callable[[DistillationProgress], None] | None = None

    def tell(self, stage: Literal["reading", "teacher", "student"], done: int, of: int) -> None:
        """Pass on how far a stage is."""
        if self.on_progress is not None:
            self.on_progress(DistillationProgress(stage, done, of))


def distil(
    teacher: str | Path,
    paths: Sequence[Path],
    path: Path,
    student: StudentKind = "tiny_vit",
    config: DistillationConfig | None = None,
    *,
    name: str | None = None,
    work: Path | None = None,
    channels: NamedChannels | None = None,
    device: torch.device | str = "cpu",
    overwrite: bool = False,
    save_every_seconds: float = 60.0,
    hooks: Hooks | None = None,
) -> Distilled:
    """Distil a model's image encoder into a small one, or go on with a run that was stopped.

    Parameters
    ----------
    teacher : str or Path
        A model, by name or file.
    paths : sequence of Path
        Pictures of any format that we read; of stacks, a few planes. They need no labels.
    path : Path
        The model file to write, ``.safetensors``.
    student : {"tiny_vit", "pyramid", "vit-small"}
        See :func:`~sam_plugins.model.engine.students.student_config`.
    config : DistillationConfig, optional
    name : str, optional
        Of the new model; that of its file by default.
    work : Path, optional
        Folder of the state, the logs and the teacher's embeddings; beside ``path`` by default.
    channels : optional
        Which channels to show where pictures have many.
    device : device
    overwrite : bool
        Replace ``path``, and start again.
    save_every_seconds : float
        So much is lost at most when the process is killed.
    hooks : Hooks, optional

    Raises
    ------
    OutputError
        If ``path`` exists or cannot be written, or the disk cannot hold the embeddings.
    FolderBusyError
        If another process is at work on the same run.
    UnsuitableModelError
        If the student cannot take the place of the teacher's encoder.
    DatasetError
        If no picture can be read.
    TrainingError
        If ``work`` holds a run with another teacher, student, config or other pictures, or the loss
        is no longer a number.
    WeightsError
        If the teacher cannot be loaded.
    MemoryLimitError
        If memory runs out.
    """
    config, hooks = config or DistillationConfig(), hooks or Hooks()
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {path.name!r}")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists: choose another name, or replace it with overwrite=True")
    make_folder(path.parent)
    require_writable(path)
    work = work or path.with_name(f"{path.stem}-distillation")
    with folder_for_results(work, beside=LOCK_NAME), working_alone(work):
        remove_leftovers(work)
        if overwrite:
            for old in (STATE_NAME, LOG_NAME, CHECKS_NAME):
                (work / old).unlink(missing_ok=True)
        precision = resolve_precision(config.precision, device, state_path=work / STATE_NAME)
        config = replace(config, precision=precision)
        model = load_model(teacher, device=device)
        new = student_config(model.config, student)
        learned, held_out = UnlabelledPictures.open(
            paths,
            max_side=model.preprocessing.max_long_side,
            channels=channels,
            on_failure=hooks.on_failure,
            on_progress=lambda done, of: hooks.tell("reading", done, of),
        ).split(config.held_out_share)
        lesson = Lesson(model, work / "embeddings")
        encoded = 0

        def on_encoded() -> None:
            nonlocal encoded
            encoded += 1
            hooks.tell("teacher", encoded, len(learned) + len(held_out))

        scales = lesson.prepare(learned, on_encoded)
        if len(held_out):
            lesson.prepare(held_out, on_encoded)
        network = build_student(model.network, new, seed=config.seed).to(model.device)
        examples = [Examples(lesson, part, config) for part in (learned, held_out)]
        run = _Run.of(work, config, examples[0], examples[1], network, scales)
        with memory_limits(
            f"distilling with {config.batch_size} pictures a step",
            lambda: "batch_size=1 needs the least; or choose a smaller student",
        ):
            run.complete(hooks, save_every_seconds)
        run.save(path, name or path.stem, student)
        return Distilled(
            path,
            model.model_id,
            len(learned),
            len(held_out),
            _weights(model.network.image_encoder),
            _weights(network.image_encoder),
            run.checks(),
        )


def _weights(network: nn.Module) -> int:
    """Return the number of weights."""
    return sum(parameter.numel() for parameter in network.parameters())


@dataclass(frozen=True)
class _Run:
    """A run in its folder."""

    folder: Path
    config: DistillationConfig
    learned: Examples
    held_out: Examples
    scales: tuple[float, ...]
    state: TrainingState[Sam]
    recipe: PlainRecipe

    @classmethod
    def of(
        cls,
        folder: Path,
        config: DistillationConfig,
        learned: Examples,
        held_out: Examples,
        network: Sam,
        scales: tuple[float, ...],
    ) -> _Run:
        """Prepare the student, or read where an earlier slice left it."""
        network.requires_grad_(requires_grad=False)
        network.image_encoder.requires_grad_(requires_grad=True)
        if config.decoder_steps:
            network.mask_decoder.requires_grad_(requires_grad=True)
        recipe = PlainRecipe(
            {
                "kind": "distillation",
                "teacher": learned.lesson.teacher.model_id,
                "network": network.config.to_dict(),
                "config": config.to_dict(),
                "data_digest": learned.pictures.digest,
                "held_out_digest": held_out.pictures.digest,
            }
        )
        state = TrainingState(network, {}, _optimizer(network, config))
        path = folder / STATE_NAME
        if path.exists():
            state.load(path, recipe)
        document = json.dumps(recipe.to_dict(), indent=1)
        write_bytes(folder / "config.json", document.encode())
        return cls(folder, config, learned, held_out, scales, state, recipe)

    @property
    def teacher(self) -> Model:
        """The large model."""
        return self.learned.lesson.teacher

    def complete(self, hooks: Hooks, save_every_seconds: float) -> None:
        """Learn until the last step, with checks on the way."""
        config = self.config
        run_with_checks(
            self.state,
            self.learned,
            self.learn,
            self.check,
            marks=marks_of(config.all_steps, config.checks, config.steps),
            folder=self.folder,
            recipe=self.recipe,
            save_every_seconds=save_every_seconds,
            on_step=lambda _: hooks.tell("student", self.state.step, config.all_steps),
        )

    def learn(self, batch: list[Example]) -> Mapping[str, float]:
        """Do one step, of the encoder or of the decoder."""
        network = self.state.model
        is_encoder = self.state.step < self.config.steps
        # What does not learn must not move either: batch normalisation would keep its statistics.
        network.eval()
        network.image_encoder.train(is_encoder)
        learn = self._map_loss if is_encoder else self._mask_loss
        return move_weights(
            self.state,
            learn(batch),
            learning_rate=self.config.learning_rate_at(self.state.step),
            max_gradient_norm=self.config.max_gradient_norm,
        )

    @torch.no_grad()
    def check(self) -> None:
        """Compare maps and masks on the held-out pictures; once for a step."""
        count, known = len(self.held_out.pictures), {one.step for one in self.checks()}
        if count == 0 or self.state.step in known:
            return
        network = self.state.model.eval()
        student = Model(network, f"student-{self.state.step}")
        rows: list[tuple[float, float, float, int]] = []
        for index in range(count):
            example = self.held_out.example(index, self.config.clicks, self.config.seed)
            made = network.encode(example.pixels)
            target = example.target
            found = click_agreement(
                (self.teacher, target),
                (student, replace(target.with_features(made), model_id=student.model_id)),
                example.clicks_xy,
            )
            loss = map_loss(made, target.image_features, self.scales)
            rows.append((float(loss), found.confident, found.same, found.clicks))
        means = dict(zip(_CHECK_COLUMNS[1:], np.mean(rows, axis=0), strict=True))
        means["clicks"] = sum(row[-1] for row in rows)
        with RunLog(self.folder / CHECKS_NAME, _CHECK_COLUMNS, self.state.step) as log:
            log.add({"step": self.state.step, **means})

    def checks(self) -> tuple[Check, ...]:
        """Return what was measured so far."""
        return tuple(
            Check(
                step=int(row["step"]),
                loss=float(row["loss"]),
                confident_iou=float(row["confident_iou"]),
                same_iou=float(row["same_iou"]),
                clicks=int(float(row["clicks"])),
            )
            for row in read_log(self.folder / CHECKS_NAME)
            if int(row["step"]) <= self.state.step
        )

    def save(self, path: Path, name: str, student: StudentKind) -> None:
        """Write the student as a model file."""
        model, network = self.teacher, self.state.model
        old, checks = model.passport, self.checks()
        figures = (
            {"confident IoU": checks[-1].confident_iou, "same mask IoU": checks[-1].same_iou}
            if checks
            else {}
        )
        passport = Passport(
            name=name,
            config=network.config,
            licence=old.licence if old else "",
            description=f"{student}, distilled from {model.model_id}.",
            training_data=(
                DataSource(
                    "unlabelled pictures",
                    sha256=self.learned.pictures.digest,
                    pictures=len(self.learned.pictures),
                ),
            ),
            metrics={"agreement with the teacher on held-out pictures": figures} if figures else {},
            parent=model.model_id,
            extra={
                "distillation": {
                    **self.config.to_dict(),
                    "teacher": model.model_id,
                    "student": student,
                }
            },
        )
        save_model_file(path, network.state_dict(), passport)

    def _map_loss(self, batch: list[Example]) -> Tensor:
        """Compare the maps; pictures of different sizes are encoded one by one."""
        losses = [
            map_loss(self._encode(example.pixels), example.target.image_features, self.scales)
            for example in batch
        ]
        return torch.stack(losses).mean()

    def _mask_loss(self, batch: list[Example]) -> Tensor:
        """Compare the masks and their scores for clicks, from the student's own maps."""
        losses: list[Tensor] = []
        for example in batch:
            points = example.input_points_xy()
            labels = torch.ones(points.shape[:2], dtype=torch.long, device=points.device)
            with torch.no_grad():
                made = self._encode(example.pixels)
                features = example.target.image_features
                wanted = self.teacher.network.decode(
                    features, points_xy=points, point_labels=labels, draws_whole=True
                )
            answer = self.state.model.decode(made, points_xy=points, point_labels=labels)
            losses.append(answer_loss(answer, wanted, example.target.input_size_hw))
        return torch.stack(losses).mean()

    def _encode(self, pixels: Tensor) -> ImageFeatures:
        """Run the student's encoder."""
        is_half = self.config.precision == "bfloat16"
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=is_half):
            features = self.state.model.encode(pixels)
        return features.map(lambda tensor: tensor.float())


def _optimizer(network: Sam, config: DistillationConfig) -> torch.optim.AdamW:
    """Make AdamW over what learns; without a gradient, nothing moves and nothing decays."""
    learned = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )
