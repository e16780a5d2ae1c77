"""Which labelled pictures a simulation plays with: the pool, the held-out ones, the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from sam_plugins.errors import DatasetError
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.io.atomic import make_folder
from sam_plugins.model.io.labelled import LabelledFile, LabelledImage
from sam_plugins.model.io.labels import write_labels, write_picture


@dataclass(frozen=True)
class SimulatedPictures:
    """Labelled pictures in three parts; crops of one picture are all in the same one.

    Parameters
    ----------
    pool : tuple of LabelledFile
        That nobody labelled, as far as the loop knows.
    held_out : tuple of LabelledFile
        That training measures on, with their true labels.
    test : tuple of LabelledFile
        That nothing learns from and nothing is chosen by.
    """

    pool: tuple[LabelledFile, ...]
    held_out: tuple[LabelledFile, ...]
    test: tuple[LabelledFile, ...]

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the data sets."""
        every = (*self.pool, *self.held_out, *self.test)
        return tuple(sorted({file.set_name for file in every}))


def prepare_pictures(
    files: Sequence[LabelledFile],
    folder: Path,
    *,
    held_out: int,
    test: int,
    pool: int | None = None,
    pool_files: Sequence[LabelledFile] | None = None,
    crop: int = 512,
    max_objects: int = 60,
    seed: int = 0,
) -> SimulatedPictures:
    """Divide pictures, and cut large ones into crops.

    Parameters
    ----------
    files : sequence of LabelledFile
    folder : Path
        For the crops.
    held_out, test : int
        Pictures, or crops, of each part.
    pool : int, optional
        At most so many in the pool; all that are left by default.
    pool_files : sequence of LabelledFile, optional
        Where the pool and the held-out pictures come from, if not from ``files`` as the test.
    crop : int
        Pictures longer than one and a half times this are cut into pieces about as long.
    max_objects : int
        Pictures and crops with more are left out, and those with none: what they take, and whether
        they are in or out, hides everything else.
    seed : int
        Of the draw.

    Raises
    ------
    DatasetError
        If there are too few pictures.
    UnreadableImageError
        If one cannot be read.
    """
    groups = _groups(files, folder, crop, max_objects, seed)
    tests = _taken(groups, test)
    if pool_files is not None:
        groups = _groups(pool_files, folder, crop, max_objects, seed)
    measured_on = _taken(groups, held_out)
    rest = [file for group in groups for file in group][:pool]
    if len(tests) < test or len(measured_on) < held_out or not rest:
        raise DatasetError(
            f"{test} test pictures, {held_out} held-out ones and a pool need more pictures with 1 "
            f"to {max_objects} objects than there are; take fewer, or another set"
        )
    return SimulatedPictures(tuple(rest), tuple(measured_on), tuple(tests))


def _groups(
    files: Sequence[LabelledFile], folder: Path, crop: int, max_objects: int, seed: int
) -> list[list[LabelledFile]]:
    """Return pictures in an order of chance, each as itself or its crops, the useful ones."""
    groups = []
    for index in np.random.default_rng(seed).permutation(len(files)):
        pieces = _pieces(files[index], folder, crop)
        kept = [file for file, objects in pieces if 0 < objects <= max_objects]
        if kept:
            groups.append(kept)
    return groups


def _taken(groups: list[list[LabelledFile]], count: int) -> list[LabelledFile]:
    """Take so many pictures away, whole groups at a time."""
    taken: list[LabelledFile] = []
    while groups and len(taken) < count:
        taken += groups.pop(0)
    return taken[:count]


def _pieces(file: LabelledFile, folder: Path, crop: int) -> list[tuple[LabelledFile, int]]:
    """Return a picture, or its crops, each with how many objects it holds."""
    image = file.read()
    height, width = image.labels.shape
    counts = [max(1, round(side / crop)) for side in (height, width)]
    if max(height, width) <= 1.5 * crop and file.plane is None:
        return [(file, _count(image.labels))]
    edges = [
        np.linspace(0, side, count + 1).round().astype(int)
        for side, count in zip((height, width), counts, strict=True)
    ]
    pieces = []
    for top, bottom in zip(edges[0][:-1], edges[0][1:], strict=True):
        for left, right in zip(edges[1][:-1], edges[1][1:], strict=True):
            window = slice(top, bottom), slice(left, right)
            pieces.append((_cut(file, image, window, folder), _count(image.labels[window])))
    return pieces


def _cut(
    file: LabelledFile, image: LabelledImage, window: tuple[slice, slice], folder: Path
) -> LabelledFile:
    """Write a crop of a picture, its labels and what is ignored."""
    make_folder(folder)
    name = f"{file.id}_y{window[0].start}_x{window[1].start}".replace(":", "-")
    paths = {kind: folder / f"{file.set_name}-{name}-{kind}.tif" for kind in ("labels", "ignore")}
    picture = folder / f"{file.set_name}-{name}.png"
    if image.image.ndim == 2:  # contrast as it is in the file
        picture = picture.with_suffix(".tif")
        tifffile.imwrite(picture, image.image[window], photometric="minisblack")
    else:
        write_picture(picture, to_rgb(image.image)[window])
    write_labels(paths["labels"], image.labels[window].astype(np.int32))
    if image.ignore is not None:
        write_labels(paths["ignore"], image.ignore[window].astype(np.uint8))
    return replace(
        file,
        id=name,
        image_path=picture,
        label_path=paths["labels"],
        ignore_path=None if image.ignore is None else paths["ignore"],
        whole_rles={},
        plane=None,
    )


def _count(labels: NDArray[np.integer]) -> int:
    """Return how many objects a label image holds."""
    return int(np.count_nonzero(np.unique(labels)))
