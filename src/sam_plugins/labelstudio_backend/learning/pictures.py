"""Pictures of labelled tasks, kept beside the labels: what was learned from stays what it was."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from PIL import Image

from sam_plugins.errors import UnreadableImageError
from sam_plugins.model.engine.label_store.grouping import by_name
from sam_plugins.model.io.atomic import make_folder, write_bytes

FetchPicture = Callable[[str, int, str], bytes]
"""Returns the file of a picture by a project's key, a task's number and the URL in its data.

Raises an ImageError or a LabelStudioError.
"""

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
_SUFFIXES = {"TIFF": ".tif", "JPEG": ".jpg", "MPO": ".jpg"}


class Pictures:
    """The pictures of one project.

    Parameters
    ----------
    folder : Path
        Where they are kept.
    fetch : callable
        Returns the file behind a URL.
    """

    def __init__(self, folder: Path, fetch: Callable[[str], bytes]) -> None:
        self._folder = folder
        self._fetch = fetch
        self._groups: dict[Path, str] = {}

    def find(self, url: str) -> Path:
        """Return the file of a picture, fetched where it is not here yet.

        Raises
        ------
        ImageError
            If there is no picture behind the URL.
        LabelStudioError
            If Label Studio cannot be asked.
        OutputError
            If it cannot be kept.
        """
        name = hashlib.sha256(url.encode()).hexdigest()[:24]
        path = next(iter(self._folder.glob(f"{name}.*")), None)
        if path is None:
            content = self._fetch(url)
            make_folder(self._folder)
            path = self._folder / f"{name}{suffix_of(content, url)}"
            write_bytes(path, content)
        self._groups[path] = group_of_url(url)
        return path

    def group_of(self, path: Path) -> str:
        """Return which pictures a picture belongs with, as its URL tells."""
        return self._groups.get(path) or path.stem


def group_of_url(url: str) -> str:
    """Return which pictures belong together, by their folders and names in Label Studio.

    Examples
    --------
    >>> group_of_url("/data/upload/1/0a1b2c3d-slide7_x0_y512.png")
    '1/slide7'
    >>> group_of_url("/data/local-files/?d=plates/b2/well_3.tif")
    'plates/b2/well_3'
    """
    parts = urlsplit(url)
    if parts.scheme == "data":
        return hashlib.sha256(url.encode()).hexdigest()[:24]
    named = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    path = PurePosixPath(named.lstrip("/"))
    name = _UPLOADED.sub("", path.name) or path.name or "picture"
    stem = by_name(Path(name)).rpartition("/")[2] or name
    folder = path.parent.as_posix().removeprefix("data/upload/")
    return f"{folder}/{stem}" if folder not in {"", "."} else stem


def suffix_of(content: bytes, url: str = "") -> str:
    """Return the ending that fits a picture's content.

    Raises
    ------
    UnreadableImageError
        If it is no picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as picture:
                kind = str(picture.format)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        named = Path(urlsplit(url).path).suffix.lower()
        if named in {".tif", ".tiff"} and content[:2] in {b"II", b"MM"}:
            return ".tif"  # Of a kind that Pillow does not read.
        shown = url if len(url) < 200 else f"{url[:200]}..."
        raise UnreadableImageError(
            f"what lies behind {shown} is no picture ({len(content)} bytes, {error}); open the "
            "task in Label Studio, and look whether it is shown there"
        ) from error
    return _SUFFIXES.get(kind, f".{kind.lower()}")
