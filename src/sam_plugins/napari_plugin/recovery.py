"""Sessions of a window: saved while people work, and offered again after a crash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import QObject, Slot
from qtpy.QtCore import Signal as QtSignal

from sam_plugins.model.weights.paths import sessions_directories
from sam_plugins.napari_plugin.current_model import current_model
from sam_plugins.napari_plugin.jobs import start_job
from sam_plugins.napari_plugin.notifications import show_warning
from sam_plugins.napari_plugin.session.autosave import (
    Autosave,
    forget_session,
    renew_session,
    unfinished_sessions,
)
from sam_plugins.napari_plugin.session.files import ImageNote, SavedSession, load_session
from sam_plugins.napari_plugin.session.session import Session
from sam_plugins.napari_plugin.session.values import State

if TYPE_CHECKING:
    from sam_plugins.napari_plugin.segmenter import Segmenter


def sessions_directory() -> Path:
    """Return the folder that sessions are saved in; it may not exist yet."""
    return sessions_directories()[0]


class _Complaints(QObject):
    """Shows on the GUI thread what went wrong in the threads that save."""

    arrived = QtSignal(object)  # queued: it comes from another thread

    def __init__(self) -> None:
        super().__init__()
        self.arrived.connect(self._show)

    @Slot(object)
    def _show(self, error: Exception) -> None:
        """Tell that the work is not saved."""
        show_warning(
            f"Your work is not being saved by itself: {error}. Save the objects layer as a "
            ".samsession in another folder"
        )


class Recovery:
    """Saves the sessions of segmenters, and finds what earlier ones left.

    Parameters
    ----------
    owner : QObject
        Jobs end with it.

    Attributes
    ----------
    found : Signal(object, list)
        A segmenter, and files of unfinished sessions about its image, the latest first.
    """

    found = Signal(object, list)

    def __init__(self, owner: QObject) -> None:
        self._owner = owner
        self._complaints = _Complaints()
        self._saves: dict[int, tuple[Session, Autosave]] = {}
        self._notes: dict[int, ImageNote] = {}
        self._watched: set[int] = set()

    def watch(self, segmenter: Segmenter) -> None:
        """Save a segmenter's session from now on, and look for earlier ones about its image."""
        self._watched.add(id(segmenter))
        segmenter.changed.connect(lambda: self._on_changed(segmenter))
        self._look(segmenter)

    def look_again(self, segmenter: Segmenter) -> None:
        """Save a session for the picture that its image shows now, and look for earlier ones.

        What was saved so far stays, for the picture before.
        """
        if id(segmenter) in self._watched:
            self._notes.pop(id(segmenter), None)
            self._end_saving(segmenter)
            self._look(segmenter, is_new=False)

    def _look(self, segmenter: Segmenter, *, is_new: bool = True) -> None:
        """Look for earlier sessions about an image, in a thread, and save from then on."""
        image, source = segmenter.image, segmenter.viewpoint.source
        name, path = str(image.name), getattr(image.source, "path", None)
        placed = segmenter.placement()
        folders = sessions_directories()
        session, state = segmenter.session, segmenter.session.state
        revisions = session.touched_planes

        def look(*, progress: Any) -> tuple[ImageNote, list[Path]]:  # noqa: ANN401
            note = ImageNote(
                name,
                None if path is None else str(path),
                source.shape,
                source.fingerprint(),
                placed,
            )
            progress.check()
            return note, unfinished_sessions(*folders, image=note)

        def take(result: tuple[ImageNote, list[Path]]) -> None:
            if id(segmenter) not in self._watched:
                return  # it was closed meanwhile, and nobody would end what began now
            note, files = result
            self._notes[id(segmenter)] = note
            if files:
                renew_session(files[0])  # or it might be one of those that are too many
            # People may have begun to work while we looked.
            is_as_before = _is_alike(session.state, state) and session.touched_planes == revisions
            is_saved = is_new and segmenter.session is session and is_as_before
            self._save(segmenter, is_saved=is_saved)
            if files:
                self.found.emit(segmenter, files)

        start_job(
            look,
            title="Looking for earlier sessions",
            owner=self._owner,
            on_result=take,
            is_shown=False,
        )

    def save_soon(self) -> None:
        """Save all sessions as soon as their threads can."""
        for _, autosave in self._saves.values():
            autosave.save_soon()

    def save_now(self) -> None:
        """Save all sessions before this returns."""
        for _, autosave in self._saves.values():
            autosave.save_now()

    def forget(self, segmenter: Segmenter) -> None:
        """Save a segmenter's session for the last time."""
        self._watched.discard(id(segmenter))
        self._notes.pop(id(segmenter), None)
        self._end_saving(segmenter)

    def restore(self, segmenter: Segmenter, path: Path) -> SavedSession:
        """Go on with a saved session: its objects, its open drafts, its parameters.

        What was done before it stays in a file of its own, and the file of the session until it is
        in the next one: whenever the process ends, both are there.

        Raises
        ------
        SessionFileError
            If it cannot be read, or is about another image.
        OutputError
            If the one or the other cannot be written; the session's file is still there.
        """
        saved = load_session(path)
        saved.require_canvas(segmenter.session.canvas)
        renew_session(path)
        _, before = self._saves.get(id(segmenter), (None, None))
        if before is not None:
            before.save_now()
            self._end_saving(segmenter)
        try:
            segmenter.restore(saved)
        finally:
            self._save(segmenter, is_saved=False)
        _, autosave = self._saves.get(id(segmenter), (None, None))
        if autosave is not None:
            autosave.save_now()
            forget_session(path)  # it lives on in the file of the new one
        return saved

    def saved(self, segmenter: Segmenter) -> SavedSession:
        """Return a segmenter's session as it would be saved now."""
        session = segmenter.session
        planes = {plane: session.canvas.read(plane) for plane in session.touched_planes}
        return SavedSession(
            session.state,
            tuple(session.canvas.shape),
            str(session.canvas.dtype),
            planes,
            self._notes.get(id(segmenter)),
            current_model().choice.name,
            segmenter.params.document(),
        )

    def _on_changed(self, segmenter: Segmenter) -> None:
        """Follow a segmenter that begins another session."""
        known = self._saves.get(id(segmenter))
        if known is not None and known[0] is not segmenter.session:
            self._save(segmenter)

    def _end_saving(self, segmenter: Segmenter) -> None:
        """Save the session that a segmenter has, or had, for the last time."""
        _, autosave = self._saves.pop(id(segmenter), (None, None))
        if autosave is not None:
            autosave.close()

    def _save(self, segmenter: Segmenter, *, is_saved: bool = True) -> None:
        """Begin to save the session that a segmenter has now."""
        note = self._notes.get(id(segmenter))
        if note is None:
            return
        self._end_saving(segmenter)
        session = segmenter.session
        self._saves[id(segmenter)] = (
            session,
            Autosave(
                session,
                sessions_directory(),
                note,
                lambda: (current_model().choice.name, segmenter.params.document()),
                on_error=self._complaints.arrived.emit,
                is_saved=is_saved,
            ),
        )


def _is_alike(one: State, other: State) -> bool:
    """Return whether two states are equal but for the number of the next object."""
    return replace(one, next_label=other.next_label) == other
