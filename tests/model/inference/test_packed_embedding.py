"""Files of embeddings come back exactly, or show that they are damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tests.model.inference.embeddings import embedding, equal

from sam_plugins.model.inference import packed_embedding
from sam_plugins.model.inference.packed_embedding import PackedEmbedding
from sam_plugins.model.inference.types import ImageEmbedding


def content_of_a_file() -> bytes:
    packed = PackedEmbedding.of(embedding())
    assert packed is not None
    return packed.to_bytes()


def test_files_come_back_exactly() -> None:
    packed = PackedEmbedding.of(embedding())
    read = PackedEmbedding.from_bytes(content_of_a_file())
    assert packed is not None
    assert read is not None
    assert equal(read.unpack("cpu"), packed.unpack("cpu"))
    assert read.unpack("cpu").features.dtype == torch.float32


def flipped(content: bytes) -> bytes:
    return content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]


def without_safetensors(_: bytes) -> bytes:
    body = b"\xff" * 100
    return hashlib.blake2b(body, digest_size=32).digest() + body


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-100], flipped, lambda _: b"", without_safetensors],
    ids=["cut", "flipped", "empty", "no safetensors"],
)
def test_damage_shows(damage: Callable[[bytes], bytes]) -> None:
    assert PackedEmbedding.from_bytes(damage(content_of_a_file())) is None


def test_files_of_another_version_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = content_of_a_file()
    monkeypatch.setattr(packed_embedding, "FORMAT", "sam-plugins-embedding-0")
    assert PackedEmbedding.from_bytes(content) is None


def test_compact_files_come_back_exactly_and_are_smaller() -> None:
    packed = PackedEmbedding.of(smooth_embedding(), compact=True)
    assert packed is not None
    content = packed.to_bytes()
    read = PackedEmbedding.from_bytes(content)
    assert read is not None
    assert equal(read.unpack("cpu"), packed.unpack("cpu"))
    exact = PackedEmbedding.of(smooth_embedding())
    assert exact is not None
    assert len(content) < len(exact.to_bytes()) / 2


def test_compact_embeddings_are_close() -> None:
    given = smooth_embedding()
    packed = PackedEmbedding.of(given, compact=True)
    assert packed is not None
    error = packed.unpack("cpu").features - given.features
    assert float(error.std() / given.features.std()) < 0.02


def test_in_memory_nothing_of_the_file_is_kept() -> None:
    packed = PackedEmbedding.of(smooth_embedding(), compact=True)
    assert packed is not None
    assert packed.parts
    assert not packed.in_memory().parts


@pytest.mark.parametrize("part", ["basis", "codes", "energy"])
def test_a_compact_file_of_parts_that_do_not_fit_is_not_read(part: str) -> None:
    packed = PackedEmbedding.of(smooth_embedding(), compact=True)
    assert packed is not None
    parts = {name: dict(one) for name, one in packed.parts.items()}
    parts["embedding"][part] = parts["embedding"][part][:3]
    assert PackedEmbedding.from_bytes(replace(packed, parts=parts).to_bytes()) is None


def smooth_embedding() -> ImageEmbedding:
    """An embedding whose neighbours are alike, as those of pictures are."""
    given = embedding()
    wide = torch.nn.functional.interpolate(
        given.features[..., ::8, ::8], scale_factor=8.0, mode="bilinear"
    )
    fine = torch.nn.functional.interpolate(
        given.skips[0][..., ::8, ::8], scale_factor=8.0, mode="bilinear"
    )
    return replace(given, features=wide, skips=(fine,))


def test_a_blank_picture_is_known_again() -> None:
    packed = PackedEmbedding.of(replace(embedding(), is_blank=True))
    assert packed is not None
    read = PackedEmbedding.from_bytes(packed.to_bytes())
    assert read is not None
    assert read.unpack("cpu").is_blank
