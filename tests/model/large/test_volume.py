from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from tests.model.inference.volume.seeing import network_of, seeing_model
from tests.model.inference.volume.shapes3d import balls, iou, picture

from sam_plugins import segment, segment_volume
from sam_plugins.errors import UnsuitableModelError
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.segment_options import GRID
from sam_plugins.model.inference.volume import (
    LinkOptions,
    SliceEmbeddings,
    Volume,
    VolumeSegmentation,
)
from sam_plugins.model.io.labelled import list_manifest_files

COARSE = replace(GRID, points_per_side=10)

THREE = balls((20, 40, 48), [(8, 12, 12), (11, 26, 34), (15, 8, 38)], [6, 7, 4])


def found_in(values: Any, axis: int = 0, **options: Any) -> VolumeSegmentation:
    volume = Volume(values, limits=(0.0, 255.0))
    slices = SliceEmbeddings(seeing_model(), volume, axis=axis, cache=EmbeddingCache())
    return segment_volume(slices, mode="grid", options=COARSE, **options)


def assert_finds(labels: Any, truth: Any, least: float = 0.9) -> None:
    for number in range(1, int(truth.max()) + 1):
        inside = labels[truth == number]
        best = np.bincount(inside[inside > 0]).argmax()
        assert iou(labels == best, truth == number) > least


def test_all_balls_are_found_and_counted() -> None:
    found = found_in(picture(THREE))
    assert len(found) == 3
    assert_finds(found.labels, THREE)
    counts = np.bincount(found.labels.ravel(), minlength=4)[1:]
    assert found.voxels.tolist() == counts.tolist()
    for number, (first, last) in enumerate(found.extents, 1):
        there = np.flatnonzero((found.labels == number).any(axis=(1, 2)))
        assert (there[0], there[-1]) == (first, last)
    assert ((found.scores > 0.5) & (found.scores <= 1)).all()


def test_a_transposed_volume_gives_the_transposed_objects() -> None:
    along_z = found_in(picture(THREE)).labels
    for axis in (1, 2):
        values = np.ascontiguousarray(np.moveaxis(picture(THREE), 0, axis))
        moved = np.moveaxis(found_in(values, axis).labels, axis, 0)
        assert (moved == along_z).all()


def test_a_missing_slice_is_filled_in() -> None:
    values = picture(THREE)
    values[11] = 20
    closed = found_in(values, link=LinkOptions(max_gap=1))
    assert_finds(closed.labels, THREE)
    assert (closed.labels[11] > 0).sum() > 0.8 * (THREE[11] > 0).sum()
    assert closed.voxels.sum() == (closed.labels > 0).sum()
    open_ = found_in(values, link=LinkOptions(max_gap=0))
    assert not open_.labels[11].any()
    assert len(open_) > 3


def test_objects_go_to_a_chunked_array_on_disk(tmp_path: Any) -> None:
    out = zarr.create_array(
        str(tmp_path / "labels.zarr"), shape=THREE.shape, chunks=(1, 32, 32), dtype="uint16"
    )
    found = found_in(picture(THREE), out=out)
    assert found.labels is out
    assert (np.asarray(out[:]) == found_in(picture(THREE)).labels).all()


def test_filters_leave_consecutive_labels() -> None:
    found = found_in(picture(THREE), link=LinkOptions(min_voxels=400))
    assert len(found) == 2
    assert set(np.unique(found.labels).tolist()) == {0, 1, 2}


def test_cancelling_stops_before_the_next_slice() -> None:
    volume = Volume(picture(THREE))
    slices = SliceEmbeddings(seeing_model(), volume, cache=EmbeddingCache())

    def distinct(count: int) -> int:
        return len(np.unique(THREE[:count] > 0, axis=0))

    def cancel(done: int, total: int) -> None:
        assert total == 40
        if done == 4:
            raise TimeoutError("cancelled")

    with pytest.raises(TimeoutError, match="cancelled"):
        segment_volume(slices, mode="grid", options=COARSE, progress=cancel)
    assert slices.encodes == network_of(slices.model).encodes == distinct(4)
    segment_volume(slices, mode="grid", options=COARSE)
    assert slices.encodes == distinct(20)


def test_an_empty_volume_has_no_objects() -> None:
    found = found_in(np.zeros((4, 20, 20), np.uint8))
    assert len(found) == 0
    assert found.extents.shape == (0, 2)
    assert not found.labels.any()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"out must have shape \(20, 40, 48\)"):
        found_in(picture(THREE), out=np.zeros((2, 2, 2), np.uint16))
    slices = SliceEmbeddings(seeing_model(), Volume(picture(THREE)), cache=EmbeddingCache())
    with pytest.raises(UnsuitableModelError, match="needs a model with an instance decoder"):
        segment_volume(slices)
    with pytest.raises(TypeError, match="link must be of type LinkOptions"):
        segment_volume(slices, mode="grid", link=3)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shipped_model() -> Model:
    return load_model("default")


@pytest.fixture(scope="module")
def rows() -> npt.NDArray[np.uint8]:
    """Three reduced slices of a row of small discs, of which the first and the last are blank."""
    noise = np.full((3, 60, 1500), 40.0)
    noise[1] += np.random.default_rng(0).normal(0, 5, (60, 1500))
    away = np.arange(1500) % 60 - 30
    noise[1, np.hypot(np.arange(60)[:, None] - 30, away[None]) < 6] += 160
    return noise.clip(0, 255).astype(np.uint8)


def test_slices_of_small_objects_are_looked_at_in_windows(
    rows: npt.NDArray[np.uint8], shipped_model: Model
) -> None:
    def slices() -> SliceEmbeddings:
        volume = Volume(rows, limits=(0.0, 255.0))
        return SliceEmbeddings(shipped_model, volume, cache=EmbeddingCache())

    closer, whole = slices(), slices()
    found = segment_volume(closer, link=LinkOptions(min_slices=1))
    assert len(found) == 25
    assert set(found.extents.ravel()) == {1}
    alone = segment(rows[1], shipped_model, limits=(0.0, 255.0))
    assert ((found.labels[1] > 0) == (alone.labels > 0)).all()
    assert closer.encodes > 3
    segment_volume(whole, looks_closer=False)
    assert whole.encodes == 2  # the blank ones are alike


def test_slices_of_large_objects_are_looked_at_as_the_middle_one_is_best(
    shipped_model: Model, test_data: Path
) -> None:
    files = list_manifest_files(test_data, ["fly_egg_chambers"], split="train")
    chambers = next(file for file in files if file.id == "insitu7545").read().image[..., 0]
    volume = Volume(chambers[None], limits=(0.0, 255.0))
    slices = SliceEmbeddings(shipped_model, volume, cache=EmbeddingCache())
    found = segment_volume(slices, link=LinkOptions(min_slices=1)).labels[0] > 0
    alone, usual = (
        segment(chambers, shipped_model, limits=(0.0, 255.0), looks_farther=farther).labels > 0
        for farther in (True, False)
    )
    assert (found == alone).mean() > 0.999
    assert (found == usual).mean() < 0.99


def test_cancelling_stops_within_a_slice(rows: npt.NDArray[np.uint8], shipped_model: Model) -> None:
    volume = Volume(rows[1:2], limits=(0.0, 255.0))
    slices = SliceEmbeddings(shipped_model, volume, cache=EmbeddingCache())
    told: list[tuple[int, int]] = []

    def cancel(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 4:
            raise TimeoutError("cancelled")

    with pytest.raises(TimeoutError, match="cancelled"):
        segment_volume(slices, progress=cancel)
    assert set(told) == {(0, 2)}


def test_stretched_slices_are_looked_at_as_a_whole(
    rows: npt.NDArray[np.uint8], shipped_model: Model
) -> None:
    volume = Volume(rows, voxel_size_zyx=(1, 2, 1), limits=(0.0, 255.0))
    slices = SliceEmbeddings(shipped_model, volume, cache=EmbeddingCache())
    assert volume.shown_hw(0) != volume.plane_hw(0)
    segment_volume(slices)
    assert slices.encodes == 2  # the blank ones are alike
