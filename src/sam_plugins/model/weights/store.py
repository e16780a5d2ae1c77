"""The models that people trained: numbered versions under a name, one of them in use.

Every front end reads the same folder::

    STORE/my-project/in-use.json            which version is in use, and which were before
    STORE/my-project/3/model.safetensors    the weights, with their passport
    STORE/my-project/3/version.json         when, from what, and how it compares with its parent

A version is never changed once it is there. Writers take turns with a lock; readers need none,
because every file appears complete or not at all.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock

from sam_plugins.errors import PromotionError, StoreError, UnknownModelError
from sam_plugins.model.io.atomic import write_bytes
from sam_plugins.model.weights.comparison import Comparison
from sam_plugins.model.weights.naming import nearest_names
from sam_plugins.model.weights.paths import store_directory
from sam_plugins.model.weights.registry import find_entry

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_REFERENCE = re.compile(rf"({_NAME.pattern})(?:@(\d{{1,9}}))?")
_WEIGHTS = "model.safetensors"
_VERSION = "version.json"
_IN_USE = "in-use.json"
_LAST = "last-number.json"  # of a version that was deleted: its number is never given again
_LOCK = ".lock"
_UNFINISHED = ".new-"
_LOCK_SECONDS = 60
_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")  # of Windows


@dataclass(frozen=True)
class StoredVersion:
    """One version of a model.

    Parameters
    ----------
    name : str
        Of the model.
    number : int
        Counted from 1.
    path : Path
        The weights.
    model_id : str
        Their id; what is in use can be compared with by it.
    created : str
        ISO 8601 time in UTC.
    note : str
        For people.
    comparison : Comparison or None
        Against the model that training started from.
    is_in_use : bool
        Whether the bare name stands for it.
    """

    name: str
    number: int
    path: Path
    model_id: str
    created: str
    note: str = ""
    comparison: Comparison | None = None
    is_in_use: bool = False

    def __str__(self) -> str:
        """Return what loads exactly this version, such as ``"my-project@3"``."""
        return f"{self.name}@{self.number}"


class ModelStore:
    """Versions of the models that people trained.

    Parameters
    ----------
    directory : path-like, optional
        By default the folder that all front ends share.

    Examples
    --------
    >>> ModelStore("no-such-folder").names()
    []
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        self.directory = store_directory() if directory is None else Path(directory)

    def require_writable(self, name: str) -> None:
        """Refuse a name or a place that :meth:`add` could not use, before any work is done.

        Raises
        ------
        StoreError
            If the name cannot be used or the store cannot be written.
        """
        require_name(name)
        with self._writing(name) as folder:
            (folder / _UNFINISHED).touch()
            (folder / _UNFINISHED).unlink()

    def names(self) -> list[str]:
        """Return the names of all models that have a version, sorted."""
        try:
            entries = [entry.name for entry in os.scandir(self.directory) if entry.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"cannot read {self.directory}: {error.strerror}") from error
        return sorted(name for name in entries if _NAME.fullmatch(name) and self._numbers(name))

    def versions(self, name: str) -> list[StoredVersion]:
        """Return the versions of a model, oldest first; none of an unknown name.

        Raises
        ------
        StoreError
            If the folder cannot be read or a document in it is damaged.
        """
        if not _NAME.fullmatch(name):
            return []
        in_use = self._history(name)[-1:]
        return [self._read(name, number, in_use) for number in self._numbers(name)]

    def in_use(self, name: str) -> StoredVersion | None:
        """Return the version of a model that is in use, if one is; errors as for `versions`."""
        return next((one for one in self.versions(name) if one.is_in_use), None)

    def find(self, reference: str) -> StoredVersion:
        """Return a version by ``"name@3"``, or the one in use by ``"name"``.

        Raises
        ------
        StoreError
            If there is none; the message names what there is.
        """
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise StoreError(
                f"a stored model is called NAME or NAME@NUMBER, got {reference!r}; names are made "
                "of a-z, 0-9, '.', '_' and '-'"
            )
        name, numbers = match[1], self._numbers(match[1])
        if not numbers:
            near = nearest_names(name, self.names())
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise StoreError(f"the model store {self.directory} has no model {name!r}{hint}")
        history = self._history(name)
        if match[2] is None and not history:
            raise StoreError(
                f"no version of {name} is in use; promote one, or name it: {_listed(name, numbers)}"
            )
        number = history[-1] if match[2] is None else int(match[2])
        if number not in numbers:
            raise StoreError(
                f"there is no version {number} of {name}, only {_listed(name, numbers)}"
            )
        return self._read(name, number, history[-1:])

    def add(
        self,
        name: str,
        weights: str | os.PathLike[str],
        *,
        model_id: str,
        comparison: Comparison | None = None,
        note: str = "",
    ) -> StoredVersion:
        """Copy a file of weights into the store as the next version; it is not in use yet.

        Parameters
        ----------
        name : str
            1 to 64 of a-z, 0-9, ``.``, ``_`` and ``-``.
        weights : path-like
            A safetensors file with a passport.
        model_id : str
            Id of the weights.
        comparison : Comparison, optional
            Against the parent; without it the version can only be promoted by force.
        note : str
            For people.

        Raises
        ------
        StoreError
            If the name cannot be used or the store cannot be written.
        """
        require_name(name)
        with self._writing(name) as folder:
            number = max(*self._numbers(name), self._last_deleted(name), 0) + 1
            document = {
                "model_id": model_id,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "note": note,
                "comparison": None if comparison is None else asdict(comparison),
            }
            new = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
            try:
                shutil.copyfile(weights, new / _WEIGHTS)
                (new / _VERSION).write_text(json.dumps(document, indent=1), encoding="utf-8")
                new.chmod(0o755)
                new.rename(folder / str(number))
            except OSError:
                shutil.rmtree(new, ignore_errors=True)
                raise
        return self._read(name, number, self._history(name)[-1:])

    def promote(self, reference: str, *, force: bool = False) -> StoredVersion:
        """Put a version into use: the newest of ``"name"``, or ``"name@3"``.

        Parameters
        ----------
        reference : str
        force : bool
            Also one that is not shown to be better than the version in use.

        Raises
        ------
        PromotionError
            If it was not measured against the version in use, or is not better beyond the
            interval.
        StoreError
            If there is no such version, or the store cannot be written.
        """
        name = reference.partition("@")[0]
        with self._writing(name, must_exist=True):
            numbers = self._numbers(name)
            chosen = reference if "@" in reference else f"{name}@{numbers[-1]}" if numbers else name
            version = self.find(chosen)
            history = self._history(name)
            if not force:
                _require_better(version, self.find(name) if history else None)
            if version.number not in history[-1:]:
                self._write_history(name, [*history, version.number])
        return self.find(str(version))

    def rollback(self, name: str) -> StoredVersion:
        """Put the version into use that was before the one that is.

        Raises
        ------
        StoreError
            If none was, a version is named and no model, or the store cannot be written.
        """
        if is_reference(name):
            raise StoreError(
                f"rolling back needs the name of a model alone, got {name!r}; promote puts a "
                "version of your choice into use"
            )
        with self._writing(name, must_exist=True):
            numbers, history = self._numbers(name), self._history(name)
            before = [number for number in history[:-1] if number in numbers]
            while before and before[-1] == history[-1]:  # one in between was deleted
                before.pop()
            if not before:
                raise StoreError(
                    f"no version of {name} was in use before; its versions: "
                    f"{_listed(name, numbers)}"
                )
            self._write_history(name, before)
        return self.find(name)

    def delete(self, reference: str, *, force: bool = False) -> StoredVersion:
        """Remove a version for good; its number is never given to another one.

        Parameters
        ----------
        reference : str
            ``"name@3"``: a bare name would change its meaning with the next promotion.
        force : bool
            Also the version in use. The one that was in use before is then in use again, if there
            is one.

        Returns
        -------
        StoredVersion
            What it was.

        Raises
        ------
        StoreError
            If there is no such version, it is in use, or the store cannot be written.
        """
        name, _, number = reference.partition("@")
        with self._writing(name, must_exist=True) as folder:
            if not number:
                listed = _listed(name, self._numbers(name))
                raise StoreError(f"say which version of {name} to delete: {listed}")
            version = self.find(reference)
            if version.is_in_use and not force:
                raise StoreError(
                    f"{version} is in use; promote or roll back to another version first, or "
                    "delete it by force"
                )
            last = max(version.number, self._last_deleted(name))
            write_bytes(folder / _LAST, json.dumps({"number": last}).encode())
            there = set(self._numbers(name)) - {version.number}
            left = [one for one in self._history(name) if one in there]
            history = [one for one, _ in itertools.groupby(left)]
            if history:
                self._write_history(name, history)
            else:
                (folder / _IN_USE).unlink(missing_ok=True)
            # under such a name it is no version any more, and is swept if we are killed
            doomed = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
            (folder / str(version.number)).rename(doomed / _WEIGHTS)
            shutil.rmtree(doomed)
        return version

    def _last_deleted(self, name: str) -> int:
        """Return the highest number of a version that was deleted, 0 where none was."""
        path = self.directory / name / _LAST
        number = _read_json(path).get("number") if path.exists() else 0
        if not isinstance(number, int):
            raise _damaged(path)
        return number

    def _numbers(self, name: str) -> list[int]:
        """Return the numbers of the versions that are complete, sorted."""
        try:
            entries = [entry.name for entry in os.scandir(self.directory / name)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreError(f"cannot read {self.directory / name}: {error.strerror}") from error
        return sorted(int(entry) for entry in entries if entry.isdecimal())

    def _read(self, name: str, number: int, in_use: list[int]) -> StoredVersion:
        """Return a version from its documents."""
        folder = self.directory / name / str(number)
        document = _read_json(folder / _VERSION)
        try:
            comparison = document["comparison"]
            return StoredVersion(
                name=name,
                number=number,
                path=folder / _WEIGHTS,
                model_id=str(document["model_id"]),
                created=str(document["created"]),
                note=str(document["note"]),
                comparison=None if comparison is None else Comparison(**comparison),
                is_in_use=number in in_use,
            )
        except (KeyError, TypeError) as error:
            raise _damaged(folder / _VERSION) from error

    def _history(self, name: str) -> list[int]:
        """Return the versions that were in use, oldest first; the last one is."""
        path = self.directory / name / _IN_USE
        if not path.exists():
            return []
        history = _read_json(path).get("history")
        if not isinstance(history, list) or not all(isinstance(one, int) for one in history):
            raise _damaged(path)
        return history

    def _write_history(self, name: str, history: list[int]) -> None:
        """Say which version is in use."""
        content = json.dumps({"in_use": history[-1], "history": history}, indent=1)
        write_bytes(self.directory / name / _IN_USE, content.encode())

    @contextmanager
    def _writing(self, name: str, *, must_exist: bool = False) -> Iterator[Path]:
        """Take turns with other writers of a model."""
        folder = self.directory / name
        if must_exist and not (_NAME.fullmatch(name) and self._numbers(name)):
            self.find(name)  # Says that there is no such model.
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(folder / _LOCK, timeout=_LOCK_SECONDS):
                for leftover in folder.glob(f"{_UNFINISHED}?*"):
                    shutil.rmtree(leftover, ignore_errors=True)
                yield folder
        except filelock.Timeout as error:
            raise StoreError(
                f"another program has been writing to {folder} for over {_LOCK_SECONDS} s; "
                "wait until it is done"
            ) from error
        except OSError as error:
            raise StoreError(f"cannot write to {folder}: {error.strerror or error}") from error


def require_name(name: str) -> None:
    """Refuse what cannot name a stored model.

    Raises
    ------
    StoreError
        If it holds other signs, is too long, or is the name of a published model.
    """
    if not _NAME.fullmatch(name) or name.endswith((".", *_WEIGHT_SUFFIXES)):
        raise StoreError(
            "the name of a model must be 1 to 64 of a-z, 0-9, '.', '_' and '-', begin with a "
            f"letter or digit, and not end as a file of weights does, got {name!r}"
        )
    if _RESERVED.fullmatch(name):
        raise StoreError(f"{name!r} is no name for a folder on Windows; choose another")
    try:
        find_entry(name)
    except UnknownModelError:
        return
    raise StoreError(f"{name!r} is the name of a published model; choose another")


def is_reference(name: str) -> bool:
    """Return whether a text can only mean a stored version, such as ``"my-project@3"``.

    Examples
    --------
    >>> is_reference("my-project@3"), is_reference("vit_b")
    (True, False)
    """
    return "@" in name and _REFERENCE.fullmatch(name) is not None


def _require_better(version: StoredVersion, in_use: StoredVersion | None) -> None:
    """Refuse a version that is not shown to be better than what people use now."""
    comparison = version.comparison
    if comparison is None:
        raise PromotionError(
            f"{version} was never measured on held-out pictures; measure it, or promote it by force"
        )
    if in_use is not None and comparison.parent != in_use.model_id:
        raise PromotionError(
            f"{version} was measured against {comparison.parent}, but {in_use} "
            f"({in_use.model_id}) is in use; measure it against that, or promote it by force"
        )
    if not comparison.is_better:
        raise PromotionError(
            f"{version} is not better beyond doubt: {comparison}; label more pictures, or promote "
            "it by force"
        )


def _listed(name: str, numbers: list[int]) -> str:
    """Name the versions there are."""
    return ", ".join(f"{name}@{number}" for number in numbers)


def _read_json(path: Path) -> dict[str, Any]:
    """Read one of our documents."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(document, dict):
        raise _damaged(path)
    return document


def _damaged(path: Path) -> StoreError:
    """Return the error for a document that makes no sense."""
    return StoreError(f"{path} is damaged; restore it from a copy, or remove its folder")
