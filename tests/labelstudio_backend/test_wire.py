"""The backend behind a real Label Studio 1.23: what it sends is answered, and stored there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import requests
from PIL import Image
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.payloads import box, click, in_two, iou, own, shared
from tests.labelstudio_backend.server import TOKEN, LabelStudio
from tests.labelstudio_backend.serving import served

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.client import LabelStudioClient
from sam_plugins.labelstudio_backend.images import Source
from sam_plugins.model.io.images import read_image
from sam_plugins.model.io.label_studio import mask_of, regions_of

pytestmark = [pytest.mark.server, pytest.mark.slow]

STEM = "03b9306f44e9b895"


@pytest.fixture
def nuclei(test_data: Path) -> tuple[Path, npt.NDArray[Any]]:
    """A picture of nuclei, and its ground truth."""
    folder = test_data / "dsb2018" / "val"
    return folder / "images" / f"{STEM}.png", read_image(folder / "labels" / f"{STEM}.png")


def largest(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return the mask of the largest object."""
    mask: npt.NDArray[np.bool_] = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return mask


def inside(mask: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Return a pixel in the middle of a mask."""
    y, x = np.nonzero(mask)
    middle = len(y) // 2
    return int(x[middle]), int(y[middle])


def ask(server: LabelStudio, backend: int, task: int, items: list[dict[str, Any]]) -> Any:
    """Ask as the editor does; return the answer that it would show."""
    body = {"task": task, "context": {"result": items}}
    answer = server.call("POST", f"/api/ml/{backend}/interactive-annotating", json=body)
    assert "errors" not in answer, answer
    return answer["data"]


def until(ready: Callable[[], Any], seconds: float = 90) -> Any:
    """Return what becomes true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = ready()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError("it did not come in time")


@pytest.mark.parametrize("style", ["own", "shared"])
def test_a_click_and_a_box_come_back_as_regions(
    label_studio: LabelStudio,
    make_service: MakeService,
    nuclei: tuple[Path, npt.NDArray[Any]],
    style: str,
) -> None:
    path, labels = nuclei
    truth = largest(labels)
    service = make_service(
        url=label_studio.url, api_key=TOKEN, user="me", password="sesame", automatic=False
    )
    config = own("BitmaskLabels") if style == "own" else shared("Brush")
    project = label_studio.make_project(config)["id"]
    (task,) = label_studio.upload(project, [path])
    x, y = inside(truth)
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    point = click(x, y, size_hw=truth.shape)
    around = box(
        columns[0], rows[0], columns[-1] + 1, rows[-1] + 1, size_hw=truth.shape, label="Debris"
    )
    with served(create_app(service.settings, service=service)) as url:
        auth = {"auth_method": "BASIC_AUTH", "basic_auth_user": "me", "basic_auth_pass": "sesame"}
        backend = label_studio.connect(project, url, **auth)["id"]
        for item in (point, around):
            items = [item] if style == "own" else in_two(item)
            answer = ask(label_studio, backend, task, items)
            (region,) = regions_of(answer["result"])
            assert iou(mask_of(region, truth.shape), truth) > 0.75
            label_studio.annotate(task, answer["result"])
    stored = label_studio.tasks(project)[0]["annotations"]
    assert len(stored) == 2
    for annotation in stored:
        (region,) = regions_of(annotation["result"])
        assert iou(mask_of(region, truth.shape), truth) > 0.75


def test_a_batch_answers_what_is_ready_and_posts_the_rest(
    label_studio: LabelStudio, make_service: MakeService, nuclei: tuple[Path, npt.NDArray[Any]]
) -> None:
    path, _ = nuclei
    service = make_service(url=label_studio.url, api_key=TOKEN, batch_seconds=0)
    project = label_studio.make_project(own("PolygonLabels"))["id"]
    pictures = sorted(path.parent.glob("*.png"))[:3]
    tasks = label_studio.upload(project, pictures)
    broken = label_studio.call(
        "POST",
        f"/api/projects/{project}/import",
        json=[{"data": {"image": "data:image/png;base64,AAAA"}}],
    )
    assert broken["task_count"] == 1
    with served(create_app(service.settings, service=service)) as url:
        label_studio.connect(project, url)
        label_studio.call(
            "POST",
            f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}",
            json={"selectedItems": {"all": True, "excluded": []}},
        )
        found = until(
            lambda: [
                one
                for one in label_studio.tasks(project)
                if one["id"] in tasks and one["predictions"]
            ][2:]
        )
    assert found
    predictions = [one["predictions"] for one in label_studio.tasks(project) if one["id"] in tasks]
    assert [len(one) for one in predictions] == [1, 1, 1]
    for (prediction,) in predictions:
        assert prediction["model_version"] == service.model_version(str(project))
        assert 0 < prediction["score"] <= 1
        assert len(prediction["result"]) > 1
    assert any(one["kind"] == "image" for one in service.problems.documents())


def test_opening_a_task_prepares_it_and_the_next_ones(
    label_studio: LabelStudio, make_service: MakeService, nuclei: tuple[Path, npt.NDArray[Any]]
) -> None:
    path, _ = nuclei
    service = make_service(url=label_studio.url, api_key=TOKEN, automatic=False, prewarm_next=2)
    project = label_studio.make_project(own())["id"]
    tasks = label_studio.upload(project, sorted(path.parent.glob("*.png"))[:5])
    label_studio.annotate(tasks[1], [])
    with served(create_app(service.settings, service=service)) as url:
        label_studio.connect(project, url)
        label_studio.call("GET", f"/api/tasks/{tasks[0]}?project={project}")
        until(lambda: len(service.parts().engine.pictures) >= 3)
        time.sleep(1)
    known = {key for key, _ in service.parts().engine.pictures._known}
    found = {one["id"]: one for one in label_studio.tasks(project)}
    client = LabelStudioClient(label_studio.url, TOKEN)
    prepared = [
        number
        for number in tasks
        if Source(found[number]["data"]["image"], str(number), client).key in known
    ]
    assert prepared == [tasks[0], tasks[2], tasks[3]], "one that is annotated is no next one"
    assert not found[tasks[0]]["predictions"]


def test_a_whole_project_is_prepared_for_a_backend_that_starts_later(
    label_studio: LabelStudio,
    make_service: MakeService,
    nuclei: tuple[Path, npt.NDArray[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sam_plugins.cli import main

    monkeypatch.setenv("SAM_PLUGINS_LS_API_KEY", TOKEN)
    monkeypatch.setenv("SAM_PLUGINS_LS_DEVICE", "cpu")
    monkeypatch.setenv("SAM_PLUGINS_LS_FOLDER", str(tmp_path / "backend"))
    project = label_studio.make_project(own())["id"]
    (task, _) = label_studio.upload(project, sorted(nuclei[0].parent.glob("*.png"))[:2])
    assert main(["labelstudio", "prewarm", label_studio.url, str(project)]) == 0
    assert capsys.readouterr().out == "2 of 2 tasks are prepared\n"
    gone = [{"data": {"image": f"/data/upload/{project}/0a1b2c3d-gone.png"}}]
    label_studio.call("POST", f"/api/projects/{project}/import", json=gone)
    assert main(["labelstudio", "prewarm", label_studio.url, str(project)]) == 1
    shown = capsys.readouterr()
    assert shown.out == "2 of 3 tasks are prepared\n"
    assert "task " in shown.err
    service = make_service(
        url=label_studio.url, api_key=TOKEN, automatic=False, folder=tmp_path / "backend"
    )
    with served(create_app(service.settings, service=service)) as url:
        backend = label_studio.connect(project, url)["id"]
        assert ask(label_studio, backend, task, [click(50, 50, size_hw=nuclei[1].shape)])["result"]
    assert service.metrics.encodes._value.get() == 0


def test_a_personal_token_is_exchanged_and_a_photograph_turned(
    label_studio: LabelStudio, make_service: MakeService, tmp_path: Path
) -> None:
    y, x = np.ogrid[:200, :300]
    disk = (x - 100) ** 2 + (y - 90) ** 2 < 40**2
    grey = np.where(disk, 190, 40).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "lying.jpg"
    Image.fromarray(np.ascontiguousarray(np.rot90(grey))).save(path, "JPEG", exif=exif, quality=95)
    service = make_service(
        url=label_studio.url, api_key=label_studio.personal_token(), automatic=False
    )
    project = label_studio.make_project(own())["id"]
    (task,) = label_studio.upload(project, [path])
    with served(create_app(service.settings, service=service)) as url:
        backend = label_studio.connect(project, url)["id"]
        answer = ask(label_studio, backend, task, [click(100, 90, size_hw=disk.shape)])
    (region,) = regions_of(answer["result"])
    assert iou(mask_of(region, disk.shape), disk) > 0.85


def test_a_wrong_token_and_a_missing_file_say_what_to_do(
    label_studio: LabelStudio, make_service: MakeService, nuclei: tuple[Path, npt.NDArray[Any]]
) -> None:
    project = label_studio.make_project(own())["id"]
    (task,) = label_studio.upload(project, [nuclei[0]])
    service = make_service(url=label_studio.url, api_key="0" * 40, automatic=False)
    with served(create_app(service.settings, service=service)) as url:
        backend = label_studio.connect(project, url)["id"]
        answer = ask(label_studio, backend, task, [click(10, 10)])
    assert answer["result"] == []
    assert "SAM_PLUGINS_LS_API_KEY" in service.problems.documents()[0]["message"]


def test_settings_of_a_project_and_another_model_change_the_version(
    label_studio: LabelStudio, make_service: MakeService
) -> None:
    service = make_service(url=label_studio.url, api_key=TOKEN)
    project = label_studio.make_project(own())["id"]
    with served(create_app(service.settings, service=service)) as url:
        extra = {"output": "polygon", "model": "mobile_sam"}
        backend = label_studio.connect(project, url, extra_params=json.dumps(extra))
        shown = label_studio.call("GET", f"/api/ml/{backend['id']}")
        (key,) = [one.key for one in service.projects.all() if one.id == str(project)]
        assert service.model_version(key).startswith("mobile_sam")
        assert service.projects.get(key).settings.output == "polygon"
        assert shown["model_version"] == service.model_version(key)
        assert requests.get(f"{url}/versions", timeout=5).json()["versions"]
