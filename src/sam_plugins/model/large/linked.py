"""The slices of a stack that are linked, kept on disk until the stack is done."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import OutputError
from sam_plugins.model.inference.volume.linked_volume import LinkedSlice
from sam_plugins.model.inference.volume.linking import TrackState
from sam_plugins.model.inference.volume.values import WritableArray
from sam_plugins.model.io.atomic import make_folder, write_bytes


@dataclass(frozen=True, eq=False)
class LinkFolder:
    """A folder with two small files for each slice: its links, and the pixels of its objects.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    tracks : array of shape (Z, H, W), integer
        Where tracks are drawn; kept on disk too.
    """

    folder: Path
    tracks: WritableArray

    def __post_init__(self) -> None:
        """Make the folder."""
        make_folder(self.folder)

    def read(self, index: int) -> LinkedSlice | None:
        """Return what was kept of a slice; a file that was cut off does not count."""
        kept = _read(self._links(index))
        if kept is None:
            return None
        counts, shares = kept["counts"].tolist(), kept["shares"].tolist()
        states = [
            TrackState(number, area, score_sum, (before, held_before), (after, held_after))
            for (number, area, before, after), (score_sum, held_before, held_after) in zip(
                counts, shares, strict=True
            )
        ]
        return LinkedSlice(kept["numbers"].astype(np.int64), states)

    def keep(self, index: int, linked: LinkedSlice) -> None:
        """Keep a slice that is linked and drawn."""
        counts = [(one.number, one.area, one.before[0], one.after[0]) for one in linked.states]
        shares = [(one.score_sum, one.before[1], one.after[1]) for one in linked.states]
        _write(
            self._links(index),
            numbers=linked.numbers,
            counts=np.array(counts, np.int64).reshape(-1, 4),
            shares=np.array(shares, np.float64).reshape(-1, 3),
        )

    def read_voxels(self, index: int) -> npt.NDArray[np.int64] | None:
        """Return pairs of an object of a slice and its pixels, (n, 2); None if it is not done."""
        kept = _read(self._voxels(index))
        return None if kept is None else kept["voxels"].astype(np.int64)

    def keep_voxels(self, index: int, voxels: npt.NDArray[np.int64]) -> None:
        """Keep the pixels of the objects of a slice whose labels are written."""
        _write(self._voxels(index), voxels=voxels)

    def forget_voxels(self) -> None:
        """Forget which labels are written, where these are no longer there."""
        for path in self.folder.glob("*_voxels.npz"):
            path.unlink()

    def _links(self, index: int) -> Path:
        """Return the file of the links of a slice."""
        return self.folder / f"{index:06d}_links.npz"

    def _voxels(self, index: int) -> Path:
        """Return the file of the pixels of the objects of a slice."""
        return self.folder / f"{index:06d}_voxels.npz"


def _read(path: Path) -> dict[str, npt.NDArray[np.generic]] | None:
    """Return the arrays of a file, None where it is not there or was cut off."""
    if not zipfile.is_zipfile(path):
        return None
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise OutputError(
            f"{path}, the links of a slice, is damaged; remove it and start again: what is done "
            "is kept"
        ) from error


def _write(path: Path, **arrays: npt.NDArray[np.generic]) -> None:
    """Write arrays to a file that appears complete or not at all."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_bytes(path, content.getvalue())
