"""Label Studio's brush masks: there and back, streams of other encoders, damage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam_plugins.model.io.brush_rle import decode_brush, encode_brush

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))


class Bits:
    """A stream of bits, written one number after another."""

    def __init__(self) -> None:
        self.text = ""

    def add(self, value: int, size: int) -> Bits:
        """Write a number."""
        self.text += format(value, f"0{size}b")
        return self

    def data(self) -> list[int]:
        """Return the bytes."""
        text = self.text + "0" * (-len(self.text) % 8)
        return [int(text[place : place + 8], 2) for place in range(0, len(text), 8)]


def header(count: int, word: int = 8, sizes: tuple[int, ...] = (3, 4, 8, 16)) -> Bits:
    """The beginning of a stream."""
    bits = Bits().add(count, 32).add(word - 1, 5)
    for size in sizes:
        bits.add(size - 1, 4)
    return bits


@given(masks)
def test_there_and_back(mask: np.ndarray) -> None:
    rle = encode_brush(mask)
    assert all(0 <= byte <= 255 for byte in rle)
    np.testing.assert_array_equal(decode_brush(rle, mask.shape), mask)


def test_runs_longer_than_the_longest_are_divided() -> None:
    mask = np.zeros((400, 300), bool)
    mask[:, 299] = True
    mask[100:250] = True
    rle = encode_brush(mask)
    np.testing.assert_array_equal(decode_brush(rle, mask.shape), mask)
    assert decode_brush(encode_brush(np.ones((128, 128), bool)), (128, 128)).all()


@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.integers(0, 255), min_size=1, max_size=20)), max_size=8
    )
)
def test_streams_of_other_encoders_are_read(chunks: list[tuple[bool, list[int]]]) -> None:
    """Runs and values one by one, other sizes of lengths, alpha of any value."""
    wanted = [
        value
        for is_run, values in chunks
        for value in (values[:1] * len(values) if is_run else values)
    ]
    wanted += [0] * (-len(wanted) % 4) + [7, 7, 7, 200]
    missing = wanted[sum(len(values) for _, values in chunks) :]
    bits = header(len(wanted), sizes=(5, 6, 7, 15))
    for number, (is_run, values) in enumerate([*chunks, (False, missing)]):
        choice = number % 4
        bits.add(is_run, 1).add(choice, 2).add(len(values) - 1, (5, 6, 7, 15)[choice])
        for value in values[:1] if is_run else values:
            bits.add(value, 8)
    mask = decode_brush(bits.data(), (1, len(wanted) // 4))
    np.testing.assert_array_equal(mask[0], np.array(wanted[3::4]) >= 128)


def test_other_pictures_and_damage_are_refused() -> None:
    rle = encode_brush(np.eye(12, dtype=bool))
    with pytest.raises(ValueError, match="of 5 x 12 must hold 240 values of 8 bits, got 576 of 8;"):
        decode_brush(rle, (5, 12))
    with pytest.raises(ValueError, match="ends too early or holds too much; the list was cut"):
        decode_brush(rle[:-4], (12, 12))
    with pytest.raises(ValueError, match="has 7 bytes or more, got 3; the list was cut"):
        decode_brush(rle[:3], (12, 12))
    with pytest.raises(ValueError, match="must be a list of bytes, 0 to 255"):
        decode_brush([300], (12, 12))
    with pytest.raises(ValueError, match="must hold 8 values of 8 bits, got 8 of 4"):
        decode_brush(header(8, word=4).add(0, 30).data(), (1, 2))
    too_much = header(8).add(1, 1).add(3, 2).add(99, 16).add(255, 8).data()
    with pytest.raises(ValueError, match="holds too much"):
        decode_brush(too_much, (1, 2))
    with pytest.raises(ValueError, match=r"mask must have shape \(H, W\), got \(2, 2, 2\)"):
        encode_brush(np.ones((2, 2, 2), bool))
