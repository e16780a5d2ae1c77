"""Arrays that labels are kept in: in memory, or chunk by chunk in a file where they are large."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import OutputError

LARGEST_IN_MEMORY = 1 << 30
"""Bytes; larger labels are kept in a file."""

_CHUNK_SIDE = 512
_TEMPORARY = "sam-plugins-labels-"


def label_bytes(shape: Sequence[int], dtype: npt.DTypeLike = np.uint32) -> int:
    """Return the memory that labels take.

    Examples
    --------
    >>> label_bytes((1000, 1024, 1024)) // (1 << 20)
    4000
    """
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def is_large(shape: Sequence[int], dtype: npt.DTypeLike = np.uint32) -> bool:
    """Return whether labels are kept in a file rather than in memory."""
    return label_bytes(shape, dtype) > LARGEST_IN_MEMORY


def empty_labels(shape: Sequence[int], dtype: npt.DTypeLike = np.uint32) -> Any:  # noqa: ANN401
    """Return labels without objects: in memory, or in a temporary file where they are too large."""
    if not is_large(shape, dtype):
        return np.zeros(shape, dtype)
    folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY))
    return create_labels(folder / "labels.zarr", shape, dtype)


def create_labels(
    path: Path,
    shape: Sequence[int],
    dtype: npt.DTypeLike = np.uint32,
) -> Any:  # noqa: ANN401
    """Make a Zarr array without objects, a chunk of which is part of one plane.

    Parameters
    ----------
    path : Path
        Must not exist yet.
    shape : sequence of int
        The last two axes are the planes.
    dtype : integer type

    Returns
    -------
    zarr.Array
        No chunk of it is on the disk until something is written to it.

    Raises
    ------
    OutputError
        If it exists, or cannot be written.
    """
    import zarr

    chunks = tuple(
        min(length, _CHUNK_SIDE) if axis >= len(shape) - 2 else 1
        for axis, length in enumerate(shape)
    )
    if path.exists():
        raise OutputError(f"{path} is there already; choose another name, or remove it")
    try:
        return zarr.create_array(path, shape=tuple(shape), chunks=chunks, dtype=np.dtype(dtype))
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({error.strerror or error}); choose another folder"
        ) from error


def open_labels(path: Path) -> Any:  # noqa: ANN401
    """Return labels of a file, to be written to."""
    import zarr

    return zarr.open_array(path, mode="r+")


def file_of(labels: Any) -> Path | None:  # noqa: ANN401
    """Return the file that labels are written to, None for those in memory."""
    root = getattr(getattr(labels, "store", None), "root", None)
    return None if root is None else Path(root)


def is_temporary(labels: Any) -> bool:  # noqa: ANN401
    """Return whether labels lie in a file that :func:`empty_labels` made."""
    path = file_of(labels)
    return path is not None and path.parent.name.startswith(_TEMPORARY)


def copy_labels(
    source: Any,  # noqa: ANN401
    target: Any,  # noqa: ANN401
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> None:
    """Copy labels into other ones of the same shape, plane by plane; empty planes cost nothing."""
    lengths = source.shape[:-2]
    total = int(np.prod(lengths))
    for done, at in enumerate(np.ndindex(*lengths)):
        progress(done, total)
        plane = np.asarray(source[at])
        if plane.any():
            target[at] = plane
    progress(total, total)


def is_empty(labels: Any) -> bool:  # noqa: ANN401
    """Return whether there are no objects in labels; of a file, whether nothing was written.

    Examples
    --------
    >>> is_empty(np.array([[0, 7]]))
    False
    """
    if isinstance(labels, np.ndarray):
        return not labels.any()
    return getattr(labels, "nchunks_initialized", 1) == 0


def largest_label(
    labels: Any,  # noqa: ANN401
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> int:
    """Return the largest number in labels; those of a file are read plane by plane.

    Examples
    --------
    >>> largest_label(np.array([[0, 7], [2, 0]]))
    7
    """
    if isinstance(labels, np.ndarray):
        return int(labels.max(initial=0))
    if is_empty(labels):
        return 0
    lengths = labels.shape[:-2]
    total, largest = int(np.prod(lengths)), 0
    for done, at in enumerate(np.ndindex(*lengths)):
        progress(done, total)
        largest = max(largest, int(np.asarray(labels[at]).max(initial=0)))
    return largest
