"""Predictions of pictures of large objects: those that ``segment`` finds from farther."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.payloads import own, request

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.io.label_studio import regions_of
from sam_plugins.model.io.labelled import list_manifest_files
from sam_plugins.model.large.whole import segment


def test_they_are_those_of_segment(
    make_service: MakeService, shipped_model: Model, test_data: Path
) -> None:
    files = list_manifest_files(test_data, ["fly_egg_chambers"], split="train")
    picture = next(file for file in files if file.id == "insitu7545").read().image
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    service = make_service(open_seconds=90)
    client = create_app(service.settings, service=service).test_client()
    body = request(None, own(), url=url, task=1)
    (found,) = client.post("/predict", json=body).json["results"]  # type: ignore[index]
    expected = segment(picture, shipped_model)
    assert len(regions_of(found["result"])) == len(expected)
    assert len(expected) < len(segment(picture, shipped_model, looks_farther=False))
    assert service.problems.documents() == []
