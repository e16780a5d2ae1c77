"""Every object of a picture, with a network whose answers are known, and with real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from tests.model.inference.label_reader import (
    AS_IT_IS,
    CROWD,
    Answers,
    LabelReader,
    check_laws,
    discs,
    ious_of_pairs,
    model_of,
)

from sam_plugins.model.inference.automatic import instance_maps, segment_embedding
from sam_plugins.model.inference.candidates import MaskFilter
from sam_plugins.model.inference.label_image import LabelOptions
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.inference.segment_options import AUTO, GRID, MODES
from sam_plugins.model.large.whole import segment
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport


@pytest.mark.parametrize("mode", MODES)
def test_every_object_is_found_once(reader: LabelReader, mode: str) -> None:
    found = segment(CROWD, model_of(reader), mode=mode, limits=AS_IT_IS)
    check_laws(found, CROWD.shape)
    assert len(found) == 6
    assert ious_of_pairs(CROWD, found.labels).min() > 0.9
    assert found.areas.sum() == (found.labels > 0).sum()


@pytest.mark.parametrize("mode", MODES)
def test_points_lie_in_their_objects(reader: LabelReader, mode: str) -> None:
    found = segment(CROWD, model_of(reader), mode=mode, limits=AS_IT_IS)
    x, y = found.points_xy.round().astype(int).T
    assert found.labels[y, x].tolist() == [1, 2, 3, 4, 5, 6]


def test_own_points_are_fewer_than_those_of_a_grid(reader: LabelReader) -> None:
    once = replace(AUTO, asks_with="box")
    segment(CROWD, model_of(reader), limits=AS_IT_IS, options=once)
    assert reader.prompts_answered == 6
    segment(CROWD, model_of(reader), limits=AS_IT_IS)
    assert reader.prompts_answered == 18  # a point and a box for each
    segment(CROWD, model_of(reader), mode="grid", limits=AS_IT_IS)
    assert reader.prompts_answered == 18 + 32 * 19


@pytest.mark.parametrize("axes", [0, 1, (0, 1)])
@pytest.mark.parametrize("mode", MODES)
def test_a_mirrored_picture_has_mirrored_objects(
    reader: LabelReader, axes: int | tuple[int, int], mode: str
) -> None:
    straight = segment(CROWD, model_of(reader), mode=mode, limits=AS_IT_IS)
    mirrored = segment(np.flip(CROWD, axes), model_of(reader), mode=mode, limits=AS_IT_IS)
    back = np.flip(mirrored.labels, axes)
    assert ious_of_pairs(straight.labels.astype(np.uint8), back).min() > 0.9
    np.testing.assert_allclose(mirrored.scores, straight.scores, atol=0.05)


def test_a_turned_picture_has_turned_objects(reader: LabelReader) -> None:
    straight = segment(CROWD, model_of(reader), limits=AS_IT_IS)
    turned = segment(CROWD.T, model_of(reader), limits=AS_IT_IS)
    assert ious_of_pairs(straight.labels.astype(np.uint8), turned.labels.T).min() > 0.95


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(8, 14)),
        unique_by=lambda disc: disc[:2],
        max_size=10,
    ),
    st.integers(100, 130),
    st.integers(160, 200),
)
@settings(deadline=None, max_examples=15)
def test_any_picture_of_discs_is_read_rightly(
    cells: list[tuple[int, int, int]], height: int, width: int
) -> None:
    picture = discs((height, width), [(30 * x + 4, 30 * y + 7, r) for x, y, r in cells])
    found = segment(picture, model_of(LabelReader()), limits=AS_IT_IS)
    check_laws(found, picture.shape)
    assert len(found) == len(cells)
    assert (ious_of_pairs(picture, found.labels) > 0.85).all()


@pytest.mark.parametrize(
    "preprocessing",
    [
        {"max_long_side": 96},  # reduced
        {"min_long_side": 512},  # enlarged
        {"min_long_side": 256, "max_long_side": 256, "pad_to": "square"},
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_pictures_are_resized_for_the_network_and_back(
    preprocessing: dict[str, float], mode: str
) -> None:
    one_by_one = LabelReader(read=lambda grey: ndimage.label(grey > 127)[0], **preprocessing)
    alone = discs((100, 170), [(30, 30, 20), (120, 60, 24), (168, 10, 14), (60, 75, 12)])
    found = segment((alone > 0) * np.uint8(255), model_of(one_by_one), mode=mode)
    check_laws(found, alone.shape)
    assert ious_of_pairs(alone, found.labels).min() > 0.85


def test_an_empty_picture_has_no_objects(reader: LabelReader) -> None:
    reports: list[tuple[int, int]] = []
    for mode in MODES:
        found = segment(
            np.zeros((40, 50), np.uint8),
            model_of(reader),
            mode=mode,
            progress=lambda *steps: reports.append(steps),
        )
        check_laws(found, (40, 50))
        assert len(found) == 0
        assert reports[-1][0] == reports[-1][1]


def test_one_pixel_is_a_picture(reader: LabelReader) -> None:
    for mode in MODES:
        options = replace(GRID if mode == "grid" else AUTO, labels=LabelOptions(min_area=0))
        found = segment(np.full((1, 1), 9, np.uint8), model_of(reader), mode=mode, options=options)
        check_laws(found, (1, 1))


def test_any_numbers_make_a_picture(reader: LabelReader) -> None:
    for picture in (CROWD.astype(np.float64), np.stack([CROWD] * 3, 2), CROWD.astype(np.uint16)):
        found = segment(picture, model_of(reader), limits=AS_IT_IS)
        assert ious_of_pairs(CROWD, found.labels).min() > 0.9


def test_an_encoded_picture_gives_the_same(reader: LabelReader) -> None:
    model = model_of(reader)
    embedding = encode_image(model, CROWD, limits=AS_IT_IS)
    for mode in MODES:
        found = segment_embedding(model, embedding, mode=mode)
        np.testing.assert_array_equal(
            found.labels, segment(CROWD, model, mode=mode, limits=AS_IT_IS).labels
        )


def test_only_what_reaches_into_a_part_of_the_picture_is_asked_for(reader: LabelReader) -> None:
    model = model_of(reader)
    embedding = encode_image(model, CROWD, limits=AS_IT_IS)
    part = (slice(20, 90), slice(40, 125))  # cuts the first, the third and the last disc
    found = segment_embedding(model, embedding, within=part)
    check_laws(found, CROWD.shape)
    inside = np.unique(CROWD[part])
    assert inside.tolist() == [0, 1, 2, 3, 6]
    expected = np.where(np.isin(CROWD, inside), CROWD, 0)
    assert ious_of_pairs(expected, found.labels).min() > 0.9
    assert reader.prompts_answered == 2 * 4
    nothing = segment_embedding(model, embedding, within=(slice(2, 4), slice(150, 152)))
    check_laws(nothing, CROWD.shape)
    assert len(nothing) == 0
    assert reader.prompts_answered == 2 * 4


def test_real_networks_give_label_images(any_model: Model, picture: npt.NDArray[np.uint8]) -> None:
    anything = replace(GRID, points_per_side=4, masks=MaskFilter(0, 0, best_per_point=False))
    check_laws(segment(picture, any_model, mode="grid", options=anything), (60, 90))


def test_a_real_instance_decoder_gives_points(
    tiny_model: Model, picture: npt.NDArray[np.uint8]
) -> None:
    maps = instance_maps(tiny_model, encode_image(tiny_model, picture))
    assert {each.shape for each in maps} == {(16, 24)}  # 64 x 96 pixels
    assert all(((each >= 0) & (each <= 1)).all() for each in maps)
    options = replace(AUTO, masks=MaskFilter(0, 0, agreement_weight=0.5))
    check_laws(segment(picture, tiny_model, options=options), (60, 90))


def test_a_file_is_a_model(
    tiny_model: Model, picture: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    file = save_model_file(
        tmp_path / "tiny.safetensors",
        tiny_model.network.state_dict(),
        Passport(name="tiny", config=tiny_model.config),
        dtype=torch.float32,
    )
    few = replace(GRID, points_per_side=3, masks=MaskFilter(0, 0))
    from_file, at_hand = (
        segment(picture, model, mode="grid", options=few) for model in (file, tiny_model)
    )
    assert len(at_hand) > 0
    np.testing.assert_array_equal(from_file.labels, at_hand.labels)


def test_a_grid_asks_less_of_models_that_promise_less() -> None:
    def unsure(mask: npt.NDArray[np.bool_]) -> Answers:
        return [(mask, 0.6)] * 3

    model = model_of(LabelReader(unsure))
    assert segment(CROWD, model, mode="grid", limits=AS_IT_IS).labels.max() == 6
    assert not segment(CROWD, model, mode="grid", limits=AS_IT_IS, options=GRID).labels.any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [0, 90, 255])
def test_nothing_is_found_where_nothing_is(mode: str, value: int) -> None:
    """The shipped model saw up to ten objects in a white picture."""
    found = segment(np.full((256, 200), value, np.uint8), mode=mode)  # type: ignore[arg-type]
    assert len(found.scores) == 0
    assert not found.labels.any()
