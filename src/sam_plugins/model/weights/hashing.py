"""Digests of files, written as ``algorithm:hex``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import xxhash

_CHUNK_BYTES = 1 << 20


class _Hasher(Protocol):
    """What hashlib and xxhash have in common."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes."""


def split_digest(digest: str) -> tuple[str, str]:
    """Split ``"algorithm:hex"`` into its parts; without a colon the algorithm is SHA-256.

    Examples
    --------
    >>> split_digest("xxh128:00ff")
    ('xxh128', '00ff')
    """
    algorithm, colon, value = digest.rpartition(":")
    return (algorithm.lower() if colon else "sha256", value.lower())


def file_digests(path: Path, algorithms: Iterable[str]) -> dict[str, str]:
    """Read a file once and return its digests.

    Parameters
    ----------
    path : Path
        An existing file.
    algorithms : iterable of str
        Names that :mod:`hashlib` or ``xxhash`` know: ``"sha256"``, ``"xxh128"``.

    Returns
    -------
    dict of str to str
        Lower-case hexadecimal digest by algorithm.

    Raises
    ------
    ValueError
        If an algorithm is unknown.
    """
    hashers = {algorithm: _new_hasher(algorithm) for algorithm in dict.fromkeys(algorithms)}
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            for hasher in hashers.values():
                hasher.update(chunk)
    return {algorithm: hasher.hexdigest() for algorithm, hasher in hashers.items()}


def _new_hasher(algorithm: str) -> _Hasher:
    """Return a fresh hasher."""
    if algorithm in hashlib.algorithms_available:
        return hashlib.new(algorithm, usedforsecurity=False)
    if algorithm in xxhash.algorithms_available:
        factory: Callable[[], _Hasher] = getattr(xxhash, algorithm)
        return factory()
    raise ValueError(f"unknown hash algorithm {algorithm!r}; use sha256, md5 or xxh128")
