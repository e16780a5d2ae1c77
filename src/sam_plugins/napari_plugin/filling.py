"""Encoding the slices of a stack in the background, from where the user is."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sam_plugins.napari_plugin.asking import Asker
from sam_plugins.napari_plugin.jobs import Job, JobProgress, start_job
from sam_plugins.napari_plugin.session.planes import Plane
from sam_plugins.napari_plugin.session.values import Sight
from sam_plugins.napari_plugin.stack import Stack

if TYPE_CHECKING:
    from qtpy.QtCore import QObject

    from sam_plugins.model.inference.volume import SliceEmbeddings

MOST_SLICES = 400
"""So many slices at most are encoded ahead: the cache on the disk has its limits."""

_SECONDS_BETWEEN_LOOKS = 0.05


class Filler:
    """Encodes the slices of one stack at a time; gives way to everything that somebody waits for.

    Parameters
    ----------
    asker : Asker
        Knows the model.
    is_busy : callable
        Whether somebody waits for the model; from any thread.
    owner : QObject, optional
        Jobs end with it.
    """

    def __init__(
        self, asker: Asker, is_busy: Callable[[], bool], owner: QObject | None = None
    ) -> None:
        self._asker = asker
        self._is_busy = is_busy
        self._owner = owner
        self._key: tuple[Sight, int] | None = None
        self._stack: Stack | None = None
        self._slices: SliceEmbeddings | None = None
        self._focus = 0
        self.job: Job | None = None

    @property
    def is_running(self) -> bool:
        """Whether slices are being encoded."""
        return self.job is not None and self.job.is_running

    def start(self, stack: Stack) -> None:
        """Encode the slices of a stack from now on, unless that was begun already."""
        key = (stack.key, self._asker.generation)
        if key == self._key:
            return
        self.stop()
        self._key, self._stack = key, stack
        self._focus = stack.sight.plane.index_on(stack.axis)
        self.job = start_job(
            self._fill,
            stack,
            title="Encoding the other slices",
            owner=self._owner,
            on_error=lambda _: None,  # whoever asks for such a slice will be told
        )

    def look_at(self, plane: Plane | None) -> None:
        """Say which plane is seen: its neighbours come next."""
        stack, slices = self._stack, self._slices
        if stack is None or plane is None or plane.axes != stack.sight.plane.axes:
            return
        self._focus = plane.index_on(stack.axis)
        if slices is not None and plane == stack.plane_at(self._focus):
            slices.look_at(self._focus)

    def stop(self) -> None:
        """Encode no more; what is done is kept."""
        self._key = self._stack = self._slices = None
        if self.job is not None:
            self.job.abandon()
            self.job = None

    def _fill(self, stack: Stack, *, progress: JobProgress) -> int:
        """Encode what is not encoded, in the thread of the job."""
        from sam_plugins.model.inference.volume import nearest_first

        slices = stack.embeddings(self._asker.answerer())
        if stack is self._stack:
            self._slices = slices
        near = nearest_first(self._focus, range(len(slices)))
        indices = list(itertools.islice(near, MOST_SLICES))

        def pause(done: int, total: int) -> None:
            progress(done, total)
            while self._is_busy():
                progress.check()
                time.sleep(_SECONDS_BETWEEN_LOOKS)

        return slices.fill(self._focus, indices=indices, progress=pause)
