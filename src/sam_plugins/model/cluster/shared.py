"""Whether a worker sees what this program sees: the same package, the same files, the same folder.

Checked before the first task of a run in every worker, also in those that join later. Otherwise a
worker with another model or another disk would answer, and nobody would know.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import secrets
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sam_plugins import __version__
from sam_plugins.errors import ClusterError

_HEAD_BYTES = 1 << 16
_MARKER = ".sam-plugins-shared-"


@dataclass(frozen=True)
class SharedFiles:
    """What every worker must find.

    Attributes
    ----------
    token : str
        Of the run.
    version, python : str
        Of the package and of Python (``3.11``): tasks are pickled.
    files : tuple of (str, str)
        Absolute paths and digests of their beginnings.
    marker : str or None
        A file in the folder of the results, which workers must be able to write to.
    """

    token: str
    version: str
    python: str
    files: tuple[tuple[str, str], ...] = ()
    marker: str | None = None

    @classmethod
    def of(cls, paths: Iterable[Path] = ()) -> SharedFiles:
        """Describe files as they are here; one that cannot be read is left to its task."""
        files = []
        for path in paths:
            with contextlib.suppress(OSError):
                files.append((os.path.abspath(path), _digest(path)))  # noqa: PTH100
        return cls(secrets.token_hex(8), __version__, _python(), tuple(files))

    def require(self) -> None:
        """Check this process.

        Raises
        ------
        ClusterError
            If something differs.
        """
        self.require_software(__version__, _python(), f"the worker on {socket.gethostname()}")
        for path, digest in self.files:
            self._require_file(Path(path), digest)
        if self.marker is not None:
            self._require_marker(Path(self.marker))

    def require_software(self, version: str, python: str, who: str) -> None:
        """Check what runs elsewhere.

        Raises
        ------
        ClusterError
            If it is another version of the package or of Python.
        """
        for name, there, here in (
            ("sam-plugins", version, self.version),
            ("Python", python, self.python),
        ):
            if there != here:
                raise ClusterError(
                    f"{who} runs {name} {there}, this program {here}: install the same there"
                )

    def _require_file(self, path: Path, digest: str) -> None:
        """Refuse a file that is missing or another one."""
        where = f"the worker on {socket.gethostname()}"
        remedy = "mount the same folder under the same path on every machine"
        try:
            found = _digest(path)
        except OSError as error:
            reason = error.strerror or error
            raise ClusterError(f"{where} cannot read {path} ({reason}); {remedy}") from error
        if found != digest:
            raise ClusterError(f"{where} sees another file as {path}; {remedy}")

    def _require_marker(self, marker: Path) -> None:
        """Refuse a folder of results that is another one, or closed."""
        folder = marker.parent
        where = f"the worker on {socket.gethostname()}"
        try:
            is_same = marker.read_text(encoding="ascii") == self.token
        except OSError:
            is_same = False
        if not is_same:
            raise ClusterError(
                f"{where} does not see the folder of the results, {folder}: mount it there under "
                "the same path"
            )
        if not os.access(folder, os.W_OK):
            raise ClusterError(f"{where} may not write into {folder}; give its user permission")


@contextlib.contextmanager
def marked(shared: SharedFiles, folder: Path | None) -> Iterator[SharedFiles]:
    """Put a file into the folder of the results, by which workers know it; remove it at the end."""
    if folder is None:
        yield shared
        return
    marker = Path(os.path.abspath(folder)) / f"{_MARKER}{shared.token}"  # noqa: PTH100
    try:
        marker.write_text(shared.token, encoding="ascii")
    except OSError as error:
        raise ClusterError(
            f"cannot write into {folder}: {error.strerror}; workers need to"
        ) from error
    try:
        yield replace(shared, marker=str(marker))
    finally:
        with contextlib.suppress(OSError):
            marker.unlink()


def _digest(path: Path) -> str:
    """Return what tells a file from another: its size and its beginning; a folder is a folder."""
    if path.is_dir():
        return "folder"
    digest = hashlib.blake2b(str(path.stat().st_size).encode(), digest_size=16)
    with path.open("rb") as file:
        digest.update(file.read(_HEAD_BYTES))
    return digest.hexdigest()


def _python() -> str:
    """Return the version of Python that decides whether pickles are understood."""
    return ".".join(platform.python_version_tuple()[:2])
