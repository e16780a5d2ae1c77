"""What a picture file holds, told by digests, so that the same picture is known again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_plugins.errors import LabelStoreError, UnreadableImageError
from sam_plugins.model.engine.label_store.types import ImageRecord
from sam_plugins.model.io.images import open_image, read_image
from sam_plugins.model.io.opened import Picture, decoding

_CHUNK_BYTES = 1 << 20
_ID_DIGITS = 20


@dataclass(frozen=True)
class Content:
    """What is in a file.

    Attributes
    ----------
    sha256 : str
        Of the file; of names and contents of all files of a Zarr folder.
    pixels_sha256 : str
        Of type, shape and values of the pixels.
    size_hw : (int, int)
    """

    sha256: str
    pixels_sha256: str
    size_hw: tuple[int, int]


def read_content(path: Path, plane: int | None = None) -> Content:
    """Read a picture and return what tells it from others.

    Raises
    ------
    UnreadableImageError
        If it cannot be read.
    UnusableImageError
        If it is a stack and no plane is chosen, or there is no such plane.
    """
    sha256 = file_sha256(path)
    with open_image(path) as image:
        picture = image.plane(plane)
    return Content(sha256, pixels_sha256(picture.pixels), size_of(picture))


def size_of(picture: Picture) -> tuple[int, int]:
    """Return height and width of a picture whose channels may come first."""
    shape = picture.pixels.shape
    height, width = shape[1:] if picture.channel_axis == 0 else shape[:2]
    return int(height), int(width)


def file_sha256(path: Path) -> str:
    """Return the digest of a file, or of all that is in a folder.

    Raises
    ------
    UnreadableImageError
        If it cannot be read.
    """
    with decoding(path):
        if not path.is_dir():
            stat = path.stat()
            return _digest(path, stat.st_size, stat.st_mtime_ns)
        digest = hashlib.sha256()
        for one in sorted(inner for inner in path.rglob("*") if inner.is_file()):
            digest.update(one.relative_to(path).as_posix().encode() + b"\0")
            _feed(digest, one)
    return digest.hexdigest()


def read_unchanged(record: ImageRecord) -> NDArray[Any]:
    """Read the pixels of a picture, if its file is what was added; needs no store.

    Returns
    -------
    ndarray of shape (H, W), (H, W, S) or (C, H, W)
        As in the file.

    Raises
    ------
    UnreadableImageError
        If the file is gone or damaged.
    LabelStoreError
        If the file has changed since it was added.
    """
    require_unchanged(record)
    return read_image(record.path, plane=record.plane)


def require_unchanged(record: ImageRecord) -> None:
    """Refuse a file that is gone, or no longer what was labelled."""
    if not record.path.exists():
        raise UnreadableImageError(
            f"cannot read {record.path}: no such file; if it was moved, import it from where it is "
            "now: it is known by its content"
        )
    found = file_sha256(record.path)
    if found != record.sha256:
        raise LabelStoreError(
            f"{record.path} has changed since it was added (SHA-256 {found[:12]}, was "
            f"{record.sha256[:12]}); put the old file back, or add the new one as another "
            "picture"
        )


def pixels_sha256(pixels: NDArray[Any]) -> str:
    """Return the digest of an array: its type, shape and values.

    Examples
    --------
    >>> grey = np.zeros((2, 3), np.uint8)
    >>> pixels_sha256(grey) == pixels_sha256(np.zeros((3, 2), np.uint8))
    False
    """
    little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    digest = hashlib.sha256(f"{little.dtype.str} {little.shape}\n".encode())
    digest.update(np.ascontiguousarray(little).data)
    return digest.hexdigest()


def image_id_of(sha256: str, plane: int | None) -> str:
    """Return the id of a picture, which follows from the content of its file.

    Examples
    --------
    >>> image_id_of("00ff" * 16, 3)
    '00ff00ff00ff00ff00ff-z3'
    """
    start = sha256[:_ID_DIGITS]
    return start if plane is None else f"{start}-z{plane}"


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 - they tell versions apart
    """Return the digest of a file, read once as long as it seems unchanged (think of stacks)."""
    digest = hashlib.sha256()
    _feed(digest, path)
    return digest.hexdigest()


def _feed(digest: Any, path: Path) -> None:  # noqa: ANN401
    """Read a file into a digest."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
