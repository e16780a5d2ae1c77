"""All that a tile needs to know: plain values, kept in a manifest, that any process can work on."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import OutputError
from sam_plugins.model.inference.automatic import segment_embedding
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.rgb import Limits
from sam_plugins.model.inference.segment_options import SegmentOptions
from sam_plugins.model.inference.types import Segmentation
from sam_plugins.model.io.atomic import make_folder, write_bytes
from sam_plugins.model.io.windows import Window
from sam_plugins.model.large.coarse import CoarseOptions
from sam_plugins.model.large.join import JoinOptions
from sam_plugins.model.large.plan import TilePlan
from sam_plugins.model.large.sources import Source

MANIFEST = "manifest.json"
_FORMAT = 2

Finder = Callable[[npt.NDArray[np.uint8], Window | None], Segmentation]
"""From what the model sees of a window, (h, w, 3) uint8, to the objects in it.

The second argument is the part of the window that counts, None for all: what does not reach into it
may be left out.
"""


@dataclass(frozen=True)
class TileJob:
    """The segmentation of one picture by tiles.

    It can go to another process, which needs nothing else but the model.

    Parameters
    ----------
    source : FileSource or ArraySource
        The picture.
    plan : TilePlan
        How it is cut.
    contrast : (float, float) or list of (float, float)
        Values shown as black and as white in every tile.
    model_id : str
        Of the model that is asked.
    mode : {"auto", "grid"}
    options : SegmentOptions
        How a tile is segmented.
    folder : Path
        Where the results of the tiles are kept.
    join : JoinOptions
        How objects are joined across borders.
    coarse : CoarseOptions, optional
        When objects of the reduced picture count; by default it is not looked at.
    extra : mapping
        What else decides the result, as values for JSON.
    """

    source: Source
    plan: TilePlan
    contrast: Limits | list[Limits]
    model_id: str
    mode: str
    options: SegmentOptions
    folder: Path
    join: JoinOptions = field(default_factory=JoinOptions)
    coarse: CoarseOptions | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def tile_path(self, index: int) -> Path:
        """Return the file of the result of a tile."""
        return self.folder / "tiles" / f"{index:06d}.npz"

    def is_done(self, index: int) -> bool:
        """Return whether a tile has been segmented; a file that was cut off does not count.

        The reduced picture goes along with the first tile, where it is looked at.
        """
        needs_coarse = index == 0 and self.coarse is not None
        return zipfile.is_zipfile(self.tile_path(index)) and (
            not needs_coarse or zipfile.is_zipfile(self.coarse_path)
        )

    def waiting(self) -> list[int]:
        """Return the tiles that have not been segmented."""
        return [index for index in range(len(self.plan)) if not self.is_done(index)]

    @property
    def coarse_path(self) -> Path:
        """The file of the result of the reduced picture."""
        return self.folder / "coarse.npz"

    def begin(self) -> None:
        """Make the folder, or go on in one that was begun with the same settings.

        Raises
        ------
        OutputError
            If the folder was begun with other settings, or cannot be written.
        """
        self.make_folders()
        path, mine = self.folder / MANIFEST, self.described()
        earlier = _read(path)
        if earlier is not None and earlier != mine:
            differ = sorted(key for key in mine if earlier.get(key) != mine[key])
            raise OutputError(
                f"{self.folder} holds tiles of an interrupted run with other settings "
                f"({', '.join(differ) or 'unknown ones'}); finish that run with its settings, or "
                "begin anew with overwrite=True"
            )
        if earlier is None:
            write_bytes(path, (json.dumps(mine, indent=1) + "\n").encode())

    def make_folders(self) -> None:
        """Make the folders of the results.

        Raises
        ------
        OutputError
            If they cannot be made.
        """
        make_folder(self.folder / "tiles")

    def is_begun(self) -> bool:
        """Return whether the folder was begun with the same settings."""
        return _read(self.folder / MANIFEST) == self.described()

    def is_of_another(self) -> bool:
        """Return whether the folder was begun with other settings."""
        earlier = _read(self.folder / MANIFEST)
        return earlier is not None and earlier != self.described()

    def described(self) -> dict[str, Any]:
        """Return all that decides the result, as values for JSON."""
        values = {
            "format": _FORMAT,
            "source": self.source.described(),
            "plan": asdict(self.plan),
            "contrast": self.contrast,
            "model": self.model_id,
            "mode": self.mode,
            "options": asdict(self.options),
            "join": asdict(self.join),
            "coarse": None if self.coarse is None else asdict(self.coarse),
            "extra": dict(self.extra),
        }
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain


def model_finder(model: Model, mode: str, options: SegmentOptions) -> Finder:
    """Return what finds objects in a window with a model."""

    def find(rgb: npt.NDArray[np.uint8], within: Window | None) -> Segmentation:
        embedding = encode_rgb(model, rgb)
        return segment_embedding(model, embedding, mode=mode, options=options, within=within)

    return find


def _read(path: Path) -> dict[str, Any] | None:
    """Return a manifest, None where there is none yet."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        found: dict[str, Any] = json.loads(content)
    except ValueError:
        return {}
    return found
