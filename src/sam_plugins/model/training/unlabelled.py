"""Pictures that nobody labelled: found to be readable once, then read again when they are needed.

Reading a picture always gives the same pixels, so what is kept in memory changes how long a run
takes and never what it computes.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sam_plugins.errors import DatasetError, ImageError, MemoryLimitError, UnusableImageError
from sam_plugins.model.inference.preprocess import resize_rgb
from sam_plugins.model.inference.rgb import Channels, channel_indices, to_rgb
from sam_plugins.model.io.images import OpenImage, open_image

RgbArray = NDArray[np.uint8]
NamedChannels: TypeAlias = Mapping[str, int | str] | Sequence[int | str]

PLANES_OF_A_STACK = 8
"""Planes of a stack that are taken, evenly spread: neighbours are nearly the same picture."""

DEFAULT_MEMORY_BYTES = 1 << 30

_FEWEST_TO_SPLIT = 4
_MOST_HELD_OUT = 64


@dataclass(frozen=True)
class PictureFile:
    """A picture in a file, or one plane of a stack.

    Attributes
    ----------
    path : Path
    plane : mapping of axis letter to int
        Empty for a file that is a single picture.
    digest : str
        Of the pixels that are learned from, hexadecimal.
    """

    path: Path
    plane: Mapping[str, int]
    digest: str


class UnlabelledPictures:
    """RGB pictures by their number.

    Parameters
    ----------
    files : sequence of PictureFile
    max_side : int, optional
        Longer pictures are reduced to this length when they are read.
    channels : mapping of colour to int or str, or sequence of int or str, optional
        Which channels to show, as :func:`~sam_plugins.to_rgb` takes them; by name, too.
    memory_bytes : int
        How many bytes of pictures are kept, those that were used last.
    """

    def __init__(
        self,
        files: Sequence[PictureFile],
        *,
        max_side: int | None = None,
        channels: NamedChannels | None = None,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
    ) -> None:
        self.files = tuple(files)
        self.max_side = max_side
        self.channels = channels
        self._memory_bytes = memory_bytes
        self._kept: OrderedDict[int, RgbArray] = OrderedDict()
        self._kept_bytes = 0

    @classmethod
    def open(
        cls,
        paths: Sequence[Path],
        *,
        max_side: int | None = None,
        channels: NamedChannels | None = None,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        on_failure: Callable[[Path, Exception], None] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> UnlabelledPictures:
        """Read every picture once, to know which ones can be read, and what is in them.

        Parameters
        ----------
        paths : sequence of Path
            A file that is named twice counts once; two files of equal pixels count as two.
        max_side, channels, memory_bytes
            See the class.
        on_failure : callable, optional
            Told of every file that cannot be used, which is then left out; without it the first
            one raises.
        on_progress : callable, optional
            Told how many files of how many were read.

        Raises
        ------
        DatasetError
            If no picture is left.
        ImageError, MemoryLimitError
            Of a file, without ``on_failure``.
        """
        pictures = cls((), max_side=max_side, channels=channels, memory_bytes=memory_bytes)
        distinct = list({os.path.realpath(path): path for path in paths}.values())
        files: list[PictureFile] = []
        for number, path in enumerate(distinct):
            try:
                for plane, rgb in _planes(path, channels, max_side):
                    pictures._keep(len(files), rgb)
                    files.append(PictureFile(path, plane, _digest(rgb)))
            except (ImageError, MemoryLimitError) as error:
                if on_failure is None:
                    raise
                on_failure(path, error)
            if on_progress is not None:
                on_progress(number + 1, len(distinct))
        if not files:
            raise DatasetError(
                f"there is no picture to learn from ({len(distinct)} named, none can be read): "
                "name files, folders or patterns of pictures"
            )
        pictures.files = tuple(files)
        return pictures

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.files)

    def __getitem__(self, index: int) -> RgbArray:
        """Return a picture of shape (H, W, 3).

        Raises
        ------
        ImageError
            If it can no longer be read, or holds other pixels than before.
        """
        file = self.files[index]
        known = self._kept.get(index)
        if known is not None:
            self._kept.move_to_end(index)
            return known
        with open_image(file.path) as image:
            rgb = _read(image, file.plane, self.channels, self.max_side)
        if _digest(rgb) != file.digest:
            raise UnusableImageError(
                f"{file.path} was changed while it was learned from: leave pictures as they are "
                "until the run is complete"
            )
        self._keep(index, rgb)
        return rgb

    @property
    def digest(self) -> str:
        """Digest of all pictures in their order, wherever they lie."""
        whole = hashlib.sha256()
        for file in self.files:
            whole.update(bytes.fromhex(file.digest))
        return whole.hexdigest()

    def split(self, held_out_share: float) -> tuple[UnlabelledPictures, UnlabelledPictures]:
        """Return the pictures to learn from, and those to measure on.

        Which ones they are follows from their pixels alone; planes of a stack stay together. At
        least one is held out, and 64 files at most, but none of fewer than four files.
        """
        by_file: dict[Path, list[int]] = {}
        for index, file in enumerate(self.files):
            by_file.setdefault(file.path, []).append(index)
        held_out: set[int] = set()
        if held_out_share > 0 and len(by_file) >= _FEWEST_TO_SPLIT:
            wanted = min(_MOST_HELD_OUT, max(1, round(held_out_share * len(by_file))))
            ordered = sorted(by_file.values(), key=lambda own: self.files[own[0]].digest)
            held_out.update(*ordered[:wanted])
        everything = range(len(self))
        return (
            self._subset([index for index in everything if index not in held_out]),
            self._subset([index for index in everything if index in held_out]),
        )

    def _subset(self, indices: Sequence[int]) -> UnlabelledPictures:
        """Return some of the pictures, those in memory with them."""
        part = UnlabelledPictures(
            [self.files[index] for index in indices],
            max_side=self.max_side,
            channels=self.channels,
            memory_bytes=self._memory_bytes,
        )
        for number, index in enumerate(indices):
            if index in self._kept:
                part._keep(number, self._kept[index])
        return part

    def _keep(self, index: int, rgb: RgbArray) -> None:
        """Keep a picture in memory, dropping those that were not used for longest."""
        if rgb.nbytes > self._memory_bytes:
            return
        self._kept[index] = rgb
        self._kept_bytes += rgb.nbytes
        while self._kept_bytes > self._memory_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= dropped.nbytes


def pictures_of_step(step: int, batch_size: int, count: int, seed: int) -> list[int]:
    """Return the numbers of a step's pictures; each comes once before any comes again.

    Examples
    --------
    >>> sorted(pictures_of_step(0, 2, 4, seed=0) + pictures_of_step(1, 2, 4, seed=0))
    [0, 1, 2, 3]
    """
    chosen: list[int] = []
    order: NDArray[np.int64] | None = None
    for place in range(step * batch_size, (step + 1) * batch_size):
        turn, position = divmod(place, count)
        if order is None or position == 0:
            order = np.random.default_rng([seed, turn, 2]).permutation(count)
        chosen.append(int(order[position]))
    return chosen


def _planes(
    path: Path, channels: NamedChannels | None, max_side: int | None
) -> Iterator[tuple[Mapping[str, int], RgbArray]]:
    """Yield the planes of a file that are taken, with where they are."""
    with open_image(path) as image:
        lengths = image.stack_axes
        count = int(np.prod(list(lengths.values()), dtype=np.int64))
        taken = np.unique(np.linspace(0, count - 1, min(count, PLANES_OF_A_STACK)).round())
        for number in taken.astype(int):
            where = np.unravel_index(number, tuple(lengths.values())) if lengths else ()
            plane = {axis: int(index) for axis, index in zip(lengths, where, strict=True)}
            yield plane, _read(image, plane, channels, max_side)


def _read(
    image: OpenImage,
    plane: Mapping[str, int],
    channels: NamedChannels | None,
    max_side: int | None,
) -> RgbArray:
    """Read one plane as the model sees it."""
    picture = image.plane(plane or None)
    try:
        chosen: Channels | None = (
            picture.default_channels
            if channels is None
            else channel_indices(channels, picture.channel_names)
        )
        rgb = to_rgb(picture.pixels, chosen, channel_axis=picture.channel_axis)
    except ValueError as error:
        raise UnusableImageError(f"{image.path}: {error}") from error
    height, width = rgb.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return rgb
    factor = max_side / max(height, width)
    return resize_rgb(rgb, (max(1, round(height * factor)), max(1, round(width * factor))))


def _digest(rgb: RgbArray) -> str:
    """Return the digest of a picture's size and pixels."""
    digest = hashlib.blake2b(repr(rgb.shape).encode(), digest_size=32)
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()
