"""Pictures of large objects are looked at from farther where the model is surer of them then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data

from sam_plugins import to_rgb
from sam_plugins.model.evaluation.metrics import mean_segmentation_accuracy
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.segment_options import AUTO
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.io.labelled import LabelledImage, list_manifest_files
from sam_plugins.model.large import farther
from sam_plugins.model.large.farther import look_from_farther, shows_large_objects, sureness
from sam_plugins.model.large.whole import segment, segment_rgb


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("default")


@pytest.fixture(scope="module")
def egg_chambers(test_data: Path) -> LabelledImage:
    """Six large objects of fine structure."""
    files = list_manifest_files(test_data, ["fly_egg_chambers"], split="train")
    return next(file for file in files if file.id == "insitu7545").read()


def test_a_model_that_sees_at_one_size_is_the_same_model(model: Model) -> None:
    farther_model = model.seeing(400)
    assert farther_model.network is model.network
    assert farther_model.model_id == model.model_id
    assert model.preprocessing.max_long_side == 1024
    for size_hw, long_side in (((100, 1500), 400), ((300, 200), 400), ((100, 50), 300)):
        embedding = encode_rgb(farther_model, np.zeros((*size_hw, 3), np.uint8))
        assert max(embedding.input_size_hw) == long_side
        assert embedding.original_size_hw == size_hw


def test_large_objects_are_found_whole(model: Model, egg_chambers: LabelledImage) -> None:
    rgb = to_rgb(egg_chambers.image)
    usual = segment_rgb(model, rgb, looks_farther=False, stacklevel=None)
    found = segment_rgb(model, rgb, stacklevel=None)
    before, after = (
        mean_segmentation_accuracy(egg_chambers.labels, one.labels) for one in (usual, found)
    )
    assert after > before + 0.1
    assert len(found) < len(usual)
    assert sureness(found) > sureness(usual) + 0.005
    assert found.labels.shape == egg_chambers.labels.shape
    rows, columns = np.rint(found.points_xy[:, ::-1]).astype(int).T
    assert (found.labels[rows, columns] > 0).mean() > 0.8


def test_small_objects_are_looked_at_once(model: Model) -> None:
    y, x = np.mgrid[:256, :256] % 32 - 16
    rgb = to_rgb(np.where(np.hypot(y, x) < 5, 200, 40).astype(np.uint8))
    encoded: list[npt.NDArray[np.uint8]] = []

    def encode(pixels: npt.NDArray[np.uint8]) -> ImageEmbedding:
        encoded.append(pixels)
        return encode_rgb(model, pixels)

    assert not shows_large_objects(model, encode_rgb(model, rgb))
    found = segment_rgb(model, rgb, encode=encode)
    assert len(found) == 64
    assert len(encoded) == 1


def test_what_is_no_surer_stays(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = to_rgb(skimage.data.coins())
    embedding = encode_rgb(model, rgb)
    usual = segment_rgb(model, rgb, looks_closer=False, looks_farther=False)
    monkeypatch.setattr(farther, "LARGE_SIDE", 1.0)
    monkeypatch.setattr(farther, "_SURER", 1.0)
    assert shows_large_objects(model, embedding)
    best, found = look_from_farther(model, rgb, embedding, usual, AUTO)
    assert best is model
    assert found is usual
    monkeypatch.setattr(farther, "_SURER", -1.0)
    with monkeypatch.context() as many:
        many.setattr(farther, "_FEW", len(usual) - 1)
        best, found = look_from_farther(model, rgb, embedding, usual, AUTO)
        assert best is model
        assert found is usual
    best, found = look_from_farther(model, rgb, embedding, usual, AUTO)
    assert best.preprocessing.max_long_side < 768 / 2
    assert found is not usual


@pytest.mark.parametrize(
    ("rgb", "loss", "stands"),
    [
        (np.zeros((600, 1000, 3), np.uint8), 0.01, True),
        (np.zeros((600, 1000, 3), np.uint8), 0.03, False),
        (np.zeros((200, 300, 3), np.uint8), 0.01, False),
        (np.zeros((200, 300, 3), np.uint8), -0.01, True),
    ],
)
def test_beyond_what_it_learned_from_it_need_not_be_surer(
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    rgb: npt.NDArray[np.uint8],
    loss: float,
    stands: bool,
) -> None:
    embedding = encode_rgb(model, rgb)
    usual = segment_rgb(model, rgb)
    monkeypatch.setattr(farther, "shows_large_objects", lambda *_: True)
    monkeypatch.setattr(farther, "sureness", lambda one: 0.9 if one is usual else 0.9 - loss)
    best, _ = look_from_farther(model, rgb, embedding, usual, AUTO)
    assert (best is not model) == stands


def test_progress_grows_to_its_end_and_its_exception_stops_the_work(
    model: Model, egg_chambers: LabelledImage
) -> None:
    told: list[tuple[int, int]] = []
    rgb = to_rgb(egg_chambers.image)
    segment_rgb(model, rgb, progress=lambda *step: told.append(step), stacklevel=None)
    shares = [done / total for done, total in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1

    def stop(done: int, total: int) -> None:
        if done > 0.6 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_rgb(model, rgb, progress=stop, stacklevel=None)


def test_a_blank_picture_is_looked_at_once(model: Model) -> None:
    assert not shows_large_objects(model, encode_rgb(model, np.zeros((60, 80, 3), np.uint8)))
    assert len(segment(np.zeros((60, 80), np.uint8), model)) == 0
