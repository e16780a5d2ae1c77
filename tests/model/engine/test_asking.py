"""Written prompts are answered one after the other, with the logits of the answer before."""

from __future__ import annotations

import numpy as np
import pytest
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.model.engine.label_store import PromptEvent
from sam_plugins.model.engine.project import asking
from sam_plugins.model.engine.project.asking import answer_in_turn
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.pooling import logits_of_mask
from sam_plugins.model.inference.predict import encode_image, predict_masks
from sam_plugins.model.inference.types import ImageEmbedding, Prompts

SIZE_HW = (60, 90)


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model(TINY_PYRAMID, "tiny")


@pytest.fixture(scope="module")
def embedding(model: Model) -> ImageEmbedding:
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)
    return encode_image(model, picture)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Prompts]:
    every: list[Prompts] = []

    def predict(model: Model, embedding: ImageEmbedding, prompts: Prompts) -> object:
        every.append(prompts)
        return predict_masks(model, embedding, prompts)

    monkeypatch.setattr(asking, "predict_masks", predict)
    return every


def counts(asked: list[Prompts]) -> list[int]:
    return [0 if one.points_xy is None else one.points_xy.shape[1] for one in asked]


def test_each_point_corrects_the_answer_before(
    model: Model, embedding: ImageEmbedding, asked: list[Prompts]
) -> None:
    prompts = Prompts.for_object([(30, 20), (40, 25), (60, 50)], [1, 1, 0])
    found = answer_in_turn(model, embedding, prompts)
    assert counts(asked) == [1, 2, 3]
    assert asked[0].mask_logits is None
    assert asked[2].mask_logits is not None
    before = predict_masks(model, embedding, asked[1]).best()
    assert np.array_equal(asked[2].mask_logits, before.low_res_logits)
    assert found.low_res_logits.shape[:2] == (1, 1)


def test_a_box_is_answered_first(
    model: Model, embedding: ImageEmbedding, asked: list[Prompts]
) -> None:
    prompts = Prompts.for_object([(30, 20)], [0], (20, 10, 60, 40))
    mask = np.ones(SIZE_HW, bool)
    answer_in_turn(model, embedding, prompts, mask=mask)
    assert counts(asked) == [0, 1]
    assert asked[0].mask_logits is None  # it asks anew
    assert all(one.boxes_xyxy is not None for one in asked)


def test_points_beside_an_object_wait_for_one_on_it(
    model: Model, embedding: ImageEmbedding, asked: list[Prompts]
) -> None:
    answer_in_turn(model, embedding, Prompts.for_object([(60, 50), (30, 20)], [0, 1]))
    answer_in_turn(model, embedding, Prompts.for_object([(60, 50)], [0]))
    assert counts(asked) == [2, 1]


def test_a_mask_is_corrected_with_the_points_that_it_follows(
    model: Model, embedding: ImageEmbedding, asked: list[Prompts]
) -> None:
    mask = np.zeros(SIZE_HW, bool)
    mask[10:40, 20:60] = True
    said = [
        PromptEvent.box(20, 10, 60, 40),
        PromptEvent.seed(30, 20),
        PromptEvent.point(70, 50),  # on the object, says the event; the mask does not reach there
        PromptEvent.point(80, 50, is_positive=False),
    ]
    answer_in_turn(model, embedding, Prompts.for_object([(50, 30)], [0]), mask=mask, said=said)
    (one,) = asked
    assert one.points_xy is not None
    assert one.point_labels is not None
    assert one.points_xy[0].tolist() == [[30, 20], [80, 50], [50, 30]]
    assert one.point_labels[0].tolist() == [1, 0, 0]
    assert one.mask_logits is not None
    assert np.array_equal(one.mask_logits[0, 0], logits_of_mask(mask, embedding))
    # An empty mask is nothing to correct.
    answer_in_turn(model, embedding, Prompts.for_object([(50, 30)]), mask=np.zeros(SIZE_HW, bool))
    assert asked[-1].mask_logits is None


def test_logits_of_a_mask_draw_it_again(embedding: ImageEmbedding) -> None:
    from sam_plugins.model.inference.candidates import chain_of

    mask = np.zeros(SIZE_HW, bool)
    mask[10:40, 20:60] = True
    logits = logits_of_mask(mask, embedding)
    window, drawn = chain_of(embedding).draw(logits)
    again = np.zeros(SIZE_HW, bool)
    again[window] = drawn
    assert (again & mask).sum() / (again | mask).sum() > 0.85  # cells of some pixels
    assert abs(logits).max() == 6
