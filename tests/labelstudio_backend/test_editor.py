"""Label Studio's own editor in a real browser: click, see, accept, submit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.labelstudio_backend.browser import ACCEPT, accept_and_submit, draw, open_task
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.payloads import iou, own, shared
from tests.labelstudio_backend.server import TOKEN, LabelStudio
from tests.labelstudio_backend.serving import served
from tests.labelstudio_backend.test_wire import STEM, largest, until

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.model.io.images import read_image
from sam_plugins.model.io.label_studio import mask_of, regions_of

pytestmark = [pytest.mark.browser, pytest.mark.server, pytest.mark.slow]

_SMART_TOOL = ".lsf-tool_smart:visible"


@pytest.mark.parametrize("tool", ["point", "box"])
@pytest.mark.parametrize("style", ["shared", "own"])
def test_a_suggestion_is_seen_accepted_submitted_and_stored(
    page: Any,
    label_studio: LabelStudio,
    make_service: MakeService,
    test_data: Path,
    tool: str,
    style: str,
    tmp_path: Path,
) -> None:
    folder = test_data / "dsb2018" / "val"
    truth = largest(read_image(folder / "labels" / f"{STEM}.png"))
    service = make_service(url=label_studio.url, api_key=TOKEN, automatic=False)
    config = shared("Brush") if style == "shared" else own("BrushLabels")
    unwanted = "Rectangle" if tool == "point" else "KeyPoint"
    config = without(config, unwanted)
    project = label_studio.make_project(config, f"{tool} {style}")["id"]
    (task,) = label_studio.upload(project, [folder / "images" / f"{STEM}.png"])
    with served(create_app(service.settings, service=service)) as url:
        label_studio.connect(project, url)
        where = open_task(page, label_studio, project, task)
        page.locator(_SMART_TOOL).first.click()
        page.keyboard.press("1")
        draw(page, where, truth, "key-point-tool" if tool == "point" else "rectangle-tool")
        page.get_by_test_id(ACCEPT).wait_for()
        page.screenshot(path=str(tmp_path / "suggestion.png"))
        accept_and_submit(page)
        (annotation,) = until(lambda: label_studio.tasks(project)[0]["annotations"])
    regions = [one for one in regions_of(annotation["result"]) if one.shape == "brush"]
    assert len(regions) == 1
    assert regions[0].class_name == "Cell"
    assert iou(mask_of(regions[0], truth.shape), truth) > 0.75


def test_pending_points_are_in_the_draft_with_their_sign(
    page: Any, label_studio: LabelStudio, make_service: MakeService, test_data: Path
) -> None:
    """What a box joins points by, when the backend was started after they were clicked."""
    folder = test_data / "dsb2018" / "val"
    truth = largest(read_image(folder / "labels" / f"{STEM}.png"))
    service = make_service(url=label_studio.url, api_key=TOKEN, automatic=False)
    config = without(own("BrushLabels"), "Rectangle")
    project = label_studio.make_project(config, "pending points")["id"]
    (task,) = label_studio.upload(project, [folder / "images" / f"{STEM}.png"])
    with served(create_app(service.settings, service=service)) as url:
        label_studio.connect(project, url)
        where = open_task(page, label_studio, project, task)
        page.locator(_SMART_TOOL).first.click()
        page.keyboard.press("1")
        draw(page, where, truth, "key-point-tool")
        page.get_by_test_id(ACCEPT).wait_for()
        drafts: list[dict[str, Any]] = []
        for _ in range(60):
            page.wait_for_timeout(1000)  # and not `until`: the browser's requests are handled here
            drafts = label_studio.call("GET", f"/api/tasks/{task}/drafts")
            if drafts:
                break
    (point,) = [item for item in drafts[0]["result"] if item["type"] == "keypointlabels"]
    assert point["is_positive"] is True


def without(config: str, tag: str) -> str:
    """Return a config without one kind of control."""
    import re

    config = re.sub(rf"<{tag} [^>]*/>", "", config)
    return re.sub(rf"<{tag}Labels .*?</{tag}Labels>", "", config, flags=re.DOTALL)
