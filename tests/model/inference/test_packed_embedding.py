"""Files of embeddings come back exactly, or show that they are damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import torch
from tests.model.inference.embeddings import embedding, equal

from sam_plugins.model.inference import packed_embedding
from sam_plugins.model.inference.packed_embedding import PackedEmbedding


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
