"""From a task's address of a picture to its file, kept on the disk and asked for again in time."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import io
import json
import math
import os
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_plugins.errors import OutputError, UnreadableImageError, UnusableImageError
from sam_plugins.labelstudio_backend.addresses import Where, locate
from sam_plugins.labelstudio_backend.client import LabelStudioClient
from sam_plugins.labelstudio_backend.download import (
    NOT_MODIFIED,
    OF_SERVER,
    Answer,
    DownloadFailedError,
    download,
)
from sam_plugins.labelstudio_backend.logs import LOG
from sam_plugins.labelstudio_backend.problems import Problems
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.io.atomic import atomic_path
from sam_plugins.model.io.images import open_content
from sam_plugins.model.io.opened import OpenImage

_SUFFIX = ".picture"
_UNAUTHORISED = 401
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_DISK = "pictures on the disk"
_BYTES_OF_PIXEL = 16
"""Of a picture as large as the limit: four channels of 32 bits."""


@dataclass(frozen=True)
class Source:
    """A picture of a task: where it is, and how Label Studio is asked.

    Parameters
    ----------
    url : str
        As it stands in the task's data.
    task : str
        Number of the task.
    client : LabelStudioClient, optional
        Without it only public pictures can be had.
    """

    url: str
    task: str = ""
    client: LabelStudioClient | None = None

    @property
    def key(self) -> str:
        """The picture's name in caches: no two servers share one."""
        base = self.client.url if self.client is not None else ""
        # a storage's picture is the same whichever task asks
        return hashlib.sha256(f"{base}\0{self.url}".encode()).hexdigest()[:40]


@dataclass(frozen=True)
class PictureFile:
    """A picture that was fetched.

    Parameters
    ----------
    digest : str
        SHA-256 of the file: other content, other digest.
    content : bytes
        The file.
    checked_at : float
        When its server last said that this is the content; infinity where it can never change.
    validators : mapping
        For asking again.
    """

    digest: str
    content: bytes = field(repr=False)
    checked_at: float = 0.0
    validators: Mapping[str, str] = field(default_factory=dict)


class PictureFiles:
    """Fetches pictures and keeps them, bounded on the disk; safe with threads.

    Parameters
    ----------
    settings : Settings
    problems : Problems, optional
        Told for as long as the disk takes no pictures.
    """

    def __init__(self, settings: Settings, problems: Problems | None = None) -> None:
        self._settings = settings
        self._problems = problems
        self._folder = settings.folder / "pictures"
        self._lock = threading.Lock()
        self._writes = 0

    def get(self, source: Source) -> PictureFile:
        """Return a picture as it is now.

        Raises
        ------
        ImageError
            If it may not or cannot be fetched; says what to do.
        """
        label_studio = source.client.url if source.client is not None else self._settings.url
        where = locate(self._mapped(source.url), label_studio, source.task)
        if where.url[:5].lower() == "data:":
            content = _decoded(where.url, self._settings)
            return PictureFile(_digest(content), content, float("inf"))
        kept = self._read(source.key)
        if kept is not None and is_fresh(kept.checked_at, self._settings):
            return kept
        answer = self._fetched(where, source, label_studio, kept.validators if kept else None)
        if answer.status == NOT_MODIFIED and kept is not None:
            content, validators = kept.content, kept.validators
        else:
            content, validators = answer.content, answer.validators
        now = float("inf") if where.is_fixed else time.time()
        found = PictureFile(_digest(content), content, now, validators)
        self._keep(source.key, found)
        return found

    def kept(self, key: str) -> PictureFile | None:
        """Return a picture that is on the disk, by the key of its source; None where none is."""
        return self._read(key)

    def _fetched(
        self,
        where: Where,
        source: Source,
        label_studio: str,
        validators: Mapping[str, str] | None,
    ) -> Answer:
        """Fetch, once more with a new access token where the old one was refused."""
        client = source.client

        def authorise() -> Mapping[str, str]:
            return client.headers() if client is not None else {}

        end = time.monotonic() + self._settings.image_seconds
        fetch = partial(download, where, self._settings, label_studio, authorise=authorise, end=end)
        try:
            return fetch(validators=validators)
        except DownloadFailedError as error:
            # once more: an access token that ran out, a connection that broke
            is_worth_it = error.is_worth_again and error.status in OF_SERVER
            if not is_worth_it or time.monotonic() >= end:
                raise
            if client is not None and error.status == _UNAUTHORISED:
                client.forget_access()
            return fetch()

    def _mapped(self, url: str) -> str:
        """Return an address as this backend reaches it."""
        for said, real in self._settings.url_map.items():
            if url.startswith(said.rstrip("/") + "/"):
                return real.rstrip("/") + url[len(said.rstrip("/")) :]
        return url

    def _path(self, key: str) -> Path:
        """Return the file of a picture."""
        return self._folder / f"{key}{_SUFFIX}"

    def _read(self, key: str) -> PictureFile | None:
        """Return a kept picture; a damaged one counts as none."""
        path = self._path(key)
        try:
            head, _, content = path.read_bytes().partition(b"\n")
            known = json.loads(head)
            if known["digest"] != _digest(content):
                return None
            with contextlib.suppress(OSError):
                os.utime(path)
            return PictureFile(
                known["digest"], content, float(known["checked_at"]), known["validators"]
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _keep(self, key: str, found: PictureFile) -> None:
        """Write a picture; where the disk takes none, the next request fetches it again."""
        limit = self._settings.images_mib * 2**20
        if len(found.content) > limit:
            return
        head = {name: value for name, value in asdict(found).items() if name != "content"}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(self._path(key), flush=False) as temporary:
                temporary.write_bytes(json.dumps(head).encode() + b"\n" + found.content)
            with self._lock:
                self._writes += 1
                if self._writes % 16 == 1:
                    self._make_room(limit)
        except (OSError, OutputError) as error:
            self._tell(
                f"pictures are fetched again each time, because none can be kept: {error}; free "
                f"space in {self._folder.parent}, or set SAM_PLUGINS_LS_FOLDER to a folder on a "
                "disk that has some"
            )
        else:
            if self._problems is not None:
                self._problems.end(_DISK)

    def _tell(self, message: str) -> None:
        """Say that the disk takes no pictures, once in the log."""
        if self._problems is None or self._problems.stand(_DISK, "disk", message):
            LOG.warning(message)

    def _make_room(self, limit: int) -> None:
        """Remove the pictures that were not used for longest."""
        files = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(OSError):
                files.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= limit:
                return
            with contextlib.suppress(OSError):
                Path(path).unlink()
                total -= size


def is_fresh(checked_at: float, settings: Settings) -> bool:
    """Return whether a picture need not be asked for again."""
    return time.time() - checked_at < settings.fresh_seconds


def decode_rgb(content: bytes, settings: Settings) -> npt.NDArray[np.uint8]:
    """Return what the model sees of a picture's file: upright, 8-bit RGB.

    Parameters
    ----------
    content : bytes
        PNG, JPEG, WebP, BMP, GIF or TIFF.
    settings : Settings
        With the limit of pixels, which is checked before anything is decoded.

    Raises
    ------
    ImageError
        If it is damaged, too large or no picture.
    """
    _check_pixels(content, settings)
    with open_content(content, "the picture") as opened:
        height, width = (opened.pixels.shape[opened.axes.index(axis)] for axis in "YX")
        _refuse_many(width, height, settings)
        _refuse_deep(opened, settings)
        _refuse_stack(opened)
        picture = opened.plane()
    return to_rgb(picture.pixels, picture.default_channels, channel_axis=picture.channel_axis)


def _check_pixels(content: bytes, settings: Settings) -> None:
    """Refuse a picture whose header promises too many pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(content), formats=_FORMATS) as opened:
                width, height = opened.size
        except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
            if isinstance(error, Image.DecompressionBombError):
                raise _too_many(settings) from error
            return  # whoever reads it next says what is wrong
    _refuse_many(width, height, settings)


def _refuse_many(width: int, height: int, settings: Settings) -> None:
    """Refuse a picture of too many pixels."""
    if width * height > settings.max_image_megapixels * 1e6:
        raise _too_many(settings)


def _refuse_deep(opened: OpenImage, settings: Settings) -> None:
    """Refuse a picture whose channels make it large: a small file may promise hundreds."""
    sizes = dict(zip(opened.axes, opened.pixels.shape, strict=True))
    plane = math.prod(length for axis, length in sizes.items() if axis not in opened.stack_axes)
    bytes_of_plane = plane * np.dtype(opened.pixels.dtype).itemsize
    if bytes_of_plane > settings.max_image_megapixels * 1e6 * _BYTES_OF_PIXEL:
        raise UnreadableImageError(
            f"the picture needs {bytes_of_plane / 2**20:.0f} MiB with its channels, more than "
            f"{settings.max_image_megapixels:g} million pixels of {_BYTES_OF_PIXEL} bytes; raise "
            "SAM_PLUGINS_LS_MAX_IMAGE_MEGAPIXELS, or leave out channels"
        )


def _refuse_stack(opened: OpenImage) -> None:
    """Refuse several pictures in one file: nobody can say which one is meant."""
    planes = math.prod(opened.stack_axes.values())
    if planes > 1:
        raise UnusableImageError(
            f"the picture is a stack of {planes} planes, and Label Studio's editor shows none; "
            "save each plane as a picture of its own, and import those as tasks, or as pages of a "
            "valueList"
        )


def _too_many(settings: Settings) -> UnreadableImageError:
    """Return the error of a picture that is too large."""
    return UnreadableImageError(
        f"the picture has more than {settings.max_image_megapixels:g} million pixels; raise "
        "SAM_PLUGINS_LS_MAX_IMAGE_MEGAPIXELS, or make it smaller"
    )


def _decoded(url: str, settings: Settings) -> bytes:
    """Return the content of a ``data:`` address."""
    head, comma, body = url.partition(",")
    if not comma or not head[5:].lower().startswith("image/"):
        raise UnreadableImageError("a data: address must be data:image/...;base64,...")
    if len(body) * 3 // 4 > settings.max_image_bytes:
        raise UnreadableImageError(
            f"the picture is larger than {settings.max_image_mib:g} MiB; make it smaller"
        )
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(unquote_to_bytes(body), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableImageError(f"the base64 of a data: address is damaged: {error}") from error


def _digest(content: bytes) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(content).hexdigest()
