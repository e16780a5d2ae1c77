"""Configs as teams write them, and texts, through a real Label Studio 1.23."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.labelstudio_backend.configs import CASES
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.payloads import click, iou
from tests.labelstudio_backend.server import TOKEN, LabelStudio
from tests.labelstudio_backend.serving import served
from tests.labelstudio_backend.test_configs import DATA, DISK, SIZE
from tests.labelstudio_backend.test_wire import ask
from tests.labelstudio_backend.test_words import BLUE, RED, WORDS, config, picture, text
from tests.labelstudio_backend.test_words import SIZE as COLOURED
from tests.model.inference.tiny_clip import write_tiny_clip

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.label_config import read_config
from sam_plugins.model.io.label_studio import mask_of, regions_of

pytestmark = [pytest.mark.server, pytest.mark.slow]

CHOSEN = (
    "nested views with styles",
    "two pictures",
    "controls of two pictures",
    "shown only where something is chosen",
    "a repeater",
    "aliases",
    "labels from the task",
    "names of any script",
    "other data beside",
)


def import_task(server: LabelStudio, project: int, data: object) -> int:
    """Import one task; its number."""
    server.call("POST", f"/api/projects/{project}/import", json=[data])
    (task,) = server.tasks(project)
    return int(task["id"])


@pytest.mark.parametrize("name", CHOSEN)
def test_an_answer_is_taken_and_stored(
    label_studio: LabelStudio, make_service: MakeService, name: str
) -> None:
    case = CASES[name]
    service = make_service(url=label_studio.url, api_key=TOKEN, automatic=False)
    project = label_studio.make_project(case.xml, name)["id"]
    task = import_task(label_studio, project, DATA)
    control = read_config(case.xml).for_data(DATA).control(case.point)
    assert control is not None
    assert control.has_labels
    asked = click(
        40, 30, size_hw=SIZE, label=case.label, from_name=case.point, to_name=case.to_name
    )
    with served(create_app(service.settings, service=service)) as url:
        backend = label_studio.connect(project, url)["id"]
        answer = ask(label_studio, backend, task, [asked])
    label_studio.annotate(task, answer["result"])
    (stored,) = label_studio.tasks(project)[0]["annotations"]
    (region,) = regions_of(stored["result"])
    assert f"{region.item['type']} {region.item['from_name']}" == case.answer[0]
    assert region.item["to_name"] == case.to_name
    assert iou(mask_of(region, SIZE), DISK) > 0.85
    assert service.problems.documents() == []


def test_texts_find_more_like_accepted_regions_and_what_clip_knows(
    label_studio: LabelStudio, make_service: MakeService, tmp_path: Path
) -> None:
    clip = write_tiny_clip(tmp_path / "clip")
    service = make_service(
        url=label_studio.url, api_key=TOKEN, automatic=False, text_model=str(clip)
    )
    project = label_studio.make_project(config(WORDS), "Words")["id"]
    task = import_task(label_studio, project, {"image": picture()})
    with served(create_app(service.settings, service=service)) as url:
        backend = label_studio.connect(project, url)["id"]
        every = ask(label_studio, backend, task, [text(["all"])])["result"]
        masks = [mask_of(region, COLOURED) for region in regions_of(every)]
        for disk in (RED, BLUE):
            assert max(iou(mask, disk) for mask in masks) > 0.85
        first = ask(label_studio, backend, task, [click(60, 80, size_hw=COLOURED)])["result"]
        label_studio.annotate(task, first)
        alike = ask(label_studio, backend, task, [text(["Cell"])])["result"]
        masks = [mask_of(region, COLOURED) for region in regions_of(alike)]
        assert max(iou(mask, BLUE) for mask in masks) > 0.85
        assert {region.class_name for region in regions_of(alike)} == {"Cell"}
        ask(label_studio, backend, task, [text(["a red thing"])])
    assert service.parts().engine.clips.loaded() == [str(clip)]
    assert service.problems.documents() == []
