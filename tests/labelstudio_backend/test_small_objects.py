"""Predictions of pictures that the model sees reduced: the objects that ``segment`` finds."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.payloads import data_url, own, request
from tests.small_objects import REDUCED, WHOLE, row_of_coins

from sam_plugins.labelstudio_backend import engine as engine_module
from sam_plugins.labelstudio_backend import whole_picture
from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.images import decode_rgb
from sam_plugins.labelstudio_backend.label_config import read_config
from sam_plugins.labelstudio_backend.models import version_of
from sam_plugins.labelstudio_backend.results import Drawing
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.labelstudio_backend.target import target_of_found
from sam_plugins.labelstudio_backend.whole_picture import (
    PictureOrder,
    find_objects,
    predict_there,
)
from sam_plugins.model.cluster.outcome import Kept
from sam_plugins.model.inference.automatic import segment_embedding
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.io.label_studio import regions_of
from sam_plugins.model.large.whole import segment


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of pictures whose pixels were decoded for windows."""
    lengths: list[int] = []

    def counted(content: bytes, settings: Settings) -> np.ndarray:
        lengths.append(decode_rgb(content, settings).shape[1])
        return decode_rgb(content, settings)

    monkeypatch.setattr(engine_module, "decode_rgb", counted)
    return lengths


def test_the_objects_of_a_reduced_picture_are_those_of_segment(
    make_service: MakeService, shipped_model: Model, decoded: list[int]
) -> None:
    service = make_service(open_seconds=90)
    client = create_app(service.settings, service=service).test_client()

    def regions(times: int) -> int:
        body = request(None, own(), url=data_url(row_of_coins(times)), task=times)
        (found,) = client.post("/predict", json=body).json["results"]  # type: ignore[index]
        assert 0 < found["score"] <= 1
        return len(regions_of(found["result"]))

    def found_in_whole(times: int) -> int:
        embedding = encode_rgb(shipped_model, to_rgb(row_of_coins(times)))
        return len(segment_embedding(shipped_model, embedding))

    assert regions(WHOLE) == found_in_whole(WHOLE)
    assert decoded == []  # it is encoded, and nothing else of it is needed
    found = segment(row_of_coins(REDUCED), shipped_model)
    assert regions(REDUCED) == len(found) != found_in_whole(REDUCED)
    assert decoded == [1152]
    assert service.problems.documents() == []


def test_others_pass_before_each_window_is_encoded(
    shipped_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = to_rgb(row_of_coins(REDUCED))
    embedding = encode_rgb(shipped_model, rgb)
    steps: list[str] = []

    def encode(model: Model, pixels: np.ndarray) -> ImageEmbedding:
        assert pixels.shape != rgb.shape  # that one was ready
        steps.append("window")
        return encode_rgb(model, pixels)

    monkeypatch.setattr(whole_picture, "encode_rgb", encode)
    find_objects(shipped_model, embedding, rgb, lambda: steps.append("others"))
    assert steps.count("window") >= 6
    assert all(steps[place - 1] == "others" for place, step in enumerate(steps) if step == "window")


def test_a_worker_finds_them_too(
    shipped_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def found(model: Model, embedding: ImageEmbedding, rgb: Any, *_: Callable[[], None]) -> Any:
        asked.append(rgb)
        return segment_embedding(model, embedding), 0.5

    monkeypatch.setattr(whole_picture, "find_objects", found)
    monkeypatch.setattr(whole_picture, "draw_objects", lambda *_: [])
    kept = Kept()
    version = version_of("default")
    settings = Settings(folder=tmp_path, device="cpu")
    kept.get(("model", "default", version, settings.device), lambda: shipped_model)
    for times in (REDUCED, WHOLE):
        content = data_url(row_of_coins(times))
        order = PictureOrder(
            settings=settings,
            model="default",
            version=version,
            key=f"{times}",
            target=target_of_found(read_config(own()), "image"),
            drawing=Drawing(),
            content=base64.b64decode(content.partition(",")[2]),
        )
        predict_there(kept, order)
    windows, whole = asked
    np.testing.assert_array_equal(windows, to_rgb(row_of_coins(REDUCED)))
    assert whole is None
