"""Found objects into the labels: worked out in a thread, written piece by piece on the GUI thread.

Nothing is written before all is worked out, so that cancelling leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QTimer

from sam_plugins.napari_plugin.label_arrays import largest_label
from sam_plugins.napari_plugin.session.changes import LabelChange
from sam_plugins.napari_plugin.session.editing import require_label
from sam_plugins.napari_plugin.session.planes import LabelCanvas, Plane, Window

if TYPE_CHECKING:
    from sam_plugins.napari_plugin.jobs import JobProgress
    from sam_plugins.napari_plugin.session.session import Session

TITLE = "add what was found"
Places = Sequence[tuple[Plane, Window]]


@dataclass(frozen=True)
class Addition:
    """What adding objects changes.

    Attributes
    ----------
    changes : tuple of LabelChange
        To be written, one for each part of a plane where something is new.
    count : int
        Number of objects that come in.
    largest : int
        The largest number that one of them gets, 0 without any.
    """

    changes: tuple[LabelChange, ...]
    count: int
    largest: int


def find_addition(
    shown: Any,  # noqa: ANN401
    there: Any,  # noqa: ANN401
    places: Places,
    length: int,
    first: int,
    *,
    progress: JobProgress,
) -> Addition:
    """Return how what is shown comes into labels, where nothing is yet; from any thread.

    Objects of which older ones cover half are those, found again, and are left out. The others have
    one number wherever they lie.

    Parameters
    ----------
    shown, there : arrays of labels of one shape
        Read window by window, and not written to.
    places : sequence of (Plane, Window)
        Where something is shown; no pixel twice.
    length : int
        More than the largest number that is shown.
    first : int
        The least number for a new object; more where the labels have larger ones.
    progress : JobProgress

    Raises
    ------
    ValueError
        If the numbers do not fit the type of the labels.
    """
    covered: npt.NDArray[np.int64] = np.zeros(length, np.int64)
    sizes: npt.NDArray[np.int64] = np.zeros(length, np.int64)
    for done, (plane, window) in enumerate(places):
        progress(done, 2 * len(places))
        found = plane.take(shown, window)
        covered += np.bincount(found[plane.take(there, window) > 0], minlength=length)
        sizes += np.bincount(found.ravel(), minlength=length)
    is_fresh = 2 * covered < sizes
    is_fresh[0] = False
    count = int(np.count_nonzero(is_fresh))
    first = max(first, largest_label(there, lambda done, total: progress.check()) + 1)  # noqa: ARG005
    if count:
        require_label(first + count - 1, there.dtype)
    numbers = np.zeros(length, there.dtype)
    numbers[is_fresh] = first + np.arange(count)
    changes = []
    for done, (plane, window) in enumerate(places):
        progress(len(places) + done, 2 * len(places))
        found, before = plane.take(shown, window), plane.take(there, window)
        after = np.where(before == 0, numbers[found], before)
        change = LabelChange.between(plane, window, before, after)
        if change is not None:
            changes.append(change)
    return Addition(tuple(changes), count, first + count - 1 if count else 0)


class Writing:
    """Writes an addition, one part in each turn of the event loop; used on the GUI thread.

    Parameters
    ----------
    addition : Addition
    canvas : LabelCanvas
    session : Session, optional
        Whose labels these are: undoing takes all of it back at once.
    on_written : callable
        Called when all is there, but not from :meth:`finish`.
    """

    def __init__(
        self,
        addition: Addition,
        canvas: LabelCanvas,
        session: Session | None,
        on_written: Callable[[], None],
    ) -> None:
        self._addition = addition
        self._canvas = canvas
        self._session = session
        self._on_written = on_written
        self._rest = list(addition.changes)
        self._is_done = False
        self._turn = QTimer()
        self._turn.timeout.connect(self._write_one)
        if session is not None:
            session.reserve_labels(addition.largest)
        self._turn.start(0)

    def finish(self) -> None:
        """Write all that is left, now: whoever would be told is gone."""
        self._on_written = lambda: None
        while not self._is_done:
            self._write_one()

    def _write_one(self) -> None:
        """Write a part; after the last one, tell."""
        if self._rest:
            self._rest.pop(0).redo(self._canvas)
        if self._rest or self._is_done:
            return
        self._is_done = True
        self._turn.stop()
        if self._session is not None:
            self._session.note_written(TITLE, self._addition.changes)
        self._on_written()
