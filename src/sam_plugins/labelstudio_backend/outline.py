"""From masks to the outlines that Label Studio draws: polygons, boxes, ellipses.

Label Studio's polygons know neither holes nor parts. A hole is joined to its outline by a cut of no
width, walked there and back, so that editors and converters fill the same pixels as the mask;
parts become polygons of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import approximate_polygon

from sam_plugins.model.io.windows import tight_window

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in pixels from the edge of the picture, turned clockwise by degrees."""

    centre_xy: tuple[float, float]
    radii_xy: tuple[float, float]
    degrees: float


def polygons_of(mask: BoolArray, *, tolerance: float = 1.0, min_area: int = 16) -> list[FloatArray]:
    """Return the polygons of a mask's parts, the largest first.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool
    tolerance : float
        How far, in pixels, a polygon may lie from the outline (Douglas and Peucker 1973).
    min_area : int
        Parts and holes of fewer pixels are left out; the largest part never is.

    Returns
    -------
    list of ndarray of shape (N, 2)
        Corners ``x, y`` in pixels from the edge of the picture.

    Examples
    --------
    >>> polygons_of(np.ones((2, 3), bool), tolerance=0)[0].tolist()
    [[0.0, 0.0], [3.0, 0.0], [3.0, 2.0], [0.0, 2.0]]
    """
    inside = tight_window(mask)
    if inside is None:
        return []
    parts, count = ndimage.label(mask[inside], structure=_EIGHT)
    corner = np.array([inside[1].start, inside[0].start], np.float64)
    areas = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    slices = ndimage.find_objects(parts)
    found: list[FloatArray] = []
    for index in np.argsort(-areas, kind="stable"):
        if found and areas[index] < min_area:
            break
        where = slices[index]
        part = parts[where] == index + 1
        offset = np.array([where[1].start, where[0].start], np.float64)
        found.append(_with_holes(part, tolerance, min_area) + offset + corner)
    return found


def box_of(mask: BoolArray) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of a mask in pixels from the edge of the picture.

    Raises
    ------
    ValueError
        If it is empty.
    """
    inside = tight_window(mask)
    if inside is None:
        raise ValueError("mask must not be empty to have a box")
    rows, columns = inside
    return float(columns.start), float(rows.start), float(columns.stop), float(rows.stop)


def ellipse_of(mask: BoolArray) -> Ellipse:
    """Return the ellipse with a mask's area, centre and second moments.

    Raises
    ------
    ValueError
        If it is empty.
    """
    y, x = np.nonzero(mask)
    if not x.size:
        raise ValueError("mask must not be empty to have an ellipse")
    places = np.stack([x, y]) + 0.5
    centre = places.mean(axis=1)
    spread = (places - centre[:, None]) @ (places - centre[:, None]).T / x.size
    values, vectors = np.linalg.eigh(spread + np.eye(2) / 12)  # each pixel is a square
    along = vectors[:, 1]
    radii = 2 * np.sqrt(values[::-1])
    radii *= np.sqrt(x.size / (np.pi * radii.prod()))
    degrees = float(np.degrees(np.arctan2(along[1], along[0]))) % 180
    return Ellipse(
        (float(centre[0]), float(centre[1])), (float(radii[0]), float(radii[1])), degrees
    )


def _with_holes(part: BoolArray, tolerance: float, min_area: int) -> FloatArray:
    """Return the outline of one part, its holes cut into it."""
    outline = _outline(ndimage.binary_fill_holes(part), tolerance, joins_corners=True)
    holes, count = ndimage.label(~np.pad(part, 1))
    areas = np.bincount(holes.ravel(), minlength=count + 1)
    for index in range(1, count + 1):
        if index == holes[0, 0] or areas[index] < min_area:
            continue
        hole = _outline(holes[1:-1, 1:-1] == index, tolerance, joins_corners=False)
        outline = _cut(outline, hole[::-1])
    return outline


def _outline(part: BoolArray, tolerance: float, *, joins_corners: bool) -> FloatArray:
    """Return the outer outline of one part, clockwise as one sees it."""
    exact = _traced(part, joins_corners=joins_corners)
    if tolerance <= 0:
        return exact
    simple: FloatArray = approximate_polygon(  # type: ignore[no-untyped-call]
        np.concatenate([exact, exact[:1]]), tolerance
    )[:-1]
    return simple if len(simple) >= 3 else exact


def _traced(part: BoolArray, *, joins_corners: bool) -> FloatArray:
    """Return the corners of the outer outline along the edges of the pixels.

    Every edge is walked with the part on its right. Where two pixels touch at a corner alone, the
    walk crosses over to the other or stays, as pixels count as connected there or not.
    """
    padded = np.pad(part, 1)
    inside = padded[1:-1, 1:-1]
    leaving: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for neighbour, begin, step in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # above: to the right
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    ):
        rows, columns = np.nonzero(inside & ~neighbour)
        for x, y in zip((columns + begin[0]).tolist(), (rows + begin[1]).tolist(), strict=True):
            leaving.setdefault((x, y), []).append(step)
    row = int(np.flatnonzero(part.any(axis=1))[0])
    start = (int(np.flatnonzero(part[row])[0]), row)
    place, step = start, (1, 0)
    corners: list[tuple[int, int]] = []
    while True:
        left, right = (step[1], -step[0]), (-step[1], step[0])
        wanted = (left, step, right) if joins_corners else (right, step, left)
        there = leaving[place]
        turn = next(one for one in wanted if one in there) if corners else (1, 0)
        if not corners or turn != step:
            corners.append(place)
        there.remove(turn)
        step = turn
        place = (place[0] + step[0], place[1] + step[1])
        if place == start:
            return np.array(corners, np.float64)


def _cut(outline: FloatArray, hole: FloatArray) -> FloatArray:
    """Return an outline from which a hole is reached, and left, by the shortest way."""
    distances = ((outline[:, None] - hole[None]) ** 2).sum(axis=2)
    at, to = np.unravel_index(int(distances.argmin()), distances.shape)
    walked = np.roll(hole, -to, axis=0)
    return np.concatenate([outline[: at + 1], walked, walked[:1], outline[at:]])
