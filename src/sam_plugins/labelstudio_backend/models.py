"""The models in use: loaded once each, named by versions that Label Studio can tell apart."""

from __future__ import annotations

import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from sam_plugins.errors import StoreError, UnknownModelError
from sam_plugins.model.weights.hashing import file_digests
from sam_plugins.model.weights.registry import find_entry
from sam_plugins.model.weights.store import ModelStore, is_reference

T = TypeVar("T")

_KEPT = 3
_DIGITS = 8
_VERSION = re.compile(rf"(.+)(?:@\d+|-[0-9a-f]{{{_DIGITS}}})")


def exact_name(name: str) -> str:
    """Return what always loads the same weights: ``"cells@3"`` where ``"cells"`` is in use as 3.

    Examples
    --------
    >>> exact_name("default")
    'default'
    """
    try:
        find_entry(name)
    except UnknownModelError:
        try:
            return str(ModelStore().find(name))
        except StoreError:
            return name
    return name


def is_named(name: str) -> bool:
    """Return whether a text names a published or a stored model, and is not the path of a file.

    Examples
    --------
    >>> is_named("default"), is_named("cells@3"), is_named("/etc/hostname")
    (True, True, False)
    """
    try:
        find_entry(name)
    except UnknownModelError:
        try:
            return is_reference(name) or name in ModelStore().names()
        except StoreError:
            return False
    return True


def portable_name(name: str) -> str:
    """Return what loads the same weights in other folders, on machines that see the same files.

    Examples
    --------
    >>> portable_name("default")
    'default'
    """
    try:
        find_entry(name)
    except UnknownModelError:
        try:
            return str(ModelStore().find(name).path.absolute())
        except StoreError:
            return str(Path(name).absolute()) if Path(name).is_file() else name
    return name


def version_of(name: str) -> str:
    """Return the version that Label Studio shows for a model, without loading it.

    Other weights are another version, so that Label Studio asks for predictions again.

    Parameters
    ----------
    name : str
        Of a published model, of one in the model store, or a file.

    Examples
    --------
    >>> version_of("default").startswith("default-")
    True
    """
    name = exact_name(name)
    try:
        entry = find_entry(name)
    except UnknownModelError:
        return name if is_reference(name) else _version_of_file(Path(name).stem, Path(name))
    digest = entry.sha256
    return f"{name}-{digest[:_DIGITS]}" if digest else _version_of_file(name, entry.path)


def family_of(version: str) -> str:
    """Return what all versions of one model share; empty for what is no version of ours.

    Examples
    --------
    >>> family_of("cells@3"), family_of("default-0a1b2c3d"), family_of("yolo-v8")
    ('cells', 'default', '')
    """
    match = _VERSION.fullmatch(version)
    return "" if match is None else match[1]


def _version_of_file(name: str, path: Path) -> str:
    """Return a name with the first digits of a file's digest; the bare name without a file."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a folder, or a device that never ends
            return name or str(path)
        digest = _digest(path, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError):  # a name that no file can have
        return name or str(path)
    return f"{name}-{digest[:_DIGITS]}"


@lru_cache(maxsize=64)
def _digest(path: Path, _changed: int, _size: int) -> str:
    """Return the SHA-256 of a file, computed once for each change."""
    return file_digests(path, ["sha256"])["sha256"]


class Pool(Generic[T]):
    """Models by name, each loaded once for each version, the last few kept; safe with threads.

    Parameters
    ----------
    load : callable
        From a name to a model.
    """

    def __init__(self, load: Callable[[str], T]) -> None:
        self._load = load
        self._models: OrderedDict[str, tuple[str, T]] = OrderedDict()
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> T:
        """Return a model, loading it when it is not there; others wait for the same load.

        Raises
        ------
        SamPluginsError
            If it cannot be loaded.
        """
        version = version_of(name)  # the file may have been replaced
        with self._lock:
            known = self._models.get(name)
            if known is not None and known[0] == version:
                self._models.move_to_end(name)
                return known[1]
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            with self._lock:
                known = self._models.get(name)
            if known is not None and known[0] == version:
                return known[1]
            model = self._load(name)
            with self._lock:
                self._models[name] = version, model
                self._models.move_to_end(name)
                while len(self._models) > _KEPT:
                    self._models.popitem(last=False)
            return model

    def loaded(self) -> list[str]:
        """Return the names of the models in memory."""
        with self._lock:
            return list(self._models)
