"""What the model sees, for every kind of array that people have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from sam_plugins.errors import UnreadableImageError, UnusableImageError
from sam_plugins.model.inference import rgb as rgb_module
from sam_plugins.model.inference.rgb import channel_indices, to_rgb


def ramp(dtype: npt.DTypeLike, low: float = 0, high: float = 255, size: int = 64) -> Any:
    values = np.linspace(low, high, size * size).reshape(size, size)
    return values.astype(dtype)


@pytest.fixture
def photograph() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)


def test_an_8_bit_photograph_passes_unchanged(photograph: npt.NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(to_rgb(photograph), photograph)


def test_8_bit_grey_is_repeated() -> None:
    grey = ramp(np.uint8)
    result = to_rgb(grey)
    assert result.shape == (64, 64, 3)
    for position in range(3):
        np.testing.assert_array_equal(result[..., position], grey)


@pytest.mark.parametrize("axis", [0, 2])
def test_a_single_channel_axis_is_dropped(axis: int) -> None:
    grey = ramp(np.uint8)
    np.testing.assert_array_equal(to_rgb(np.expand_dims(grey, axis)), to_rgb(grey))


def test_alpha_is_dropped(photograph: npt.NDArray[np.uint8]) -> None:
    alpha = np.zeros((31, 47, 1), np.uint8)
    np.testing.assert_array_equal(to_rgb(np.concatenate([photograph, alpha], 2)), photograph)


def test_channels_may_come_first(photograph: npt.NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(to_rgb(np.moveaxis(photograph, 2, 0)), photograph)


@pytest.mark.parametrize("shape", [(2, 300, 3), (1, 70, 3), (3, 70, 4), (3, 70, 3), (1, 5, 4)])
def test_a_last_axis_of_colours_wins(shape: tuple[int, ...]) -> None:
    flat = np.random.default_rng(4).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(to_rgb(flat, limits=(0, 255)), flat[..., :3])


def test_the_first_axis_counts_where_the_last_is_too_long(
    photograph: npt.NDArray[np.uint8],
) -> None:
    strip = photograph[:, :5]
    np.testing.assert_array_equal(to_rgb(np.moveaxis(strip, 2, 0)), strip)
    narrow = np.moveaxis(photograph[:, :4], 2, 0)
    expected = to_rgb(photograph[:, :4])
    np.testing.assert_array_equal(to_rgb(narrow, channel_axis=0), expected)


def picture_of(mode: str, colour: Any) -> Image.Image:
    picture = Image.new(mode, (5, 4), colour)
    if mode in {"P", "PA"}:
        picture.putpalette([10, 200, 30] * 256)
    return picture


@pytest.mark.parametrize(
    ("mode", "colour", "rgb"),
    [
        ("P", 7, (10, 200, 30)),
        ("PA", (7, 9), (10, 200, 30)),
        ("LA", (90, 3), (90, 90, 90)),
        ("CMYK", (255, 0, 255, 0), (0, 255, 0)),
        ("HSV", (0, 0, 80), (80, 80, 80)),
        ("1", 1, (255, 255, 255)),
        ("L", 60, (60, 60, 60)),
        ("I;16", 60, (60, 60, 60)),
        ("I", 60, (60, 60, 60)),
        ("F", 60.0, (60, 60, 60)),
        ("RGBA", (1, 2, 3, 0), (1, 2, 3)),
        ("RGBX", (1, 2, 3, 0), (1, 2, 3)),
    ],
)
def test_pictures_of_pillow(mode: str, colour: Any, rgb: tuple[int, ...]) -> None:
    limits = (0, 1) if mode == "1" else (0, 255)
    result = to_rgb(picture_of(mode, colour), limits=limits)
    assert result.shape == (4, 5, 3)
    assert {tuple(pixel) for pixel in result.reshape(-1, 3).tolist()} == {rgb}


def test_a_damaged_picture_of_pillow_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with (
        Image.open(path) as picture,
        pytest.raises(UnreadableImageError, match=r"cannot read .*a\.png: .*truncated.*copy it"),
    ):
        to_rgb(picture)


def test_a_mask_that_hides_nothing_is_dropped() -> None:
    grey = ramp(np.uint8)
    np.testing.assert_array_equal(
        to_rgb(np.ma.masked_array(grey, np.zeros(grey.shape, bool))), to_rgb(grey)
    )


def test_masked_pixels_are_no_values() -> None:
    image = np.ma.masked_greater(ramp(np.uint16, 0, 1000), 500)
    with pytest.raises(UnusableImageError, match=r"masked array with \d+ masked; .*filled\(np.nan"):
        to_rgb(image)
    # the remedy works
    result = to_rgb(image.astype(float).filled(np.nan))
    assert result.max() == 255
    assert result[-1, -1, 0] == 0


@pytest.mark.parametrize("start", [2**63 - 2**40, 2**63, 2**64 - 2**41])
def test_integers_beyond_the_signed_range(start: int) -> None:
    image = np.array([[start, start + 2**39, start + 2**40]], np.uint64)
    assert to_rgb(image, percentiles=(0, 100))[0, :, 0].tolist() == [0, 128, 255]


def test_the_8_bit_rule_is_a_span_of_64_levels() -> None:
    wide = np.tile(np.array([[100, 164]], np.uint8), (10, 10))
    narrow = np.tile(np.array([[100, 163]], np.uint8), (10, 10))
    assert set(np.unique(to_rgb(wide))) == {100, 164}
    assert set(np.unique(to_rgb(narrow))) == {0, 255}


def test_a_dim_8_bit_picture_with_hot_pixels_is_stretched() -> None:
    dim = ramp(np.uint8, 0, 40, 200)
    dim[3, 5] = 255
    assert to_rgb(dim).mean() > 100


def test_a_narrow_photograph_keeps_its_hue() -> None:
    dim = np.zeros((20, 20, 3), np.uint8)
    dim[:10, :, 0], dim[:10, :, 1] = 40, 20
    result = to_rgb(dim)
    assert tuple(result[0, 0]) == (255, 128, 0)


@pytest.mark.parametrize(
    "dtype",
    ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">u2", ">f4"],
)
def test_every_number_type_spans_the_range(dtype: str) -> None:
    result = to_rgb(ramp(dtype, 0, 60))
    assert result.dtype == np.uint8
    assert result.min() == 0
    assert result.max() == 255
    assert abs(float(result.mean()) - 127.5) < 4


def test_booleans_are_black_and_white() -> None:
    mask = np.zeros((40, 40), bool)
    mask[3, 3] = True
    result = to_rgb(mask)
    assert result[3, 3, 0] == 255
    assert result.sum() == 3 * 255


@pytest.mark.parametrize(
    ("low", "high"),
    [(-3e38, 3e38), (-1.7e308, 1.7e308), (1e-300, 2e-300), (30000, 30040)],
)
def test_extreme_ranges_do_not_overflow(low: float, high: float) -> None:
    assert to_rgb(np.array([[low, high]] * 8, np.float64))[0, :, 0].tolist() == [0, 255]


def test_the_smallest_range_is_seen() -> None:
    assert to_rgb(np.array([[0, 5e-324]]))[..., 0].tolist() == [[0, 255]]
    assert to_rgb(np.array([[-1e308, 1.0, 1e308]]), limits=(0, 1))[..., 0].tolist() == [
        [0, 255, 255]
    ]


@pytest.mark.skipif(
    np.finfo(np.longdouble).max <= np.finfo(np.float64).max, reason="longdouble is float64 here"
)
def test_values_beyond_float64_are_refused() -> None:
    picture = np.array([[1, 2], [3, 4]], np.longdouble)
    assert to_rgb(picture)[..., 0].tolist() == [[0, 85], [170, 255]]
    picture[0, 1] = np.inf
    assert to_rgb(picture).shape == (2, 2, 3)
    message = (
        r"expected values of at most 1\.8e\+308, got larger ones of type .*; divide them first"
    )
    with pytest.raises(UnusableImageError, match=message):
        to_rgb(picture * np.longdouble("1e400"))


@pytest.mark.parametrize("percentiles", [(1,), (1, 2, 3), 5, "ab", ("a", "b"), None, (9, 1)])
def test_percentiles_that_are_no_range_are_named(percentiles: Any) -> None:
    with pytest.raises(ValueError, match=r"^percentiles must satisfy 0 <= low < high <= 100, got"):
        to_rgb(np.eye(4), percentiles=percentiles)


@pytest.mark.parametrize("limits", ["ab", ("a", "b"), [(1, 2), 3], {"low": 1}])
def test_limits_that_are_no_numbers_are_named(limits: Any) -> None:
    with pytest.raises(ValueError, match=r"^limits must be two numbers, low and high, or one such"):
        to_rgb(np.eye(4), limits=limits)


def test_the_largest_integers() -> None:
    image = np.array([[0, 2**64 - 1]], np.uint64)
    assert to_rgb(image)[0, :, 0].tolist() == [0, 255]


def test_a_narrow_range_of_16_bits_fills_the_range() -> None:
    result = to_rgb(ramp(np.uint16, 1200, 1500))
    assert (result.min(), result.max()) == (0, 255)
    assert len(np.unique(result)) > 200


def test_hot_pixels_do_not_set_the_contrast() -> None:
    image = ramp(np.uint16, 100, 200, 100)
    image[0, :3] = 65535
    assert to_rgb(image).mean() > 100


def test_a_sparse_picture_shows_its_few_bright_pixels() -> None:
    image = np.zeros((200, 200), np.uint16)
    image[7, 7] = 900
    assert to_rgb(image)[7, 7, 0] == 255


def test_nan_and_infinities() -> None:
    image = ramp(np.float32)
    image[0, :3] = [np.nan, np.inf, -np.inf]
    result = to_rgb(image)
    assert result[0, :3, 0].tolist() == [0, 255, 0]
    without = to_rgb(np.where(np.isfinite(image), image, 0)).astype(int)
    assert np.abs(result[1:] - without[1:]).max() <= 1


def test_finite_pixels_missed_by_the_grid_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rgb_module, "_MAX_SAMPLES", 16)
    image = np.full((64, 64), np.nan)
    image[1, 1], image[1, 2] = 5.0, 6.0
    assert to_rgb(image)[1, 1:3, 0].tolist() == [0, 255]


@pytest.mark.parametrize(("dtype", "value"), [("u1", 200), ("u2", 0), ("f4", 0), ("i8", 0)])
def test_constant_pictures(dtype: str, value: int) -> None:
    result = to_rgb(np.full((9, 9), 200, dtype))
    assert (result == value).all()


def test_limits_are_applied_even_to_8_bit() -> None:
    image = np.array([[0, 50, 100, 255]], np.uint8)
    assert to_rgb(image, limits=(50, 100))[0, :, 0].tolist() == [0, 0, 255, 255]


def test_the_full_limits_are_the_identity(photograph: npt.NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(to_rgb(photograph, limits=(0, 255)), photograph)


def test_percentiles_may_be_chosen() -> None:
    image = ramp(np.float64, 0, 100)
    result = to_rgb(image, percentiles=(25, 75))
    assert (result == 0).mean() == pytest.approx(3 * 0.25 / 3, abs=0.01)
    assert (result == 255).mean() == pytest.approx(0.25, abs=0.01)


def test_two_channels_are_red_and_green_each_with_its_own_range() -> None:
    image = np.stack([ramp(np.uint16, 0, 100), ramp(np.uint16, 1000, 60000)])
    result = to_rgb(image)
    assert result[..., 0].max() == result[..., 1].max() == 255
    assert (result[..., 2] == 0).all()


@pytest.mark.parametrize("axis", [0, 2])
def test_a_named_mapping_from_many_channels(axis: int) -> None:
    planes = [ramp(np.uint16, i, 100 * (i + 1)) for i in range(6)]
    image = np.stack(planes, axis=axis)
    result = to_rgb(image, channels={"red": 4, "blue": 1})
    np.testing.assert_array_equal(result[..., 0], to_rgb(planes[4])[..., 0])
    np.testing.assert_array_equal(result[..., 2], to_rgb(planes[1])[..., 0])
    assert (result[..., 1] == 0).all()


def test_colours_add_up_and_are_clipped() -> None:
    image = np.full((5, 5, 4), 200, np.uint8)
    result = to_rgb(
        image,
        channels={"cyan": 0, "magenta": 1, "grey": 2, "yellow": 3},
        limits=(0, 255),
    )
    assert (result == 255).all()
    assert tuple(to_rgb(image, channels={"cyan": 0}, limits=(0, 255))[0, 0]) == (0, 200, 200)


def test_indices_alone() -> None:
    image = np.stack([ramp(np.uint8), ramp(np.uint8)[::-1], np.zeros((64, 64), np.uint8)], 2)
    np.testing.assert_array_equal(to_rgb(image, channels=1), to_rgb(image[..., 1]))
    np.testing.assert_array_equal(to_rgb(image, channels=[1]), to_rgb(image[..., 1]))
    swapped = to_rgb(image, channels=[1, 0, 2])
    np.testing.assert_array_equal(swapped, image[..., [1, 0, 2]])


@pytest.mark.parametrize(
    ("given", "same"),
    [
        (np.array([1, 0]), [1, 0]),
        (np.array([2], np.uint8), [2]),
        (np.array(1), 1),
        (np.int32(1), 1),
        ({"red": np.int64(1)}, {"red": 1}),
        (range(3), [0, 1, 2]),
    ],
)
def test_indices_may_be_numpys(given: Any, same: Any) -> None:
    image = np.random.default_rng(3).integers(0, 999, (9, 9, 3), dtype=np.uint16)
    np.testing.assert_array_equal(to_rgb(image, channels=given), to_rgb(image, channels=same))


def test_limits_for_each_channel() -> None:
    image = np.full((2, 3, 3), 10, np.uint16)
    result = to_rgb(image, channels=[0, 1], limits=[(0, 10), (0, 20)])
    assert tuple(result[0, 0]) == (255, 128, 0)


def test_a_channel_without_finite_values_is_black() -> None:
    image = np.stack([ramp(np.float32), np.full((64, 64), np.nan, np.float32)])
    result = to_rgb(image)
    assert result[..., 0].max() == 255
    assert (result[..., 1] == 0).all()


def test_channel_axis_may_be_given() -> None:
    image = np.random.default_rng(1).integers(0, 256, (5, 3, 4), dtype=np.uint8)
    assert to_rgb(image, channels=0, channel_axis=1).shape == (5, 4, 3)
    assert to_rgb(image, channels=0, channel_axis=-3).shape == (3, 4, 3)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(2).normal(size=(3, 50, 20))
    whole = to_rgb(image)
    monkeypatch.setattr(rgb_module, "_BLOCK_VALUES", 100)
    np.testing.assert_array_equal(to_rgb(image), whole)


def test_a_huge_picture_is_never_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    class Lazy:
        shape = (4000, 3000)
        dtype = np.dtype(np.uint16)

        def __getitem__(self, where: Any) -> npt.NDArray[np.uint16]:
            rows, columns = (*where, slice(None))[:2]
            y = np.arange(4000)[rows]
            part = np.broadcast_to(y[:, None], (y.size, 3000))[:, columns]
            reads.append(part.size)
            return part.astype(np.uint16)

    result = to_rgb(Lazy())
    assert result.shape == (4000, 3000, 3)
    assert max(reads) <= 1 << 22
    assert (result[0, 0, 0], result[-1, 0, 0]) == (0, 255)


def test_zarr_arrays_are_accepted() -> None:
    image = ramp(np.uint16, 10, 999)
    array = zarr.create_array({}, shape=image.shape, chunks=(16, 16), dtype=image.dtype)
    array[:] = image
    np.testing.assert_array_equal(to_rgb(array), to_rgb(image))


def test_lists_are_accepted() -> None:
    assert to_rgb([[0, 1], [2, 3]])[1, 1, 0] == 255


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.uint32, np.float32, np.float64, np.bool_]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    )
)
def test_any_array_gives_a_picture_or_one_kind_of_error(image: npt.NDArray[Any]) -> None:
    if not np.isfinite(image).any():
        with pytest.raises(UnusableImageError, match="at least one finite pixel"):
            to_rgb(image)
        return
    result = to_rgb(image)
    assert result.shape == (*image.shape, 3)
    assert result.dtype == np.uint8


@settings(deadline=None, max_examples=40)
@given(st.floats(0.01, 1000), st.floats(-1000, 1000))
def test_gain_and_offset_do_not_matter(gain: float, offset: float) -> None:
    image = ramp(np.float64, 0, 1)
    difference = to_rgb(image * gain + offset).astype(int) - to_rgb(image)
    assert np.abs(difference).max() <= 1


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("shape", [(5,), (), (2, 3, 4, 5)])
def test_wrong_number_of_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnusableImageError, match=r"expected one picture of shape .* one plane"):
        to_rgb(np.zeros(shape))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0, 3), (4, 4, 0)])
def test_zero_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnusableImageError, match=r"expected a picture with pixels, got shape"):
        to_rgb(np.zeros(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("limits", [None, (0, 1)])
def test_nothing_finite(value: float, limits: tuple[float, float] | None) -> None:
    with pytest.raises(UnusableImageError, match=r"at least one finite pixel, .* check how it was"):
        to_rgb(np.full((5, 5), value), limits=limits)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((3, 3), complex),
        np.full((3, 3), "a"),
        np.full((3, 3), 1, object),
        np.zeros((3, 3), "M8[s]"),
        np.zeros((3, 3), [("r", "u1"), ("g", "u1")]),
    ],
    ids=["complex", "text", "object", "time", "record"],
)
def test_values_that_are_no_intensities(image: npt.NDArray[Any]) -> None:
    with pytest.raises(UnusableImageError, match="boolean, integer or floating-point pixels, got"):
        to_rgb(image)


def test_rows_of_unequal_length() -> None:
    with pytest.raises(UnusableImageError, match="rows of equal length, got a list that NumPy ref"):
        to_rgb([[1, 2], [3]])


def test_many_channels_need_a_mapping() -> None:
    with pytest.raises(UnusableImageError, match=r"at most 4 channels, first or last.*channels="):
        to_rgb(np.zeros((12, 40, 40)))
    with pytest.raises(UnusableImageError, match=r"at most 4 channels, got 5; say which"):
        to_rgb(np.zeros((5, 40, 40)), channel_axis=0)


def test_four_channels_first_are_not_taken_for_rgba() -> None:
    with pytest.raises(UnusableImageError, match="RGBA only where the channel axis is the last"):
        to_rgb(np.zeros((4, 40, 40)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": {"red": 3}}, r"channel 3 does not exist: the image has 3 \(0 to 2\)"),
        ({"channels": -1}, "channel -1 does not exist"),
        ({"channels": {"pink": 0}}, "channels must use the colours red, .*; got 'pink'"),
        ({"channels": []}, "channels must name at least one channel, got none"),
        ({"channels": [0, 1, 2, 0]}, "at most 3 indices .*, got 4; name colours"),
        ({"limits": (5, 5)}, r"limits must be finite with low < high, got \(5, 5\)"),
        ({"limits": (0, np.inf)}, "limits must be finite with low < high"),
        ({"limits": [(0, 1)] * 2}, r"one such pair for each of the 3 shown channels, got shape"),
        ({"percentiles": (50, 50)}, "percentiles must satisfy 0 <= low < high <= 100, got"),
        ({"percentiles": (-1, 50)}, "percentiles must satisfy"),
        ({"channel_axis": 3}, "channel_axis must be an axis of a three-dimensional image, got 3"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_rgb(np.zeros((8, 8, 3), np.uint8), **arguments)


@pytest.mark.parametrize(
    ("channels", "got"),
    [
        ("red", "'red'"),
        (["red", "green"], "'red'"),
        ({"red": "DAPI"}, "'DAPI'"),
        ({0: "red"}, "'red'"),
        (1.0, "1.0"),
        (np.array([0.0, 1.0]), "0.0"),
        (np.array([[0, 1]]), r"\[0, 1\]"),
        ([np.array([0, 1])], r"array\(\[0, 1\]\)"),
        (np.array([True, False]), "True"),
    ],
)
def test_what_is_no_index_of_a_channel_is_named(channels: Any, got: str) -> None:
    with pytest.raises(TypeError, match=rf"channels must be an index, .* colours .*; got {got} fo"):
        to_rgb(np.zeros((8, 8, 3), np.uint8), channels=channels)


@pytest.mark.parametrize("image", ["cells.tif", Path("cells.tif"), b"cells.tif"])
def test_the_name_of_a_file_is_no_picture(image: Any) -> None:
    with pytest.raises(
        TypeError, match=r"got the name of a file, 'cells.tif'; .*sam_plugins.read_image\('cells"
    ):
        to_rgb(image)


def test_names_of_channels_become_indices() -> None:
    names = ["DAPI", "GFP", "dapi"]
    assert channel_indices({"blue": "dapi", "red": 2}, names) == {"blue": 0, "red": 2}
    assert channel_indices(["gfp", 0], names) == [1, 0]


@pytest.mark.parametrize(("names", "listed"), [(["DAPI", "GFP"], "DAPI, GFP"), ([], "none")])
def test_unknown_names_of_channels(names: list[str], listed: str) -> None:
    with pytest.raises(ValueError, match=f"no channel is named 'RFP'; .*: {listed}"):
        channel_indices(["RFP"], names)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float16, torch.bfloat16, torch.float32])
def test_tensors_of_any_type(kind: torch.dtype) -> None:
    tensor = torch.arange(64, dtype=torch.float32).reshape(8, 8)
    np.testing.assert_array_equal(to_rgb(tensor.to(kind)), to_rgb(tensor.numpy()))


def test_tensors_that_carry_gradients() -> None:
    tensor = torch.rand(8, 9, requires_grad=True)
    np.testing.assert_array_equal(to_rgb(tensor), to_rgb(tensor.detach().numpy()))


@pytest.mark.parametrize("thing", [None, {}, 3])
def test_what_is_no_array(thing: Any) -> None:
    with pytest.raises(TypeError, match=f"the pixels of a picture, got {type(thing).__name__}$"):
        to_rgb(thing)
