"""Prompts on large pictures: answered across tiles as on the whole picture, and none is dropped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image
from skimage import data
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_image, load_model, predict_masks
from sam_plugins.model.inference.types import Prompts
from sam_plugins.model.io.windows import Window
from sam_plugins.model.large.embedding import TiledEmbedding
from sam_plugins.model.large.masks import LargePrediction
from sam_plugins.model.large.picture import LazyPicture
from sam_plugins.model.large.prompts import predict_large
from sam_plugins.model.large.sources import ArraySource, FileSource

COIN = (406.0, 539.0, 522.0, 651.0)
"""A coin of the threefold picture, left, top, right, bottom."""


@pytest.fixture(scope="module")
def tiny() -> Model:
    return make_model(TINY_PYRAMID, "tiny")


@pytest.fixture
def tiled(tiny: Model) -> TiledEmbedding:
    """A picture of 500 x 700 pixels in windows of 128."""
    noise = np.random.default_rng(1).integers(0, 256, (500, 700, 3), dtype=np.uint8)
    return TiledEmbedding(tiny, noise, tile=128, cache=EmbeddingCache())


def drawn(found: LargePrediction, index: int = 0) -> npt.NDArray[np.bool_]:
    """Return the best mask of an object on the whole picture."""
    mask = np.zeros(found.size_hw, bool)
    window, inside = found.window_mask(index)
    mask[window] = inside
    return mask


def iou(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Return the IoU of two masks."""
    return float((first & second).sum() / (first | second).sum())


def coin_at_a_corner() -> npt.NDArray[np.uint8]:
    """Return coins, one of which lies on the corner of four tiles of 512 pixels."""
    coins = Image.fromarray(data.coins())
    large = np.asarray(coins.resize((1152, 909), Image.Resampling.BILINEAR))
    x, y = (round((COIN[i] + COIN[i + 2]) / 2) for i in (0, 1))
    return np.pad(large, ((0, 0), (512 - x, 0)), mode="reflect")[y - 512 :]


def test_an_object_over_four_tiles_is_what_it_is_on_the_whole_picture() -> None:
    model = load_model("default")
    picture = coin_at_a_corner()
    half = np.array([COIN[2] - COIN[0], COIN[3] - COIN[1]]) / 2
    prompts = Prompts(boxes_xyxy=[[*(512 - half), *(512 + half)]])
    whole = predict_masks(model, encode_image(model, picture), prompts).mask(0)
    tiled = TiledEmbedding(model, picture, tile=512, cache=EmbeddingCache())
    found = predict_large(tiled, prompts)
    assert found.levels == (0,)
    assert tiled.encodes == 1
    mask = drawn(found)
    quarters = [mask[rows, columns].sum() for rows in (slice(512), slice(512, None))
                for columns in (slice(512), slice(512, None))]  # fmt: skip
    assert min(quarters) > 1000
    assert iou(whole, mask) >= 0.98
    assert iou(whole, drawn(predict_large(tiled, prompts, blend=True))) >= 0.98


def test_a_picture_that_one_window_holds_is_answered_as_without_tiles(tiny: Model) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (100, 127, 3), dtype=np.uint8)
    prompts = Prompts(boxes_xyxy=[[10, 20, 60, 90], [50, 5, 120, 40]])
    cache = EmbeddingCache()  # which rounds what it keeps
    rounded = cache.get_or_compute("0" * 40, lambda: encode_image(tiny, picture))
    expected = predict_masks(tiny, rounded, prompts)
    tiled = TiledEmbedding(tiny, picture, tile=128, cache=cache)
    found = predict_large(tiled, prompts)
    for index in range(2):
        assert (drawn(found, index) == expected.mask(index)).all()
    assert (found.iou_predictions == expected.iou_predictions).all()


def test_no_prompt_is_dropped_however_far_apart_they_are(
    tiled: TiledEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Prompts] = []

    def remember(model: Model, embedding: object, prompts: Prompts, **options: object) -> object:
        asked.append(prompts)
        return predict_masks(model, embedding, prompts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("sam_plugins.model.large.prompts.predict_masks", remember)
    far = Prompts(
        points_xy=[[[0, 0], [699, 499], [350, 250]], [[20, 30], [22, 31], [0, 0]]],
        point_labels=[[1, 0, 1], [1, 0, -1]],
        boxes_xyxy=[[0, 0, 699, 499], [-3, 5, 60, 70]],
    )
    found = predict_large(tiled, far)
    assert len(found) == 2
    assert found.levels[0] == tiled.zoom.top
    whole = next(prompts for prompts in asked if prompts.points_xy[0, 1].tolist() == [699, 499])
    assert whole.point_labels is not None
    assert whole.point_labels[0].tolist() == [1, 0, 1]
    assert all(prompts.boxes_xyxy is not None for prompts in asked)
    assert sum(len(prompts) for prompts in asked) >= 2


def test_objects_come_in_the_order_of_their_prompts(tiled: TiledEmbedding) -> None:
    points = np.array([[30, 30], [600, 400], [35, 28], [320, 260]])
    found = predict_large(tiled, Prompts.single_points(points))
    assert found.iou_predictions.shape == (4, 3)
    for (x, y), one in zip(points, found.objects, strict=True):
        assert one.view.left <= x < one.view.right
        assert one.view.top <= y < one.view.bottom


def test_clicks_beside_each_other_are_answered_from_one_encoding(tiled: TiledEmbedding) -> None:
    predict_large(tiled, Prompts.for_object(box_xyxy=[300, 200, 330, 230]))
    once = tiled.encodes
    predict_large(tiled, Prompts.for_object(box_xyxy=[303, 198, 332, 231]))
    assert tiled.encodes == once


def test_a_correction_takes_the_earlier_mask_along(
    tiled: TiledEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Prompts.for_object(box_xyxy=[300, 200, 340, 240])
    first = predict_large(tiled, box)
    asked: list[Prompts] = []

    def remember(model: Model, embedding: object, prompts: Prompts, **options: object) -> object:
        asked.append(prompts)
        return predict_masks(model, embedding, prompts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("sam_plugins.model.large.prompts.predict_masks", remember)
    again = predict_large(tiled, Prompts.for_object([[320, 220]]), earlier=first)
    assert again.iou_predictions.shape == (1, 1)
    assert asked[0].mask_logits is not None
    # Far from it, the mask comes along into another window, as it lies in the picture.
    predict_large(tiled, Prompts.for_object([[320, 220], [420, 300]]), earlier=first)
    assert asked[-1].mask_logits is not None
    logits = asked[-1].mask_logits[0, 0]
    assert ((logits > 0).any()) == (first.objects[0].logits[0] > 0).any()


def test_the_cache_knows_windows_of_an_earlier_session(tiny: Model) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    cache = EmbeddingCache()
    prompts = Prompts.for_object(box_xyxy=[100, 120, 130, 150])
    first = predict_large(TiledEmbedding(tiny, noise, tile=128, cache=cache), prompts)
    later = TiledEmbedding(tiny, noise, tile=128, cache=cache)
    assert (drawn(predict_large(later, prompts)) == drawn(first)).all()
    assert later.encodes == 0


def test_prompts_that_cannot_be_placed_are_refused(tiled: TiledEmbedding) -> None:
    with pytest.raises(ValueError, match=r"points_xy must lie within the picture"):
        predict_large(tiled, Prompts.for_object([[700.0, 10]]))
    with pytest.raises(ValueError, match=r"without mask_logits, which lie in one window"):
        predict_large(tiled, Prompts.for_object([[7, 10]], mask_logits=np.zeros((32, 32))))
    with pytest.raises(ValueError, match=r"must have points or boxes"):
        predict_large(tiled, Prompts(text_embeddings=np.zeros((1, 4))))
    one = predict_large(tiled, Prompts.for_object(box_xyxy=[3, 3, 30, 30]))
    with pytest.raises(ValueError, match=r"earlier must be of the same 2 objects"):
        predict_large(tiled, Prompts.single_points([[3, 3], [9, 9]]), earlier=one)
    with pytest.raises(ValueError, match=r"tile must be 1 or more, got 0"):
        TiledEmbedding(tiled.model, np.zeros((9, 9), np.uint8), tile=0)
    with pytest.raises(TypeError, match=r"make it with TiledEmbedding"):
        predict_large(np.zeros((9, 9)), Prompts.single_points([[3, 3]]))  # type: ignore[arg-type]


def test_files_and_sources_are_asked_as_arrays_are(tiny: Model, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (300, 400), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", noise, tile=(64, 64), compression="zlib")
    path = tmp_path / "a.tif"
    prompts = Prompts(boxes_xyxy=np.array([[10, 20, 60, 90], [5, 5, 390, 290]]))
    expected = predict_large(TiledEmbedding(tiny, noise, tile=128, cache=EmbeddingCache()), prompts)
    for image in (path, str(path), FileSource(str(path)), ArraySource(noise)):
        tiled = TiledEmbedding(tiny, image, tile=128, cache=EmbeddingCache())
        found = predict_large(tiled, prompts)
        for one, other in zip(found.objects, expected.objects, strict=True):
            assert np.array_equal(one.logits, other.logits)


def test_a_large_box_reads_the_coarser_levels_of_a_pyramid(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pyramid.tif"
    noise = np.random.default_rng(1).integers(0, 256, (1024, 1024), dtype=np.uint8)
    with tifffile.TiffWriter(path) as file:
        options = {"tile": (64, 64), "photometric": "minisblack"}
        file.write(noise, subifds=3, **options)
        for step in (2, 4, 8):
            file.write(noise[::step, ::step], subfiletype=1, **options)
    read: list[int] = []
    reading = LazyPicture._read

    def counting(self: LazyPicture, window: Window) -> npt.NDArray[np.uint8]:
        found = reading(self, window)
        read.append(found.size)
        return found

    monkeypatch.setattr(LazyPicture, "_read", counting)
    tiled = TiledEmbedding(tiny, path, tile=128, cache=EmbeddingCache())
    predict_large(tiled, Prompts(boxes_xyxy=np.array([[5, 5, 1000, 1000]])))
    assert 0 < sum(read) <= 256 * 256
