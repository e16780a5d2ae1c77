"""One number for each object of a picture that was segmented by tiles.

Neighbouring windows overlap, so that an object near a border is seen by several tiles. It is
*whole* in a tile unless it touches an edge of the window that is no edge of the picture; then it is
*cut*.

1. Of whole objects that are duplicates of each other the best one stays, as within a picture: it is
   drawn as its tile saw it, also beyond the border, and so has no seam.
2. A cut object that a whole one explains goes.
3. Cut objects that agree where both are seen are pieces of one object, larger than the halo.
4. What is left counts where its centre lies in the core of its tile; elsewhere the tile that saw it
   better did not find it.

All figures are counted on the shared part of two windows, two tiles at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.model.inference.volume.linking import pairs_of
from sam_plugins.model.large.plan import Tile, shared, within

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
Labels = npt.NDArray[np.integer]

_EDGE = 2
"""Masks may stop so many pixels before the edge of a window that cuts them."""


@dataclass(frozen=True)
class JoinOptions:
    """How objects of neighbouring tiles become objects of the picture.

    Parameters
    ----------
    max_iou : float
        Whole objects whose IoU is larger are one object, seen twice.
    max_containment : float
        So are those of which one holds more than this share of the other.
    min_piece_iou : float
        Cut objects are pieces of one where their IoU, in the part that both tiles see, is this or
        more.
    """

    max_iou: float = 0.5
    max_containment: float = 0.75
    min_piece_iou: float = 0.4

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("max_iou", "max_containment", "min_piece_iou"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class TileObjects:
    """What joining needs to know of the n objects of one tile.

    Parameters
    ----------
    scores : ndarray of shape (n,), float32
    areas : ndarray of shape (n,), int64
        Pixels in the window.
    is_cut : ndarray of shape (n,), bool
        Whether the edge of the window may have cut it.
    is_own : ndarray of shape (n,), bool
        Whether its centre lies in the core.
    """

    scores: FloatArray
    areas: IntArray
    is_cut: BoolArray
    is_own: BoolArray

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.scores)


class Contact(NamedTuple):
    """Two objects of different tiles that share pixels.

    ``first`` and ``second`` are places among all objects; ``inside_first`` and ``inside_second``
    are their pixels in the part that both tiles see, ``shared`` those that both have.
    """

    first: int
    second: int
    shared: int
    inside_first: int
    inside_second: int


@dataclass(frozen=True, eq=False)
class Joined:
    """The objects of the picture.

    Parameters
    ----------
    numbers : ndarray of shape (all objects of all tiles,), int64
        The object of the picture that each is drawn as, from 1; 0 where it is not drawn.
    scores : ndarray of shape (n,), float32
        Of the objects of the picture.
    sources : ndarray of shape (n,), int64
        The object of a tile that each one's point is taken from.
    areas : ndarray of shape (n,), int64
        Pixels of the objects of the picture; what two tiles saw of pieces counts twice.
    """

    numbers: IntArray
    scores: FloatArray
    sources: IntArray
    areas: IntArray


def objects_of_tile(
    labels: Labels, scores: FloatArray, tile: Tile, size_hw: tuple[int, int]
) -> TileObjects:
    """Return what joining needs to know of a tile.

    Parameters
    ----------
    labels : ndarray of shape (h, w), integer
        Of the window.
    scores : ndarray of shape (n,), float32
    tile : Tile
    size_hw : (int, int)
        Of the picture.
    """
    number = len(scores)
    areas = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    is_cut = np.zeros(number + 1, bool)
    for axis, (window, length) in enumerate(zip(tile.window, size_hw, strict=True)):
        along = np.moveaxis(labels, axis, 0)
        if window.start > 0:
            is_cut[np.unique(along[:_EDGE])] = True
        if window.stop < length:
            is_cut[np.unique(along[-_EDGE:])] = True
    is_own = np.zeros(number, bool)
    if number:
        present = np.maximum(areas, 1)
        is_own[:] = True
        for axis, (core, window) in enumerate(zip(tile.core, tile.window, strict=True)):
            places = np.arange(labels.shape[axis], dtype=np.float64)
            weights = np.broadcast_to(places[:, None] if axis == 0 else places, labels.shape)
            sums = ndimage.sum_labels(weights, labels, np.arange(1, number + 1))
            centres = sums / present + window.start
            is_own &= (centres >= core.start - 0.5) & (centres < core.stop - 0.5)
    return TileObjects(scores, areas, is_cut[1:], is_own)


def contacts_of(first: tuple[Tile, Labels, int], second: tuple[Tile, Labels, int]) -> list[Contact]:
    """Return the objects of two tiles that share pixels.

    Parameters
    ----------
    first, second : (Tile, ndarray of shape (h, w), int)
        The tile, the labels of its window, and the place of its label 1 among all objects.
    """
    part = shared(first[0].window, second[0].window)
    if part is None:
        return []
    one, other = (labels[within(part, tile.window)] for tile, labels, _ in (first, second))
    of_one, of_other = np.bincount(one.ravel()), np.bincount(other.ravel())
    return [
        Contact(first[2] + a - 1, second[2] + b - 1, both, int(of_one[a]), int(of_other[b]))
        for a, b, both in pairs_of(one, other)
    ]


def join(
    tiles: Iterable[TileObjects], contacts: Iterable[Contact], options: JoinOptions | None = None
) -> Joined:
    """Join the objects of tiles to objects of the picture.

    Parameters
    ----------
    tiles : iterable of TileObjects
        In the order of the plan.
    contacts : iterable of Contact
        Between all pairs of tiles.
    options : JoinOptions, optional

    Returns
    -------
    Joined
        Numbered in the order of the tiles; the same whatever the order of the contacts.
    """
    return _Joining(list(tiles), sorted(contacts), options or JoinOptions()).result()


class _Joining:
    """The steps of joining, and what is known so far."""

    def __init__(
        self, tiles: list[TileObjects], contacts: list[Contact], options: JoinOptions
    ) -> None:
        self.scores = np.concatenate([np.zeros(0, np.float32), *(one.scores for one in tiles)])
        self.areas = np.concatenate([np.zeros(0, np.int64), *(one.areas for one in tiles)])
        self.is_cut = np.concatenate([np.zeros(0, bool), *(one.is_cut for one in tiles)])
        self.counts = np.concatenate([np.zeros(0, bool), *(one.is_own for one in tiles)])
        self.contacts, self.options = contacts, options
        self.is_dropped = self.areas == 0
        # A duplicate points to the object that stays; pieces point to their oldest one.
        self.parent = np.arange(len(self.areas))

    def result(self) -> Joined:
        """Go all steps."""
        self._drop_duplicates()
        pieces = self._drop_explained()
        self._join_pieces(pieces)
        return self._numbered()

    def _drop_duplicates(self) -> None:
        """Of whole objects that are the same, keep the best one."""
        rivals: dict[int, list[tuple[int, bool]]] = {}
        for one in self.contacts:
            if self.is_cut[one.first] or self.is_cut[one.second]:
                continue
            areas = self.areas[one.first], self.areas[one.second]
            is_same = one.shared > self.options.max_iou * (sum(areas) - one.shared)
            if is_same or one.shared > self.options.max_containment * min(areas):
                rivals.setdefault(one.first, []).append((one.second, bool(is_same)))
                rivals.setdefault(one.second, []).append((one.first, bool(is_same)))
        for best in sorted(rivals, key=lambda place: (-self.scores[place], place)):
            if self.is_dropped[best]:
                continue
            for other, is_same in rivals[best]:
                if not self.is_dropped[other]:
                    self.is_dropped[other] = True
                    if is_same:
                        self.parent[other] = best
                        self.counts[best] = True  # Two tiles saw it.

    def _drop_explained(self) -> list[Contact]:
        """Drop cut objects that a whole one explains; return the contacts of the pieces."""
        explained: dict[int, tuple[float, int]] = {}
        left: list[Contact] = []
        for one in self.contacts:
            if self.is_cut[one.first] == self.is_cut[one.second]:
                if self.is_cut[one.first]:
                    left.append(one)
                continue
            cut, whole = (
                (one.first, one.second) if self.is_cut[one.first] else (one.second, one.first)
            )
            keeper = int(self.parent[whole])
            if self.is_dropped[keeper]:
                continue
            inside = one.inside_first if cut == one.first else one.inside_second
            iou = _iou(one)
            is_alike = iou > self.options.max_iou
            is_held = one.shared > self.options.max_containment * inside
            if (is_alike or is_held) and 2 * one.shared >= self.areas[cut]:
                explained[cut] = max(explained.get(cut, (0.0, -1)), (iou, keeper))
            elif is_alike:
                left.append(one)
        for cut, (_, keeper) in explained.items():
            self.is_dropped[cut] = True
            self.counts[keeper] = True
        return left

    def _join_pieces(self, contacts: list[Contact]) -> None:
        """Join what is left of cut objects."""
        for one in contacts:
            if self.is_dropped[one.first] or self.is_dropped[one.second]:
                continue
            if _iou(one) >= self.options.min_piece_iou:
                first, second = sorted((self._oldest(one.first), self._oldest(one.second)))
                self.parent[second] = first
                self.counts[first] = True

    def _oldest(self, place: int) -> int:
        """Return the first piece of an object."""
        while self.parent[place] != place:
            self.parent[place] = self.parent[self.parent[place]]
            place = int(self.parent[place])
        return place

    def _numbered(self) -> Joined:
        """Give what stays its number."""
        places = np.flatnonzero(~self.is_dropped)
        owners = np.array([self._oldest(int(place)) for place in places], np.int64)
        counts = np.zeros(len(self.areas), bool)
        np.logical_or.at(counts, owners, self.counts[places])
        is_kept = counts[owners]
        places, owners = places[is_kept], owners[is_kept]
        sources, which = np.unique(owners, return_inverse=True)
        numbers = np.zeros(len(self.areas), np.int64)
        numbers[places] = which + 1
        areas = np.zeros(len(sources), np.int64)
        np.add.at(areas, which, self.areas[places])
        sums = np.bincount(which, self.areas[places] * self.scores[places], len(sources))
        return Joined(numbers, (sums / np.maximum(areas, 1)).astype(np.float32), sources, areas)


def _iou(contact: Contact) -> float:
    """Return the IoU of two objects in the part that both tiles see."""
    union = contact.inside_first + contact.inside_second - contact.shared
    return contact.shared / union
