"""The labelling configs of the documentation, each pasted into a project and used in the editor."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.labelstudio_backend.browser import (
    ACCEPT,
    accept_and_submit,
    choose_tool,
    draw,
    open_task,
    paste_config,
    place_of_picture,
    shown,
)
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.payloads import data_url, iou
from tests.labelstudio_backend.server import TOKEN, LabelStudio
from tests.labelstudio_backend.serving import served
from tests.labelstudio_backend.test_wire import STEM, largest, until

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.config_check import check_config
from sam_plugins.model.io.images import read_image
from sam_plugins.model.io.label_studio import mask_of, regions_of

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "label-studio.md"
TEXT = GUIDE.read_text(encoding="utf-8")
MASKS, OWN, WORDS, PAGES = re.findall(r"```xml\n(.*?)```", TEXT, flags=re.DOTALL)
BRUSH = '<Brush name="mask" toName="image" smart="false"/>'
OTHERS = {
    tag: re.findall(rf"`(<{tag} [^`]*/>)`", TEXT)[0] for tag in ("Bitmask", "Polygon", "Ellipse")
}
CONFIGS = {
    "brush": MASKS,
    **{tag.lower(): MASKS.replace(BRUSH, other) for tag, other in OTHERS.items()},
    "rectangle": MASKS.replace(BRUSH, ""),
    "own": OWN,
    "words": WORDS,
    "pages": PAGES,
}
TYPES = {"own": "brushlabels", "pages": "brush"}
LEAST = {"ellipse": 0.7, "rectangle": 0.6}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_check_has_nothing_against_a_config_of_the_guide(name: str) -> None:
    assert BRUSH in MASKS
    report = check_config(CONFIGS[name])
    assert report.problems == []
    assert not [one for one in report.advice if "smart=" in one]


@pytest.fixture
def nucleus(test_data: Path) -> tuple[Path, npt.NDArray[np.bool_]]:
    """A picture, and the ground truth of its largest object."""
    folder = test_data / "dsb2018" / "val"
    truth = largest(read_image(folder / "labels" / f"{STEM}.png"))
    return folder / "images" / f"{STEM}.png", truth


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("brush", "key-point-tool"), ("brush", "rectangle-tool"),
        ("brush", "rectangle-3-point-tool"), ("bitmask", "key-point-tool"),
        ("bitmask", "rectangle-tool"), ("polygon", "key-point-tool"),
        ("ellipse", "rectangle-tool"), ("rectangle", "key-point-tool"),
        ("own", "key-point-tool"), ("own", "rectangle-tool"), ("pages", "key-point-tool"),
    ],
)  # fmt: skip
@pytest.mark.browser
@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_prompt_is_answered_seen_accepted_and_stored(
    page: Any,
    label_studio: LabelStudio,
    make_service: MakeService,
    nucleus: tuple[Path, npt.NDArray[np.bool_]],
    name: str,
    tool: str,
    tmp_path: Path,
) -> None:
    path, truth = nucleus
    service = make_service(url=label_studio.url, api_key=TOKEN, automatic=False)
    project = label_studio.make_project("<View></View>", f"{name} {tool}")["id"]
    task = imported(label_studio, project, path, name)
    paste_config(page, label_studio, project, CONFIGS[name])
    with served(create_app(service.settings, service=service)) as url:
        label_studio.connect(project, url)
        where = open_task(page, label_studio, project, task)
        if name == "pages":
            page.locator(".lsf-pagination__btn_arrow-right").first.click()
            page.wait_for_timeout(2000)
            where = place_of_picture(page)
        choose_tool(page, tool)
        page.keyboard.press(key_of(name, tool))
        before = shown(page, where, truth)
        draw(page, where, truth, tool)
        page.get_by_test_id(ACCEPT).wait_for()
        page.wait_for_timeout(1000)
        page.screenshot(path=str(tmp_path / "suggestion.png"))
        assert np.abs(shown(page, where, truth) - before).max() > 20
        accept_and_submit(page)
        (annotation,) = until(lambda: label_studio.tasks(project)[0]["annotations"])
        page.screenshot(path=str(tmp_path / "submitted.png"))
    number = 1 if name == "pages" else None
    regions = regions_of(annotation["result"], number)
    (region,) = [one for one in regions if one.item["type"] == TYPES.get(name, name)]
    assert region.class_name == ("Dirt" if name == "own" else "Cell")
    assert iou(mask_of(region, truth.shape), truth) > LEAST.get(name, 0.75)
    assert service.problems.documents() == []


@pytest.mark.browser
@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_word_finds_all_objects(
    page: Any,
    label_studio: LabelStudio,
    make_service: MakeService,
    nucleus: tuple[Path, npt.NDArray[np.bool_]],
) -> None:
    path, truth = nucleus
    service = make_service(url=label_studio.url, api_key=TOKEN, automatic=False)
    project = label_studio.make_project(WORDS, "words")["id"]
    task = imported(label_studio, project, path, "words")
    with served(create_app(service.settings, service=service)) as url:
        label_studio.connect(project, url)
        open_task(page, label_studio, project, task)
        page.get_by_placeholder("all, or a label").fill("all")
        page.keyboard.press("Enter")
        page.get_by_test_id(ACCEPT).wait_for()
        accept_and_submit(page)
        (annotation,) = until(lambda: label_studio.tasks(project)[0]["annotations"])
    found = [one for one in regions_of(annotation["result"]) if one.shape == "brush"]
    assert len(found) > 10
    assert {one.class_name for one in found} == {"Cell"}
    assert max(iou(mask_of(one, truth.shape), truth) for one in found) > 0.75
    assert service.problems.documents() == []


def imported(server: LabelStudio, project: int, path: Path, name: str) -> int:
    """Import the picture, as the second of two pages where the config has these."""
    if name != "pages":
        (task,) = server.upload(project, [path])
        return task
    picture = np.asarray(Image.open(path).convert("RGB"))
    pages = [data_url(np.zeros_like(picture)), data_url(picture)]
    server.call("POST", f"/api/projects/{project}/import", json=[{"images": pages}])
    return int(server.tasks(project)[0]["id"])


def key_of(name: str, tool: str) -> str:
    """Return the key of a label: lists of their own are numbered through."""
    if name != "own":
        return "1"
    return "2" if tool == "key-point-tool" else "4"
