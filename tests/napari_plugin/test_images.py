"""What the model sees of images as they are, and that no more is read than is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import zarr

from sam_plugins import to_rgb
from sam_plugins.errors import UnusableImageError
from sam_plugins.model.inference.rgb import DEFAULT_PERCENTILES
from sam_plugins.napari_plugin.images import ImageSource, look_at, stack_limits
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.shown import show_model

WHOLE = Window(0, 0, 40, 60)


@pytest.fixture
def stack() -> npt.NDArray[np.uint16]:
    return np.random.default_rng(0).integers(100, 4000, (5, 40, 60), np.uint16)


class Watched:
    """An array that notes what was read of it."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.read = 0

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        part: npt.NDArray[Any] = self.array[index]
        self.read += part.size
        return part


def see(source: ImageSource, plane: Plane, region: Window = WHOLE, **keywords: Any) -> Any:
    return show_model(source, look_at(source, plane, region, **keywords))


def contrast_of(stack: npt.NDArray[np.uint16]) -> tuple[float, float]:
    low, high = np.percentile(stack, DEFAULT_PERCENTILES)
    return float(low), float(high)


def test_a_plane_of_a_stack_has_the_contrast_of_the_stack(stack: npt.NDArray[np.uint16]) -> None:
    stack = stack * np.arange(1, len(stack) + 1, dtype=np.uint16)[:, None, None]
    seen = see(ImageSource([stack]), Plane((1, 2), (3,)))
    np.testing.assert_array_equal(seen, to_rgb(stack[3], limits=contrast_of(stack)))
    assert (seen != to_rgb(stack[3])).any()
    read_later = da.from_array(stack)
    lazy = see(ImageSource([read_later]), Plane((1, 2), (3,)))
    np.testing.assert_array_equal(lazy, seen)


def test_a_long_stack_is_sampled() -> None:
    stack = np.random.default_rng(3).integers(0, 4000, (9, 600, 700), np.uint16)
    ((low, high),) = stack_limits(ImageSource([stack]), ()) or ()
    assert (low, high) == pytest.approx(contrast_of(stack), abs=40)


def test_planes_along_other_axes(stack: npt.NDArray[np.uint16]) -> None:
    source = ImageSource([stack])
    side = see(source, Plane((0, 2), (7,)), Window(0, 0, 5, 60))
    np.testing.assert_array_equal(side, to_rgb(stack[:, 7], limits=contrast_of(stack)))
    turned = see(source, Plane((2, 1), (3,)), Window(0, 0, 60, 40))
    np.testing.assert_array_equal(turned, to_rgb(stack[3].T, limits=contrast_of(stack)))


def test_limits_of_the_layer(stack: npt.NDArray[np.uint16]) -> None:
    seen = see(
        ImageSource([stack]), Plane((1, 2), (0,)), contrast="layer", layer_limits=[(200.0, 900.0)]
    )
    np.testing.assert_array_equal(seen, to_rgb(stack[0], limits=(200, 900)))


def test_colour_pictures() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    np.testing.assert_array_equal(see(ImageSource([rgb], is_rgb=True), Plane()), rgb)
    turned = see(ImageSource([rgb], is_rgb=True), Plane((1, 0)), Window(0, 0, 60, 40))
    np.testing.assert_array_equal(turned, rgb.swapaxes(0, 1))


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_channels_on_any_axis(axis: int) -> None:
    rng = np.random.default_rng(2)
    array = rng.integers(0, 4000, (5, 40, 60, 4), np.uint16)  # Z, Y, X, C
    source = ImageSource([np.moveaxis(array, 3, axis)], channel_axis=axis)
    assert source.channel_count == 4
    at = (3,) if axis in {0, 1, 3} else ()
    expected_shape = {0: (5, 40, 60), 1: (5, 1, 40, 60), 3: (5, 40, 60, 1)}[axis]
    assert source.shape == expected_shape
    plane = {
        0: Plane((1, 2), at),
        1: Plane((2, 3), (*at, 0)),
        3: Plane((1, 2), (*at, 0)),
    }[axis]
    seen = see(source, plane, channels=(("red", 2), ("cyan", 0)))
    limits = [contrast_of(array[..., channel]) for channel in range(4)]
    expected = to_rgb(array[3], {"red": 2, "cyan": 0}, [limits[2], limits[0]], channel_axis=2)
    np.testing.assert_array_equal(seen, expected)
    first_three = see(source, plane)
    colours = {"red": 0, "green": 1, "blue": 2}
    expected = to_rgb(array[3], colours, limits[:3], channel_axis=2)
    np.testing.assert_array_equal(first_three, expected)


def test_only_the_plane_is_read() -> None:
    watched = Watched(np.random.default_rng(3).integers(0, 4000, (100, 64, 64), np.uint16))
    source = ImageSource([watched])
    look_at(source, Plane((1, 2), (50,)), Window(0, 0, 64, 64))
    assert watched.read == 0  # this is for the thread of the window
    see(source, Plane((1, 2), (50,)), Window(0, 0, 64, 64))
    assert watched.read == 64 * 64 * (1 + 12)  # and 12 planes for the contrast
    before = watched.read
    see(source, Plane((1, 2), (51,)), Window(0, 0, 64, 64))
    assert watched.read == before + 64 * 64


@pytest.mark.parametrize("kind", ["dask", "zarr"])
@pytest.mark.parametrize("channel_axis", [None, 0, 1])
def test_a_stack_on_a_disk_has_one_contrast_and_is_never_read_whole(
    tmp_path: Path, kind: str, channel_axis: int | None
) -> None:
    rng = np.random.default_rng(4)
    brightness = np.linspace(0.2, 1, 60)[:, None, None]
    stack = (rng.gamma(2, 300, (60, 128, 128)) * brightness).astype(np.uint16)
    full = stack
    if channel_axis is not None:
        full = np.stack([stack, stack // 2], channel_axis)
    chunks = (*[1] * (full.ndim - 2), 128, 128)
    kept = zarr.create_array(tmp_path / "a.zarr", shape=full.shape, chunks=chunks, dtype=full.dtype)
    kept[...] = full
    read = 0

    def count(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        nonlocal read
        read += block.size
        return block

    array: Any = kept
    if kind == "dask":
        array = da.from_zarr(kept).map_blocks(count, dtype=full.dtype)
        read = 0
    source = ImageSource([array], channel_axis=channel_axis)
    limits = stack_limits(source, () if channel_axis is None else (("red", 0), ("green", 1)))
    assert limits is not None
    assert limits[0] == pytest.approx(contrast_of(stack), rel=0.1, abs=10)
    if channel_axis is not None:
        assert limits[1] == pytest.approx(contrast_of(stack // 2), rel=0.1, abs=10)
    assert read <= full.size / 4


def test_contrast_of_a_large_pyramid_comes_from_windows_of_its_smallest_level() -> None:
    fine = Watched(np.zeros((40, 64, 64), np.uint16))
    small = np.random.default_rng(5).integers(0, 4000, (40, 3000, 2000), np.uint16)
    coarse = Watched(small)
    limits = stack_limits(ImageSource([fine, coarse]), ())
    assert limits is not None
    assert limits[0] == pytest.approx(contrast_of(small[:2]), rel=0.02, abs=10)
    assert fine.read == 0
    assert coarse.read < coarse.array.size / 40


def test_of_a_large_plane_only_the_region_is_read_and_its_contrast_is_that_of_the_plane() -> None:
    image = np.zeros((5000, 6000), np.uint16)
    image[:2500] = 1000
    image[4000:, 4000:] = 5
    watched = Watched(image)
    region = Window(3900, 3900, 4924, 4924)
    source = ImageSource([watched])
    sight = look_at(source, Plane(), region)
    assert watched.read == 0  # nothing is read where people wait for it
    seen = show_model(source, sight)
    assert watched.read < image.size / 10  # sampled once, for the contrast
    watched.read = 0
    show_model(source, sight)
    assert watched.read == 1024 * 1024
    assert seen.max() <= 2  # dark beside the bright half, not stretched by itself


def test_of_a_pyramid_the_level_is_read_that_is_fine_enough() -> None:
    levels = [Watched(np.zeros((8192 >> i, 8192 >> i), np.uint8) + 7) for i in range(5)]
    source = ImageSource(levels)
    whole = Window(0, 0, 8192, 8192)
    assert source.level_for(Plane(), whole) == 3
    assert source.level_for(Plane(), Window(0, 0, 1024, 1024)) == 0
    assert source.level_for(Plane(), Window(0, 0, 2048, 2048)) == 1
    assert see(source, Plane(), whole).shape == (1024, 1024, 3)
    assert [level.read for level in levels] == [0, 0, 0, 1024 * 1024, 0]


def test_a_large_plane_without_a_pyramid_is_averaged() -> None:
    stripes = np.zeros((9000, 100), np.uint8)
    stripes[::2] = 255
    seen = see(ImageSource([Watched(stripes)]), Plane(), Window(0, 0, 9000, 100))
    assert seen.shape == (1024, 11, 3)
    assert abs(seen[8:-8].mean() - 127.5) < 4
    assert seen[8:-8].std() < 40


def test_dask_arrays_compute_one_chunk(stack: npt.NDArray[np.uint16]) -> None:
    computed: list[Any] = []

    def note(block: npt.NDArray[Any], block_info: Any = None) -> npt.NDArray[Any]:
        computed.append(block_info[0]["chunk-location"] if block_info else None)
        return block

    source = da.from_array(stack, chunks=(1, 40, 60))
    lazy = source.map_blocks(note, dtype=stack.dtype)
    image = ImageSource([lazy])
    see(image, Plane((1, 2), (1,)))
    computed.clear()
    seen = see(image, Plane((1, 2), (2,)))
    np.testing.assert_array_equal(seen, to_rgb(stack[2], limits=contrast_of(stack)))
    assert computed == [(2, 0, 0)]


def test_a_picture_is_known_again(stack: npt.NDArray[np.uint16]) -> None:
    known = ImageSource([stack]).fingerprint()
    lazy = da.from_array(stack)
    assert ImageSource([lazy]).fingerprint() == known
    assert ImageSource([stack + 1]).fingerprint() != known


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(UnusableImageError, match=r"rows and columns besides its channels"):
        ImageSource([np.zeros((3, 9))], channel_axis=0)
    source = ImageSource([np.zeros((2, 4, 4))], channel_axis=0)
    with pytest.raises(UnusableImageError, match=r"a colour of its own"):
        see(source, Plane(), Window(0, 0, 4, 4), channels=(("red", 0), ("red", 1)))
