"""Where objects are, from the maps of an instance decoder: one point for each.

The centre map has a bump at the innermost point of every object, the border map grows from the rim
to the middle. Their mean has one clear maximum per object even where one of the two hesitates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from sam_plugins.model.inference.coordinates import CELL

FloatArray = npt.NDArray[np.float32]

_EIGHT = np.ones((3, 3), bool)


class InstanceProbabilities(NamedTuple):
    """Foreground, centre and border distance, each (h, w) float32 from 0 to 1."""

    foreground: FloatArray
    centre: FloatArray
    border: FloatArray


class Seeds(NamedTuple):
    """Points in cells of the maps, best first.

    Attributes
    ----------
    cells_yx : ndarray of shape (n, 2), int64
        The cell of each seed.
    points_xy : ndarray of shape (n, 2), float32
        Pixels of the network's input, found to a fraction of a cell.
    strengths : ndarray of shape (n,), float32
        Value of the map there, 0 to 1.
    """

    cells_yx: npt.NDArray[np.int64]
    points_xy: FloatArray
    strengths: FloatArray


@dataclass(frozen=True)
class SeedOptions:
    """How maxima of the maps become points.

    Parameters
    ----------
    min_foreground : float
        Cells below are background.
    min_strength : float
        Mean of centre and border below which a maximum is none.
    min_prominence : float
        How far the map must fall between two maxima; less, and they are one object.
    smoothing : float
        Standard deviation of a Gaussian over the map, in cells; 0 for none.
    seed_every_component : bool
        Whether a piece of foreground without any maximum gets one point nevertheless.
    """

    min_foreground: float = 0.6
    min_strength: float = 0.2
    min_prominence: float = 0.1
    smoothing: float = 1.0
    seed_every_component: bool = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("min_foreground", "min_strength"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not 0 < self.min_prominence < 1:
            raise ValueError(f"min_prominence must lie in (0, 1), got {self.min_prominence}")
        if self.smoothing < 0:
            raise ValueError(f"smoothing must be 0 or more, got {self.smoothing}")


def find_seeds(maps: InstanceProbabilities, options: SeedOptions | None = None) -> Seeds:
    """Return one point for every object that the maps show.

    Parameters
    ----------
    maps : InstanceProbabilities
        Without the cells of the padding.
    options : SeedOptions, optional

    Returns
    -------
    Seeds
        The strongest first.

    Examples
    --------
    >>> middle = np.zeros((5, 5), np.float32)
    >>> middle[2, 3] = 1
    >>> found = find_seeds(InstanceProbabilities(middle, middle, middle), SeedOptions(smoothing=0))
    >>> found.points_xy.tolist()
    [[13.5, 9.5]]
    """
    chosen = options or SeedOptions()
    inside = maps.foreground >= chosen.min_foreground
    smooth = closeness(maps, chosen.smoothing)
    height_map = np.where(inside, smooth, np.float32(0))
    cells = _prominent_maxima(height_map, chosen)
    if chosen.seed_every_component:
        cells = np.concatenate([cells, _lonely_components(inside, height_map, cells)])
    strengths = height_map[cells[:, 0], cells[:, 1]].astype(np.float32)
    order = np.argsort(-strengths, kind="stable")
    cells = cells[order]
    offsets_yx = _refinements(smooth, cells)
    points_xy = ((cells + offsets_yx + 0.5) * CELL - 0.5)[:, ::-1]
    return Seeds(cells, points_xy.astype(np.float32), strengths[order])


def seed_regions(
    maps: InstanceProbabilities, seeds: Seeds, options: SeedOptions | None = None
) -> npt.NDArray[np.int32]:
    """Return the foreground divided among the seeds, as the maps alone would have it.

    Parameters
    ----------
    maps : InstanceProbabilities
    seeds : Seeds
    options : SeedOptions, optional

    Returns
    -------
    ndarray of shape (h, w), int32
        Seed ``i`` has the cells ``i + 1``; 0 is background.
    """
    chosen = options or SeedOptions()
    markers = np.zeros(maps.foreground.shape, np.int32)
    markers[seeds.cells_yx[:, 0], seeds.cells_yx[:, 1]] = np.arange(1, len(seeds.cells_yx) + 1)
    inside = (maps.foreground >= chosen.min_foreground) | (markers > 0)
    hills = closeness(maps, chosen.smoothing)
    divided: npt.NDArray[np.int32] = watershed(  # type: ignore[no-untyped-call]
        -hills, markers, connectivity=2, mask=inside
    )
    return divided.astype(np.int32, copy=False)


def closeness(maps: InstanceProbabilities, smoothing: float) -> FloatArray:
    """Return the mean of centre and border, smoothed: high in the middle of objects."""
    # No NaN: what comes next reads beyond its arrays where values cannot be ordered.
    mean: FloatArray = np.nan_to_num((maps.centre + maps.border) / np.float32(2))
    if smoothing <= 0:
        return mean
    smooth: FloatArray = ndimage.gaussian_filter(mean, smoothing, mode="nearest")
    return smooth


def _prominent_maxima(height_map: FloatArray, options: SeedOptions) -> npt.NDArray[np.int64]:
    """Return the cells (n, 2) of maxima that stand out by the wanted prominence."""
    # Extended maxima: a map lowered by h and grown again below the old one is flat around every
    # peak that stands out by h, and has one maximum for it (Soille, Morphological Image Analysis,
    # 6.3.4).
    low = np.maximum(height_map - options.min_prominence, 0)
    lowered = reconstruction(  # type: ignore[no-untyped-call]
        low, height_map, footprint=_EIGHT
    )
    # Framed by background, so that a map of one single height has a maximum too.
    framed = np.pad(lowered, 1)
    is_top = local_maxima(framed, connectivity=2)  # type: ignore[no-untyped-call]
    tops, count = ndimage.label(is_top[1:-1, 1:-1], structure=_EIGHT)
    cells = _positions_of_maxima(height_map, tops, np.arange(1, count + 1))
    return cells[height_map[cells[:, 0], cells[:, 1]] >= options.min_strength]


def _lonely_components(
    inside: npt.NDArray[np.bool_], height_map: FloatArray, cells: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return a cell for every piece of foreground that has no seed."""
    pieces, count = ndimage.label(inside, structure=_EIGHT)
    is_lonely = np.ones(count + 1, bool)
    is_lonely[0] = False
    is_lonely[pieces[cells[:, 0], cells[:, 1]]] = False
    return _positions_of_maxima(height_map, pieces, np.flatnonzero(is_lonely))


def _positions_of_maxima(
    values: FloatArray, labels: npt.NDArray[np.integer], which: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """Return the cell with the largest value within each of some labels."""
    if not which.size:
        return np.zeros((0, 2), np.int64)
    return np.array(ndimage.maximum_position(values, labels, which), np.int64).reshape(-1, 2)


def _refinements(values: FloatArray, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return by how much the tops of parabolas through three cells differ from the middle one."""
    # Mirrored, so that nothing pulls a point of the outermost cells off the picture.
    padded = np.pad(values.astype(np.float64), 1, mode="reflect")
    rows, columns = cells[:, 0] + 1, cells[:, 1] + 1
    middle = padded[rows, columns]
    offsets = np.zeros((len(cells), 2))
    for axis, (down, right) in enumerate(((1, 0), (0, 1))):
        before, after = padded[rows - down, columns - right], padded[rows + down, columns + right]
        curvature = before - 2 * middle + after
        is_top = (curvature < -1e-9) & (middle >= before) & (middle >= after)
        steps = 0.5 * (before - after) / np.where(is_top, curvature, 1.0)
        offsets[:, axis] = np.where(is_top, steps, 0.0)
    return np.clip(offsets, -0.5, 0.5)
