"""From prompted slices to whole objects: follow, fuse between prompted slices, correct."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.candidates import Progress
from sam_plugins.model.inference.checks import require_type
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.volume.options import PropagationOptions
from sam_plugins.model.inference.volume.shapes import blend, box_between, box_iou, window_iou
from sam_plugins.model.inference.volume.slices import SliceEmbeddings
from sam_plugins.model.inference.volume.stepping import (
    Walker,
    answer_seed,
    describe,
    echo_of,
    take_step,
)
from sam_plugins.model.inference.volume.values import (
    Chain,
    ObjectSlices,
    Propagation,
    Seed,
    SliceMask,
    Stop,
    StopReason,
)

Anchors = dict[int, dict[int, tuple[Seed, SliceMask]]]
"""The prompted slices of each object."""

OnSlice = Callable[[int, SliceMask], None]
"""Told of an object and a slice of it as soon as it is found."""

_UP, _DOWN = 1, -1
_LEAST_PLAUSIBILITY = 0.1


def propagate(
    slices: SliceEmbeddings,
    seeds: Iterable[Seed],
    *,
    options: PropagationOptions | None = None,
    index_range: tuple[int, int] | None = None,
    known: Propagation | None = None,
    progress: Progress | None = None,
) -> Propagation:
    """Follow objects from their prompted slices through the volume, both ways.

    Beyond its outermost prompted slices an object is followed until a reason to stop. Between two
    of them it is followed from both, without stopping for doubts, and the two shapes of a slice are
    averaged: by the distance from either, and by how near they are to a straight line. All objects
    that wait for a slice are asked for at once, so that each slice is encoded once and read once
    for each direction. The two directions take turns, so that what lies near comes first.

    :class:`PropagationRun` does the same, and can be looked at on the way and left with what is
    done.

    Parameters
    ----------
    slices : SliceEmbeddings
        Of the volume, along the axis to follow.
    seeds : iterable of Seed
        For each object one or more slices with a mask or prompts.
    options : PropagationOptions, optional
    index_range : (int, int), optional
        First slice, and the one after the last, to which the work is confined; all by default.
    known : Propagation, optional
        An earlier result: the ways from seeds that are among ``seeds`` again (the same objects,
        not equal ones) are taken from it as far as they still hold.
    progress : callable, optional
        Called before each slice with the slices visited and the most that there can be, which falls
        when an object ends, and at the end. An exception that it raises stops the work; embeddings
        that were computed stay.

    Returns
    -------
    Propagation

    Raises
    ------
    ValueError
        If there is no seed, two seeds are for one object on one slice, a mask has another size, a
        prompt lies outside, or ``index_range`` is none.
    IndexError
        If a seed's slice does not exist.
    TypeError
        If an argument is of another type.
    MemoryLimitError
        If memory runs out.
    """
    run = PropagationRun(
        slices, seeds, options=options, index_range=index_range, known=known, progress=progress
    )
    run.go()
    return run.result()


def correct(
    slices: SliceEmbeddings,
    known: Propagation,
    seeds: Iterable[Seed],
    *,
    options: PropagationOptions | None = None,
    index_range: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Propagation:
    """Correct objects on some slices, and follow them anew from there only.

    Parameters
    ----------
    slices, options, index_range, progress
        As for :func:`propagate`; the same as in the call that made ``known``.
    known : Propagation
        What is to be corrected.
    seeds : iterable of Seed
        The corrections: a mask or prompts that take the place of what is known of an object on a
        slice. A new object number is a new object; a mask without pixels ends an object there.

    Returns
    -------
    Propagation
        Slices between a correction and the next prompted one are followed from the correction and
        fused with what was known; slices behind other prompted ones, and other objects, are as
        they were, without asking the model.

    Raises
    ------
    ValueError, IndexError, TypeError, MemoryLimitError
        As for :func:`propagate`.
    """
    new = tuple(seeds)
    places = {(seed.object_id, seed.index) for seed in new}
    kept = tuple(seed for seed in known.seeds if (seed.object_id, seed.index) not in places)
    return propagate(
        slices,
        kept + new,
        options=options,
        index_range=index_range,
        known=known,
        progress=progress,
    )


class PropagationRun:
    """A propagation that can be looked at while it goes on, and left with what is done.

    Parameters
    ----------
    slices, seeds, options, index_range, known, progress
        As for :func:`propagate`.
    on_slice : callable, optional
        Called with the number of an object and a slice of it, the prompted ones first, as soon as
        it is found. What is between two prompted slices may be another in the result, and the last
        slices of an object that ends for doubt are not in it.

    Raises
    ------
    ValueError, IndexError, TypeError
        As for :func:`propagate`.
    """

    def __init__(
        self,
        slices: SliceEmbeddings,
        seeds: Iterable[Seed],
        *,
        options: PropagationOptions | None = None,
        index_range: tuple[int, int] | None = None,
        known: Propagation | None = None,
        progress: Progress | None = None,
        on_slice: OnSlice | None = None,
    ) -> None:
        require_type(
            "slices", slices, SliceEmbeddings, "make them with SliceEmbeddings(model, volume)"
        )
        self._options = options or PropagationOptions()
        require_type("options", self._options, PropagationOptions, "leave it out for the defaults")
        self._slices = slices
        self._seeds = tuple(seeds)
        self._range = _checked_range(slices, self._seeds, index_range)
        self._old = {} if known is None else {chain.key: chain for chain in known.chains}
        self._progress = progress
        self._on_slice = on_slice
        self._visited = 0
        self._decodes = 0
        self._anchors: Anchors = {}
        self._walkers: tuple[Walker, ...] = ()
        self._references: dict[int, tuple[npt.NDArray[np.float32] | None, WindowMask]] = {}
        volume, axis = slices.volume, slices.axis
        self._slice_distance = volume.voxel_size_zyx[axis]
        self._pixel_size = sum(volume.pixel_size_hw(axis)) / 2

    def go(self) -> None:
        """Do the work, or what is left of it.

        Raises
        ------
        MemoryLimitError
            If memory runs out.
        """
        if not self._walkers:
            anchors = self._answered()
            first, stop = self._range
            self._walkers = tuple(
                walker
                for direction in (_UP, _DOWN)
                for walker in _walkers(anchors, direction, first, stop, self._old)
            )
            self._anchors = anchors
        while any(walker.stop is None for walker in self._walkers):
            for direction in (_UP, _DOWN):
                self._walk(direction)
        if self._progress is not None:
            self._progress(self._visited, self._visited)

    def result(self) -> Propagation:
        """Return what is found so far; from any thread, at any time.

        An object that was not followed to its end stops for :attr:`StopReason.INTERRUPTED`; given
        to another run as ``known`` it is followed on from there.
        """
        anchors, chains = self._anchors, [walker.done() for walker in self._walkers]
        slices = self._slices
        objects = tuple(
            _object(number, anchors[number], chains, slices.volume.plane_hw(slices.axis))
            for number in sorted(anchors)
        )
        shape = slices.volume.shape_zyx
        return Propagation(slices.axis, shape, objects, self._seeds, tuple(chains), self._decodes)

    def _answered(self) -> Anchors:
        """Return the masks of the prompted slices, answering prompts that are new."""
        answered = {id(chain.seed): chain.anchor for chain in self._old.values()}
        anchors: Anchors = defaultdict(dict)
        for seed in sorted(self._seeds, key=lambda one: one.index):
            mask = answered.get(id(seed))
            if mask is None:
                if self._progress is not None:
                    self._progress(0, 0)
                embedding = self._slices.embedding(seed.index)
                mask, asked = answer_seed(self._slices.model, embedding, seed)
                self._decodes += asked
                self._tell(seed.object_id, mask)
            anchors[seed.object_id][seed.index] = seed, mask
        return anchors

    def _walk(self, direction: int) -> None:
        """Take the walkers of one direction that are furthest behind onto their next slice."""
        waiting = [w for w in self._walkers if w.stop is None and w.direction == direction]
        if not waiting:
            return
        index = min((w.next_index for w in waiting), key=lambda i: i * direction)
        here = [walker for walker in waiting if walker.next_index == index]
        self._report()
        self._visited += 1
        for walker in here:
            self._prepare(walker)
        self._decodes += take_step(
            self._slices.model,
            self._slices.embedding(index),
            here,
            self._options,
            self._slice_distance,
            self._pixel_size,
        )
        for walker in here:
            if walker.steps and walker.steps[-1].index == index:
                self._tell(walker.seed.object_id, walker.steps[-1])

    def _prepare(self, walker: Walker) -> None:
        """Give a walker what its steps are compared with; both directions share it."""
        if walker.echo is not None:
            return
        key = id(walker.seed)
        if key not in self._references:
            embedding = self._slices.embedding(walker.seed.index)
            look = None
            if self._options.min_similarity > -1:
                look = describe(embedding, walker.anchor.found)
            echo, asked = echo_of(self._slices.model, embedding, walker.anchor, self._options)
            self._decodes += asked
            self._references[key] = (look, echo)
        walker.look, walker.echo = self._references[key]

    def _tell(self, object_id: int, found: SliceMask) -> None:
        """Tell of a slice that was found."""
        if self._on_slice is not None:
            self._on_slice(object_id, found)

    def _report(self) -> None:
        """Say how far the work is."""
        if self._progress is not None:
            self._progress(self._visited, self._visited + self._most_left())

    def _most_left(self) -> int:
        """Return how many slices there are to visit if no object ends before it must."""
        left = 0
        for direction in (_UP, _DOWN):
            visits: set[int] = set()
            for walker in self._walkers:
                if walker.stop is None and walker.direction == direction:
                    visits.update(range(walker.next_index, walker.limit, direction))
            left += len(visits)
        return left


def _checked_range(
    slices: SliceEmbeddings, seeds: Sequence[Seed], index_range: tuple[int, int] | None
) -> tuple[int, int]:
    """Return the slices to visit; refuse seeds that are not among them, or of one place."""
    if not seeds:
        raise ValueError("seeds must hold at least one, got none")
    for seed in seeds:
        require_type("seeds", seed, Seed, "make each with Seed(object_id, index, mask)")
    length = len(slices)
    first, stop = (0, length) if index_range is None else index_range
    if not 0 <= first < stop <= length:
        raise ValueError(f"index_range must lie within 0 and {length}, got {index_range}")
    places = set()
    for seed in seeds:
        if not first <= seed.index < stop:
            raise IndexError(
                f"seed of object {seed.object_id} must be on a slice from {first} to {stop - 1}, "
                f"got {seed.index}"
            )
        if (seed.object_id, seed.index) in places:
            raise ValueError(
                f"object {seed.object_id} must have one seed on slice {seed.index}, got two; "
                "put all its prompts into one"
            )
        places.add((seed.object_id, seed.index))
    return first, stop


def _walkers(
    anchors: Anchors,
    direction: int,
    first: int,
    stop: int,
    old: dict[tuple[int, int, int], Chain],
) -> Iterator[Walker]:
    """Yield who goes in one direction: one from each prompted slice with the object on it."""
    for places in anchors.values():
        order = sorted(places, reverse=direction == _DOWN)
        for place, index in enumerate(order):
            seed, anchor = places[index]
            if anchor.area == 0:
                continue
            if place + 1 < len(order):
                limit, reason = order[place + 1], StopReason.PROMPTED
                goal = places[limit][1] if places[limit][1].area else None
            else:
                limit, reason = (stop if direction == _UP else first - 1), StopReason.EDGE
                goal = None
            walker = Walker(seed, anchor, direction, limit, reason, goal)
            _remember(walker, old.get((seed.object_id, index, direction)))
            walker.end_at_limit()
            yield walker


_OPEN_ENDS = (StopReason.EDGE, StopReason.PROMPTED, StopReason.INTERRUPTED)


def _remember(walker: Walker, chain: Chain | None) -> None:
    """Take the steps of an earlier way as far as they hold."""
    if chain is None or chain.seed is not walker.seed:
        return
    held = [step for step in chain.steps if (walker.limit - step.index) * walker.direction > 0]
    walker.steps.extend(held)
    is_whole = len(held) == len(chain.steps)
    is_doubt = chain.stop.reason not in _OPEN_ENDS
    goes_on = walker.goal is not None and chain.stop.reason is not StopReason.EMPTY
    if is_whole and is_doubt and chain.stop.index != walker.limit and not goes_on:
        walker.stop = chain.stop


def _object(
    number: int,
    places: dict[int, tuple[Seed, SliceMask]],
    chains: Sequence[Chain],
    size_hw: tuple[int, int],
) -> ObjectSlices:
    """Put the ways of one object together."""
    own = {chain.key[1:]: chain for chain in chains if chain.seed.object_id == number}
    slices = {index: mask for index, (_, mask) in places.items() if mask.area}
    order = sorted(places)
    for low, high in itertools.pairwise(order):
        slices |= _between(own.get((low, _UP)), own.get((high, _DOWN)), size_hw)
    ends: list[Stop] = []
    for index, direction in ((order[0], _DOWN), (order[-1], _UP)):
        chain = own.get((index, direction))
        if chain is None:
            ends.append(Stop(index, StopReason.PROMPTED))
        else:
            slices |= {step.index: step for step in chain.steps}
            ends.append(chain.stop)
    return ObjectSlices(number, slices, tuple(ends))


def _between(
    up: Chain | None, down: Chain | None, size_hw: tuple[int, int]
) -> dict[int, SliceMask]:
    """Return the slices between two prompted ones: fused where both ways lead there."""
    from_below = {} if up is None else {step.index: step for step in up.steps}
    from_above = {} if down is None else {step.index: step for step in down.steps}
    if up is None or down is None:
        return from_below | from_above
    fused = from_below | from_above
    gap = down.seed.index - up.seed.index
    for index in from_below.keys() & from_above.keys():
        low, high = from_below[index], from_above[index]
        nearness = (index - up.seed.index) / gap
        weights = (
            (1 - nearness) * up.anchor.area * _plausibility(low, up, down),
            nearness * down.anchor.area * _plausibility(high, up, down),
        )
        weight = weights[1] / sum(weights)
        found = blend(low.found, high.found, weight, size_hw)
        nearer = high if weight > 0.5 else low
        if not found.mask.any():  # Two shapes apart from each other.
            found = nearer.found
        fused[index] = replace(
            nearer,
            found=found,
            predicted_iou=(1 - weight) * low.predicted_iou + weight * high.predicted_iou,
            overlap=window_iou(low.found, high.found),
        )
    return fused


def _plausibility(found: SliceMask, up: Chain, down: Chain) -> float:
    """Return how far a mask between two prompted slices is where a rounded object would be.

    A way that lost the object has little to say. The fourth power of the IoU of the boxes.
    """
    done = (found.index - up.seed.index) / (down.seed.index - up.seed.index)
    rounded = box_between(up.anchor.box_xyxy, down.anchor.box_xyxy, done)
    return max(box_iou(found.box_xyxy, rounded), _LEAST_PLAUSIBILITY) ** 4
