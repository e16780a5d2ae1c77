"""Pictures to try the plugin on, without a connection: they ship, or are made here with a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LayerData = tuple[npt.NDArray[Any], dict[str, Any], str]

_SIZE_ZYX = (32, 192, 192)
_VOXEL = (2.0, 1.0, 1.0)
_FRAMES = 24
_FRAME_SIZE = (256, 256)


def cell() -> list[LayerData]:
    """Return scikit-image's phase picture of a cell."""
    from skimage import data

    pixels: Any = data.cell  # untyped
    return [(pixels(), {"name": "cell"}, "image")]


def coins() -> list[LayerData]:
    """Return scikit-image's coins: many objects of one kind."""
    from skimage import data

    pixels: Any = data.coins  # untyped
    return [(pixels(), {"name": "coins"}, "image")]


def tissue() -> list[LayerData]:
    """Return a colour picture of stained tissue, the one that ``sam-plugins demo`` segments."""
    from importlib.resources import as_file, files

    from sam_plugins.model.io.images import read_image

    with as_file(files("sam_plugins") / "data" / "ihc_colon.png") as path:
        return [(read_image(path), {"name": "stained tissue", "rgb": True}, "image")]


def nuclei_3d() -> list[LayerData]:
    """Return a volume of round nuclei, whose voxels are twice as high as wide."""
    rng = np.random.default_rng(7)
    volume = np.zeros(_SIZE_ZYX, np.float32)
    grid = np.moveaxis(np.indices(_SIZE_ZYX), 0, -1) * _VOXEL
    extent = np.array(_SIZE_ZYX) * _VOXEL
    centres: list[npt.NDArray[np.float64]] = []
    while len(centres) < 24:
        centre = rng.uniform(10, extent - 10)
        if all(np.linalg.norm(centre - other) > 28 for other in centres):
            centres.append(centre)
    for centre in centres:
        radii = rng.uniform(9, 14, 3)
        distance = np.sqrt((((grid - centre) / radii) ** 2).sum(-1))
        volume = np.maximum(
            volume, rng.uniform(0.5, 1.0) * np.clip(4 * (1.1 - distance), 0, 1).astype(np.float32)
        )
    return [
        (_photographed(volume, rng), {"name": "nuclei (3D)", "scale": _VOXEL}, "image"),
    ]


def moving_cells() -> list[LayerData]:
    """Return a film of cells that wander."""
    rng = np.random.default_rng(11)
    rows, columns = np.mgrid[: _FRAME_SIZE[0], : _FRAME_SIZE[1]]
    film = np.zeros((_FRAMES, *_FRAME_SIZE), np.float32)
    for _ in range(14):
        place = rng.uniform(20, 236, 2)
        speed = rng.normal(0, 1.5, 2)
        radii, turn = rng.uniform(8, 15, 2), rng.uniform(0, np.pi)
        brightness = rng.uniform(0.4, 1.0)
        for frame in range(_FRAMES):
            y, x = rows - place[0], columns - place[1]
            along, across = (
                y * np.cos(turn) + x * np.sin(turn),
                x * np.cos(turn) - y * np.sin(turn),
            )
            distance = np.hypot(along / radii[0], across / radii[1])
            shape = brightness * np.clip(4 * (1.1 - distance), 0, 1)
            film[frame] = np.maximum(film[frame], shape)
            place = place + speed
            speed += rng.normal(0, 0.3, 2)
            speed = np.where((place < 12) | (place > 244), -speed, speed)
            place = np.clip(place, 12, 244)
            turn += rng.normal(0, 0.05)
    return [(_photographed(film, rng), {"name": "moving cells"}, "image")]


def _photographed(light: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[Any]:
    """Return light as a camera counts it: photons, and an offset."""
    return (rng.poisson(20 + 220 * light) + 100).astype(np.uint16)
