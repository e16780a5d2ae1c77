"""A project's folder: its labels, its state, its models, and one job at a time.

::

    PROJECT/project.sqlite   settings, jobs, what models said, what is done, rounds of training
    PROJECT/labels/          the label store
    PROJECT/job.lock         held by the job that is at work
    PROJECT/training/        a training that is at work, or was ended early

Models that a project trains become versions in the model store under the project's name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock

from sam_plugins.errors import LabelStoreError, OutputError, ProjectBusyError, ProjectError
from sam_plugins.model.engine.label_store import ImageRecord, LabelStore, ReviewState, Split
from sam_plugins.model.engine.label_store.types import TRUSTED
from sam_plugins.model.engine.project.state import ProjectState
from sam_plugins.model.io.atomic import make_folder
from sam_plugins.model.weights.registry import DEFAULT_MODEL
from sam_plugins.model.weights.store import ModelStore, require_name

_LABELS = "labels"
_LOCK = "job.lock"


@dataclass(frozen=True)
class ProjectSettings:
    """What is settled when a project is made.

    Parameters
    ----------
    name : str
        Of the project, and of its models in the model store.
    model : str
        Name or file of the model to begin with.
    held_out_share : float
        Share of the pictures that are only measured on, between 0 and 1.
    seed : int
        Of that draw.

    Raises
    ------
    StoreError
        If no model can have the name.
    ValueError
        If ``held_out_share`` is no share.
    """

    name: str
    model: str = DEFAULT_MODEL
    held_out_share: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the name and the share."""
        require_name(self.name)
        if not 0 < self.held_out_share < 1:
            raise ValueError(f"held_out_share must lie between 0 and 1, got {self.held_out_share}")


class Project:
    """A folder in which people and a model label together; see :meth:`create` and :meth:`open`.

    Parameters
    ----------
    folder : Path
    settings : ProjectSettings
    labels : LabelStore
        Of this project; closed with it.
    """

    def __init__(self, folder: Path, settings: ProjectSettings, labels: LabelStore) -> None:
        self.folder = folder
        self.settings = settings
        self.labels = labels
        self.state = ProjectState(folder)
        self.models = ModelStore()

    @classmethod
    def create(cls, folder: str | os.PathLike[str], settings: ProjectSettings) -> Self:
        """Make a project; the folder may exist.

        Raises
        ------
        ProjectError
            If it holds one already, or cannot be written.
        """
        path = Path(folder).absolute()
        state = ProjectState(path)
        try:
            make_folder(path)
        except OutputError as error:
            raise ProjectError(str(error)) from error
        if state.path.exists():
            state.create({})  # Says that there is one.
        try:  # The labels first: with the state, the project is there.
            labels = LabelStore.create(path / _LABELS)
        except LabelStoreError:
            labels = LabelStore.open(path / _LABELS)  # of a project that was half made
        model = settings.model
        if Path(model).is_file():
            model = str(Path(model).absolute())
        values: dict[str, Any] = {
            "name": settings.name,
            "model": model,
            "held_out_share": settings.held_out_share,
            "seed": settings.seed,
        }
        state.create(values)
        return cls(path, ProjectSettings(**values), labels)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Self:
        """Open a project.

        Raises
        ------
        ProjectError
            If there is none, or it is damaged.
        LabelStoreError
            If its labels cannot be read.
        """
        path = Path(folder).absolute()
        settings = ProjectState(path).settings()
        try:
            known = ProjectSettings(**settings)
        except (TypeError, ValueError) as error:
            raise ProjectError(
                f"the settings of {path} are damaged ({error}); put back a copy of the folder"
            ) from error
        return cls(path, known, LabelStore.open(path / _LABELS))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the labels."""
        self.labels.close()

    @contextlib.contextmanager
    def job(self, command: str) -> Iterator[None]:
        """Work on the project alone; what people label meanwhile is no job.

        Parameters
        ----------
        command : str
            What it is, for others who wait.

        Raises
        ------
        ProjectBusyError
            If another job is at work; the message says which, whose, and since when.
        """
        lock = filelock.FileLock(self.folder / _LOCK)
        try:
            # Who only looks whether anybody is at work holds it for a moment.
            lock.acquire(timeout=0.5, poll_interval=0.05)
        except filelock.Timeout as error:
            raise ProjectBusyError(
                f"another job is at work on {self.folder}: {self.state.last_job()}; wait until it "
                "is done, or end it"
            ) from error
        except OSError as error:
            raise ProjectError(
                f"cannot lock {self.folder}: {error.strerror or error}; a project must lie where "
                "you may write"
            ) from error
        try:
            number = self.state.begin_job(command)
            outcome = "failed"
            try:
                yield
                outcome = "done"
            except (KeyboardInterrupt, SystemExit):
                outcome = "interrupted"
                raise
            finally:
                self.state.end_job(number, outcome)
        finally:
            lock.release()

    def is_busy(self) -> bool:
        """Return whether a job is at work."""
        lock = filelock.FileLock(self.folder / _LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return True
        except OSError:
            return False
        lock.release()
        return False

    def model_name(self) -> str:
        """Return the model that people work with: the version in use, or the one to begin with.

        Raises
        ------
        StoreError
            If the model store cannot be read.
        """
        return str(self.models.in_use(self.settings.name) or self.settings.model)

    def find_image(self, named: str) -> ImageRecord:
        """Return a picture by its id, its path or the name of its file.

        Raises
        ------
        ProjectError
            If there is none, or the name means several.
        """
        path = Path(named).absolute()
        records = self.labels.images()
        found = [one for one in records if one.image_id == named]
        found = found or [one for one in records if one.path == path]
        found = found or [one for one in records if named in {one.name, one.path.name}]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(one.image_id for one in found[:5])
            raise ProjectError(
                f"{named!r} means {len(found)} pictures of the project; name one by its id: {ids}"
            )
        raise ProjectError(
            f"{named!r} is no picture of the project; import it with `sam-plugins engine import`, "
            "or name one by its id, its path or the name of its file"
        )

    def divide(self) -> dict[str, int]:
        """Give every picture its split; return how many have which.

        Pictures of one group alone are learned from; of the next groups one at least is held out.
        """
        groups = {one.group for one in self.labels.images()}
        if len(groups) > 1:
            self.labels.assign_splits(self.settings.held_out_share, self.settings.seed)
        else:
            for group in groups:
                self.labels.set_split(group, Split.TRAIN)
        records = self.labels.images()
        return {str(split): sum(one.split == split for one in records) for split in Split}

    def is_touched(self, record: ImageRecord) -> bool:
        """Return whether a person labelled a picture, or said that nothing is there."""
        return record.is_complete or bool(self.labels.objects(record.image_id, reviews=TRUSTED))

    def untouched(self, split: Split) -> list[ImageRecord]:
        """Return the pictures of a split that nobody has labelled."""
        touched = {one.image_id for one in self.labels.objects(reviews=TRUSTED)}
        return [
            one
            for one in self.labels.images(split=split)
            if not one.is_complete and one.image_id not in touched
        ]

    def proposals_of(self, image_id: str) -> list[str]:
        """Return the ids of the objects of a picture that wait for a person."""
        found = self.labels.objects(image_id, reviews=[ReviewState.PROPOSED])
        return [one.object_id for one in found]
