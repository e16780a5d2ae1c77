"""Turns and the shipped model on real nuclei: answers depend on what was said, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from skimage.measure import regionprops

from sam_plugins import EmbeddingCache, Prompts, encode_rgb, load_model, predict_masks, read_image
from sam_plugins.model.inference.full_size import SizeChain
from sam_plugins.model.inference.postprocess import clean_mask
from sam_plugins.napari_plugin.answering import Answerer, _draw
from sam_plugins.napari_plugin.images import ImageSource, look_at
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.session.values import (
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    Sight,
    Turn,
)
from sam_plugins.napari_plugin.shown import show_model


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(device="cpu")


@pytest.fixture
def picture(test_data: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    folder = test_data / "dsb2018" / "val"
    path = sorted((folder / "images").iterdir())[3]
    return read_image(path), read_image(folder / "labels" / f"{path.stem}.png")


@pytest.fixture
def asked(model: Any, picture: Any) -> tuple[Answerer, Sight]:
    source = ImageSource([picture[0]], is_rgb=picture[0].ndim == 3)
    sight = look_at(source, Plane(), Window(0, 0, *picture[0].shape[:2]))
    return Answerer(model, EmbeddingCache(), lambda seen: show_model(source, seen)), sight


def largest(labels: npt.NDArray[Any]) -> Any:
    regions = regionprops(labels)  # type: ignore[no-untyped-call]
    return max(regions, key=lambda found: found.area)


def iou(crop: MaskCrop, truth: npt.NDArray[np.bool_]) -> float:
    mask = crop.on(Window(0, 0, *truth.shape))
    return float((mask & truth).sum() / (mask | truth).sum())


def point(y: float, x: float, is_positive: bool = True) -> PointPrompt:
    return PointPrompt(float(x), float(y), is_positive)


def test_a_click_is_answered_as_the_core_answers_it(asked: Any, model: Any, picture: Any) -> None:
    answerer, sight = asked
    nucleus = largest(picture[1])
    answer = answerer.answer(sight, (Turn((point(*nucleus.centroid),)),))
    assert len(answer.masks) == 3
    truth = picture[1] == nucleus.label
    assert iou(answer.masks[answer.chosen(None)], truth) > 0.85
    rgb = answerer._show(sight)
    cached = EmbeddingCache().get_or_compute("0" * 40, lambda: encode_rgb(model, rgb))
    core = predict_masks(model, cached, Prompts.single_points([nucleus.centroid[::-1]]))
    for crop, mask in zip(answer.masks, core.masks[0], strict=True):
        cleaned = clean_mask(mask, hole_share=0.02, island_share=0.02)
        np.testing.assert_array_equal(crop.on(Window(0, 0, *truth.shape)), cleaned)


def test_specks_are_dropped_unless_somebody_clicked_on_them(
    asked: Any, model: Any, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answerer, sight = asked
    seen = answerer.encode(sight)
    shape = picture[0].shape[:2]
    drawn = np.zeros(shape, bool)
    drawn[20:80, 20:80] = drawn[100:102, 100:102] = drawn[120:122, 20:22] = True
    drawn[40:43, 40:43] = drawn[60:63, 60:63] = False
    monkeypatch.setattr(SizeChain, "draw", lambda *_: ((slice(0, None), slice(0, None)), drawn))
    said = Turn((point(25, 25), point(100.4, 101.2), point(41, 41, is_positive=False)))
    cleaned = _draw(np.zeros(seen.embedding.low_res_hw, np.float32), seen, (said,))
    expected = drawn.copy()
    expected[120:122, 20:22] = False
    expected[60:63, 60:63] = True
    np.testing.assert_array_equal(cleaned.on(Window(0, 0, *shape)), expected)


def test_answers_do_not_depend_on_what_was_asked_before(asked: Any, model: Any) -> None:
    answerer, sight = asked
    turns = tuple(
        Turn((point(y, x, positive),), choice)
        for y, x, positive, choice in ((60, 60, True, 0), (80, 90, True, None), (20, 20, False, 0))
    )
    at_once = answerer.answer(sight, turns)
    other = Answerer(model, EmbeddingCache(), answerer._show)
    for count in (1, 2, 3):
        step_by_step = other.answer(sight, turns[:count])
    assert step_by_step == at_once
    rechosen = (Turn(turns[0].prompts, 2), *turns[1:])
    assert other.answer(sight, rechosen) != at_once
    assert other.answer(sight, turns) == at_once


def test_boxes_and_many_objects_at_once(asked: Any, picture: Any) -> None:
    answerer, sight = asked
    regions = regionprops(picture[1])  # type: ignore[no-untyped-call]
    found = sorted(regions, key=lambda one: -one.area)[:4]
    boxes = [
        BoxPrompt(left, top, right, bottom) for top, left, bottom, right in (r.bbox for r in found)
    ]
    together = answerer.answer_all(sight, [*boxes[:3], point(*found[3].centroid)])
    assert [len(answer.masks) for answer in together] == [1, 1, 1, 3]
    for answer, region in zip(together[:3], found, strict=False):
        assert iou(answer.masks[0], picture[1] == region.label) > 0.8
    alone = answerer.answer(sight, (Turn((boxes[0],)),))
    assert iou(alone.masks[0], together[0].masks[0].on(Window(0, 0, *picture[1].shape))) > 0.99


def test_a_mask_is_its_own_answer_and_then_a_prompt(asked: Any, picture: Any) -> None:
    answerer, sight = asked
    nucleus = largest(picture[1])
    truth = picture[1] == nucleus.label
    given = MaskCrop.of(truth)
    start = Turn((MaskPrompt(given),))
    assert answerer.answer(sight, (start,)).masks == (given,)
    refined = answerer.answer(sight, (start, Turn((point(*nucleus.centroid),))))
    assert iou(refined.masks[refined.chosen(None)], truth) > 0.8


def test_a_region_is_answered_in_pixels_of_the_plane(model: Any, picture: Any) -> None:
    image, labels = picture
    tall = np.zeros((600, 700), image.dtype)
    tall[300:556, 400:656] = image if image.ndim == 2 else image[..., 0]
    source = ImageSource([tall])
    sight = look_at(source, Plane(), Window(300, 400, 556, 656))
    answerer = Answerer(model, EmbeddingCache(), lambda seen: show_model(source, seen))
    nucleus = largest(labels)
    y, x = nucleus.centroid
    answer = answerer.answer(sight, (Turn((point(y + 300, x + 400),)),))
    truth = np.zeros(tall.shape, bool)
    truth[300:556, 400:656] = labels == nucleus.label
    assert iou(answer.masks[answer.chosen(None)], truth) > 0.85


def test_only_points_beside_the_object_are_refused(asked: Any) -> None:
    answerer, sight = asked
    with pytest.raises(ValueError, match=r"must say where the object is, got only points beside"):
        answerer.answer(sight, (Turn((point(5, 5, is_positive=False),)),))
