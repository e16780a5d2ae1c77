"""Objects of slices become objects of a volume: linked, and written as they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.candidates import Progress
from sam_plugins.model.inference.volume.linking import (
    Bridge,
    LinkOptions,
    SliceLinker,
    TrackState,
    VolumeObject,
    objects_of_tracks,
)
from sam_plugins.model.inference.volume.shapes import blend, window_of
from sam_plugins.model.inference.volume.values import WritableArray, require_room


@dataclass(frozen=True, eq=False)
class VolumeSegmentation:
    """All objects of a volume: label ``i + 1`` has the figures at place ``i``.

    Parameters
    ----------
    labels : array of shape (Z, Y, X), integer
        0 is background; labels are consecutive, the best object first.
    scores : ndarray of shape (n,), float64
        Mean of the scores on the slices, 0 to 1.
    voxels : ndarray of shape (n,), int64
    extents : ndarray of shape (n, 2), int64
        First and last slice of each object.
    """

    labels: Any
    scores: npt.NDArray[np.float64]
    voxels: npt.NDArray[np.int64]
    extents: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.scores)


class FoundInSlice(NamedTuple):
    """The objects of one slice: labels of shape (H, W), 1 to n, and n scores."""

    labels: npt.NDArray[np.integer]
    scores: npt.NDArray[np.floating]


class LinkedSlice(NamedTuple):
    """What linking a slice changed: the track of each label, (n + 1,), and states of tracks."""

    numbers: npt.NDArray[np.int64]
    states: list[TrackState]


class LinkJournal(Protocol):
    """Keeps the slices that are linked, so that an interrupted run goes on after them.

    Attributes
    ----------
    tracks : array like the labels
        Tracks are drawn here; the labels are made of them, so that no slice is renumbered twice.
    """

    @property
    def tracks(self) -> WritableArray:
        """Where tracks are drawn."""

    def read(self, index: int) -> LinkedSlice | None:
        """Return what was kept of a slice, None for nothing."""

    def keep(self, index: int, linked: LinkedSlice) -> None:
        """Keep a slice that is linked and drawn."""

    def read_voxels(self, index: int) -> npt.NDArray[np.int64] | None:
        """Return pairs of an object of a slice and its pixels, (n, 2); None if it is not done."""

    def keep_voxels(self, index: int, voxels: npt.NDArray[np.int64]) -> None:
        """Keep the pixels of the objects of a slice whose labels are written."""


def link_slices(
    find: Callable[[int], FoundInSlice],
    labels: WritableArray,
    *,
    axis: int = 0,
    link: LinkOptions | None = None,
    steps_per_pixel: float = 1.0,
    progress: Progress | None = None,
    journal: LinkJournal | None = None,
) -> VolumeSegmentation:
    """Link the objects of slices, and write them as they come; only a few slices are in memory.

    Parameters
    ----------
    find : callable
        Returns the objects of a slice, from 0.
    labels : array of shape (Z, Y, X), integer
        Overwritten; must be able to hold the number of tracks.
    axis : int
        0, 1 or 2: the slices go along z, y or x.
    link : LinkOptions, optional
    steps_per_pixel : float
        Slice distance over pixel size.
    progress : callable, optional
        Called before each slice with the steps done and the steps in all: each slice is segmented,
        and renumbered at the end. An exception that it raises stops the work.
    journal : LinkJournal, optional
        Where slices that are done are kept; without it all are done in one go.

    Raises
    ------
    ValueError
        If ``labels`` cannot hold the numbers.
    """
    chosen, shape = link or LinkOptions(), tuple(labels.shape)
    linker = SliceLinker(chosen, steps_per_pixel)
    length = shape[axis]
    tracks = labels if journal is None else journal.tracks
    begun = 0 if journal is None else _resume(linker, journal, find, length, chosen.max_gap + 1)
    for index in range(begun, length):
        _report(progress, index, 2 * length)
        found = find(index)
        numbers, bridges = linker.add(index, found.labels, found.scores)
        require_room(labels, shape, int(numbers.max(initial=0)))
        drawn = linker.drawn
        del found
        tracks[_where(axis, index)] = drawn.astype(tracks.dtype)
        for bridge in bridges:
            _fill(tracks, axis, bridge, index, drawn)
        if journal is not None:
            journal.keep(index, LinkedSlice(numbers, linker.changed(index)))
    objects = objects_of_tracks(linker.tracks, chosen)
    voxels = np.zeros(len(objects) + 1, np.int64)
    for index in range(length):
        _report(progress, length + index, 2 * length)
        counted = None if journal is None else journal.read_voxels(index)
        if counted is None:
            where = _where(axis, index)
            final = _final_numbers(objects, len(linker.tracks), index).astype(np.int32)
            renumbered = final[np.asarray(tracks[where])]
            labels[where] = renumbered.astype(labels.dtype)
            pixels = np.bincount(renumbered.ravel())
            present = np.flatnonzero(pixels)
            counted = np.stack([present, pixels[present]], axis=1)
            if journal is not None:
                journal.keep_voxels(index, counted)
        voxels[counted[:, 0]] += counted[:, 1]
    _report(progress, 2 * length, 2 * length)
    return VolumeSegmentation(
        labels,
        np.array([one.score for one in objects], np.float64),
        voxels[1:],
        np.array([one.extent for one in objects], np.int64).reshape(-1, 2),
    )


def _resume(
    linker: SliceLinker,
    journal: LinkJournal,
    find: Callable[[int], FoundInSlice],
    length: int,
    seen: int,
) -> int:
    """Restore the slices that are linked, of which the last ones are seen; return their number."""
    numbers: list[npt.NDArray[np.int64]] = []
    for index in range(length):
        linked = journal.read(index)
        if linked is None:
            break
        linker.restore(index, linked.states)
        numbers.append(linked.numbers)
    if len(numbers) < length:
        for index in range(max(0, len(numbers) - seen), len(numbers)):
            linker.recall(index, numbers[index].astype(np.int32)[find(index).labels])
    return len(numbers)


def _where(axis: int, index: int) -> tuple[int | slice, ...]:
    """Return how one slice of a volume is indexed."""
    return tuple(index if i == axis else slice(None) for i in range(3))


def _fill(
    labels: WritableArray, axis: int, bridge: Bridge, index: int, drawn: npt.NDArray[np.integer]
) -> None:
    """Draw an object on the slices that missed it, where nothing else is."""
    before = window_of(np.asarray(labels[_where(axis, bridge.last)]) == bridge.track)
    after = window_of(drawn == bridge.track)
    for missing in range(bridge.last + 1, index):
        weight = (missing - bridge.last) / (index - bridge.last)
        between = blend(before, after, weight, (drawn.shape[0], drawn.shape[1]))
        there = np.asarray(labels[_where(axis, missing)])
        part = there[between.window]
        part[between.mask & (part == 0)] = bridge.track
        labels[_where(axis, missing)] = there


def _final_numbers(objects: list[VolumeObject], tracks: int, index: int) -> npt.NDArray[np.int64]:
    """Return the object of each track on a slice, 0 where it was dropped."""
    final = np.zeros(tracks + 1, np.int64)
    for place, one in enumerate(objects):
        for track, first, last in one.parts:
            if first <= index <= last:
                final[track] = place + 1
    return final


def _report(progress: Progress | None, done: int, total: int) -> None:
    """Tell how far the work is."""
    if progress is not None:
        progress(done, total)
