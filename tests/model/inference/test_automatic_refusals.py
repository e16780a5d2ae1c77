"""Pictures, models and options that cannot be segmented with are refused at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.model.inference.label_reader import (
    CROWD,
    LabelReader,
    model_of,
)

from sam_plugins.errors import (
    UnsuitableModelError,
    UnusableImageError,
)
from sam_plugins.model.inference.automatic import instance_maps, segment_embedding
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.inference.segment_options import MODES, SegmentOptions
from sam_plugins.model.large.whole import segment


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 5)), "expected a picture with pixels"),
        (np.zeros((5, 0, 3)), "expected a picture with pixels"),
        (np.zeros(5), "expected one picture of shape"),
        (np.full((5, 5), np.nan), "at least one finite pixel"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_no_picture_is_refused(
    reader: LabelReader, image: npt.NDArray[np.floating], message: str, mode: str
) -> None:
    with pytest.raises(UnusableImageError, match=message):
        segment(image, model_of(reader), mode=mode)


def test_an_unknown_mode_is_refused(reader: LabelReader) -> None:
    with pytest.raises(ValueError, match="mode must be one of auto, grid, got 'everything'"):
        segment(CROWD, "no such model", mode="everything")
    model = model_of(reader)
    with pytest.raises(ValueError, match="mode must be one of auto, grid, got 'Auto'"):
        segment_embedding(model, encode_image(model, CROWD), mode="Auto")


def test_a_model_without_an_instance_decoder_is_refused_before_it_works(
    tiny_vit_model: Model,
) -> None:
    message = r'mode "auto" needs a model with an instance decoder.*tiny-vit-0+.*use mode="grid"'
    with pytest.raises(UnsuitableModelError, match=message):
        segment(np.zeros(5), tiny_vit_model)
    with pytest.raises(UnsuitableModelError, match=message):
        segment_embedding(tiny_vit_model, encode_image(tiny_vit_model, CROWD))


@pytest.mark.parametrize("mode", MODES)
def test_another_models_embedding_is_refused(reader: LabelReader, mode: str) -> None:
    embedding = encode_image(model_of(reader), CROWD)
    other = model_of(reader, "other")
    with pytest.raises(ValueError, match="must come from the model that reads it, other, got one"):
        segment_embedding(other, embedding, mode=mode)
    with pytest.raises(ValueError, match="must come from the model that reads it, other, got one"):
        instance_maps(other, embedding)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"overlap": "larger"}, "overlap must be one of score, smaller, got 'larger'"),
        ({"max_iou": 0}, r"max_iou must lie in \(0, 1\], got 0"),
        ({"max_containment": 1.5}, r"max_containment must lie in \(0, 1\], got 1.5"),
        ({"points_per_side": 0}, "points_per_side must be 1 or more, got 0"),
        ({"chunk_size": 0}, "chunk_size must be 1 or more, got 0"),
    ],
)
def test_options_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentOptions(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"masks": 0.5}, "masks must be of type MaskFilter, got float; leave it out"),
        ({"seeds": None}, "seeds must be of type SeedOptions, got NoneType"),
        ({"labels": {}}, "labels must be of type LabelOptions, got dict"),
        ({"points_per_side": "8"}, "points_per_side must be a whole number, got '8'"),
        ({"chunk_size": 1.5}, "chunk_size must be a whole number, got 1.5"),
    ],
)
def test_options_of_other_types_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        SegmentOptions(**values)  # type: ignore[arg-type]


def test_arguments_of_other_types_are_refused_where_they_enter(reader: LabelReader) -> None:
    ask: Any = segment
    ask_again: Any = segment_embedding
    see: Any = instance_maps
    model = model_of(reader)
    for wrong in ({"points_per_side": 3}, 3):
        with pytest.raises(TypeError, match=r"options must be of type SegmentOptions, got .*AUTO"):
            ask(CROWD, "no such model", options=wrong)
        with pytest.raises(TypeError, match=r"options must be of type SegmentOptions, got .*AUTO"):
            ask_again(model, encode_image(model, CROWD), options=wrong)
    with pytest.raises(TypeError, match="a name or a path, and come after the picture, got ndarra"):
        ask(model, CROWD)
    for function in (ask_again, see):
        with pytest.raises(TypeError, match="model must be of type Model, got str"):
            function("default", encode_image(model, CROWD))
        with pytest.raises(TypeError, match="embedding must be of type ImageEmbedding, got ndarr"):
            function(model, CROWD)
