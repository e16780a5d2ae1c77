"""The masks of the tiles of one run of **Automatic**: on the disk, to choose among at any time."""

from __future__ import annotations

import shutil
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sam_plugins.napari_plugin.automatic_params import KeepParams

if TYPE_CHECKING:
    from sam_plugins.model.inference.types import Segmentation
    from sam_plugins.model.large.proposals import WindowProposals
    from sam_plugins.napari_plugin.automatic import Ground

_DAYS_KEPT = 7
"""What nobody went on with for so long is removed."""

_IN_MEMORY = 4
"""Tiles whose masks are in memory, so that a threshold acts at once on a picture of one tile."""


class FoundMasks:
    """The masks of all tiles of a run, on the disk, and what was drawn of them.

    Parameters
    ----------
    folder : Path
        Where masks are found again, also by other runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drawn = Path(tempfile.mkdtemp(prefix="sam-plugins-automatic-"))
        self._used: set[Path] = set()
        self._read = lru_cache(_IN_MEMORY)(_read_masks)

    def draw(self, ground: Ground, index: int, params: KeepParams) -> Segmentation:
        """Return the objects of a tile that count, in pixels of its window."""
        options = ground.drawn_with(params).options
        return self._read(ground.masks[index]).choose(params.min_quality, options)

    def find(self, name: str) -> Path | None:
        """Return the file of the masks of a tile, None where they are not known."""
        path = self.folder / name
        self._used.add(path)
        return path if path.is_file() else None

    def keep(self, name: str, found: WindowProposals) -> Path:
        """Keep the masks of a tile, and return the file."""
        from sam_plugins.model.large.proposals import write_proposals

        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        write_proposals(path, found)
        return path

    def forget(self, *, with_masks: bool) -> None:
        """Remove what was drawn, and the masks that nobody needs to go on."""
        shutil.rmtree(self.drawn, ignore_errors=True)
        for path in self._used if with_masks else ():
            path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove masks of runs that nobody went on with."""
        oldest = time.time() - _DAYS_KEPT * 24 * 3600
        for path in self.folder.glob("*.npz"):
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)


def _read_masks(path: Path) -> WindowProposals:
    """Return the masks of a file."""
    from sam_plugins.model.large.proposals import read_proposals

    return read_proposals(path)
