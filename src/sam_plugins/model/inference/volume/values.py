"""What goes into a propagation and what comes out: seeds, masks of slices, stops, objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.types import Prompts
from sam_plugins.model.io.windows import tight_window

DOUBTFUL = 0.75
"""Slices of less confidence should be looked at."""

BoolArray = npt.NDArray[np.bool_]


class StopReason(Enum):
    """Why a propagation ends where it does."""

    EDGE = "edge of the range"
    PROMPTED = "another prompted slice"
    EMPTY = "nothing found"
    OVERLAP = "too little overlap with the slice before"
    AREA = "area changed too much"
    PREDICTED_IOU = "the model does not trust the mask"
    CONFIDENCE = "doubtful slices in a row"
    APPEARANCE = "looks unlike the prompted slice"
    INTERRUPTED = "not followed further yet"


@dataclass(frozen=True, eq=False)
class Seed:
    """What is known about one object on one slice.

    Parameters
    ----------
    object_id : int
        1 or more.
    index : int
        The slice, from 0.
    mask : ndarray of shape (H, W), bool, optional
        The object on that slice. Nowhere True: the object is not there, which ends propagation.
    prompts : Prompts of one object, optional
        In pixels of the slice; answered when the propagation begins. Give this or ``mask``.

    Raises
    ------
    ValueError
        If neither or both are given, the number is below 1, or the prompts are of several objects.

    Examples
    --------
    >>> Seed(1, 12, prompts=Prompts.for_object([[30, 40]])).index
    12
    """

    object_id: int
    index: int
    mask: BoolArray | None = None
    prompts: Prompts | None = None

    def __post_init__(self) -> None:
        """Check the number, and keep a mask of our own."""
        if self.object_id < 1:
            raise ValueError(f"object_id must be 1 or more, got {self.object_id}")
        if (self.mask is None) == (self.prompts is None):
            raise ValueError("a seed must have a mask or prompts, and not both")
        if self.prompts is not None and len(self.prompts) != 1:
            raise ValueError(
                f"prompts of a seed must be of one object, got {len(self.prompts)}; "
                "make a seed for each"
            )
        if self.mask is not None:
            mask = np.array(self.mask, bool)
            if mask.ndim != 2:
                raise ValueError(f"mask of a seed must have shape (H, W), got {mask.shape}")
            mask.setflags(write=False)
            object.__setattr__(self, "mask", mask)


@dataclass(frozen=True, eq=False)
class SliceMask:
    """An object on one slice.

    Parameters
    ----------
    index : int
        The slice.
    found : WindowMask
        The mask within its window; without pixels where the object is not there.
    predicted_iou : float
        What the model expects; 1 for masks that were given.
    overlap : float
        IoU with the mask of the slice before; between two prompted slices, of what comes from
        either side; 1 where the slice was prompted.
    similarity : float
        -1 to 1: how much it looks like the object on the prompted slice.
    is_prompted : bool
    """

    index: int
    found: WindowMask
    predicted_iou: float = 1.0
    overlap: float = 1.0
    similarity: float = 1.0
    is_prompted: bool = False

    @property
    def confidence(self) -> float:
        """0 to 1: the geometric mean of overlap and predicted IoU."""
        return float(np.sqrt(np.clip(self.predicted_iou, 0, 1) * np.clip(self.overlap, 0, 1)))

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.found.mask))

    @property
    def box_xyxy(self) -> npt.NDArray[np.float64]:
        """Left, top, right, bottom around the mask's pixels; it must not be empty."""
        (rows, columns), mask = self.found
        inside = tight_window(mask)
        assert inside is not None
        down, across = inside
        corners = np.array([across.start, down.start, across.stop, down.stop]) - 0.5
        return corners + [columns.start, rows.start] * 2

    def drawn(self, size_hw: SizeHW) -> BoolArray:
        """Return the mask at the size of the slice, (H, W)."""
        mask = np.zeros(size_hw, bool)
        mask[self.found.window] = self.found.mask
        return mask


@dataclass(frozen=True)
class Stop:
    """Where a propagation ended, and why.

    Parameters
    ----------
    index : int
        The first slice that does not belong to it; one beyond the volume at its edge.
    reason : StopReason
    value : float
        The figure that fell short, such as the overlap; NaN where there is none.
    """

    index: int
    reason: StopReason
    value: float = float("nan")


@dataclass(frozen=True, eq=False)
class Chain:
    """One object followed from one prompted slice in one direction.

    Parameters
    ----------
    seed : Seed
    anchor : SliceMask
        The object on the prompted slice.
    direction : int
        1 or -1.
    steps : tuple of SliceMask
        The slices after the anchor, in order.
    stop : Stop
    """

    seed: Seed
    anchor: SliceMask
    direction: int
    steps: tuple[SliceMask, ...]
    stop: Stop

    @property
    def key(self) -> tuple[int, int, int]:
        """Object, prompted slice and direction."""
        return self.seed.object_id, self.seed.index, self.direction


@dataclass(frozen=True, eq=False)
class ObjectSlices:
    """One object of a volume.

    Parameters
    ----------
    object_id : int
    slices : mapping of int to SliceMask
        Every slice on which the object is, in order.
    stops : tuple of Stop
        Where the outermost propagations ended, downwards and upwards.
    """

    object_id: int
    slices: Mapping[int, SliceMask]
    stops: tuple[Stop, ...]

    def __post_init__(self) -> None:
        """Order the slices, and let nobody change them."""
        ordered = dict(sorted(self.slices.items()))
        object.__setattr__(self, "slices", MappingProxyType(ordered))

    @cached_property
    def indices(self) -> npt.NDArray[np.int64]:
        """The slices, shape (n,)."""
        return np.fromiter(self.slices, np.int64, len(self.slices))

    @cached_property
    def confidence(self) -> npt.NDArray[np.float64]:
        """Of each of these slices, shape (n,), 0 to 1."""
        return np.array([found.confidence for found in self.slices.values()], np.float64)


@dataclass(frozen=True)
class Doubt:
    """A slice that a person should look at.

    Parameters
    ----------
    object_id : int
    index : int
        The slice.
    confidence : float
        Of the mask there.
    reason : str
        In words.
    """

    object_id: int
    index: int
    confidence: float
    reason: str


class WritableArray(Protocol):
    """What labels can be written to: NumPy, Zarr."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy type of the values."""

    def __getitem__(self, where: Any, /) -> Any:  # noqa: ANN401
        """Return a part."""

    def __setitem__(self, where: Any, values: Any, /) -> None:  # noqa: ANN401
        """Replace a part."""


@dataclass(frozen=True, eq=False)
class Propagation:
    """Objects of a volume that were followed from slice to slice.

    Parameters
    ----------
    axis : int
        0, 1 or 2: along z, y or x.
    shape_zyx : (int, int, int)
        Of the volume.
    objects : tuple of ObjectSlices
        By their number.
    seeds : tuple of Seed
        What they were followed from.
    chains : tuple of Chain
        All ways that were gone; what a correction does not touch is taken from here.
    decodes : int
        How many masks the model was asked for in this call.
    """

    axis: int
    shape_zyx: tuple[int, int, int]
    objects: tuple[ObjectSlices, ...]
    seeds: tuple[Seed, ...]
    chains: tuple[Chain, ...]
    decodes: int

    @property
    def plane_hw(self) -> SizeHW:
        """Height and width of a slice."""
        height, width = (n for i, n in enumerate(self.shape_zyx) if i != self.axis)
        return height, width

    def __getitem__(self, object_id: int) -> ObjectSlices:
        """Return one object by its number.

        Raises
        ------
        KeyError
            If there is none.
        """
        for found in self.objects:
            if found.object_id == object_id:
                return found
        known = ", ".join(str(found.object_id) for found in self.objects)
        raise KeyError(f"no object {object_id}; there are {known}")

    def mask(self, object_id: int) -> BoolArray:
        """Return one object as a mask of shape (Z, Y, X).

        Raises
        ------
        KeyError
            If there is none.
        """
        drawn = np.zeros(self.shape_zyx, bool)
        along = np.moveaxis(drawn, self.axis, 0)
        for index, found in self[object_id].slices.items():
            along[(index, *found.found.window)] |= found.found.mask
        return drawn

    def slice_labels(self, index: int) -> npt.NDArray[np.int32]:
        """Return all objects of one slice as labels of shape (H, W), int32.

        Where objects overlap, the more confident one is drawn.
        """
        drawn = np.zeros(self.plane_hw, np.int32)
        here = [(o.slices[index], o.object_id) for o in self.objects if index in o.slices]
        for found, number in sorted(here, key=lambda one: (one[0].confidence, -one[1])):
            window = drawn[found.found.window]
            window[found.found.mask] = number
        return drawn

    def labels(self, out: WritableArray | None = None) -> Any:  # noqa: ANN401
        """Return all objects as labels.

        Parameters
        ----------
        out : array of shape (Z, Y, X), integer, optional
            Written to slice by slice, such as a chunked Zarr array: only pixels of the objects
            change. A new array by default.

        Returns
        -------
        array of shape (Z, Y, X)
            ``out``, or a new int32 array.

        Raises
        ------
        ValueError
            If ``out`` has another shape, or its type cannot hold the numbers.
        """
        if out is None:
            out = np.zeros(self.shape_zyx, np.int32)
        require_room(out, self.shape_zyx, max((o.object_id for o in self.objects), default=0))
        for index in sorted({index for o in self.objects for index in o.slices}):
            where: list[int | slice] = [slice(None)] * 3
            where[self.axis] = index
            drawn, there = self.slice_labels(index), np.asarray(out[tuple(where)])
            out[tuple(where)] = np.where(drawn > 0, drawn, there).astype(out.dtype)
        return out

    def doubtful(self, below: float = DOUBTFUL) -> tuple[Doubt, ...]:
        """Return the slices that a person should visit, the most doubtful first.

        Parameters
        ----------
        below : float
            0 to 1: slices of less confidence are listed, and the last slice of each object before a
            stop that was no edge and no empty slice.
        """
        doubts: dict[tuple[int, int], Doubt] = {}
        for one in self.objects:
            for index, found in one.slices.items():
                if not found.is_prompted and found.confidence < below:
                    why = f"confidence {found.confidence:.2f}"
                    doubts[one.object_id, index] = Doubt(
                        one.object_id, index, found.confidence, why
                    )
            for stop in one.stops:
                if stop.reason in _CERTAIN_STOPS or not len(one.indices):
                    continue
                index = int(np.clip(stop.index, one.indices[0], one.indices[-1]))
                doubts.setdefault(
                    (one.object_id, index),
                    Doubt(
                        one.object_id,
                        index,
                        one.slices[index].confidence,
                        f"ended here: {stop.reason.value} ({stop.value:.2f})",
                    ),
                )
        return tuple(sorted(doubts.values(), key=lambda doubt: doubt.confidence))


_CERTAIN_STOPS = (
    StopReason.EDGE,
    StopReason.PROMPTED,
    StopReason.EMPTY,
    StopReason.INTERRUPTED,
)


def require_room(out: WritableArray, shape: Iterable[int], highest: int) -> None:
    """Refuse an array that cannot take labels.

    Raises
    ------
    ValueError
        If it has another shape, or its type cannot hold the numbers.
    """
    if tuple(out.shape) != tuple(shape):
        raise ValueError(f"out must have shape {tuple(shape)}, got {tuple(out.shape)}")
    dtype = np.dtype(out.dtype)
    if dtype.kind not in "iu":
        raise ValueError(f"out must hold integers, got {dtype}")
    if highest > np.iinfo(dtype).max:
        raise ValueError(f"out must hold numbers up to {highest}, which {dtype} cannot")
