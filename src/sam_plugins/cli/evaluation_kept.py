"""What tells the measurement of one picture from that of another, so that a run can go on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins import __version__
from sam_plugins.cli.console import complain, counted
from sam_plugins.cli.requests import digest_of, state_of

if TYPE_CHECKING:
    from sam_plugins.cli.evaluation_tasks import TaskCommand
    from sam_plugins.errors import OutputError
    from sam_plugins.model.evaluation.kept_pictures import KeptPictures
    from sam_plugins.model.evaluation.tasks.task import Task
    from sam_plugins.model.inference.loading import Model
    from sam_plugins.model.io.labelled import LabelledSource


def kept_pictures(
    report_folder: Path,
    command: TaskCommand,
    task: Task,
    files: Sequence[LabelledSource],
    model: Model,
    args: argparse.Namespace,
) -> KeptPictures:
    """Return the pictures that were measured before, and say how many there are.

    Parameters
    ----------
    report_folder : Path
    command : TaskCommand
    task : Task
        As the command made it.
    files : sequence of LabelledSource
        The pictures that it is measured on.
    model : Model
    args : Namespace
    """
    from sam_plugins.model.evaluation.kept_pictures import KeptPictures

    def tell(error: OutputError) -> None:
        complain(f"warning: {error}; measuring goes on, but an interrupted run would begin anew")

    shared = {
        "task": command.name,
        "options": {name: _told(getattr(args, name)) for name in command.option_names()},
        "settings": dict(task.settings),
        "model": model.model_id,
        "device": str(model.device),
        "software": __version__,
    }
    requests = [digest_of({**shared, "picture": _described(file)}) for file in files]
    kept = KeptPictures(report_folder, task, requests, tell)
    before = len(files) - len(kept.waiting)
    if before:
        complain(
            f"{counted(before, 'picture')} of {len(files)} measured by an earlier run, "
            f"{len(kept.waiting)} to measure"
        )
    return kept


def _described(file: LabelledSource) -> dict[str, Any]:
    """Return all that is known of a picture before it is read: where files lie, and their state."""
    values = {one.name: getattr(file, one.name) for one in fields(file)}  # type: ignore[arg-type]
    return {name: _state(value) for name, value in values.items()}


def _state(value: Any) -> Any:  # noqa: ANN401
    """Return the state of a file or of several, any other value as text."""
    if isinstance(value, Path):
        return state_of(value)
    if isinstance(value, tuple):
        return [_state(one) for one in value]
    return repr(value)


def _told(value: Any) -> Any:  # noqa: ANN401
    """Return the value of an option, of one that names a file or a folder its state, too."""
    if isinstance(value, str) and value and Path(value).exists():
        return [value, state_of(Path(value))]
    return value
