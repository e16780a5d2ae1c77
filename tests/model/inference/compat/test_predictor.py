"""The predictor gives segment_anything's answers, with its signatures and types."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.model.inference.compat.small_sam import assert_same
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model

from sam_plugins import SamPredictor
from sam_plugins.errors import UnsuitableModelError
from sam_plugins.model.inference.compat import SamModel
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.networks.config import SamConfig

Picture = npt.NDArray[np.uint8]

POINT: dict[str, Any] = {"point_coords": np.array([[90, 60]]), "point_labels": np.array([1])}
POINTS: dict[str, Any] = {
    "point_coords": np.array([[90, 60], [180.5, 120.25], [20, 150]]),
    "point_labels": np.array([1, 0, 1]),
}
BOX: dict[str, Any] = {"box": np.array([40, 30, 190, 150])}
MASK: dict[str, Any] = {
    "mask_input": np.random.default_rng(0).normal(0, 5, (1, 64, 64)).astype(np.float32)
}

PROMPTS: dict[str, dict[str, Any]] = {
    "point": POINT,
    "points": POINTS,
    "box": BOX,
    "box with an axis": {"box": BOX["box"][None]},
    "box and points": POINTS | BOX,
    "mask": MASK,
    "mask and point": MASK | POINT,
    "everything": MASK | POINTS | BOX,
    "nothing": {},
    "outside": {"point_coords": np.array([[-5, 900]]), "point_labels": np.array([1])},
    "padding": {"point_coords": np.array([[9, 9], [0, 0]]), "point_labels": np.array([1, -1])},
    "a box of one column": {"box": np.array([40, 10, 40, 60])},
}


@pytest.fixture
def pair(official: ModuleType, ours: SamModel, theirs: Any, landscape: Picture) -> tuple[Any, Any]:
    """Our predictor and theirs, the same picture in both."""
    predictors = SamPredictor(ours), official.SamPredictor(theirs)
    for predictor in predictors:
        predictor.set_image(landscape)
    return predictors


def test_signatures_and_defaults_are_the_official_ones(official: ModuleType) -> None:
    for name in ("__init__", "set_image", "set_torch_image", "predict", "predict_torch"):
        mine, other = (
            inspect.signature(getattr(cls, name)).parameters
            for cls in (SamPredictor, official.SamPredictor)
        )
        assert [(p.name, p.default, p.kind) for p in mine.values()] == [
            (p.name, p.default, p.kind) for p in other.values()
        ]


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("name", PROMPTS)
def test_every_prompt(pair: tuple[Any, Any], name: str, multimask: bool) -> None:
    ours, theirs = pair
    prompt = PROMPTS[name]
    answer = ours.predict(**prompt, multimask_output=multimask)
    assert answer[0].shape == ((3 if multimask else 1), 200, 290)
    assert_same(answer, theirs.predict(**prompt, multimask_output=multimask))


def test_lists_and_tensors_are_prompts_too(pair: tuple[Any, Any]) -> None:
    expected = pair[0].predict(**POINTS, **BOX)
    prompt = {name: value.tolist() for name, value in (POINTS | BOX).items()}
    assert_same(pair[0].predict(**prompt), expected, 0)
    assert_same(pair[0].predict(**prompt | {"box": torch.as_tensor(BOX["box"])}), expected, 0)


def test_the_masks_are_worth_comparing(pair: tuple[Any, Any]) -> None:
    answers = [pair[0].predict(**PROMPTS[name])[0] for name in ("point", "points", "box")]
    assert all(0.001 < mask.mean() < 0.9 for masks in answers for mask in masks.any(0)[None])
    assert (answers[0] != answers[1]).mean() > 0.01


def test_logits_at_the_size_of_the_picture(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    assert_same(
        ours.predict(**POINT, return_logits=True), theirs.predict(**POINT, return_logits=True)
    )


def test_an_answer_fed_back(pair: tuple[Any, Any]) -> None:
    for multimask in (True, False):
        answers = []
        for predictor in pair:
            _, scores, logits = predictor.predict(**POINT)
            best = logits[np.argmax(scores)][None]
            answers.append(predictor.predict(**POINTS, mask_input=best, multimask_output=multimask))
        assert_same(answers[0], answers[1])


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_portraits_and_the_order_of_colours(
    pair: tuple[Any, Any], portrait: Picture, image_format: str
) -> None:
    for predictor in pair:
        predictor.set_image(portrait, image_format)
    ours, theirs = pair
    assert (ours.original_size, ours.input_size) == ((400, 240), (256, 154))
    assert_same(tuple(theirs.input_size), ours.input_size)
    assert_same(ours.get_image_embedding(), theirs.get_image_embedding())
    assert_same(ours.predict(**POINT), theirs.predict(**POINT))


@pytest.mark.parametrize("count", [1, 11])
def test_many_objects_at_once(pair: tuple[Any, Any], landscape: Picture, count: int) -> None:
    generator = torch.Generator().manual_seed(4)
    corners = torch.rand(count, 2, 2, generator=generator) * torch.tensor([290, 200])
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    points = torch.rand(count, 2, 2, generator=generator) * torch.tensor([290, 200])
    answers = []
    for predictor in pair:
        transform, size = predictor.transform, landscape.shape[:2]
        answers.append(
            [
                predictor.predict_torch(
                    point_coords=None,
                    point_labels=None,
                    boxes=transform.apply_boxes_torch(boxes, size),
                    multimask_output=False,
                ),
                predictor.predict_torch(
                    transform.apply_coords_torch(points, size),
                    torch.tensor([[1, 0]]).expand(count, 2),
                    transform.apply_boxes_torch(boxes, size)[:, None],
                ),
            ]
        )
    assert_same(answers[0], answers[1])


def test_set_torch_image(pair: tuple[Any, Any], portrait: Picture) -> None:
    answers = []
    for predictor in pair:
        resized = predictor.transform.apply_image(portrait)
        tensor = torch.as_tensor(resized).permute(2, 0, 1).contiguous()[None]
        predictor.set_torch_image(tensor.float(), portrait.shape[:2])
        answers.append((predictor.features, *predictor.predict(**BOX)))
    assert_same(answers[0], answers[1])


def test_attributes_that_programs_read(pair: tuple[Any, Any], ours: SamModel) -> None:
    for predictor in pair:
        assert predictor.is_image_set
        assert predictor.device == torch.device("cpu")
        assert predictor.features is predictor.get_image_embedding()
        assert predictor.features.shape == (1, 64, 16, 16)
        assert predictor.transform.target_length == predictor.model.image_encoder.img_size == 256
        assert tuple(predictor.original_size) == (200, 290)
        assert tuple(predictor.input_size) == (177, 256)
        predictor.reset_image()
        assert not predictor.is_image_set
        assert predictor.features is None
    assert pair[0].model is ours


def test_embeddings_can_be_kept_and_put_back(
    official: ModuleType, pair: tuple[Any, Any], portrait: Picture
) -> None:
    """What tools do that cache embeddings: they write the predictor's attributes."""
    answers = []
    for predictor in pair:
        kept = {
            name: getattr(predictor, name) for name in ("features", "original_size", "input_size")
        }
        predictor.set_image(portrait)
        for name, value in kept.items():
            setattr(predictor, name, value)
        answers.append(predictor.predict(**POINT))
    assert answers[0][0].shape == (3, 200, 290)
    assert_same(answers[0], answers[1])


def test_features_can_be_trained_on(ours: SamModel, landscape: Picture) -> None:
    predictor = SamPredictor(ours)
    predictor.set_image(landscape)
    sparse, dense = ours.prompt_encoder(
        points=None, boxes=torch.tensor([[5.0, 5.0, 90.0, 90.0]]), masks=None
    )
    masks, _ = ours.mask_decoder(
        image_embeddings=predictor.features,
        image_pe=ours.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    masks.mean().backward()
    assert ours.mask_decoder.mask_tokens.weight.grad is not None


def test_another_threshold(pair: tuple[Any, Any]) -> None:
    for predictor in pair:
        predictor.model.mask_threshold = 4.0
    try:
        assert_same(pair[0].predict(**POINT), pair[1].predict(**POINT))
    finally:
        pair[1].model.mask_threshold = 0.0


def test_any_of_our_models_answers_without_a_prompt(any_model: Model, picture: Picture) -> None:
    predictor = SamPredictor(any_model)
    predictor.set_image(picture)
    masks, scores, logits = predictor.predict()
    assert masks.shape == (3, 60, 90)
    assert scores.shape == (3,)
    assert np.isfinite(logits).all()
    low_res = predictor.predict(multimask_output=False)[2]
    assert len(low_res) == 1
    padding = predictor.predict(np.array([[7, 7]]), np.array([-1]))
    if not predictor.model.is_sam:  # SAM tells padding from nothing, as segment_anything does.
        assert_same(padding, (masks, scores, logits), 0)


def test_any_of_our_models(any_model: Model, picture: Picture) -> None:
    predictor = SamPredictor(any_model)
    predictor.set_image(picture)
    masks, scores, logits = predictor.predict(
        np.array([[30, 20]]), np.array([1]), np.array([10, 10, 60, 50])
    )
    assert masks.shape == (3, 60, 90)
    assert masks.dtype == bool
    assert scores.shape == (3,)
    again, _, _ = predictor.predict(
        np.array([[30, 20]]), np.array([1]), mask_input=logits[:1], multimask_output=False
    )
    assert again.shape == (1, 60, 90)
    enlarged, _, _ = predictor.predict(box=np.array([10, 10, 60, 50]), return_logits=True)
    drawn, _, _ = predictor.predict(box=np.array([10, 10, 60, 50]))
    assert ((enlarged > 0) != drawn).mean() < 1e-3


def test_it_answers_as_our_own_functions_do(any_model: Model, picture: Picture) -> None:
    from sam_plugins import Prompts, predict_masks
    from sam_plugins.model.inference.predict import encode_rgb

    predictor = SamPredictor(any_model)
    predictor.set_image(picture)
    points, labels = np.array([[30, 20], [70, 50]]), np.array([1, 0])
    masks, scores, logits = predictor.predict(points, labels)
    expected = predict_masks(
        any_model,
        encode_rgb(any_model, picture),
        Prompts.for_object(points, labels),
        multimask=True,
    )
    assert_same(logits, expected.low_res_logits[0])
    assert_same(scores, expected.iou_predictions[0])
    assert_same(masks, expected.masks[0])


def test_pictures_of_the_shipped_architecture_may_have_any_size(tiny_model: Model) -> None:
    predictor = SamPredictor(tiny_model)
    predictor.set_torch_image(torch.zeros(1, 3, 50, 70), (100, 140))
    assert predictor.predict(box=np.array([10, 10, 60, 50]))[0].shape == (3, 100, 140)


# ------------------------------------------------------------------------------------- refusals


def test_before_a_picture_is_set(ours: SamModel) -> None:
    predictor = SamPredictor(ours)
    for ask in (
        lambda: predictor.predict(**POINT),
        lambda: predictor.predict_torch(None, None, torch.zeros(1, 4)),
        predictor.get_image_embedding,
    ):
        with pytest.raises(RuntimeError, match="no picture is set: call set_image"):
            ask()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"point_coords": np.zeros((1, 2))}, "one label for each of 1 points, got none"),
        (POINT | {"point_labels": np.array([1, 1])}, r"each of 1 points, got shape \(2,\)"),
        ({"point_coords": np.zeros(2)}, r"point_coords must have shape \(N, 2\), got \(2,\)"),
        ({"box": np.zeros((2, 4))}, r"one box of shape \(4,\), got \(2, 4\); for several use"),
        (
            {"mask_input": np.zeros((1, 9, 9))},
            r"shape \(1, 64, 64\) for each object, got \(1, 9, 9\)",
        ),
        (
            {"mask_input": np.zeros((64, 64))},
            r"shape \(1, 64, 64\) for each object, got \(64, 64\)",
        ),
        ({"mask_input": np.full((1, 64, 64), np.nan)}, "mask_input must be finite, got NaN"),
        (POINT | {"point_coords": np.array([[np.nan, 5]])}, "point_coords must be finite, got NaN"),
        (POINT | {"point_coords": np.array([[np.inf, 5]])}, "point_coords must be finite, got NaN"),
        (POINT | {"point_labels": np.array([2])}, r"point_labels must be 1 \(on.*got 2"),
        (POINT | {"point_labels": np.array([0.5])}, r"point_labels must be 1 \(on.*got 0\.5"),
        (POINT | {"point_labels": np.array([np.nan])}, r"point_labels must be 1 \(on.*got nan"),
        (
            {"box": np.array([50, 5, 10, 20])},
            r"box must be left, top, right, bottom with left <= .*got \[50, 5, 10, 20\]",
        ),
        ({"box": np.array([5, 50, 10, 20])}, r"top <= bottom, got \[5, 50, 10, 20\]"),
        ({"box": np.array([5, 5, np.nan, 20])}, "box must be finite, got NaN"),
        ({"box": np.array(["a", "b", "c", "d"])}, "box must be numbers, got <U1"),
    ],
)
def test_wrong_prompts(pair: tuple[Any, Any], prompt: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair[0].predict(**prompt)


def test_wrong_tensors(pair: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"label for each point, shape \(2, 1\), got None"):
        pair[0].predict_torch(torch.zeros(2, 1, 2), None)
    with pytest.raises(ValueError, match="point_coords must be finite"):
        pair[0].predict_torch(torch.full((1, 1, 2), torch.nan), torch.ones(1, 1))
    with pytest.raises(ValueError, match=r"point_labels must be 1 .*got 3"):
        pair[0].predict_torch(torch.zeros(1, 1, 2), torch.full((1, 1), 3))
    with pytest.raises(ValueError, match=r"boxes must be left.*got \[9\.0, 0\.0, 5\.0, 8\.0\]"):
        pair[0].predict_torch(None, None, torch.tensor([[1.0, 1, 5, 5], [9, 0, 5, 8]]))
    with pytest.raises(ValueError, match="must ask for one object or more, got none; leave out"):
        pair[0].predict_torch(None, None, torch.zeros(0, 4))
    pair[0].set_torch_image(torch.zeros(2, 3, 256, 100), (256, 100))
    assert pair[0].get_image_embedding().shape[0] == 2
    with pytest.raises(ValueError, match="one picture at a time, got an embedding of 2"):
        pair[0].predict(**POINT)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (
            np.zeros((9, 9), np.uint8),
            ValueError,
            r"image must have shape \(H, W, 3\), got \(9, 9\)",
        ),
        (np.zeros((9, 9, 4), np.uint8), ValueError, r"got \(9, 9, 4\); sam_plugins.encode_image"),
        (np.zeros((0, 9, 3), np.uint8), ValueError, r"got \(0, 9, 3\)"),
        (np.zeros((9, 9, 3)), TypeError, "must be of type uint8 .0 to 255., got float64"),
    ],
)
def test_wrong_pictures(
    ours: SamModel, image: npt.NDArray[Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SamPredictor(ours).set_image(image)


def test_wrong_order_of_colours(ours: SamModel, landscape: Picture) -> None:
    with pytest.raises(ValueError, match="image_format must be one of RGB, BGR, got 'HSV'"):
        SamPredictor(ours).set_image(landscape, "HSV")


@pytest.mark.parametrize("shape", [(3, 256, 256), (1, 1, 256, 256), (1, 3, 200, 200)])
def test_wrong_torch_images(ours: SamModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, h, w\), the longer side of 256 pixels, got"):
        SamPredictor(ours).set_torch_image(torch.zeros(shape), (200, 200))


def test_a_torch_image_beyond_the_input_of_the_shipped_architecture(tiny_model: Model) -> None:
    with pytest.raises(ValueError, match="the longer side up to 128 pixels, got"):
        SamPredictor(tiny_model).set_torch_image(torch.zeros(1, 3, 129, 20), (200, 200))


def test_models_of_another_library(theirs: Any) -> None:
    with pytest.raises(TypeError, match=r"sam_plugins.sam_model_registry.*got segment_anything\."):
        SamPredictor(theirs)


def test_embeddings_put_into_a_model_that_needs_more(tiny_model: Model, picture: Picture) -> None:
    predictor = SamPredictor(tiny_model)
    predictor.set_image(picture)
    assert predictor.features is not None
    predictor.features = predictor.features.clone()
    with pytest.raises(UnsuitableModelError, match=r"features of tiny-.* are more than the embed"):
        predictor.predict(**POINT)


@pytest.mark.parametrize("config", [TINY_PYRAMID, TINY_VIT], ids=["pyramid", "vit"])
def test_half_precision_answers_nearly_the_same(config: SamConfig, landscape: Picture) -> None:
    exact, half = make_model(config, "tiny"), make_model(config, "tiny")
    half.network.to(torch.bfloat16)
    answers = []
    for model in (exact, half):
        predictor = SamPredictor(SamModel(model))
        predictor.set_image(landscape)
        answers.append(predictor.predict(np.array([[120.5, 81.0]]), np.array([1])))
    for one, other in zip(*answers, strict=True):
        assert one.dtype == other.dtype
    np.testing.assert_allclose(answers[1][1], answers[0][1], atol=0.05)
