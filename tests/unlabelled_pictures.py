"""Folders of small pictures without labels, of several formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from tests.labelled_sets import discs, picture_of


def write_pictures(folder: Path, count: int = 6) -> list[Path]:
    """Write PNG files of discs in different places and colours; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        grey = picture_of(discs(number % 4))
        rgb = np.stack([np.roll(grey, 5 * number, axis=1), grey, grey // 2], axis=-1)
        paths.append(folder / f"{number}.png")
        Image.fromarray(rgb).save(paths[-1])
    return paths


def write_stack(path: Path, planes: int) -> Path:
    """Write a 16-bit TIFF stack whose planes differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.arange(planes * 24 * 32, dtype=np.uint16).reshape(planes, 24, 32) % 977
    tifffile.imwrite(path, ramp, photometric="minisblack", metadata={"axes": "ZYX"})
    return path
