"""Embeddings kept in memory and on disk, found again by content.

An image is encoded once per model, whichever front end asks, and is found again after a restart.
The key is a digest of the pixels that the model sees, of the preprocessing and of the model's id,
so that nothing can be stale and a renamed file is still known.

**Rounding rule.** Embeddings are kept as float16, half the size of float32. Fresh results are
rounded in the same way before they are returned: an answer never depends on whether the embedding
was cached. Values that float16 cannot hold (beyond 65,504) are not kept at all, and returned as
they are. A compact cache rounds further, to what a fifth of the bytes hold, and returns fresh
results so as well; what it wrote, others read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import filelock
import numpy as np
import numpy.typing as npt
import torch

from sam_plugins.errors import CacheError, OutputError
from sam_plugins.model.inference.packed_embedding import FORMAT, PackedEmbedding
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.io.atomic import atomic_path
from sam_plugins.model.io.temporary import TEMPORARY_SUFFIX
from sam_plugins.model.networks.config import Preprocessing

_LOG = logging.getLogger(__name__)

DEFAULT_MEMORY_BYTES = 512 * 2**20
DEFAULT_DISK_BYTES = 4 * 2**30

_SUFFIX = ".embedding"  # safetensors behind a digest
_LOCK_NAME = ".eviction.lock"
_LOCK_SECONDS = 5.0  # others hold it for as long as it takes to remove a few files
_KEY = re.compile(r"[0-9a-f]{16,128}")
_ABANDONED_SECONDS = 3600
# What will not pass by itself; anything else costs one embedding its place on the disk.
_LASTING_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.EFBIG,
)


class _NoRoomError(Exception):
    """One embedding cannot be kept on the disk without exceeding the limit."""


class CacheWarning(UserWarning):
    """The disk cannot be used; embeddings are kept in memory only."""


def embedding_key(rgb: npt.NDArray[np.uint8], preprocessing: Preprocessing, model_id: str) -> str:
    """Return the key of an image's embedding.

    Parameters
    ----------
    rgb : ndarray of shape (H, W, 3), uint8
        What the model sees: contrast and choice of channels are already in it.
    preprocessing : Preprocessing
        Of the model.
    model_id : str
        Name and digest of the weights.

    Returns
    -------
    str
        40 hexadecimal digits of a BLAKE2b digest.
    """
    header = {
        "format": FORMAT,
        "shape": list(rgb.shape),
        "dtype": rgb.dtype.str,
        "preprocessing": asdict(preprocessing),
        "model_id": model_id,
    }
    digest = hashlib.blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=20)
    digest.update(b"\0")
    rows = max(1, (1 << 24) // max(1, rgb[:1].nbytes))
    for start in range(0, rgb.shape[0], rows):
        digest.update(np.ascontiguousarray(rgb[start : start + rows]).data)
    return digest.hexdigest()


class EmbeddingCache:
    """A mapping from keys to image embeddings, bounded in memory and on disk.

    Safe with several threads and several processes, after crashes, and on disks that are full or
    read-only: the worst that happens is that an embedding is computed again.

    Parameters
    ----------
    directory : path-like, optional
        Folder of the files; created when first written to. None keeps embeddings in memory only.
    max_memory_bytes, max_disk_bytes : int
        The least recently used embeddings go when these are exceeded; 0 switches a level off.
    compact : bool
        Whether new embeddings are written in about a fifth of float16's bytes. Masks from them
        agree with fresh ones to a mean IoU of 0.998; writing one takes about 0.2 s longer.

    Notes
    -----
    Files are written under a temporary name and carry a digest of their content: half files and
    damaged ones are computed again. Threads that ask for the same key at the same time wait for one
    computation. Processes may compute the same key twice; whoever finishes last writes the same
    content, or leaves what is there where the system does not let a file be replaced while another
    process reads it (Windows). A disk that is full or may not be written to is not tried again; of
    other failures to write, which may pass, only the log tells. Processes take turns, by a lock, to
    make room and to give a new file its name, so that the folder holds ``max_disk_bytes`` at any
    time; who waits for 5 seconds in vain keeps that embedding in memory only.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        max_memory_bytes: int = DEFAULT_MEMORY_BYTES,
        max_disk_bytes: int = DEFAULT_DISK_BYTES,
        compact: bool = False,
    ) -> None:
        if max_memory_bytes < 0 or max_disk_bytes < 0:
            raise ValueError(
                f"sizes must be 0 or more bytes, got {max_memory_bytes} and {max_disk_bytes}"
            )
        self.directory = None if directory is None else Path(directory)
        self.max_memory_bytes = max_memory_bytes
        self.max_disk_bytes = max_disk_bytes
        self.compact = compact
        self._memory: OrderedDict[str, PackedEmbedding] = OrderedDict()
        self._memory_bytes = 0
        self._flights: dict[str, _Flight] = {}
        self._lock = threading.Lock()
        self._is_disk_writable = self.directory is not None and max_disk_bytes > 0

    @property
    def memory_bytes(self) -> int:
        """Bytes of the embeddings in memory."""
        return self._memory_bytes

    @property
    def disk_bytes(self) -> int:
        """Bytes of the embeddings on disk."""
        return sum(size for _, size, _ in self._files())

    def get_or_compute(
        self,
        key: str,
        compute: Callable[[], ImageEmbedding],
        *,
        device: torch.device | str = "cpu",
    ) -> ImageEmbedding:
        """Return the embedding of a key, computing it when it is not there.

        Parameters
        ----------
        key : str
            From :func:`embedding_key`.
        compute : callable
            Encodes the image. Called at most once at a time for a key; when it raises, the error
            goes to its caller and another waiting thread tries.
        device : device
            Where the tensors shall be.

        Returns
        -------
        ImageEmbedding
            Rounded to float16, in the type that ``compute`` returned; tensors of the caller's own.

        Raises
        ------
        ValueError
            If the key is none.
        """
        _check_key(key)
        while True:
            with self._lock:
                flight = self._flights.get(key)
                is_ours = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight()
            if is_ours:
                return self._fly(key, flight, compute, device)
            flight.landed.wait()
            if flight.packed is not None:
                return flight.packed.unpack(device)

    def get(self, key: str, *, device: torch.device | str = "cpu") -> ImageEmbedding | None:
        """Return the embedding of a key, or None; see :meth:`get_or_compute`."""
        _check_key(key)
        packed = self._find(key)
        return None if packed is None else packed.unpack(device)

    def holds(self, key: str) -> bool:
        """Return whether there is an embedding of a key, without reading it.

        A damaged file counts as long as nobody has tried to read it.

        Raises
        ------
        ValueError
            If the key is none.
        """
        _check_key(key)
        with self._lock:
            if key in self._memory:
                return True
        path = self._path(key)
        return path is not None and path.is_file()

    def bytes_of(self, key: str) -> int:
        """Return how large the file of a key is; 0 where there is none.

        Raises
        ------
        ValueError
            If the key is none.
        """
        _check_key(key)
        path = self._path(key)
        try:
            return 0 if path is None else path.stat().st_size
        except OSError:
            return 0

    def clear(self) -> None:
        """Remove all embeddings from memory and disk.

        Raises
        ------
        CacheError
            If a file cannot be removed.
        """
        with self._lock:
            self._memory.clear()
            self._memory_bytes = 0
        for path, _, _ in self._files():
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise CacheError(
                    f"cannot remove {path}: {error.strerror}; remove the folder by hand"
                ) from error

    def _fly(
        self,
        key: str,
        flight: _Flight,
        compute: Callable[[], ImageEmbedding],
        device: torch.device | str,
    ) -> ImageEmbedding:
        """Find or compute an embedding, for ourselves and for all who wait."""
        try:
            packed = self._find(key)
            if packed is None:
                embedding = compute()
                packed = PackedEmbedding.of(embedding, compact=self.compact)
                if packed is None:
                    return embedding
                self._keep_on_disk(key, packed)
                packed = packed.in_memory()
                self._keep_in_memory(key, packed)
            flight.packed = packed
            return packed.unpack(device)
        finally:
            with self._lock:
                del self._flights[key]
            flight.landed.set()

    def _find(self, key: str) -> PackedEmbedding | None:
        """Return a kept embedding from memory or disk."""
        with self._lock:
            packed = self._memory.get(key)
            if packed is not None:
                self._memory.move_to_end(key)
                return packed
        packed = self._read(key)
        if packed is not None:
            self._keep_in_memory(key, packed)
        return packed

    def _keep_in_memory(self, key: str, packed: PackedEmbedding) -> None:
        """Keep an embedding in memory, dropping the least recently used ones."""
        if packed.nbytes > self.max_memory_bytes:
            return
        with self._lock:
            older = self._memory.pop(key, None)
            self._memory_bytes += packed.nbytes - (0 if older is None else older.nbytes)
            self._memory[key] = packed
            while self._memory_bytes > self.max_memory_bytes:
                _, dropped = self._memory.popitem(last=False)
                self._memory_bytes -= dropped.nbytes

    def _path(self, key: str) -> Path | None:
        """Return the file of a key."""
        return None if self.directory is None else self.directory / f"{key}{_SUFFIX}"

    def _read(self, key: str) -> PackedEmbedding | None:
        """Return an embedding from disk; a damaged file is removed."""
        path = self._path(key)
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return None
        packed = PackedEmbedding.from_bytes(content)
        with contextlib.suppress(OSError):
            if packed is None:
                path.unlink()
            else:
                os.utime(path)  # the time of last use
        return packed

    def _keep_on_disk(self, key: str, packed: PackedEmbedding) -> None:
        """Write an embedding to disk; where that is of no use, warn once and stop trying."""
        path = self._path(key)
        if path is None or not self._is_disk_writable:
            return
        content = packed.to_bytes()
        if len(content) > self.max_disk_bytes:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as turn, atomic_path(path, flush=False) as temporary:
                temporary.write_bytes(content)
                self._take_turn(path.parent, turn)  # until the file has its name
                self._make_room(path, len(content))
        except _NoRoomError as error:
            _LOG.info("an embedding is kept in memory only: %s", error)
        except OSError as error:
            self._stop_writing(f"cannot create {path.parent}: {error.strerror}")
            return
        except OutputError as error:
            # What is there has the same content: Windows keeps it while another process reads it.
            if not path.is_file():
                if getattr(error.__cause__, "errno", None) in _LASTING_ERRORS:
                    self._stop_writing(str(error))
                else:
                    _LOG.warning("an embedding is kept in memory only: %s", error)

    def _stop_writing(self, reason: str) -> None:
        """Use memory only from now on, and say so once."""
        with self._lock:
            is_first, self._is_disk_writable = self._is_disk_writable, False
        if is_first:
            warnings.warn(
                f"embeddings are kept in memory only: {reason}", CacheWarning, stacklevel=5
            )

    def _take_turn(self, folder: Path, turn: contextlib.ExitStack) -> None:
        """Keep other processes from making room or adding files until ``turn`` ends."""
        lock = filelock.FileLock(folder / _LOCK_NAME)
        try:
            turn.enter_context(lock.acquire(timeout=_LOCK_SECONDS, poll_interval=0.01))
        except filelock.Timeout as error:
            raise _NoRoomError(f"another process holds {lock.lock_file}") from error
        except (NotImplementedError, OSError):  # a disk that knows no locks, another user's lock
            return

    def _make_room(self, path: Path, size: int) -> None:
        """Remove the least recently used files until one more fits, and abandoned ones."""
        self._sweep()
        files = sorted(self._files(), key=lambda file: file[2])
        others = [file for file in files if file[0] != path]  # what it replaces takes no room
        total = size + sum(length for _, length, _ in others)
        for other, length, _ in others:
            if total <= self.max_disk_bytes:
                return
            with contextlib.suppress(OSError):  # open elsewhere (Windows): next time
                other.unlink()
                total -= length
        if total > self.max_disk_bytes:
            raise _NoRoomError(f"older files in {path.parent} cannot be removed")

    def _sweep(self) -> None:
        """Remove temporary files that a crash left behind."""
        if self.directory is None:
            return
        now = time.time()
        for path in self.directory.glob(f".*{TEMPORARY_SUFFIX}"):
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()

    def _files(self) -> Iterator[tuple[Path, int, float]]:
        """Yield path, size and time of last use of each file."""
        if self.directory is None:
            return
        try:
            entries = list(os.scandir(self.directory))
        except OSError:
            return
        for entry in entries:
            if entry.name.endswith(_SUFFIX) and _KEY.fullmatch(entry.name[: -len(_SUFFIX)]):
                with contextlib.suppress(OSError):  # another process has just removed it
                    status = entry.stat()
                    yield Path(entry.path), status.st_size, status.st_mtime


class _Flight:
    """One computation that others may wait for."""

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.packed: PackedEmbedding | None = None


def _check_key(key: str) -> None:
    """Refuse what could be a path."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"key must be 16 to 128 hexadecimal digits, got {key!r}")
