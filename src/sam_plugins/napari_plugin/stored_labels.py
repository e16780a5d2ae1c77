"""Labels that lie in a file because they are large: counted once, and moved to where they stay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sam_plugins.napari_plugin.errors import NothingThereError
from sam_plugins.napari_plugin.jobs import Job, JobProgress, start_job
from sam_plugins.napari_plugin.label_arrays import (
    copy_labels,
    create_labels,
    file_of,
    is_temporary,
    label_bytes,
    largest_label,
)
from sam_plugins.napari_plugin.session.planes import Window
from sam_plugins.napari_plugin.session.session import Session

if TYPE_CHECKING:
    from napari.layers import Labels
    from qtpy.QtCore import QObject

    from sam_plugins.napari_plugin.segmenter import Segmenter


class StoredLabels:
    """The file of a segmenter's objects, where they have one; used on the GUI thread.

    Parameters
    ----------
    segmenter : Segmenter
    owner : QObject, optional
        Jobs end with it.
    """

    def __init__(self, segmenter: Segmenter, owner: QObject | None = None) -> None:
        self._segmenter = segmenter
        self._owner = owner
        self._counting: Job | None = None
        self._moving: Job | None = None

    @property
    def path(self) -> Path | None:
        """The file, None for labels in memory."""
        return file_of(self._segmenter.objects.data)

    @property
    def is_temporary(self) -> bool:
        """Whether the file goes when the system tidies up."""
        return is_temporary(self._segmenter.objects.data)

    @property
    def nbytes(self) -> int:
        """Memory that the labels would take."""
        data = self._segmenter.objects.data
        return label_bytes(data.shape, data.dtype)

    @property
    def is_moving(self) -> bool:
        """Whether they are being copied to another file."""
        return self._moving is not None and self._moving.is_running

    def count(self, layer: Labels, session: Session) -> None:
        """Look which numbers are taken, so that new objects get others; in a thread for files."""
        data = layer.data
        if isinstance(data, np.ndarray):
            session.reserve_labels(largest_label(data))
        elif getattr(data, "nchunks_initialized", 1):
            self._counting = start_job(
                _largest,
                data,
                title="Counting the objects in the file",
                owner=self._owner,
                on_result=session.reserve_labels,
            )

    def require_count(self) -> None:
        """Refuse to give numbers to objects before it is known which are taken.

        Raises
        ------
        NothingThereError
            If they are still being counted.
        """
        if self._counting is not None and self._counting.is_running:
            raise NothingThereError(
                "the objects in the file are still being counted; commit again in a moment"
            )

    def keep(self, path: Path) -> Job:
        """Write the labels to a Zarr array of one's own, now and from now on.

        Parameters
        ----------
        path : Path
            Must not exist yet.

        Returns
        -------
        Job
            When it ends the layer has changed over; what is committed meanwhile comes along.

        Raises
        ------
        OutputError
            If the array cannot be made.
        """
        segmenter = self._segmenter
        layer, session = segmenter.objects, segmenter.session
        target = create_labels(path, layer.data.shape, layer.data.dtype)
        source, before = layer.data, session.touched_planes

        def change_over(_: object) -> None:
            for plane, times in session.touched_planes.items():
                if before.get(plane) != times:
                    whole = Window(0, 0, *plane.size_hw(target.shape))
                    plane.put(target, whole, plane.take(source))
            layer.data = target

        self._moving = start_job(
            _copy,
            source,
            target,
            title=f"Writing labels to {path.name}",
            owner=self._owner,
            on_result=change_over,
            on_finished=segmenter.changed.emit,
        )
        segmenter.changed.emit()
        return self._moving


def _largest(labels: Any, *, progress: JobProgress) -> int:  # noqa: ANN401
    """Return the largest number in labels."""
    return largest_label(labels, progress)


def _copy(source: Any, target: Any, *, progress: JobProgress) -> None:  # noqa: ANN401
    """Copy labels."""
    copy_labels(source, target, progress)
