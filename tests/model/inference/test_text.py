"""Objects by words: prompts for models trained with texts, ranked masks for all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.model.inference.tiny_clip import write_tiny_clip
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model

from sam_plugins.errors import UnsuitableModelError
from sam_plugins.model.inference.clip import load_clip
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.predict import encode_rgb, predict_masks
from sam_plugins.model.inference.text import (
    TextOptions,
    embed_phrases,
    find_by_text,
    require_text_slot,
    text_prompts,
)
from sam_plugins.model.networks.config import SamConfig
from sam_plugins.model.weights.passport import Passport

COLOURS = ("red", "green", "blue", "background")


@dataclass(frozen=True)
class ColourEncoder:
    """Knows red, green and blue: the vector of a crop is its mean colour beyond grey."""

    dim: int = 4
    encoder_id: str = "colours"
    crop_size: int = 16
    fill: tuple[int, int, int] = (0, 0, 0)
    logit_scale: float = 20.0

    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = [[float(colour in text) for colour in COLOURS] for text in texts]
        return np.array(rows, np.float32)

    def embed_crops(self, crops: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        rows = []
        for crop in crops:
            mean = crop[(crop > 0).any(axis=-1)].reshape(-1, 3).mean(axis=0)
            rows.append([*(mean - mean.min()), 20.0])
        array = np.array(rows, np.float32).reshape(-1, 4)
        unit: npt.NDArray[np.float32] = array / np.linalg.norm(array, axis=1, keepdims=True)
        return unit


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load_model("default", device="cpu")


@pytest.fixture(scope="module")
def discs() -> npt.NDArray[np.uint8]:
    """Two red discs, a green one and a grey one on grey ground."""
    picture = np.full((120, 160, 3), 90, np.uint8)
    rows, columns = np.mgrid[:120, :160]
    for x, y, colour in (
        (35, 35, (220, 40, 40)),
        (120, 35, (220, 40, 40)),
        (35, 90, (40, 200, 60)),
        (120, 90, (230, 230, 230)),
    ):
        picture[np.hypot(columns - x, rows - y) < 17] = colour
    noise = np.random.default_rng(0).normal(0, 3, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8)


def text_config(config: SamConfig, dim: int) -> SamConfig:
    return replace(config, prompt_encoder=replace(config.prompt_encoder, text_dim=dim))


def test_phrases_find_their_objects(shipped: Model, discs: npt.NDArray[np.uint8]) -> None:
    found = find_by_text(
        shipped, discs, ColourEncoder(), ["red disc", "a green thing"], negatives=["background"]
    )
    assert found.phrases == ("red disc", "a green thing")
    assert sorted(found.phrase_index.tolist()) == [0, 0, 1]
    labels = found.segmentation.labels
    assert {int(labels[35, 35]), int(labels[35, 120])} == {
        index + 1 for index in np.flatnonzero(found.phrase_index == 0).tolist()
    }
    assert labels[90, 120] == 0
    red = found.mask_of(0)
    truth = (discs[..., 0] > 180) & (discs[..., 1] < 100)
    assert (red & truth).sum() / (red | truth).sum() > 0.8
    assert found.segmentation.scores.min() >= 0.5
    assert len(found.similarities) == len(found) == 3
    assert len(found.segmentation.points_xy) == 3


def test_an_absent_thing_is_not_found(shipped: Model, discs: npt.NDArray[np.uint8]) -> None:
    embedding = encode_rgb(shipped, discs)
    found = find_by_text(
        shipped, discs, ColourEncoder(), ["blue"], negatives=["background"], embedding=embedding
    )
    assert len(found) == 0
    assert not found.mask_of(0).any()


@pytest.mark.parametrize("masked_weight", [0.0, 1.0])
def test_one_kind_of_crop_alone(
    tiny_model: Model, picture: npt.NDArray[np.uint8], masked_weight: float
) -> None:
    options = TextOptions(min_probability=0, masked_weight=masked_weight)
    found = find_by_text(tiny_model, picture, ColourEncoder(), ["red", "green"], options=options)
    assert found.segmentation.labels.max() == len(found)


def test_a_model_without_an_instance_decoder_uses_a_grid(
    tiny_vit_model: Model, picture: npt.NDArray[np.uint8]
) -> None:
    with pytest.raises(UnsuitableModelError, match='mode="grid"'):
        find_by_text(tiny_vit_model, picture, ColourEncoder(), ["red"])
    found = find_by_text(tiny_vit_model, picture, ColourEncoder(), ["red"], mode="grid")
    assert found.segmentation.labels.shape == (60, 90)


def test_the_whole_path_with_a_clip_that_knows_nothing(
    tmp_path: Path, tiny_model: Model, picture: npt.NDArray[np.uint8]
) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (extra: text)")
    clip = load_clip(write_tiny_clip(tmp_path / "clip"), device="cpu")
    options = TextOptions(min_probability=0)
    found = find_by_text(tiny_model, picture, clip, ["a cat", "a dog"], options=options)
    assert len(found.phrase_index) == len(found)
    assert set(found.phrase_index.tolist()) <= {0, 1}


def test_refused_phrases(tiny_model: Model, picture: npt.NDArray[np.uint8]) -> None:
    def find(phrases: Sequence[str], negatives: Sequence[str] = ("background",)) -> None:
        find_by_text(tiny_model, picture, ColourEncoder(), phrases, negatives=negatives)

    with pytest.raises(ValueError, match="at least one phrase, got none"):
        find([])
    with pytest.raises(ValueError, match="a phrase must say what to look for, got ''"):
        find(["red", ""])
    with pytest.raises(ValueError, match="a phrase must say what to look for, got ' '"):
        find(["red"], [" "])
    with pytest.raises(ValueError, match="something to tell the phrase from: give negatives, or"):
        find(["red"], [])
    with pytest.raises(ValueError, match="phrases and negatives must all differ, got 'red' twice"):
        find(["red"], ["Red "])


def test_an_embedding_of_another_picture_is_refused(
    tiny_model: Model, picture: npt.NDArray[np.uint8]
) -> None:
    other = encode_rgb(tiny_model, picture[:40])
    with pytest.raises(ValueError, match=r"of this picture, of size \(60, 90\), got one of \(40"):
        find_by_text(tiny_model, picture, ColourEncoder(), ["red"], embedding=other)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_probability": 2}, r"min_probability must lie in \[0, 1\], got 2"),
        ({"masked_weight": -1}, r"masked_weight must lie in \[0, 1\], got -1"),
        ({"scale": 0.5}, r"scale must be 1 or more, got 0\.5"),
        ({"templates": ("no place",)}, r"sentences with \{\} for the phrase, got \('no place',\)"),
        ({"templates": ()}, r"sentences with \{\} for the phrase, got \(\)"),
    ],
)
def test_options_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextOptions(**values)  # type: ignore[arg-type]


def test_a_phrase_is_the_mean_of_its_sentences() -> None:
    one = embed_phrases(ColourEncoder(), ["red"], ["{}", "{} and green"])
    expected = np.array([2, 1, 0, 0]) / np.sqrt(5)
    np.testing.assert_allclose(one[0], expected, atol=1e-6)


@pytest.mark.parametrize("config", [TINY_PYRAMID, TINY_VIT])
def test_a_model_with_a_text_slot_is_asked_with_phrases_and_points(
    config: SamConfig, picture: npt.NDArray[np.uint8]
) -> None:
    model = make_model(text_config(config, 4), "with-text")
    embedding = encode_rgb(model, picture)
    prompts = text_prompts(model, ColourEncoder(), ["red", "green"])
    assert len(prompts) == 2
    assert not prompts.is_ambiguous
    answer = predict_masks(model, embedding, prompts)
    assert answer.low_res_logits.shape[:2] == (2, 1)
    assert abs(answer.low_res_logits[0] - answer.low_res_logits[1]).max() > 0
    helped = text_prompts(model, ColourEncoder(), ["red"], points_xy=[[[20, 30]]])
    other = predict_masks(model, embedding, helped)
    assert abs(other.low_res_logits[0] - answer.low_res_logits[0]).max() > 0


def test_models_that_do_not_take_the_text_say_what_to_do(tiny_model: Model) -> None:
    with pytest.raises(
        UnsuitableModelError,
        match=r"trained with texts, which tiny-.* was not; rank its masks by words with find_by_te",
    ):
        text_prompts(tiny_model, ColourEncoder(), ["red"])
    model = make_model(text_config(TINY_PYRAMID, 4), "with-text")
    with pytest.raises(UnsuitableModelError, match="one with 4 values, got 'colours', of 8; load"):
        require_text_slot(model, ColourEncoder(dim=8))
    passport = Passport("p", model.config, extra={"text_encoder": "lab/clip"})
    with pytest.raises(UnsuitableModelError, match="'lab/clip', of 4 values, got 'colours', of 4"):
        require_text_slot(replace(model, passport=passport), ColourEncoder())
    same = replace(passport, extra={"text_encoder": "colours"})
    require_text_slot(replace(model, passport=same), ColourEncoder())
