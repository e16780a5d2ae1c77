"""Texts: found by CLIP, told in the text area where they cannot be, and never one for another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.payloads import data_url, disk, iou, own, request
from tests.model.inference.test_text import ColourEncoder
from tests.model.inference.tiny_clip import write_tiny_clip

from sam_plugins.labelstudio_backend import parts
from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.doctor.contents import examine_words
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.io.label_studio import mask_of, regions_of

SIZE = (160, 240)
RED, BLUE = disk(SIZE, (60, 80), 32), disk(SIZE, (175, 80), 32)
WORDS = '<TextArea name="words" toName="image" smart="true"/>'
COMMENT = '<TextArea name="comment" toName="image"/>'
NO_CLIP = "no CLIP is set"


def config(*areas: str) -> str:
    """A config with text areas."""
    return own().replace("</View>", f"{''.join(areas)}</View>")


def picture() -> str:
    """A red and a blue disk."""
    pixels = np.full((*SIZE, 3), 20, np.uint8)
    pixels[RED] = (230, 30, 30)
    pixels[BLUE] = (30, 30, 230)
    return data_url(pixels)


def text(texts: Sequence[str], area: str = "words") -> dict[str, Any]:
    """What the editor sends of a text area: all that was typed into it."""
    return {
        "value": {"text": list(texts)}, "id": f"t-{area}", "from_name": area, "to_name": "image",
        "type": "textarea", "origin": "manual",
    }  # fmt: skip


def asked(service: Service, items: list[dict[str, Any]], areas: str) -> list[dict[str, Any]]:
    """The items that a request is answered with."""
    client = create_app(service.settings, service=service).test_client()
    response = client.post("/predict", json=request(items, config(areas), url=picture()))
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json["results"][0]["result"]  # type: ignore[index]
    return found


def noted(items: Sequence[dict[str, Any]]) -> list[str]:
    """What a text area is to hold; nothing where it stays as it is."""
    areas = [item for item in items if item["type"] == "textarea"]
    assert len(areas) <= 1
    return areas[0]["value"]["text"] if areas else []


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_tiny_clip(tmp_path / "clip")


def test_a_phrase_finds_what_clip_sees_in_it(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "load_clip", lambda name, device: ColourEncoder())
    service = make_service(text_model="colours")
    found = asked(service, [text(["red"])], WORDS)
    masks = [mask_of(region, SIZE) for region in regions_of(found)]
    assert max(iou(mask, RED) for mask in masks) > 0.85
    assert max(iou(mask, BLUE) for mask in masks) < 0.1
    assert noted(found) == []
    both = asked(service, [text(["red", "blue"])], WORDS)
    masks = [mask_of(region, SIZE) for region in regions_of(both)]
    assert min(max(iou(mask, one) for mask in masks) for one in (RED, BLUE)) > 0.85


def test_a_clip_of_files_is_asked(make_service: MakeService, clip: Path) -> None:
    service = make_service(text_model=str(clip))
    asked(service, [text(["a red thing"])], WORDS)
    assert service.problems.documents() == []
    assert service.parts().engine.clips.loaded() == [str(clip)]


def test_what_is_not_understood_is_said_in_the_text_area(make_service: MakeService) -> None:
    service = make_service()
    found = asked(service, [text(["a dog", "all"])], WORDS)
    assert len(regions_of(found)) >= 2  # a text that makes no sense spoils no other
    kept, note = noted(found)
    assert kept == "all"
    assert note.startswith("sam-plugins: the text 'a dog'")
    assert NO_CLIP in note
    assert "SAM_PLUGINS_LS_TEXT_MODEL" in note
    # our note comes back with what is typed next, and is no phrase
    again = asked(service, [text([note, "all"])], WORDS)
    assert noted(again) == ["all"]
    assert len(service.problems.documents()) == 1


@pytest.mark.parametrize("name", ["no-such-folder", "damaged"])
def test_a_clip_that_cannot_be_used_is_named(
    make_service: MakeService, clip: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAM_PLUGINS_OFFLINE", "1")
    if name == "damaged":
        (clip / "model.safetensors").write_bytes(b"none")
        name = str(clip)
    service = make_service(text_model=name)
    (note,) = noted(asked(service, [text(["a dog"])], WORDS))
    assert "needs the CLIP that SAM_PLUGINS_LS_TEXT_MODEL names, which cannot be used" in note


def test_a_comment_is_no_prompt(make_service: MakeService) -> None:
    service = make_service()
    items = [text(["blurred, ask Ann"], "comment"), text(["all"])]
    found = asked(service, items, COMMENT + WORDS)
    assert len(regions_of(found)) >= 2
    assert noted(found) == []
    assert service.problems.documents() == []


def test_an_area_that_nobody_called_smart_is_never_written_into(make_service: MakeService) -> None:
    service = make_service()
    assert asked(service, [text(["blurred, ask Ann"], "comment")], COMMENT) == []
    off = COMMENT.replace("/>", ' smart="false"/>')
    assert asked(service, [text(["all"], "comment")], off) == []
    assert regions_of(asked(service, [text(["all"], "comment")], COMMENT))


def test_the_doctor_says_what_is_understood(clip: Path, tmp_path: Path) -> None:
    project = {"id": 3, "label_config": config(WORDS)}

    def found(name: str, chosen: dict[str, Any] = project) -> list[Any]:
        return list(examine_words(Settings(folder=tmp_path, text_model=name), chosen))

    (without,) = found("")
    assert without.is_ok
    assert NO_CLIP in without.message
    assert "SAM_PLUGINS_LS_TEXT_MODEL" in without.cure
    (wrong,) = found("no/such-clip")
    assert not wrong.is_ok
    assert "cannot be used" in wrong.message
    (right,) = found(str(clip))
    assert right.is_ok
    assert not right.cure
    assert found("", {"id": 3, "label_config": own()}) == []
    assert found("", {"id": 3, "label_config": "<View"}) == []
