"""Windows show what the whole picture shows, whatever it is stored as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr
from PIL import Image
from skimage import data

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.io.images import open_image
from sam_plugins.model.io.lazy_plane import LazyPlane
from sam_plugins.model.large.picture import LazyPicture, averaged_squares
from sam_plugins.model.large.sources import ArraySource, FileSource

WINDOW = (slice(70, 201), slice(33, 190))


def ramp(shape: tuple[int, ...] = (300, 384)) -> npt.NDArray[np.uint16]:
    """Return a real picture in 16 bits, whose contrast differs from place to place."""
    coins = np.resize(data.coins(), shape).astype(np.uint16)
    return coins * 37 + np.arange(shape[-1], dtype=np.uint16) * 5


def write_zarr(path: Path, values: npt.NDArray[np.uint16]) -> None:
    zarr.create_array(path, data=values, chunks=(64, 64))


def write_tiled_tiff(path: Path, values: npt.NDArray[np.uint16]) -> None:
    tifffile.imwrite(path, values, tile=(64, 64), compression="zlib", photometric="minisblack")


def write_turned_tiff(path: Path, values: npt.NDArray[np.uint16]) -> None:
    tifffile.imwrite(
        path, values, photometric="minisblack", extratags=[(274, "H", 1, 6, True)], metadata=None
    )


def write_inverted_tiff(path: Path, values: npt.NDArray[np.uint16]) -> None:
    tifffile.imwrite(path, values, photometric="miniswhite")


def write_png(path: Path, values: npt.NDArray[np.uint16]) -> None:
    Image.fromarray(values).save(path, format="PNG")


@pytest.mark.parametrize(
    "write", [write_zarr, write_tiled_tiff, write_turned_tiff, write_inverted_tiff, write_png]
)
def test_a_window_of_a_file_is_what_the_whole_file_shows_there(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    path = tmp_path / "picture"
    write(path, ramp())
    with open_image(path) as image:
        whole = to_rgb(image.plane().pixels)
    with FileSource(str(path)).open() as picture:
        assert picture.size_hw == whole.shape[:2]
        assert (picture.rgb(WINDOW) == whole[WINDOW]).all()


def test_the_contrast_is_that_of_the_whole_picture_not_of_the_window() -> None:
    values = ramp()
    dark = values.copy()
    dark[:150] //= 50
    picture = LazyPicture(dark)
    assert picture.rgb((slice(0, 100), slice(0, 100))).max() < 20
    assert picture.rgb((slice(200, 300), slice(0, 384))).max() > 200


def test_colours_palettes_and_channels(tmp_path: Path) -> None:
    colours = np.resize(data.astronaut(), (120, 90, 3))
    tifffile.imwrite(tmp_path / "rgb.tif", colours, photometric="rgb", tile=(32, 32))
    separate = np.stack([ramp((120, 90)), ramp((120, 90))[::-1]])
    zarr.create_array(tmp_path / "channels.zarr", data=separate, chunks=(1, 32, 32))
    indexed = Image.fromarray(colours).quantize(16)
    indexed.save(tmp_path / "palette.tif")
    part = (slice(10, 50), slice(20, 83))
    for name, channels in (("rgb.tif", None), ("channels.zarr", (0, 1)), ("palette.tif", None)):
        with open_image(tmp_path / name) as image:
            plane = image.plane()
        with FileSource(str(tmp_path / name)).open() as picture:
            expected = to_rgb(plane.pixels, channels, channel_axis=plane.channel_axis)
            assert (picture.rgb(part) == expected[part]).all(), name


def test_a_plane_of_a_stack_is_read_alone(tmp_path: Path) -> None:
    stack = np.stack([ramp(), ramp()[::-1], ramp()[:, ::-1]])
    tifffile.imwrite(
        tmp_path / "stack.tif", stack, metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    source = FileSource(str(tmp_path / "stack.tif"))
    assert source.slices("Z") == 3
    with source.at("Z", 1).open() as picture:
        assert (picture.rgb(WINDOW) == to_rgb(stack[1])[WINDOW]).all()
    with pytest.raises(UnusableImageError, match=r"has no stack axis 'T'; it has Z"):
        source.slices("T")


def test_dask_is_read_where_it_is_looked_at() -> None:
    dask = pytest.importorskip("dask.array", reason="dask is not installed (extra: scale)")
    values = ramp()
    with ArraySource(dask.from_array(values, chunks=64)).open() as picture:
        assert (picture.rgb(WINDOW) == to_rgb(values)[WINDOW]).all()


def test_a_window_without_any_finite_value_is_black() -> None:
    values = ramp().astype(np.float32)
    values[:100] = np.nan
    picture = LazyPicture(values)
    assert not picture.rgb((slice(0, 90), slice(0, 90))).any()
    assert picture.rgb((slice(100, 190), slice(0, 90))).any()


def test_a_window_is_reduced_as_pillow_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    values = ramp((600, 800))
    picture = LazyPicture(values).with_contrast()
    window = (slice(0, 600), slice(0, 797))
    whole = Image.fromarray(picture.rgb(window)).resize((100, 75), Image.Resampling.BILINEAR)
    assert (picture.reduced(window, (75, 100)) == np.asarray(whole)).all()
    monkeypatch.setattr("sam_plugins.model.large.picture._MAX_READ_VALUES", 20_000)
    in_strips = picture.reduced(window, (75, 100)).astype(int)
    assert np.abs(in_strips - np.asarray(whole)).mean() < 2


def test_a_large_picture_is_sampled_on_a_coarser_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam_plugins.model.large.sources._SAMPLED_WHOLE", 1000)
    monkeypatch.setattr("sam_plugins.model.large.sources._ENOUGH_PIXELS", 1000)
    values = ramp()
    path = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(values, subifds=1, tile=(64, 64), photometric="minisblack")
        file.write(values[::2, ::2] // 2, subfiletype=1, tile=(64, 64), photometric="minisblack")
    with FileSource(str(path)).open() as picture:
        assert picture.sample is not None
        assert picture.sample.shape == (150, 192)
        _, high = picture.contrast[0]  # type: ignore[misc]
        assert high == pytest.approx(np.percentile(values // 2, 99.9), rel=0.02)


def test_a_window_beyond_the_picture_is_refused() -> None:
    with pytest.raises(UnusableImageError, match=r"within a picture of 300 x 384 pixels"):
        LazyPicture(ramp()).rgb((slice(0, 301), slice(0, 10)))


def test_lazy_planes_know_their_channels(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "one.zarr", data=ramp((1, 120, 90)), chunks=(1, 32, 32))
    with open_image(tmp_path / "one.zarr", axes="CYX") as image:
        plane = LazyPlane(image)
        assert (plane.channel_axis, plane.pixels.shape) == (None, (120, 90))
        assert (plane.pixels[5:7, 1:3] == image.plane().pixels[5:7, 1:3]).all()


@pytest.mark.parametrize(
    "value", [np.uint8(0), np.uint16(7), np.int16(-3), np.float32(1e30), np.float64(0)]
)
def test_a_picture_of_one_value_is_black_in_every_window(value: np.number) -> None:
    picture = LazyPicture(np.full((90, 80), value)).with_contrast()
    assert not picture.rgb((slice(10, 50), slice(0, 40))).any()


class Counting:
    """An array that counts the values that are read of it."""

    def __init__(self, values: npt.NDArray[np.uint16]) -> None:
        self._values, self.read = values, 0
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, where: tuple[slice, ...]) -> npt.NDArray[np.uint16]:
        found = self._values[where]
        self.read += found.size
        return found


def test_a_window_is_reduced_from_the_level_that_its_size_asks_for() -> None:
    values = np.kron(ramp((75, 96)), np.ones((8, 8), np.uint16))
    levels = [Counting(values[step // 2 :: step, step // 2 :: step]) for step in (1, 2, 4, 8)]
    limits = (0.0, 12_000.0)
    picture = LazyPicture(levels[0], limits=limits, coarser=lambda: levels[1:])
    window, size = (slice(40, 440), slice(81, 721)), (90, 144)
    found = picture.reduced(window, size)
    assert [level.read for level in levels] == [0, 0, 100 * 161, 0]
    without = LazyPicture(values, limits=limits).reduced(window, size)
    assert np.abs(found.astype(int) - without).mean() < 3
    whole = (slice(0, 600), slice(0, 768))
    assert picture.reduced(whole, (75, 96)).shape == (75, 96, 3)
    assert levels[3].read == 75 * 96
    picture.reduced(whole, (500, 640))  # finer than the second level
    assert levels[0].read == 600 * 768


def test_a_pyramid_of_a_file_is_reduced_from_with_the_contrast_of_the_finest_level(
    tmp_path: Path,
) -> None:
    values = ramp((600, 768))
    path = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(values, subifds=1, tile=(64, 64), photometric="minisblack")
        file.write(values[::2, ::2] // 2, subfiletype=1, tile=(64, 64), photometric="minisblack")
    with FileSource(str(path)).open() as picture:
        assert picture.coarser is not None
        assert [level.shape for level in picture.coarser()] == [(300, 384)]
        found = picture.reduced((slice(0, 600), slice(0, 768)), (300, 384))
        half = to_rgb(values[::2, ::2] // 2, None, picture.contrast)
        assert np.array_equal(found, half)
    with FileSource(str(path), level=1).open() as picture:
        assert picture.coarser is not None
        assert picture.coarser() == []


@pytest.mark.parametrize("channel_axis", [None, 0, 2])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8", "?"])
def test_squares_are_averaged(channel_axis: int | None, dtype: str) -> None:
    shape = {None: (7, 10), 0: (2, 7, 10), 2: (7, 10, 2)}[channel_axis]
    values = np.random.default_rng(0).integers(0, 250, shape).astype(dtype)
    found = averaged_squares(values, 3, channel_axis=channel_axis)
    planes = [values] if channel_axis is None else np.moveaxis(values, channel_axis, 0)
    means = [
        [[plane[y : y + 3, x : x + 3].mean() for x in range(0, 10, 3)] for y in range(0, 7, 3)]
        for plane in planes
    ]
    expected = means[0] if channel_axis is None else np.moveaxis(np.array(means), 0, channel_axis)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_values_that_are_not_finite_do_not_count_in_means() -> None:
    values = np.array([[1, np.nan, np.nan], [3, np.inf, np.nan]], np.float32)
    assert averaged_squares(values, 2, channel_axis=None)[0, 0] == 2
    assert np.isnan(averaged_squares(values, 2, channel_axis=None)[0, 1])
    picture = LazyPicture(values, limits=(0.0, 4.0))
    assert picture._averaged((slice(0, 2), slice(0, 3)), 2)[0, 0].tolist() == [128, 128, 128]
