"""What the model sees of each kind of picture: arrays, tensors, files that are open."""

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
from tests.model.inference.conftest import ramp

from sam_plugins.errors import UnreadableImageError, UnusableImageError
from sam_plugins.model.inference import rgb as rgb_module
from sam_plugins.model.inference.rgb import to_rgb


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


@pytest.mark.parametrize("kind", [torch.uint8, torch.float16, torch.bfloat16, torch.float32])
def test_tensors_of_any_type(kind: torch.dtype) -> None:
    tensor = torch.arange(64, dtype=torch.float32).reshape(8, 8)
    np.testing.assert_array_equal(to_rgb(tensor.to(kind)), to_rgb(tensor.numpy()))


def test_tensors_that_carry_gradients() -> None:
    tensor = torch.rand(8, 9, requires_grad=True)
    np.testing.assert_array_equal(to_rgb(tensor), to_rgb(tensor.detach().numpy()))
