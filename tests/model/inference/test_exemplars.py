"""Exemplars: what a few objects look like, and finding all objects like them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sam_plugins.errors import UnsuitableModelError
from sam_plugins.model.inference.exemplars import Exemplars, describe_exemplars
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.pooling import MaskDescriber, cover_of_mask, covers_of_packed
from sam_plugins.model.inference.predict import encode_rgb, predict_masks
from sam_plugins.model.inference.similar import Likeness, SimilarOptions, find_similar
from sam_plugins.model.inference.suppression import PackedMasks
from sam_plugins.model.inference.types import ImageEmbedding, Prompts


@pytest.fixture
def embedding(tiny_model: Model, picture: npt.NDArray[np.uint8]) -> ImageEmbedding:
    return encode_rgb(tiny_model, picture)


def square(size_hw: tuple[int, int], top: int, left: int, side: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(size_hw, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_a_descriptor_is_the_mean_under_the_mask_of_each_standardised_map(
    embedding: ImageEmbedding,
) -> None:
    rows, columns = (-(-side // 4) for side in embedding.input_size_hw)
    masks = np.random.default_rng(0).random((3, rows, columns)) < 0.2
    found = MaskDescriber(embedding).describe(covers_of_packed(PackedMasks.pack(masks)))
    for mask, descriptor in zip(masks, found, strict=True):
        parts = []
        for tensor, factor in zip((embedding.features, *embedding.skips), (4, 2, 1), strict=True):
            height, width = -(-rows // factor), -(-columns // factor)
            values = tensor[0, :, :height, :width].numpy().astype(np.float64)
            values -= values.mean(axis=(1, 2), keepdims=True)
            values /= np.maximum(values.std(axis=(1, 2), keepdims=True), 1e-3)
            weights = np.zeros((height, width))
            for y, x in np.argwhere(mask):
                weights[y // factor, x // factor] += 1
            mean = (values * weights).sum(axis=(1, 2)) / weights.sum()
            parts.append(mean / np.linalg.norm(mean))
        expected = np.concatenate(parts) / np.sqrt(3)
        np.testing.assert_allclose(descriptor, expected, atol=1e-5)


def test_a_mask_of_the_picture_covers_the_cells_that_it_lies_in(
    embedding: ImageEmbedding, picture: npt.NDArray[np.uint8]
) -> None:
    size_hw = picture.shape[0], picture.shape[1]
    whole_window, whole = cover_of_mask(np.ones(size_hw, bool), embedding)
    assert whole[:-1, :-1].min() == pytest.approx(1)
    assert (whole_window[0].start, whole_window[1].start) == (0, 0)
    window, cover = cover_of_mask(square(size_hw, 30, 45, 15), embedding)
    scale = embedding.input_size_hw[0] / size_hw[0]
    assert cover.sum() * 16 == pytest.approx((15 * scale) ** 2, rel=0.01)
    assert window[0].start == int(30 * scale / 4)
    assert window[1].start == int(45 * scale / 4)


def test_a_single_pixel_is_an_exemplar(
    tiny_model: Model, embedding: ImageEmbedding, picture: npt.NDArray[np.uint8]
) -> None:
    mask = square((60, 90), 59, 89, 1)
    found = describe_exemplars(tiny_model, embedding, mask)
    assert np.linalg.norm(found.descriptors[0]) == pytest.approx(1, abs=1e-5)
    assert found.areas.tolist() == [1]


def test_a_plain_picture_has_no_likeness_and_no_nan(tiny_vit_model: Model) -> None:
    flat = encode_rgb(tiny_vit_model, np.full((40, 40, 3), 9, np.uint8))
    flat = replace(flat, features=torch.zeros_like(flat.features))
    found = describe_exemplars(tiny_vit_model, flat, square((40, 40), 5, 5, 9))
    assert (found.descriptors == 0).all()


def test_masks_labels_and_prompts_mark_exemplars(
    any_model: Model, picture: npt.NDArray[np.uint8]
) -> None:
    embedding = encode_rgb(any_model, picture)
    masks = np.stack([square((60, 90), 5, 5, 12), square((60, 90), 30, 50, 20)])
    from_masks = describe_exemplars(any_model, embedding, masks)
    from_labels = describe_exemplars(any_model, embedding, masks[0] * 3 + masks[1] * np.int32(7))
    np.testing.assert_array_equal(from_masks.descriptors, from_labels.descriptors)
    assert from_masks.areas.tolist() == [144, 400]
    one = describe_exemplars(any_model, embedding, masks[0])
    np.testing.assert_array_equal(one.descriptors, from_masks.descriptors[:1])
    joined = one + describe_exemplars(any_model, embedding, masks[1])
    np.testing.assert_array_equal(joined.descriptors, from_masks.descriptors)
    assert joined.areas.tolist() == [144, 400]
    prompts = Prompts(boxes_xyxy=[[5, 5, 60, 50]])
    answered = predict_masks(any_model, embedding, prompts).best().mask(0)
    prompted = describe_exemplars(any_model, embedding, prompts)
    assert prompted.areas.tolist() == [np.count_nonzero(answered)]
    np.testing.assert_array_equal(
        prompted.descriptors, describe_exemplars(any_model, embedding, answered).descriptors
    )


def test_refused_exemplars(
    tiny_model: Model, tiny_vit_model: Model, embedding: ImageEmbedding
) -> None:
    def describe(marked: object) -> None:
        describe_exemplars(tiny_model, embedding, marked)  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="at least one pixel each, got none in mask 2 of 2"):
        describe(np.stack([square((60, 90), 5, 5, 12), np.zeros((60, 90), bool)]))
    with pytest.raises(ValueError, match="at least one pixel each, got none in mask 1 of 1"):
        describe(np.zeros((60, 90), np.int32))
    with pytest.raises(ValueError, match=r"the picture's size, shape \(60, 90\) or .*got \(90, 60"):
        describe(np.ones((90, 60), bool))
    with pytest.raises(TypeError, match="must be bool, or integer labels, got float64; cut prob"):
        describe(np.ones((60, 90)))
    with pytest.raises(ValueError, match="at least one exemplar, got none; mark an object"):
        describe(np.zeros((0, 60, 90), bool))
    with pytest.raises(ValueError, match=r"points_xy must lie within the picture"):
        describe(Prompts.single_points([[200, 5]]))
    other = replace(embedding, model_id=tiny_vit_model.model_id)
    with pytest.raises(ValueError, match="must come from the model that reads it"):
        describe_exemplars(tiny_model, other, np.ones((60, 90), bool))
    with pytest.raises(ValueError, match=r"one area each, got shapes \(1, 4\) and \(2,\)"):
        Exemplars(np.ones((1, 4), np.float32), np.ones(2), "m")
    one = Exemplars(np.ones((1, 4), np.float32), np.ones(1), "m")
    with pytest.raises(ValueError, match="one model described them, got those of m and of n"):
        one + replace(one, model_id="n")
    with pytest.raises(ValueError, match=r"from the model that reads them, tiny.*got those of m"):
        find_similar(tiny_model, embedding, one)


def test_a_prompt_that_marks_nothing_is_refused(
    tiny_model: Model, embedding: ImageEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = Prompts.single_points([[10, 10]])
    answer = predict_masks(tiny_model, embedding, prompts)
    empty = replace(answer, low_res_logits=np.full_like(answer.low_res_logits, -1))
    monkeypatch.setattr("sam_plugins.model.inference.exemplars.predict_masks", lambda *_: empty)
    with pytest.raises(ValueError, match="prompt of exemplar 1 must mark an object, got an empty"):
        describe_exemplars(tiny_model, embedding, prompts)


def test_the_chance_grows_with_quality_and_likeness_and_falls_with_the_distance_of_sizes() -> None:
    judge = Likeness(quality=2, likeness=1, size=0.5, bias=-1)
    base = judge.chances(np.array([0.5]), np.array([0.2]), np.array([1.0]))
    assert base[0] == pytest.approx(1 / (1 + np.exp(-(1 + 0.2 - 0.5 - 1))))
    assert judge.chances(np.array([0.6]), np.array([0.2]), np.array([1.0])) > base
    assert judge.chances(np.array([0.5]), np.array([0.3]), np.array([1.0])) > base
    assert judge.chances(np.array([0.5]), np.array([0.2]), np.array([1.1])) < base


def test_all_that_passes_is_found_and_a_threshold_of_1_lets_nothing_pass(
    tiny_model: Model, embedding: ImageEmbedding
) -> None:
    mark = square((60, 90), 20, 30, 15)
    options = SimilarOptions(min_score=0)
    calls: list[tuple[int, int]] = []
    found = find_similar(
        tiny_model, embedding, mark, options=options, progress=lambda *done: calls.append(done)
    )
    assert calls
    assert found.labels.shape == (60, 90)
    assert len(found) == found.labels.max()
    assert (np.diff(found.scores) <= 0).all()
    nothing = find_similar(tiny_model, embedding, mark, options=replace(options, min_score=1.0))
    assert len(nothing) == 0
    assert not nothing.labels.any()


def test_an_array_is_encoded_and_exemplars_carry_over(
    tiny_model: Model, embedding: ImageEmbedding, picture: npt.NDArray[np.uint8]
) -> None:
    exemplars = describe_exemplars(tiny_model, embedding, square((60, 90), 20, 30, 15))
    options = SimilarOptions(min_score=0)
    other = np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    found = find_similar(tiny_model, other, exemplars, options=options)
    assert found.labels.shape == (50, 70)
    again = find_similar(tiny_model, encode_rgb(tiny_model, other), exemplars, options=options)
    np.testing.assert_array_equal(found.labels, again.labels)


def test_a_model_without_an_instance_decoder_searches_on_a_grid(
    tiny_vit_model: Model, picture: npt.NDArray[np.uint8]
) -> None:
    mark = square((60, 90), 20, 30, 15)
    with pytest.raises(UnsuitableModelError, match='mode="grid"'):
        find_similar(tiny_vit_model, picture, mark)
    options = SimilarOptions(min_score=0)
    found = find_similar(tiny_vit_model, picture, mark, mode="grid", options=options)
    assert found.labels.shape == (60, 90)
    with pytest.raises(ValueError, match="mode must be one of auto, grid, got 'magic'"):
        find_similar(tiny_vit_model, picture, mark, mode="magic", options=options)


def test_a_picture_in_which_nothing_is_proposed(
    tiny_model: Model, embedding: ImageEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = np.zeros((0, 2), np.float32), np.zeros((1, 1), np.int32)
    monkeypatch.setattr("sam_plugins.model.inference.automatic._points_of_maps", lambda *_: nothing)
    found = find_similar(tiny_model, embedding, square((60, 90), 2, 2, 9))
    assert len(found) == 0
    assert found.labels.shape == (60, 90)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match=r"min_score must lie in \[0, 1\], got 2"):
        SimilarOptions(min_score=2)


def test_wrong_options_are_refused(tiny_model: Model, embedding: ImageEmbedding) -> None:
    with pytest.raises(TypeError, match="options must be of type SimilarOptions, got int"):
        find_similar(tiny_model, embedding, np.ones((60, 90), bool), options=3)  # type: ignore[arg-type]
