"""One point and one box per object, asked of a model that knows the answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sam_plugins.model.evaluation.single_point import LowResMasks, evaluate_prompts
from sam_plugins.model.io.labelled import LabelledImage, list_manifest_files, read_each


def test_a_perfect_model_scores_one(
    truth_model: type[Any], image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    model = truth_model()
    scores = list(evaluate_prompts(model, [image_of(labels)]))
    assert [score.object_id for score in scores] == [1, 2, 3]
    assert model.encoded == 1
    for score in scores:
        assert score.point_best_iou > 0.99
        assert score.point_confident_iou == score.point_best_iou
        assert score.box_iou > 0.99
        assert score.point_predicted_iou == pytest.approx(0.9)
        assert score.box_predicted_iou == pytest.approx(0.75)
        assert score.point_calibration_error == pytest.approx(0.1, abs=0.01)
        assert labels[score.point_y, score.point_x] == score.object_id
        assert score.area == (labels == score.object_id).sum()


def test_the_most_confident_need_not_be_the_best(
    truth_model: type[Any], image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    (score, *_) = evaluate_prompts(truth_model((0.3, 0.2, 0.5)), [image_of(labels)])
    assert score.point_best_iou > 0.99
    assert score.point_confident_iou == pytest.approx(score.area / (48 * 64), abs=1e-3)


def test_chunks_change_nothing(
    truth_model: type[Any], image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    whole, single = truth_model(), truth_model()
    images = [image_of(labels)]
    assert list(evaluate_prompts(whole, images)) == list(
        evaluate_prompts(single, images, chunk_size=1)
    )
    assert (whole.chunks, single.chunks) == ([3], [1, 1, 1])


def test_the_callers_inference_mode_is_left_alone(
    truth_model: type[Any], image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    scores = evaluate_prompts(truth_model(), [image_of(labels), image_of(labels)])
    next(scores)
    assert not torch.is_inference_mode_enabled()


def test_the_sample_of_objects_does_not_depend_on_other_pictures(
    truth_model: type[Any], image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    tiles = np.kron(np.arange(1, 25).reshape(4, 6), np.ones((12, 10), int))
    one, other = image_of(np.pad(tiles, ((0, 0), (0, 4)))), image_of(labels)

    def chosen(images: list[LabelledImage], seed: int = 0) -> list[int]:
        scores = evaluate_prompts(truth_model(), images, max_objects=5, seed=seed)
        return [score.object_id for score in scores]

    first = chosen([one])
    assert len(first) == 5
    assert first == sorted(first)
    assert chosen([other, one]) == [1, 2, 3, *first]
    assert chosen([one], seed=1) != first


def test_ignored_pixels_count_on_no_side(
    truth_model: type[Any], image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    ignore = np.zeros((48, 64), bool)
    ignore[labels == 3] = True  # one object is gone
    ignore[:, :12] |= labels[:, :12] == 1  # half of another
    scores = list(evaluate_prompts(truth_model(), [image_of(labels, ignore=ignore)]))
    assert [score.object_id for score in scores] == [1, 2]
    assert scores[0].point_best_iou > 0.99


def test_a_whole_mask_is_the_object(
    truth_model: type[Any], image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    whole = labels > 0
    scores = list(evaluate_prompts(truth_model(), [image_of(labels, whole_masks={1: whole})]))
    assert scores[0].area == whole.sum()
    assert scores[0].point_best_iou < 0.6
    assert scores[1].point_best_iou > 0.99


def test_pictures_without_objects_are_not_encoded(
    truth_model: type[Any], image_of: Callable[..., LabelledImage]
) -> None:
    model = truth_model()
    assert list(evaluate_prompts(model, [image_of(np.zeros((48, 64), int))])) == []
    assert model.encoded == 0


def test_bad_arguments_and_answers_are_named(
    truth_model: type[Any], image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    with pytest.raises(ValueError, match="chunk_size must be 1 or more, got 0"):
        list(evaluate_prompts(truth_model(), [], chunk_size=0))
    with pytest.raises(ValueError, match="max_objects must be 1 or more, or None for all, got 0"):
        list(evaluate_prompts(truth_model(), [], max_objects=0))

    mute = truth_model()
    mute.predict_points = lambda *_: LowResMasks(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"for 3 prompts, got \(1, 3, 4, 4\) and \(1, 3\); check"):
        list(evaluate_prompts(mute, [image_of(labels)]))


def test_files_of_a_data_set(data_dir: Path, truth_model: type[Any]) -> None:
    scores = list(evaluate_prompts(truth_model(), read_each(list_manifest_files(data_dir))))
    assert {(score.set_name, score.image_id) for score in scores} == {
        ("cells", "a"),
        ("cells", "b"),
        ("photos", "p"),
        ("photos", "q"),
    }
