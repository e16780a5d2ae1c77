"""The reduced picture: what tiles divide becomes one, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from tests.model.large.mosaics import is_same_division

from sam_plugins.model.inference.segment_options import AUTO
from sam_plugins.model.inference.types import Segmentation
from sam_plugins.model.io.windows import Window
from sam_plugins.model.large.automatic import plan_job, run_job
from sam_plugins.model.large.coarse import CoarseLabels, CoarseOptions, Overlaps, Pieces, winners
from sam_plugins.model.large.job import TileJob
from sam_plugins.model.large.sources import ArraySource
from sam_plugins.model.large.tiles import segment_tile

SEEN_WHOLE = 60
OPTIONS = CoarseOptions(side=200, min_length=90)


class Divides:
    """Finds what is bright, and divides at its middle column what is longer than 60 pixels."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(self, rgb: npt.NDArray[np.uint8], _: Window | None) -> Segmentation:
        self.asked.append(rgb.shape[:2])
        labels, count = ndimage.label(rgb[..., 0] > 127)
        for place, where in enumerate(ndimage.find_objects(labels)):
            part = labels[where]
            if max(part.shape) > SEEN_WHOLE:
                count += 1
                right = part[:, part.shape[1] // 2 :]
                right[right == place + 1] = count
        centres = ndimage.center_of_mass(labels > 0, labels, np.arange(1, count + 1))
        points_xy = np.array(centres, np.float32).reshape(-1, 2)[:, ::-1]
        return Segmentation(labels.astype(np.int32), np.full(count, 0.8, np.float32), points_xy)


def discs(radius: int, spacing: int, side: int = 600) -> npt.NDArray[np.int32]:
    """Return labels of discs on a grid."""
    down, across = np.indices((side, side))
    far = np.hypot(down % spacing - spacing // 2, across % spacing - spacing // 2) > radius
    labels = 1 + down // spacing * (side // spacing) + across // spacing
    return np.where(far, 0, labels).astype(np.int32)


def job_of(truth: npt.NDArray[np.int32], folder: Path, coarse: CoarseOptions | None) -> TileJob:
    picture = np.repeat(((truth > 0) * 255).astype(np.uint8)[..., None], 3, axis=2)
    return plan_job(
        ArraySource(picture, limits=(0.0, 255.0), channel_axis=2),
        folder / "a_labels.zarr",
        model_id="oracle",
        mode="auto",
        options=AUTO,
        tile=400,
        halo=130,
        coarse=coarse,
    )


def found_in(job: TileJob, folder: Path, find: Divides) -> npt.NDArray[np.uint32]:
    labels: npt.NDArray[np.uint32] = run_job(job, folder / "a_labels.zarr", find).labels()[:]
    return labels


def test_objects_that_tiles_divide_are_whole_with_the_outlines_of_tiles(tmp_path: Path) -> None:
    truth = discs(radius=60, spacing=150)
    divided = found_in(job_of(truth, tmp_path / "a", None), tmp_path / "a", Divides())
    assert len(np.unique(divided)) - 1 == 32
    whole = found_in(job_of(truth, tmp_path / "b", OPTIONS), tmp_path / "b", Divides())
    assert len(np.unique(whole)) - 1 == 16
    for label in range(1, 17):
        mine = truth == label
        other = whole == np.bincount(whole[mine]).argmax()
        assert (mine & other).sum() / (mine | other).sum() > 0.97
        assert not (mine & ~other & (divided > 0)).any()  # nothing that tiles saw is lost


def test_small_objects_are_those_of_tiles_to_the_pixel(tmp_path: Path) -> None:
    truth = discs(radius=20, spacing=60)
    found = found_in(job_of(truth, tmp_path, OPTIONS), tmp_path, Divides())
    assert is_same_division(truth, found)


def test_the_reduced_picture_is_seen_once_and_with_the_first_tile(tmp_path: Path) -> None:
    job, find = job_of(discs(60, 150), tmp_path, OPTIONS), Divides()
    job.begin()
    segment_tile(job, 1, find)
    assert find.asked == [(400, 400)]
    segment_tile(job, 0, find)
    segment_tile(job, 0, find)
    assert find.asked == [(400, 400), (200, 200), (400, 400)]
    job.coarse_path.write_bytes(b"cut off")
    assert not job.is_done(0)
    found_in(job, tmp_path, find)
    assert find.asked.count((200, 200)) == 2


def test_a_job_with_the_reduced_picture_is_not_one_without(tmp_path: Path) -> None:
    job = job_of(discs(60, 150), tmp_path, OPTIONS)
    job.begin()
    assert not replace(job, coarse=None).is_begun()


@pytest.mark.parametrize(
    ("pieces", "inside", "expected"),
    [
        (2, 1.0, True),
        (4, 1.0, True),
        (1, 1.0, False),  # seen alike
        (5, 1.0, False),  # a heap of objects
        (2, 0.5, False),  # objects that lie half beside it
        (2, 0.8, True),
    ],
)
def test_which_objects_win(pieces: int, inside: float, expected: bool) -> None:
    labels = np.zeros((50, 50), np.int32)
    labels[10:40, 10:40] = 1
    overlaps = Overlaps()
    for number in range(1, pieces + 1):
        overlaps.shared[1][number] = 3600 // pieces
        overlaps.areas[number] = round(3600 / pieces / inside)
    coarse = CoarseLabels(labels, (100, 100))
    won = winners(coarse, overlaps, CoarseOptions(side=50, min_length=50))
    assert won == ([Pieces(1, tuple(range(1, pieces + 1)))] if expected else [])
    assert winners(coarse, overlaps, CoarseOptions(side=50, min_length=61)) == []


def test_enlarged_outlines_have_no_steps_and_no_seams() -> None:
    small = discs(radius=20, spacing=50, side=50)
    coarse = CoarseLabels(small, (200, 200))
    whole = (slice(0, 200), slice(0, 200))
    ((label, mask),) = coarse.smooth(whole)
    assert label == 1
    down, across = np.indices((200, 200))
    exact = np.hypot(down - 101.5, across - 101.5) <= 82
    assert (mask ^ exact).sum() < (np.equal(coarse.nearest(whole), 1) ^ exact).sum()
    for part in [(slice(0, 77), slice(0, 200)), (slice(77, 200), slice(31, 140))]:
        ((_, there),) = coarse.smooth(part)
        assert (there == mask[part]).all()
