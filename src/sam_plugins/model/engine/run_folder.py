"""The folder of a training run: what it was asked for, what it learned from, how far it is.

====================== ==========================================================================
``config.yaml``        every option, seed included (:class:`~.run_config.RunConfig`), with whole
                       paths and the precision that was settled
``data.json``          the parent's id, and the pictures of both parts with SHA-256 of every file
``parent.safetensors`` the parent, where it ships with the package: another version replaces it
``log.csv``            a row for every step
``rounds.json``        what was measured on the held-out pictures after every round
``best.safetensors``   the best weights so far, a model file like any other
``state.safetensors``  everything that is needed to go on exactly; gone when the run is complete
``adapter/``           with the method ``lora``, the adapters of the best weights alone
``curves.png``         loss and figures by step (needs matplotlib)
``samples/``           by round, some held-out pictures: prompt, truth and answer
``tensorboard/``       with ``tensorboard: true``
====================== ==========================================================================
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import sam_plugins
from sam_plugins.errors import DatasetError, OutputError, TrainingError, WeightsError
from sam_plugins.model.engine.held_out import Round
from sam_plugins.model.engine.run_config import RunConfig
from sam_plugins.model.engine.tuning_options import FineTuningOptions
from sam_plugins.model.inference.loading import checked_device
from sam_plugins.model.io.alone import LOCK_NAME
from sam_plugins.model.io.atomic import (
    folder_for_results,
    link_or_copy,
    output_error,
    remove_bare_folder,
    write_bytes,
)
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.weights.loading import LoadedCheckpoint, load_checkpoint
from sam_plugins.model.weights.registry import DEFAULT_MODEL, find_entry

CONFIG_NAME = "config.yaml"
DATA_NAME = "data.json"
PARENT_NAME = "parent.safetensors"
ROUNDS_NAME = "rounds.json"
_FORMAT = 1
_FIGURES = ("best", "confident", "single", "iou_error", "corrected")
LOG_COLUMNS = (
    "step",
    "loss",
    "instances",
    *[f"{kind}_{figure}" for kind in ("point", "box") for figure in _FIGURES],
    "objects",
    "learning_rate",
    "gradient_norm",
    "seconds",
)


@dataclass(frozen=True)
class RunFolder:
    """A folder of a run; see the module for its files.

    Parameters
    ----------
    path : Path
    """

    path: Path

    @classmethod
    def create(
        cls,
        path: Path,
        config: RunConfig,
        parent: LoadedCheckpoint,
        train_files: Sequence[LabelledFile],
        held_out_files: Sequence[LabelledFile],
    ) -> RunFolder:
        """Make a folder for a run that begins.

        Raises
        ------
        OutputError
            If it cannot be made, or holds something already.
        """
        if path.is_dir() and any(path.iterdir()):
            raise OutputError(
                f"{path} is not empty: choose another folder for the run, or go on with a run "
                "that it holds (--resume)"
            )
        document = {
            "format": _FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "parent": {"id": parent.model_id, "path": str(parent.path.resolve())},
            "versions": {
                "sam-plugins": sam_plugins.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            **_described(train_files, held_out_files),
        }
        config = replace(
            config.with_whole_paths(parent.path),
            training=config.training.for_device(checked_device(config.device)),
        )
        with folder_for_results(path):
            try:
                write_bytes(path / DATA_NAME, json.dumps(document, indent=1).encode())
                if _may_be_replaced(parent.path):
                    link_or_copy(parent.path, path / PARENT_NAME)
                config.write(path / CONFIG_NAME)  # The last one: with it, the folder is a run.
            except BaseException:
                for name in (DATA_NAME, PARENT_NAME):
                    (path / name).unlink(missing_ok=True)
                raise
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of a run that began.

        Raises
        ------
        TrainingError
            If it is none.
        """
        if not ((path / CONFIG_NAME).is_file() and (path / DATA_NAME).is_file()):
            raise TrainingError(
                f"{path} is no folder of a training run: expected {CONFIG_NAME} and {DATA_NAME} "
                "in it; name a folder that `sam-plugins train` made"
            )
        return cls(path)

    @cached_property
    def config(self) -> RunConfig:
        """What the run was asked for."""
        return RunConfig.read(self.path / CONFIG_NAME)

    @property
    def state_path(self) -> Path:
        """The file to go on from."""
        return self.path / "state.safetensors"

    @property
    def best_path(self) -> Path:
        """The file of the best weights."""
        return self.path / "best.safetensors"

    @property
    def adapter_path(self) -> Path:
        """The folder of the best adapters."""
        return self.path / "adapter"

    @property
    def log_path(self) -> Path:
        """The log by step."""
        return self.path / "log.csv"

    @property
    def is_complete(self) -> bool:
        """Whether every round was measured."""
        rounds = self.rounds()
        return bool(rounds) and rounds[-1].step >= self.config.training.steps

    def discard_unbegun(self, *, keeps_folder: bool = False) -> None:
        """Remove the run if nothing was measured yet: it holds nothing but what was asked for.

        Parameters
        ----------
        keeps_folder : bool
            Whether the folder stays, empty: it was there before the run.
        """
        if (self.path / ROUNDS_NAME).exists():
            return
        names = (PARENT_NAME, DATA_NAME, CONFIG_NAME)
        for path in (self.best_path, *(self.path / name for name in names)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        if keeps_folder:
            with contextlib.suppress(OSError):
                (self.path / LOCK_NAME).unlink(missing_ok=True)
        else:
            remove_bare_folder(self.path, beside=LOCK_NAME)

    @property
    def parent(self) -> str:
        """The file of the model that the run started from.

        Raises
        ------
        TrainingError
            If the list of data is damaged.
        """
        return str(self._document()["parent"]["path"])

    @property
    def parent_id(self) -> str:
        """Id of the model that the run started from."""
        return str(self._document()["parent"]["id"])

    def is_same(
        self,
        training: FineTuningOptions,
        parent_id: str,
        train_files: Sequence[LabelledFile],
        held_out_files: Sequence[LabelledFile],
    ) -> bool:
        """Return whether a run of these would compute the same as this one.

        Raises
        ------
        DatasetError
            If a picture cannot be read.
        TrainingError
            If the list of data is damaged.
        """
        document = self._document()
        files = _described(train_files, held_out_files)
        return (
            self.config.training == training
            and self.parent_id == parent_id
            and document.get("versions", {}).get("sam-plugins") == sam_plugins.__version__
            and {part: document[part] for part in files} == json.loads(json.dumps(files))
        )

    def load_parent(self) -> LoadedCheckpoint:
        """Read the model that the run started from: where it was, or the copy that the run keeps.

        Raises
        ------
        TrainingError
            If the file is another one now; with both ids.
        WeightsError
            If there is none any more.
        """
        kept = self.path / PARENT_NAME
        try:
            checkpoint = load_checkpoint(Path(self.parent))
        except WeightsError:
            if not kept.is_file():
                raise
            checkpoint = load_checkpoint(kept)
        if checkpoint.model_id != self.parent_id and kept.is_file():
            checkpoint = load_checkpoint(kept)
        if checkpoint.model_id != self.parent_id:
            raise TrainingError(
                f"the run in {self.path} started from {self.parent_id}, and {self.parent} is "
                f"{checkpoint.model_id} now: put the old file back, or begin a new run"
            )
        return checkpoint

    def files(self) -> tuple[list[LabelledFile], list[LabelledFile]]:
        """Return the pictures to learn from and those to measure on, checked by their digests.

        Raises
        ------
        DatasetError
            If a file is missing, or another than when the run began.
        TrainingError
            If the list is damaged.
        """
        document = self._document()
        return _checked(document["train"]), _checked(document["held_out"])

    def _document(self) -> dict[str, Any]:
        """Read the list of data."""
        path = self.path / DATA_NAME
        try:
            document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != _FORMAT:
                raise ValueError(f"it has format {document['format']}")
            _ = document["train"], document["held_out"], document["parent"]["id"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{path} cannot be read ({type(error).__name__}: {error}); begin a new run"
            ) from error
        return document

    # ------------------------------------------------------------------------------ progress

    def rounds(self) -> list[Round]:
        """Return what was measured so far.

        Raises
        ------
        TrainingError
            If the file is damaged.
        """
        path = self.path / ROUNDS_NAME
        if not path.exists():
            return []
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return [Round(**one) for one in values]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{path} cannot be read ({type(error).__name__}: {error}); remove it, and the run "
                "starts again from its beginning"
            ) from error

    def write_rounds(self, rounds: Sequence[Round]) -> None:
        """Note what was measured.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        values = [asdict(one) for one in rounds]
        write_bytes(self.path / ROUNDS_NAME, json.dumps(values, indent=1).encode())

    def cut_log(self, step: int) -> None:
        """Forget the rows after a step: they are computed again.

        Raises
        ------
        OutputError
            If the log cannot be written.
        """
        rows = [row for row in self.log() if int(row["step"]) <= step]
        text = io.StringIO()
        writer = csv.DictWriter(text, LOG_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_bytes(self.log_path, text.getvalue().encode())

    def log(self) -> list[dict[str, str]]:
        """Return the rows of the log; a half row at the end, of a killed process, is left out."""
        if not self.log_path.exists():
            return []
        text = self.log_path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        rows = csv.DictReader(io.StringIO(whole))
        return [row for row in rows if None not in row.values()]

    @property
    def seconds(self) -> float:
        """What the steps took that are in the log."""
        return sum(float(row["seconds"]) for row in self.log() if row.get("seconds"))

    def append_log(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """Add a row, with every digit, so that two runs can be compared exactly.

        Raises
        ------
        OutputError
            If the log cannot be written.
        """
        row = {key: repr(float(value)) for key, value in values.items() if key in LOG_COLUMNS}
        row |= {"step": str(step), "seconds": f"{seconds:.3f}"}
        line = ",".join(row.get(column, "") for column in LOG_COLUMNS) + "\n"
        try:
            with self.log_path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise output_error(self.log_path, error) from error


def _may_be_replaced(path: Path) -> bool:
    """Return whether a model's file ships with the package, or is a copy that a run keeps of it."""
    return path.name == PARENT_NAME or path.resolve() == find_entry(DEFAULT_MODEL).path.resolve()


def _described(
    train_files: Sequence[LabelledFile], held_out_files: Sequence[LabelledFile]
) -> dict[str, list[dict[str, Any]]]:
    """Return both parts of the pictures as the list of data holds them."""
    return {
        "train": [_entry(file) for file in train_files],
        "held_out": [_entry(file) for file in held_out_files],
    }


def _entry(file: LabelledFile) -> dict[str, Any]:
    """Return a picture as the list of data holds it."""
    entry = {
        "id": file.id,
        "set_name": file.set_name,
        "split": file.split,
        "image": str(file.image_path.resolve()),
        "label": str(file.label_path.resolve()),
        "ignore": None if file.ignore_path is None else str(file.ignore_path.resolve()),
        "whole_rles": {str(key): dict(rle) for key, rle in file.whole_rles.items()},
        "complete": file.complete,
        "plane": file.plane,
    }
    return entry | {"sha256": digest_of(file)}


def digest_of(file: LabelledFile) -> str:
    """Return the SHA-256 of all files of a picture, one after the other.

    Raises
    ------
    DatasetError
        If one cannot be read.
    """
    digest = hashlib.sha256()
    for path in (file.image_path, file.label_path, file.ignore_path):
        if path is None:
            continue
        try:
            inside = sorted(one for one in path.rglob("*") if one.is_file())  # of a Zarr folder
            for one in inside or [path]:
                digest.update(one.read_bytes())
        except OSError as error:
            raise DatasetError(
                f"cannot read {path}: {error.strerror or error}; put the file back"
            ) from error
    return digest.hexdigest()


def _checked(entries: Sequence[Mapping[str, Any]]) -> list[LabelledFile]:
    """Return the pictures of a list, as they were."""
    files = []
    for entry in entries:
        ignore = entry["ignore"]
        file = LabelledFile(
            id=entry["id"],
            set_name=entry["set_name"],
            split=entry["split"],
            image_path=Path(entry["image"]),
            label_path=Path(entry["label"]),
            ignore_path=None if ignore is None else Path(ignore),
            whole_rles={int(key): rle for key, rle in entry["whole_rles"].items()},
            complete=entry["complete"],
            plane=entry["plane"],
        )
        if digest_of(file) != entry["sha256"]:
            raise DatasetError(
                f"{file.image_path} or its labels changed since the run began: put the old files "
                "back, or begin a new run"
            )
        files.append(file)
    return files
