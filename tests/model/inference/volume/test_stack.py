from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.inference.volume import Volume


class Counting:
    """An array that remembers what was read of it."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.values, self.read = values, 0
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, where: Any) -> Any:
        part = self.values[where]
        self.read += part.size
        return part


def noise(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 60_000, shape, dtype=np.uint16)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_of_all_array_kinds_are_the_same(axis: int, tmp_path: Any) -> None:
    values = noise((5, 24, 36))
    stored = zarr.create_array(str(tmp_path / "v.zarr"), data=values, chunks=(2, 16, 16))
    lazy = da.from_array(values, chunks=8)  # type: ignore[no-untyped-call]
    kinds = [Volume(values), Volume(lazy), Volume(stored)]
    expected = np.moveaxis(values, axis, 0)[2]
    for volume in kinds:
        assert (volume.plane(axis, 2) == expected).all()
        assert volume.plane(axis, 2).shape == volume.plane_hw(axis)
        assert (volume.rgb(axis, 2) == kinds[0].rgb(axis, 2)).all()


@pytest.mark.parametrize("channel_axis", [0, 1, 3, -1])
def test_channels_may_be_on_any_axis(channel_axis: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), dtype=np.uint8)
    volume = Volume(np.moveaxis(values, -1, channel_axis), channel_axis=channel_axis)
    assert volume.shape_zyx == (4, 20, 30)
    assert (volume.rgb(0, 3) == values[3]).all()
    assert (volume.rgb(2, 7) == values[:, :, 7]).all()


def test_a_film_of_photographs_passes_unchanged() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    volume = Volume(frames, channel_axis=3)
    assert (volume.rgb(0, 1) == to_rgb(frames[1])).all()


def test_contrast_is_that_of_the_whole_volume_and_slices_do_not_flicker() -> None:
    values = np.zeros((4, 30, 30), np.uint16)
    values[:, :15] = 1000
    values[2] = 500  # by itself this slice would be black
    volume = Volume(values)
    assert set(np.unique(volume.rgb(0, 2)).tolist()) <= {127, 128}
    assert volume.rgb(0, 0).max() == 255


def test_given_limits_are_applied() -> None:
    volume = Volume(np.full((2, 8, 8), 50, np.float32), limits=(0.0, 100.0))
    assert set(np.unique(volume.rgb(0, 0)).tolist()) <= {127, 128}


def test_slices_along_y_are_shown_with_square_pixels() -> None:
    volume = Volume(noise((6, 30, 40)), voxel_size_zyx=(3.0, 1.0, 1.0))
    assert volume.rgb(0, 0).shape == (30, 40, 3)
    assert volume.rgb(1, 0).shape == (18, 40, 3)
    assert volume.plane_hw(1) == (6, 40)


def test_a_large_volume_is_not_read_for_its_contrast() -> None:
    values = Counting(np.zeros((200, 200, 200), np.uint8))
    volume = Volume(values)
    _ = volume.contrast
    assert values.read < values.values.size / 10
    before = values.read
    volume.rgb(0, 100)
    assert values.read - before == 200 * 200


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((4, 4), r"3 axes, got shape \(4, 4\); pass one channel"),
        ((4, 4, 4, 2), r"say which axis holds the channels"),
        ((0, 4, 4), r"expected voxels, got shape \(0, 4, 4\)"),
    ],
)
def test_wrong_shapes_are_refused(shape: tuple[int, ...], match: str) -> None:
    with pytest.raises(UnusableImageError, match=match):
        Volume(np.zeros(shape, np.uint8))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(UnusableImageError, match="real numbers, got complex64"):
        Volume(np.zeros((2, 2, 2), np.complex64))
    with pytest.raises(ValueError, match="three positive lengths"):
        Volume(np.zeros((2, 2, 2)), voxel_size_zyx=(1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="channel_axis must be -4 to 3"):
        Volume(np.zeros((2, 2, 2, 2)), channel_axis=5)
    volume = Volume(np.zeros((2, 3, 4)))
    with pytest.raises(IndexError, match="slice must be 0 to 2 along y, got 3"):
        volume.plane(1, 3)
    with pytest.raises(ValueError, match="axis must be 0, 1 or 2"):
        volume.plane_hw(3)
