from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.model.inference.volume.seeing import network_of, seeing_model

from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.predict import encode_rgb, predict_masks
from sam_plugins.model.inference.types import ImageEmbedding, Prompts
from sam_plugins.model.inference.volume import SliceEmbeddings, Volume, nearest_first


def stack(length: int = 7) -> Volume:
    values = np.random.default_rng(1).integers(0, 256, (length, 24, 32), dtype=np.uint8)
    return Volume(values)


def make(volume: Volume, folder: Path | None = None, **options: Any) -> SliceEmbeddings:
    return SliceEmbeddings(seeing_model(), volume, cache=EmbeddingCache(folder), **options)


def test_the_first_mask_of_a_long_stack_costs_one_encode() -> None:
    slices = make(stack(100))
    found = predict_masks(slices.model, slices.embedding(50), Prompts.for_object([[10, 10]]))
    assert found.masks.shape == (1, 3, 24, 32)
    assert network_of(slices.model).encodes == slices.encodes == 1


def test_filling_goes_outwards_from_where_the_user_is() -> None:
    slices = make(stack())
    order: list[int] = []
    inner = slices.embedding

    def noting(index: int) -> ImageEmbedding:
        order.append(index)
        return inner(index)

    slices.embedding = noting  # type: ignore[method-assign]
    told: list[tuple[int, int]] = []
    assert slices.fill(5, progress=lambda *step: told.append(step)) == 7
    assert order == [5, 6, 4, 3, 2, 1, 0] == list(nearest_first(5, range(7)))
    assert told == [(done, 7) for done in range(8)]


def test_filling_follows_the_user() -> None:
    slices = make(stack(30))
    ready: list[int] = []

    def progress(done: int, _: int) -> None:
        if done == 3:
            slices.look_at(25)
        if done == 5:
            ready.extend(i for i in range(30) if slices.is_ready(i))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slices.fill(2, progress=progress)
    assert ready == [1, 2, 3, 25, 26]


def test_a_cancelled_fill_goes_on_after_a_restart(tmp_path: Path) -> None:
    volume = stack()
    first = make(volume, tmp_path)

    def cancel(done: int, _: int) -> None:
        if done == 3:
            raise TimeoutError("cancelled")

    with pytest.raises(TimeoutError, match="cancelled"):
        first.fill(3, progress=cancel)
    assert first.encodes == 3
    second = make(volume, tmp_path)
    assert second.fill(0) == 4
    third = make(volume, tmp_path)
    assert third.fill() == 0
    assert network_of(third.model).encodes == 0


def test_a_changed_slice_alone_is_encoded_again(tmp_path: Path) -> None:
    volume = stack()
    make(volume, tmp_path).fill()
    values = np.array(volume.array)
    values[4, :5] = 7
    assert make(Volume(values), tmp_path).fill() == 1


def test_an_embedding_is_that_of_the_slice() -> None:
    volume = stack()
    slices = make(volume)
    expected = encode_rgb(slices.model, volume.rgb(0, 2)).to(dtype=torch.float16)
    got = slices.embedding(2)
    assert torch.equal(got.features.half(), expected.features)
    assert got.original_size_hw == (24, 32)


def test_answers_on_thick_slices_are_in_pixels_of_the_slice() -> None:
    values = np.full((8, 40, 40), 20, np.uint8)
    values[2:5, :, 10:20] = 220
    volume = Volume(values, voxel_size_zyx=(3.0, 1.0, 1.0))
    slices = make(volume, axis=1)
    embedding = slices.embedding(5)
    assert embedding.input_size_hw == (96, 160)
    mask = predict_masks(slices.model, embedding, Prompts.for_object([[14, 3]])).masks[0, 0]
    assert mask.shape == (8, 40)
    assert (mask == (values[:, 5] > 100)).all()


def test_threads_share_the_work() -> None:
    slices = make(stack(12))
    threads = [threading.Thread(target=slices.fill, args=(start,)) for start in (0, 6, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert slices.encodes == 12


def test_wrong_arguments_are_refused() -> None:
    slices = make(stack())
    with pytest.raises(IndexError, match="slice must be 0 to 6 along z, got 7"):
        slices.look_at(7)
    with pytest.raises(IndexError, match="0 to 6 along z, got -1"):
        slices.embedding(-1)
    with pytest.raises(TypeError, match="volume must be of type Volume, got ndarray"):
        SliceEmbeddings(slices.model, np.zeros((2, 2, 2)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="axis must be 0, 1 or 2"):
        make(stack(), axis=4)
