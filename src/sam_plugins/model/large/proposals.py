"""The masks that were proposed in a window, on disk: thresholds choose among them at any time."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import OutputError
from sam_plugins.model.inference.automatic import Proposals, put_together
from sam_plugins.model.inference.candidates import Candidates
from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.full_size import CutLogits
from sam_plugins.model.inference.segment_options import SegmentOptions
from sam_plugins.model.inference.suppression import PackedMasks
from sam_plugins.model.inference.types import ImageEmbedding, Segmentation
from sam_plugins.model.io.atomic import write_bytes

_SIZES = ("original_size_hw", "input_size_hw", "padded_size_hw", "low_res_hw")


@dataclass(frozen=True)
class DrawnSizes:
    """What drawing needs of an embedding, without the features; sizes are (height, width)."""

    original_size_hw: SizeHW
    input_size_hw: SizeHW
    padded_size_hw: SizeHW
    low_res_hw: SizeHW

    @classmethod
    def of(cls, embedding: ImageEmbedding) -> DrawnSizes:
        """Return the sizes of an embedding."""
        return cls(*(getattr(embedding, name) for name in _SIZES))


@dataclass(frozen=True, eq=False)
class WindowProposals:
    """All masks that might be objects of a window, and what it takes to draw them.

    Parameters
    ----------
    proposals : Proposals
        With points in pixels of the window.
    sizes : DrawnSizes
    """

    proposals: Proposals
    sizes: DrawnSizes

    def choose(self, min_score: float, options: SegmentOptions) -> Segmentation:
        """Return the objects that remain, without asking the model.

        Parameters
        ----------
        min_score : float
            Masks with a lower score are left out.
        options : SegmentOptions
            How duplicates are told, and which objects are too small.

        Returns
        -------
        Segmentation
            With labels of shape ``sizes.original_size_hw``; 1 is the best object.
        """
        candidates = self.proposals.found
        good = np.flatnonzero(candidates.scores >= min_score)
        chosen = self.proposals.choose(good, candidates.scores[good])
        # Drawing asks an embedding for its sizes alone.
        return put_together(chosen, cast("ImageEmbedding", self.sizes), options).segmentation


def write_proposals(path: Path, found: WindowProposals) -> None:
    """Keep proposed masks in a file, which appears complete or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    masks = found.proposals.found
    cuts = masks.cuts
    windows = [[s.start, s.stop] for cut in cuts for s in (*cut.window, *cut.cells)]
    content = io.BytesIO()
    np.savez(
        content,
        points_xy=found.proposals.points_xy,
        points=masks.points,
        scores=masks.scores,
        predicted_ious=masks.predicted_ious,
        bits=masks.packed.bits,
        areas=masks.packed.areas,
        boxes_xyxy=masks.packed.boxes_xyxy,
        windows=np.array(windows, np.int64).reshape(-1, 4, 2),
        logits=np.concatenate([np.zeros(0, np.float32), *(cut.logits.ravel() for cut in cuts)]),
        sizes=np.array([getattr(found.sizes, name) for name in _SIZES], np.int64),
    )
    write_bytes(path, content.getvalue())


def read_proposals(path: Path) -> WindowProposals:
    """Return proposed masks of a file.

    Raises
    ------
    OutputError
        If the file is damaged.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            kept = dict(arrays)
        masks = Candidates(
            kept["points"],
            kept["scores"],
            kept["predicted_ious"],
            PackedMasks(kept["bits"], kept["areas"], kept["boxes_xyxy"]),
            _cuts(kept["windows"], kept["logits"]),
        )
        sizes = DrawnSizes(*((int(height), int(width)) for height, width in kept["sizes"]))
        return WindowProposals(Proposals(kept["points_xy"], masks), sizes)
    except (EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise OutputError(
            f"{path}, the proposed masks of a window, is damaged; remove it and start again"
        ) from error


def _cuts(windows: npt.NDArray[Any], logits: npt.NDArray[Any]) -> tuple[CutLogits, ...]:
    """Return the logits of each mask."""
    cuts, start = [], 0
    for rows, columns, cell_rows, cell_columns in windows.tolist():
        shape = cell_rows[1] - cell_rows[0], cell_columns[1] - cell_columns[0]
        stop = start + shape[0] * shape[1]
        cuts.append(
            CutLogits(
                (slice(*rows), slice(*columns)),
                (slice(*cell_rows), slice(*cell_columns)),
                logits[start:stop].reshape(shape),
            )
        )
        start = stop
    return tuple(cuts)
