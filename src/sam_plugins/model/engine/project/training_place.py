"""Where a project's model is trained: a folder in the project, in which a killed training goes on.

::

    PROJECT/training/    a :class:`~sam_plugins.model.engine.run_folder.RunFolder`; gone when it is
                         done
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from sam_plugins.errors import MemoryLimitError, OutputError, SamPluginsError, TrainingError
from sam_plugins.model.engine.held_out import Round
from sam_plugins.model.engine.project.project import Project
from sam_plugins.model.engine.run_config import RunConfig
from sam_plugins.model.engine.run_folder import RunFolder
from sam_plugins.model.engine.run_recorder import RunRecorder
from sam_plugins.model.engine.tuning_options import FineTuningOptions
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.io.atomic import make_folder
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.weights.loading import load_checkpoint

_FOLDER = "training"


class ProjectRun(RunRecorder):
    """Record a run of a project, whose folder goes in the end: it draws no pictures."""

    @property
    def way_on(self) -> str:
        """How people go on with it."""
        return "the same `sam-plugins engine train` goes on from the last state"

    def draw(self, model: Model, rounds: Sequence[Round], files: Sequence[LabelledFile]) -> None:
        """Draw nothing."""


def unfinished_training(project: Project) -> RunFolder | None:
    """Return the run of a training that was ended early, if it can go on."""
    folder = RunFolder(project.folder / _FOLDER)
    return folder if folder.state_path.is_file() else None


def discard_training(project: Project) -> None:
    """Remove what is left of a training, if anything is."""
    shutil.rmtree(project.folder / _FOLDER, ignore_errors=True)


def training_run(
    project: Project,
    options: FineTuningOptions,
    parent: str,
    train: Sequence[LabelledFile],
    held_out: Sequence[LabelledFile],
) -> RunFolder:
    """Return the run that was ended early, where it is the same, or a new one.

    Raises
    ------
    OutputError
        If its folder cannot be made.
    DatasetError
        If a picture cannot be read.
    """
    checkpoint = load_checkpoint(parent)
    old = unfinished_training(project)
    # What is damaged is made anew.
    with contextlib.suppress(SamPluginsError, ValueError):
        parts = (options, checkpoint.model_id, train, held_out)
        if old is not None and old.rounds() and old.is_same(*parts):
            return old
    discard_training(project)
    config = RunConfig(
        project.settings.name, data=str(project.folder), parent=parent, training=options
    )
    return RunFolder.create(project.folder / _FOLDER, config, checkpoint, train, held_out)


@contextlib.contextmanager
def place_of_one_go(project: Project) -> Iterator[Path]:
    """Make the folder for a training that does not go on; it goes with the block.

    Where a training fails whose best weights are kept, it stays until the next one.
    """
    discard_training(project)
    try:
        yield make_folder(project.folder / _FOLDER)
    except (TrainingError, OutputError, MemoryLimitError):
        raise
    except BaseException:
        discard_training(project)
        raise
    discard_training(project)
