"""A set of coloured shapes with phrases, for what cannot be measured without the weights of a CLIP.

Every picture holds a few shapes on a textured ground, each with the phrase that names it, such as
"red star". Some pairs of colour and shape are held out: nothing is trained on a picture with one of
them, so that a model which finds them has understood colour and shape and not the pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

COLOURS = {
    "red": (208, 40, 40),
    "green": (40, 160, 60),
    "blue": (48, 80, 208),
    "yellow": (228, 208, 48),
    "purple": (150, 60, 180),
    "orange": (236, 138, 36),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
HELD_OUT = (
    ("red", "star"),
    ("green", "circle"),
    ("blue", "cross"),
    ("yellow", "triangle"),
    ("purple", "square"),
    ("orange", "circle"),
)
"""One pair of every colour; every shape is in one of them."""

Pair = tuple[str, str]


@dataclass(frozen=True)
class Scene:
    """A picture, its objects, and the phrase of each: label ``i + 1`` is ``phrases[i]``."""

    rgb: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    phrases: tuple[str, ...]


def pairs(*, held_out: bool) -> list[Pair]:
    """Return the pairs of colour and shape that are held out, or those that are not."""
    every = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    return [pair for pair in every if (pair in HELD_OUT) == held_out]


def draw_scene(
    rng: np.random.Generator,
    among: list[Pair],
    *,
    size: int = 128,
    count: int = 5,
    copies: int = 1,
    radii: tuple[float, float] = (11.0, 17.0),
) -> Scene:
    """Draw a picture.

    Parameters
    ----------
    rng : Generator
    among : list of (colour, shape)
        What may be drawn.
    size : int
        Pixels of a side.
    count : int
        How many different pairs are drawn, each ``copies`` times, as far as there is room.
    copies : int
    radii : (float, float)
        Smallest and largest radius of the circle that holds a shape.
    """
    ground = rng.uniform(70, 190) + rng.uniform(-12, 12, 3)
    noise = ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), 3)
    rgb = ground + (noise / noise.std() * rng.uniform(3, 12))[..., None]
    labels = np.zeros((size, size), np.int32)
    chosen = [among[i] for i in rng.permutation(len(among))[:count] for _ in range(copies)]
    phrases: list[str] = []
    for colour, shape in chosen:
        radius = float(rng.uniform(*radii))
        place = _free_place(labels, radius, rng)
        if place is None:
            continue
        inside = _draw(shape, size, place, radius, float(rng.uniform(0, 2 * np.pi)))
        phrases.append(f"{colour} {shape}")
        labels[inside] = len(phrases)
        tint = np.array(COLOURS[colour]) * rng.uniform(0.85, 1.12) + rng.normal(0, 5, 3)
        rgb[inside] = tint + rng.normal(0, 6, (int(inside.sum()), 1))
    rgb = ndimage.gaussian_filter(rgb, (0.6, 0.6, 0)) + rng.normal(0, 3, rgb.shape)
    return Scene(rgb.clip(0, 255).astype(np.uint8), labels, tuple(phrases))


def _free_place(
    labels: npt.NDArray[np.int32], radius: float, rng: np.random.Generator
) -> tuple[float, float] | None:
    """Return a centre (x, y) around which nothing is yet, None where there is hardly room."""
    distance = ndimage.distance_transform_edt(np.pad(labels, 1, constant_values=1) == 0)[1:-1, 1:-1]
    rows, columns = np.nonzero(distance > radius + 2)
    if not rows.size:
        return None
    chosen = int(rng.integers(rows.size))
    return float(columns[chosen]), float(rows[chosen])


def _draw(
    shape: str, size: int, centre_xy: tuple[float, float], radius: float, turn: float
) -> npt.NDArray[np.bool_]:
    """Return the pixels of a shape."""
    y, x = np.mgrid[:size, :size].astype(float)
    x, y = x - centre_xy[0], y - centre_xy[1]
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    distance, angle = np.hypot(x, y), np.arctan2(across, along)
    inside: npt.NDArray[np.bool_]
    if shape == "circle":
        inside = distance <= 0.85 * radius
    elif shape == "square":
        inside = np.maximum(abs(along), abs(across)) <= 0.7 * radius
    elif shape == "cross":
        low, high = np.minimum(abs(along), abs(across)), np.maximum(abs(along), abs(across))
        inside = (low <= 0.27 * radius) & (high <= 0.92 * radius)
    elif shape == "triangle":
        inside = distance * np.cos((angle % (2 * np.pi / 3)) - np.pi / 3) <= 0.5 * radius
    else:  # a star of five rays
        part = abs(((angle + np.pi / 5) % (2 * np.pi / 5)) - np.pi / 5)
        inner = 0.42
        # the straight edge from the tip at angle 0 to the notch at angle pi / 5
        notch = inner * np.cos(np.pi / 5), inner * np.sin(np.pi / 5)
        normal = np.array([notch[1], 1 - notch[0]])
        edge = distance * (np.cos(part) * normal[0] + np.sin(part) * normal[1])
        inside = edge <= radius * normal[0]
    return inside
