"""Objects of neighbouring slices linked to objects of a volume, slice after slice."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from sam_plugins.model.inference.checks import count
from sam_plugins.model.inference.volume.shapes import leaning_overlap

_PIXELS_AT_ONCE = 1 << 18
"""Of so many pixels overlaps are sorted at a time: each takes 40 bytes meanwhile."""

LabelArray = npt.NDArray[np.integer]
FloatArray = npt.NDArray[np.float64]

_GAP_FACTOR = 0.8
"""What a link over one more missing slice is worth, beside a link without."""


@dataclass(frozen=True)
class LinkOptions:
    """How objects of slices become objects of a volume.

    Parameters
    ----------
    min_iou : float
        0 to 1: the least IoU of two objects that are linked. Where the voxel size makes less likely
        (small objects, thick slices) down to half of it will do.
    max_gap : int
        So many slices may miss an object; they are filled in.
    min_voxels, max_voxels : int
        Smaller and larger objects are dropped; no upper bound by default.
    min_slices : int
        Objects on fewer slices are dropped.
    split_waist : float
        0 to 1: an object is split at a slice whose area is below this share of the largest on
        either side, as where two round objects that lie upon each other were linked; 0 never
        splits.
    merge_share : float
        0 to 1: an object is merged into another that holds at least this share of both its ends on
        the next slices, as where a slice cut an object in two; 1 never merges.
    """

    min_iou: float = 0.3
    max_gap: int = 1
    min_voxels: int = 0
    max_voxels: int | None = None
    min_slices: int = 2
    split_waist: float = 0.0
    merge_share: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("min_iou", "split_waist", "merge_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.max_gap < 0 or self.min_voxels < 0:
            raise ValueError(
                f"max_gap and min_voxels must be 0 or more, got {self.max_gap} and "
                f"{self.min_voxels}"
            )
        count("min_slices", self.min_slices)
        if self.max_voxels is not None and self.max_voxels < max(1, self.min_voxels):
            raise ValueError(
                f"max_voxels must be 1 or more and not below min_voxels, got {self.max_voxels}"
            )


@dataclass(frozen=True)
class Bridge:
    """A track that goes on after slices that missed it.

    Parameters
    ----------
    track : int
    last : int
        The slice on which it was seen before.
    """

    track: int
    last: int


@dataclass(eq=False)
class Track:
    """One object of a volume, as far as it is known.

    Parameters
    ----------
    areas : dict of int to int
        Pixels on each slice.
    score_sum : float
        Of the scores of its pixels.
    before, after : (int, float)
        The track that holds most of its first mask on the slice before it, and of its last mask on
        the slice after it, and which share of it; (0, 0) for none.
    """

    areas: dict[int, int] = field(default_factory=dict)
    score_sum: float = 0.0
    before: tuple[int, float] = (0, 0.0)
    after: tuple[int, float] = (0, 0.0)

    @property
    def first(self) -> int:
        """Its first slice."""
        return min(self.areas)

    @property
    def last(self) -> int:
        """Its last slice."""
        return max(self.areas)


class TrackState(NamedTuple):
    """A track after a slice: its number, pixels there (0 for none), and what else is known."""

    number: int
    area: int
    score_sum: float
    before: tuple[int, float]
    after: tuple[int, float]


class SliceLinker:
    """Links the objects of one slice after the other; only the last few slices are in memory.

    The objects of a slice and the tracks that may go on are matched one to one so that the sum of
    the IoUs is largest (Kuhn 1955; scipy's ``linear_sum_assignment``).

    Parameters
    ----------
    options : LinkOptions
    steps_per_pixel : float
        Slice distance over pixel size.
    """

    def __init__(self, options: LinkOptions, steps_per_pixel: float = 1.0) -> None:
        self._options = options
        self._steps_per_pixel = steps_per_pixel
        self._recent: deque[tuple[int, LabelArray]] = deque(maxlen=options.max_gap + 1)
        self.tracks: dict[int, Track] = {}

    def add(
        self, index: int, labels: LabelArray, scores: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray[np.int64], list[Bridge]]:
        """Link the objects of the next slice.

        Parameters
        ----------
        index : int
            Of the slice, larger than the last.
        labels : ndarray of shape (H, W), integer
            0 is background, labels are 1 to n.
        scores : ndarray of shape (n,)
            Of each object.

        Returns
        -------
        tracks : ndarray of shape (n + 1,), int64
            The track of each label, 0 for the background: ``tracks[labels]`` are those of the
            slice.
        bridges : list of Bridge
            Tracks that were missing on the slices before.
        """
        areas = np.bincount(labels.ravel(), minlength=len(scores) + 1)
        linked, held = self._match(index, labels, areas)
        numbers = np.zeros(len(areas), np.int64)
        bridges = []
        for label in range(1, len(areas)):
            if not areas[label]:
                continue
            number = linked.get(label)
            if number is None:
                number = len(self.tracks) + 1
                self.tracks[number] = Track(before=held.get(label, (0, 0.0)))
            elif self.tracks[number].last < index - 1:
                bridges.append(Bridge(number, self.tracks[number].last))
            track = self.tracks[number]
            track.areas[index] = int(areas[label])
            track.after = (0, 0.0)
            track.score_sum += float(scores[label - 1]) * int(areas[label])
            numbers[label] = number
        drawn = numbers.astype(np.int32)[labels]
        self._note_ends(index, drawn)
        self._recent.appendleft((index, drawn))
        return numbers, bridges

    @property
    def drawn(self) -> LabelArray:
        """The tracks on the slice that was added last, (H, W)."""
        return self._recent[0][1]

    def changed(self, index: int) -> list[TrackState]:
        """Return all that the slice that was added last, ``index``, changed about the tracks."""
        present = {
            int(number) for _, drawn in list(self._recent)[:2] for number in np.unique(drawn)
        }
        return [
            TrackState(
                number, track.areas.get(index, 0), track.score_sum, track.before, track.after
            )
            for number in sorted(present - {0})
            for track in (self.tracks[number],)
        ]

    def restore(self, index: int, states: list[TrackState]) -> None:
        """Take in what :meth:`changed` told of a slice, instead of linking it again.

        Before the next slice is added, :meth:`recall` has to show the last ones, ``max_gap + 1``.
        """
        for number, area, score_sum, before, after in states:
            track = self.tracks.setdefault(number, Track(before=before))
            if area:
                track.areas[index] = area
            track.score_sum, track.after = score_sum, after

    def recall(self, index: int, drawn: LabelArray) -> None:
        """Take in the tracks that are drawn on a slice which was restored, shape (H, W)."""
        self._recent.appendleft((index, drawn))

    def _match(
        self, index: int, labels: LabelArray, areas: npt.NDArray[np.int64]
    ) -> tuple[dict[int, int], dict[int, tuple[int, float]]]:
        """Return the track that each label goes on, and the one that holds most of each label."""
        values: dict[tuple[int, int], float] = {}
        held: dict[int, tuple[int, float]] = {}
        for seen, drawn in self._recent:
            for number, label, shared in pairs_of(drawn, labels):
                track = self.tracks[number]
                share = shared / int(areas[label])
                if seen == index - 1 and share > held.get(label, (0, 0.0))[1]:
                    held[label] = (number, share)
                if track.last != seen:
                    continue  # It was seen again since.
                before = track.areas[seen]
                iou = shared / (before + int(areas[label]) - shared)
                if iou >= self._least(min(before, int(areas[label])), index - seen):
                    values[number, label] = iou * _GAP_FACTOR ** (index - seen - 1)
        return _assign(values), held

    def _least(self, area: int, distance: int) -> float:
        """Return the IoU that two objects must have to be linked."""
        least = self._options.min_iou
        leaning = leaning_overlap(area, distance * self._steps_per_pixel)
        return max(min(least, leaning), least / 2)

    def _note_ends(self, index: int, drawn: LabelArray) -> None:
        """Note, for tracks that ended on the slice before, what holds their last mask here."""
        if not self._recent or self._recent[0][0] != index - 1:
            return
        for ended, number, shared in pairs_of(self._recent[0][1], drawn):
            track = self.tracks[ended]
            share = shared / track.areas[index - 1]
            if track.last == index - 1 and share > track.after[1]:
                track.after = (number, share)


def pairs_of(first: LabelArray, second: LabelArray) -> list[tuple[int, int, int]]:
    """Return (label of the first, label of the second, shared pixels) of all that overlap.

    Examples
    --------
    >>> pairs_of(np.array([[1, 1, 2]]), np.array([[0, 3, 3]]))
    [(1, 3, 1), (2, 3, 1)]
    """
    width = int(second.max(initial=0)) + 1
    shared: Counter[int] = Counter()
    rows = max(1, _PIXELS_AT_ONCE // max(1, first[:1].size))
    for start in range(0, len(first), rows):
        one, other = first[start : start + rows], second[start : start + rows]
        both = (one > 0) & (other > 0)
        codes, counts = np.unique(
            one[both].astype(np.int64) * width + other[both], return_counts=True
        )
        shared.update(dict(zip(codes.tolist(), counts.tolist(), strict=True)))
    return [(code // width, code % width, count) for code, count in sorted(shared.items())]


def _assign(values: dict[tuple[int, int], float]) -> dict[int, int]:
    """Return the label -> track pairs, one to one, whose values add up to most."""
    if not values:
        return {}
    rows = sorted({track for track, _ in values})
    columns = sorted({label for _, label in values})
    matrix = np.zeros((len(rows), len(columns)))
    row_of = {track: place for place, track in enumerate(rows)}
    column_of = {label: place for place, label in enumerate(columns)}
    for (track, label), value in values.items():
        matrix[row_of[track], column_of[label]] = value
    chosen = zip(*linear_sum_assignment(matrix, maximize=True), strict=True)
    return {columns[c]: rows[r] for r, c in chosen if matrix[r, c] > 0}


@dataclass(frozen=True, eq=False)
class VolumeObject:
    """One object of the result: parts of tracks.

    Parameters
    ----------
    parts : tuple of (int, int, int)
        Track, first slice and last slice of each.
    voxels : int
    score : float
        Mean of the scores of its slices, by their areas.
    """

    parts: tuple[tuple[int, int, int], ...]
    voxels: int
    score: float

    @property
    def extent(self) -> tuple[int, int]:
        """First and last slice."""
        return min(part[1] for part in self.parts), max(part[2] for part in self.parts)


def objects_of_tracks(tracks: dict[int, Track], options: LinkOptions) -> list[VolumeObject]:
    """Split, merge and filter tracks.

    Parameters
    ----------
    tracks : dict of int to Track
        Of a :class:`SliceLinker`.
    options : LinkOptions

    Returns
    -------
    list of VolumeObject
        The best first.
    """
    into = _merges(tracks, options.merge_share)
    groups: dict[int, list[tuple[int, int, int]]] = {}
    for number, track in tracks.items():
        if number in into:
            continue
        for place, part in enumerate(_split(track.areas, options.split_waist)):
            groups[-number if place == 0 else len(tracks) * (place + 1) + number] = [
                (number, part[0], part[1])
            ]
    for number, target in into.items():
        middle = (tracks[number].first + tracks[number].last) / 2
        owners = [key for key, parts in groups.items() if parts[0][0] == target]
        nearest = min(
            owners,
            key=lambda key: max(groups[key][0][1] - middle, middle - groups[key][0][2], 0),
        )
        groups[nearest].append((number, tracks[number].first, tracks[number].last))
    found = []
    for parts in groups.values():
        areas = [
            sum(a for i, a in tracks[number].areas.items() if first <= i <= last)
            for number, first, last in parts
        ]
        mean = sum(
            tracks[number].score_sum / sum(tracks[number].areas.values()) * area
            for (number, _, _), area in zip(parts, areas, strict=True)
        )
        voxels = sum(areas)
        one = VolumeObject(tuple(parts), voxels, mean / voxels)
        length = one.extent[1] - one.extent[0] + 1
        is_small = voxels < options.min_voxels or length < options.min_slices
        if not is_small and (options.max_voxels is None or voxels <= options.max_voxels):
            found.append(one)
    return sorted(found, key=lambda one: (-one.score, one.extent))


def _merges(tracks: dict[int, Track], share: float) -> dict[int, int]:
    """Return which tracks are parts of which others."""
    into: dict[int, int] = {}
    if share >= 1:
        return into
    for number, track in tracks.items():
        (first, low), (second, high) = track.before, track.after
        is_held = first == second != number and min(low, high) >= share
        if is_held and first != 0:
            into[number] = first
    for number in list(into):  # Follow to the end; never in a circle, as who holds is older.
        while into[number] in into:
            into[number] = into[into[number]]
    return into


def _split(areas: dict[int, int], waist: float) -> list[tuple[int, int]]:
    """Return first and last slice of each part of a track."""
    indices = sorted(areas)
    if waist <= 0 or len(indices) < 3:
        return [(indices[0], indices[-1])]
    profile = np.array([areas[index] for index in indices])
    below = np.maximum.accumulate(profile)[:-2]
    above = np.maximum.accumulate(profile[::-1])[::-1][2:]
    ratio = profile[1:-1] / np.minimum(below, above)
    place = int(ratio.argmin()) + 1
    if ratio[place - 1] >= waist:
        return [(indices[0], indices[-1])]
    low = {index: areas[index] for index in indices[:place]}
    high = {index: areas[index] for index in indices[place:]}
    return _split(low, waist) + _split(high, waist)
