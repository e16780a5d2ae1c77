"""Sessions saved by themselves, beside the window's work, and found again after a crash."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import filelock

from sam_plugins.errors import OutputError
from sam_plugins.model.io.atomic import make_folder
from sam_plugins.napari_plugin.session.files import (
    SUFFIX,
    ImageNote,
    SavedSession,
    SessionFileError,
    SessionWriter,
    load_session,
)
from sam_plugins.napari_plugin.session.planes import LabelArray, Plane
from sam_plugins.napari_plugin.session.session import Session
from sam_plugins.napari_plugin.session.values import State

_LOG = logging.getLogger(__name__)

SECONDS = 3.0
_KEPT_FILES = 20  # of those that a person was offered and left; others stay until they are
_TRIES = 5
_STEP_SECONDS = 0.03  # what a step takes between its pixels and its end


class Autosave:
    """Writes a session to a file of its own whenever it has changed, in a thread.

    Parameters
    ----------
    session : Session
    folder : Path
        Of all session files.
    image : ImageNote, optional
    describe : callable
        Returns the model's name and the parameters.
    seconds : float
        How long a change that is no commit waits.
    on_error : callable, optional
        Told, in the thread, what went wrong, whatever it was; once for each kind of failure in a
        row.
    is_saved : bool
        Whether the session, as it is now, need not be saved: it is empty, or came from a file that
        stays.

    Notes
    -----
    While the session is alive its file is locked, so that another process does not offer it.
    """

    def __init__(
        self,
        session: Session,
        folder: Path,
        image: ImageNote | None,
        describe: Callable[[], tuple[str, Mapping[str, Any]]],
        *,
        seconds: float = SECONDS,
        on_error: Callable[[Exception], None] | None = None,
        is_saved: bool = True,
    ) -> None:
        self.image = image
        self._session = session
        self._describe = describe
        self._seconds = seconds
        self._on_error = on_error
        make_folder(folder)
        self.path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
        self._writer = SessionWriter(self.path)
        self._lock = _lock_of(self.path)
        self._lock.acquire(timeout=1)
        self._saved: State | None = session.state if is_saved else None
        self._revisions: Mapping[Any, int] = session.touched_planes
        self._complaint = ""
        self._wanted, self._is_over = threading.Event(), threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="sam-plugins autosave", daemon=True)
        self._thread.start()
        _forget_old_files(folder)

    def save_soon(self) -> None:
        """Save as soon as the thread can: something was committed."""
        self._wanted.set()

    def save_now(self) -> None:
        """Save before this returns.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with self._turn:
            self._look_again()
            state, revisions, planes = self._moment()
            if state is self._saved and revisions == self._revisions:
                return
            model, parameters = self._describe()
            canvas = self._session.canvas
            saved = SavedSession(
                state,
                tuple(canvas.shape),
                str(canvas.dtype),
                planes,
                self.image,
                model,
                parameters,
            )
            self._writer.write(saved, revisions)
            self._saved, self._revisions = state, revisions

    def _look_again(self) -> None:
        """Touch planes that somebody has changed without a word."""
        try:
            for plane in self._session.take_suspects():
                if not self._writer.is_written(plane, self._session.canvas.read(plane)):
                    self._session.touch(plane)
        except Exception:
            self._session.suspect()
            raise

    def _moment(self) -> tuple[State, dict[Plane, int], dict[Plane, LabelArray]]:
        """Return the state and the pixels of one moment, though people go on meanwhile.

        A step writes its pixels first. So they are read again where a step ended meanwhile, and
        where there are objects with numbers that the state does not know yet; not for ever, for
        other tools paint such numbers too.
        """
        for _ in range(_TRIES):
            state, revisions = self._session.state, self._session.touched_planes
            planes = {
                plane: self._session.canvas.read(plane)
                for plane in self._writer.stale_planes(revisions)
            }
            largest = max((int(labels.max(initial=0)) for labels in planes.values()), default=0)
            is_same = self._session.state is state and self._session.touched_planes == revisions
            if is_same and largest < state.next_label:
                break
            time.sleep(_STEP_SECONDS)
        return state, revisions, planes

    def close(self, *, discard: bool = False) -> None:
        """Save what is not saved, and end; or remove the file."""
        self._is_over.set()
        self._wanted.set()
        try:
            self._thread.join(timeout=10)
            if not discard:
                self._try()
        finally:
            self._lock.release()
        with contextlib.suppress(OSError):
            Path(self._lock.lock_file).unlink()
            if discard:
                self.path.unlink()

    def _work(self) -> None:
        """Save every few seconds, or when asked, until it is over."""
        while not self._is_over.is_set():
            self._wanted.wait(self._seconds)
            self._wanted.clear()
            if not self._is_over.is_set():
                self._try()

    def _try(self) -> None:
        """Save, and tell once what goes wrong; the next time may be better."""
        try:
            self.save_now()
            self._complaint = ""
        except Exception as error:  # noqa: BLE001 - whatever it is, what comes next is to be saved
            is_ours = isinstance(error, OutputError)
            complaint = str(error) if is_ours else type(error).__name__
            if complaint == self._complaint:
                return
            self._complaint = complaint
            if not is_ours:
                _LOG.warning("a session cannot be saved", exc_info=True)
            if self._on_error is not None:
                self._on_error(error)


def unfinished_sessions(*folders: Path, image: ImageNote | None = None) -> list[Path]:
    """Return the session files that no living process has open, the latest first.

    Parameters
    ----------
    *folders : Path
    image : ImageNote, optional
        Only sessions about this image.
    """
    found = []
    for path in _sessions_in(*folders):
        if _is_open(path):
            continue
        try:
            saved = load_session(path)
        except SessionFileError as error:
            _LOG.warning("%s", error)
            continue
        is_empty = not (saved.state.drafts or saved.state.objects or saved.planes)
        if not is_empty and (image is None or _is_same(saved.image, image)):
            found.append(path)
    return found


def renew_session(path: Path) -> None:
    """Let a session file count as the latest one: of those offered the oldest are removed."""
    with contextlib.suppress(OSError):
        os.utime(path)


def note_offered(path: Path) -> None:
    """Note that a session was shown to a person: only those may be removed to save space."""
    with contextlib.suppress(OSError):
        _offered_note(path).touch()


def forget_session(path: Path) -> None:
    """Remove a session file that is not wanted any more."""
    for gone in (path, _offered_note(path)):
        with contextlib.suppress(OSError):
            gone.unlink()


def _offered_note(path: Path) -> Path:
    """Return the file that is there once a session was offered."""
    return path.with_suffix(f"{SUFFIX}.offered")


def _sessions_in(*folders: Path) -> list[Path]:
    """Return the session files of some folders, the latest first."""
    return sorted((path for one in folders for path in one.glob(f"*{SUFFIX}")), key=_age)


def _is_same(one: ImageNote | None, other: ImageNote) -> bool:
    """Return whether two notes are about the same image, whatever it is called."""
    return one is not None and (one.shape, one.fingerprint) == (other.shape, other.fingerprint)


def _lock_of(path: Path) -> filelock.BaseFileLock:
    """Return the lock of a session file; the system lets go of it when a process dies."""
    return filelock.FileLock(path.with_suffix(f"{SUFFIX}.lock"), thread_local=False)


def _is_open(path: Path) -> bool:
    """Return whether a living process works on a session file."""
    lock = _lock_of(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except (NotImplementedError, OSError):  # a disk that knows no locks
        return False
    lock.release()
    with contextlib.suppress(OSError):
        Path(lock.lock_file).unlink()
    return False


def _age(path: Path) -> float:
    """Return a key that sorts later files first."""
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0


def _forget_old_files(folder: Path) -> None:
    """Remove all but the latest of the session files that were offered."""
    offered = [path for path in _sessions_in(folder) if _offered_note(path).exists()]
    for path in offered[_KEPT_FILES:]:
        if not _is_open(path):
            forget_session(path)
