"""Begin a training run in a folder of its own, go on with it, or run it again."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from sam_plugins.errors import TrainingError
from sam_plugins.model.engine.fine_tuning import FineTuned, TrainingProgress, fine_tune
from sam_plugins.model.engine.run_config import RunConfig
from sam_plugins.model.engine.run_folder import RunFolder
from sam_plugins.model.engine.run_recorder import RunRecorder
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import checked_device
from sam_plugins.model.io.alone import working_alone
from sam_plugins.model.io.folder_pairs import list_folder_pair
from sam_plugins.model.io.labelled import (
    LabelledFile,
    list_manifest_files,
    split_off,
)
from sam_plugins.model.training.processes import OneProcess, Processes, launch_fabric
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.paths import embeddings_directory, runs_directory


def begin_run(config: RunConfig, path: Path | None = None) -> RunFolder:
    """Make the folder of a new run.

    Parameters
    ----------
    config : RunConfig
    path : Path, optional
        The folder; by default one of the run's name and the time, see
        :func:`~sam_plugins.model.weights.paths.runs_directory`.

    Raises
    ------
    DatasetError
        If the pictures cannot be listed.
    WeightsError
        If there is no such model to start from.
    OutputError
        If the folder cannot be made.
    """
    train_files, held_out = data_of(config)
    parent = load_checkpoint(config.parent)
    return RunFolder.create(path or _new_path(config.name), config, parent, train_files, held_out)


def repeat_run(old: RunFolder, path: Path | None = None) -> RunFolder:
    """Make the folder of a run like another one: the same config, pictures and parent.

    Raises
    ------
    DatasetError
        If the pictures are no longer what they were.
    TrainingError
        If the parent is another one now.
    OutputError
        If the folder cannot be made.
    """
    train_files, held_out = old.files()
    parent = old.load_parent()
    new = path or _new_path(old.config.name)
    return RunFolder.create(new, old.config, parent, train_files, held_out)


def train_run(
    folder: RunFolder,
    *,
    on_progress: Callable[[TrainingProgress], None] | None = None,
    processes: Processes | None = None,
) -> FineTuned:
    """Train what the folder of a run asks for, from where it is.

    Parameters
    ----------
    folder : RunFolder
    on_progress : callable, optional
        As in :func:`~.fine_tuning.fine_tune`.
    processes : Processes, optional
        From :func:`launch`; needed where the config asks for several.

    Raises
    ------
    DatasetError
        If a picture is no longer what it was when the run began.
    FolderBusyError
        If another process is at work on the same run.
    TrainingError
        If the run is complete, or as in :func:`~.fine_tuning.fine_tune`.
    """
    config = folder.config
    if folder.is_complete:
        raise TrainingError(
            f"the run in {folder.path} is complete, its best weights are {folder.best_path}; "
            "begin another one, from these with --from"
        )
    train_files, held_out = folder.files()
    parent = folder.load_parent()
    processes = processes or launch(config)
    is_first = processes.rank == 0
    with working_alone(folder.path) if is_first else contextlib.nullcontext():
        return fine_tune(
            parent.path,
            train_files,
            held_out,
            folder.best_path,
            config.training,
            name=config.name,
            device=processes.device or checked_device(config.device),
            on_progress=on_progress if is_first else None,
            run=RunRecorder(folder, with_tensorboard=config.tensorboard, is_first=is_first),
            processes=processes,
            cache=EmbeddingCache(embeddings_directory()),
        )


def launch(config: RunConfig) -> Processes:
    """Return the processes that a config asks for; the others run the same command from its start.

    Raises
    ------
    TrainingError
        If Lightning Fabric is missing or cannot start so many.
    """
    if config.devices == 1:
        return OneProcess()
    return launch_fabric(checked_device(config.device), config.devices)


def data_of(config: RunConfig) -> tuple[list[LabelledFile], list[LabelledFile]]:
    """Return the pictures to learn from and those to measure on.

    Raises
    ------
    DatasetError
        If there are none, or too few.
    """
    if config.labels is not None:
        files = list_folder_pair(
            config.data, config.labels, ignore_dir=config.ignore, complete=not config.sparse
        )
        return split_off(files, config.held_out)
    parts = []
    for split in ("train", "val"):
        files = list_manifest_files(config.data, config.sets, split=split)
        parts.append([_as_sparse(file) if config.sparse else file for file in files])
    return parts[0], parts[1]


def _as_sparse(file: LabelledFile) -> LabelledFile:
    """Return a picture whose unlabelled parts are no background."""
    return replace(file, complete=False)


def _new_path(name: str) -> Path:
    """Return a folder that does not exist yet."""
    moment = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    safe = re.sub(r"[^\w.-]+", "-", name) or "run"
    path = runs_directory() / f"{safe}-{moment}"
    number = 1
    while path.exists():
        number += 1
        path = runs_directory() / f"{safe}-{moment}-{number}"
    return path
