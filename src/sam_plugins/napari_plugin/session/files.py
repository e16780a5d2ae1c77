"""The session file: a ZIP of one JSON document and the planes of the labels that were worked on.

``session.json`` holds the state (prompts with their order, choices, masks as COCO RLE, what the
model saw, the model's id), what is known of the image, and the parameters. ``labels/N.zlib`` is a
plane of the labels, as NumPy writes arrays, compressed.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

import sam_plugins
from sam_plugins.errors import SamPluginsError
from sam_plugins.model.io.atomic import atomic_path
from sam_plugins.napari_plugin.session.documents import (
    plane_from_document,
    plane_to_document,
    state_from_document,
    state_to_document,
)
from sam_plugins.napari_plugin.session.planes import LabelArray, LabelCanvas, Plane, Window
from sam_plugins.napari_plugin.session.values import State

SUFFIX = ".samsession"
_FORMAT, _VERSION = "sam_plugins session", 1
_DOCUMENT = "session.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # equal sessions are equal files


class SessionFileError(SamPluginsError):
    """A session file cannot be read."""


@dataclass(frozen=True)
class ImageNote:
    """What tells an image again: its name, where it came from, its shape, and some of its pixels.

    Parameters
    ----------
    name : str
    source : str, optional
        Path of the file, where there is one.
    shape : tuple of int
        Of the plane axes and the others, without channels.
    fingerprint : str
        A digest of sampled pixels.
    placement : mapping
        Where labels lie in the world: keywords of a layer.
    """

    name: str
    source: str | None
    shape: tuple[int, ...]
    fingerprint: str
    placement: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SavedSession:
    """All that is in a session file.

    Parameters
    ----------
    state : State
    shape : tuple of int
        Of the labels.
    dtype : str
        Of the labels.
    planes : mapping of Plane to ndarray of shape (H, W)
        Planes of the labels; the others are as they were before the session. Where planes cross,
        the last one has the labels that count.
    image : ImageNote, optional
    model : str
        Name of the model.
    parameters : mapping
        Of the widget.
    """

    state: State
    shape: tuple[int, ...]
    dtype: str
    planes: Mapping[Plane, LabelArray] = field(default_factory=dict)
    image: ImageNote | None = None
    model: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def count_objects(self) -> int:
        """Return how many objects there are in the labels, wherever they came from.

        Those of a class have one number and are still several; the slices on which an object was
        prompted are one.
        """
        labels: set[int] = set()
        for plane in self.planes.values():
            labels.update(np.unique(plane).tolist())
        labels.discard(0)
        others = {
            key
            for known in self.state.objects
            if known.followed is not None
            for key, _ in known.followed.anchors
            if key != known.key
        }
        named = Counter(one.label for one in self.state.objects if one.key not in others)
        return sum(max(1, named[label]) for label in labels)

    def require_canvas(self, canvas: LabelCanvas) -> None:
        """Refuse labels that the session cannot go on with.

        Raises
        ------
        SessionFileError
            If these are of another shape, or of a type that cannot hold the numbers.
        """
        if tuple(canvas.shape) != self.shape:
            raise SessionFileError(
                f"the session is about labels of shape {self.shape}, got {tuple(canvas.shape)}; "
                "open the image that it was made with"
            )
        largest = max((int(labels.max(initial=0)) for labels in self.planes.values()), default=0)
        holds = int(np.iinfo(canvas.dtype).max)
        if largest > holds:
            raise SessionFileError(
                f"the session has objects up to number {largest}, but labels of type "
                f"{canvas.dtype} hold numbers up to {holds}; convert the layer to {self.dtype} "
                "first (Convert data type in its menu)"
            )

    def write_labels(self, canvas: LabelCanvas) -> None:
        """Write the planes to the labels that the session goes on with.

        Raises
        ------
        SessionFileError
            As :meth:`require_canvas` does; nothing is written then.
        """
        self.require_canvas(canvas)
        for plane, labels in self.planes.items():
            canvas.write(plane, Window(0, 0, *labels.shape), labels.astype(canvas.dtype))


@dataclass(frozen=True)
class _Kept:
    """A plane as it was written: how often it had changed by then, a digest, and what is stored."""

    revision: int
    digest: bytes
    content: bytes


class SessionWriter:
    """Writes a session again and again; what did not change is not compressed again.

    Parameters
    ----------
    path : path-like
        The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._kept: dict[Plane, _Kept] = {}

    def write(self, saved: SavedSession, revisions: Mapping[Plane, int] | None = None) -> None:
        """Write the file, complete or not at all.

        Parameters
        ----------
        saved : SavedSession
        revisions : mapping of Plane to int, optional
            How often each plane has changed; planes may be missing in ``saved.planes`` that have
            not changed since the last time.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        revisions = revisions or {}
        for plane, labels in saved.planes.items():
            before, digest = self._kept.pop(plane, None), _digest(labels)
            is_known = before is not None and before.digest == digest
            content = before.content if before is not None and is_known else _packed(labels)
            # It comes last: of planes that cross, the one that was read last has what counts.
            self._kept[plane] = _Kept(revisions.get(plane, 0), digest, content)
        document = {
            "format": _FORMAT,
            "version": _VERSION,
            "written_by": sam_plugins.__version__,
            "image": None
            if saved.image is None
            else {
                "name": saved.image.name,
                "source": saved.image.source,
                "shape": list(saved.image.shape),
                "fingerprint": saved.image.fingerprint,
                "placement": dict(saved.image.placement),
            },
            "model": saved.model,
            "parameters": dict(saved.parameters),
            "labels": {
                "shape": list(saved.shape),
                "dtype": saved.dtype,
                "planes": [plane_to_document(plane) for plane in self._kept],
            },
            "state": state_to_document(saved.state),
        }
        with atomic_path(self.path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            text = json.dumps(document, separators=(",", ":"))
            archive.writestr(zipfile.ZipInfo(_DOCUMENT, _DATE), text, zipfile.ZIP_DEFLATED)
            for number, kept in enumerate(self._kept.values()):
                archive.writestr(zipfile.ZipInfo(f"labels/{number}.zlib", _DATE), kept.content)

    def stale_planes(self, revisions: Mapping[Plane, int]) -> list[Plane]:
        """Return the planes that have changed since they were written."""
        return [
            plane
            for plane, revision in revisions.items()
            if plane not in self._kept or self._kept[plane].revision != revision
        ]

    def is_written(self, plane: Plane, labels: LabelArray) -> bool:
        """Return whether a plane was written with just these labels."""
        return plane in self._kept and self._kept[plane].digest == _digest(labels)


def save_session(path: str | os.PathLike[str], saved: SavedSession) -> None:
    """Write a session file, complete or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    SessionWriter(path).write(saved)


def load_session(path: str | os.PathLike[str]) -> SavedSession:
    """Read a session file.

    Raises
    ------
    SessionFileError
        If it is missing, damaged, none of ours, or of a later version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            document = json.loads(archive.read(_DOCUMENT))
            _require_ours(document, path)
            described = document["labels"]
            planes = {
                plane_from_document(entry): _unpacked(archive.read(f"labels/{number}.zlib"))
                for number, entry in enumerate(described["planes"])
            }
        image = document["image"]
        return SavedSession(
            state_from_document(document["state"]),
            tuple(int(length) for length in described["shape"]),
            str(described["dtype"]),
            planes,
            None
            if image is None
            else ImageNote(
                image["name"],
                image["source"],
                tuple(image["shape"]),
                image["fingerprint"],
                dict(image["placement"]),
            ),
            str(document["model"]),
            dict(document["parameters"]),
        )
    except SessionFileError:
        raise
    except OSError as error:
        raise SessionFileError(
            f"cannot read the session {path}: {error.strerror or error}; check the path"
        ) from error
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, TypeError, EOFError) as error:
        raise SessionFileError(
            f"{path} is no session file, or is damaged ({error!r}); an earlier one may be in the "
            "same folder"
        ) from error


def _require_ours(document: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Refuse other documents, and later versions."""
    if document.get("format") != _FORMAT:
        raise SessionFileError(f"{path} must be a session of sam_plugins, got another document")
    if document["version"] > _VERSION:
        raise SessionFileError(
            f"{path} is of version {document['version']}, this program reads up to {_VERSION}; "
            "update sam_plugins"
        )


def _digest(labels: LabelArray) -> bytes:
    """Return what tells a plane of labels from others."""
    digest = xxhash.xxh3_128(f"{labels.dtype.str} {labels.shape}".encode())
    # No copy: it would be made while all other threads wait.
    digest.update(np.ascontiguousarray(labels).data)
    return digest.digest()


def _packed(labels: LabelArray) -> bytes:
    """Return a plane of labels as a compressed NumPy file."""
    array = io.BytesIO()
    np.save(array, np.ascontiguousarray(labels), allow_pickle=False)
    return zlib.compress(array.getbuffer(), 1)


def _unpacked(content: bytes) -> LabelArray:
    """Return the plane of a compressed NumPy file."""
    array = io.BytesIO(zlib.decompress(content))
    labels: LabelArray = np.load(array, allow_pickle=False)
    return labels
