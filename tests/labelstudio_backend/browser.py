"""A real browser in front of a real Label Studio."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.labelstudio_backend.server import EMAIL, PASSWORD, LabelStudio

CHROMIUM = Path(os.environ.get("SAM_PLUGINS_TEST_CHROMIUM", "/usr/bin/chromium"))
ACCEPT = "bottombar-accept-suggestions-button"
_SWITCH_ON = (
    "localStorage.setItem('autoAnnotation', 'true');"
    "localStorage.setItem('autoAcceptSuggestions', 'false')"
)


@contextlib.contextmanager
def logged_in(server: LabelStudio) -> Iterator[Any]:
    """A window in which somebody is logged in."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.is_file():
        pytest.skip(f"no browser at {CHROMIUM}; set SAM_PLUGINS_TEST_CHROMIUM to a chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=str(CHROMIUM), headless=True, args=["--no-sandbox"]
        )
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        context.add_init_script(_SWITCH_ON)
        # nothing outside this machine is asked, nor waited for
        context.route(lambda url: not url.startswith(server.url), lambda route: route.abort())
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{server.url}/user/login", wait_until="domcontentloaded")
        page.fill("input[name=email]", EMAIL)
        page.fill("input[name=password]", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_function("!location.pathname.startsWith('/user/login')")
        yield page
        browser.close()


def open_task(page: Any, server: LabelStudio, project: int, task: int) -> dict[str, float]:
    """Open a task in the editor; return where its picture is in the window.

    It is clicked in the list: where its address is opened, the list, which comes without
    predictions, may arrive after the task, and the editor then shows none. A click on a list that
    is just drawn anew opens nothing: then it is clicked again, as anybody would.
    """
    for _ in range(3):
        page.goto(f"{server.url}/projects/{project}/data", wait_until="domcontentloaded")
        rows = page.get_by_test_id("table-row")
        rows.first.wait_for()
        row = rows.filter(has=page.get_by_label(f"Select Task {task}", exact=True))
        while not row.count():  # only rows in sight are in the page
            rows.last.hover()
            page.mouse.wheel(0, 200)
            page.wait_for_timeout(300)
        row.locator(".lsf-table__cell").nth(1).click()
        if _is_seen(page, ".konvajs-content canvas", seconds=100):
            return place_of_picture(page)
    raise AssertionError(f"task {task} does not open: {page.url}")


def _is_seen(page: Any, selector: str, seconds: int) -> bool:
    """Wait for something to be seen; return whether it is."""
    for _ in range(2 * seconds):
        if page.locator(selector).first.is_visible():
            return True
        page.wait_for_timeout(500)
    return False


def place_of_picture(page: Any) -> dict[str, float]:
    """Return where the picture is in the window, once it rests there.

    The editor lays a picture out once more when it has its size, and may put another canvas in
    the place of the first; in between there is none.
    """
    canvas = page.locator(".konvajs-content").first
    earlier: list[dict[str, float] | None] = []
    for _ in range(240):
        page.wait_for_timeout(500)
        canvas.wait_for()
        now: dict[str, float] | None = canvas.bounding_box()
        if now is not None and earlier[-5:] == [now] * 5:
            return now
        earlier.append(now)
    raise AssertionError(f"the picture does not rest: {earlier[-5:]}")


def submit(page: Any) -> None:
    """Submit what is drawn."""
    with page.expect_response(
        lambda answer: answer.request.method == "POST" and "/annotations" in answer.url
    ) as heard:
        page.get_by_role("button", name="Submit current annotation").click()
    assert heard.value.ok, heard.value.text()


def accept_and_submit(page: Any) -> None:
    """Accept what is suggested, and submit."""
    page.get_by_test_id(ACCEPT).click()
    # Until the suggestions are regions, the editor passes over a click on its button to submit.
    page.get_by_test_id(ACCEPT).wait_for(state="hidden")
    page.wait_for_timeout(500)
    submit(page)


def start_training(page: Any, server: LabelStudio, project: int) -> None:
    """Press the button where Label Studio lists the model."""
    page.goto(f"{server.url}/projects/{project}/settings/ml", wait_until="domcontentloaded")
    page.get_by_role("button", name="Machine learning model options").click()
    page.get_by_text("Start Training", exact=True).click()
    with page.expect_response(lambda answer: answer.url.endswith("/train")) as heard:
        page.locator("button:has-text('Start Training')").last.click()  # asked once more
    assert heard.value.ok, heard.value.text()


def paste_config(page: Any, server: LabelStudio, project: int, config: str) -> None:
    """Paste a labelling config where the settings of a project have its code, and save it."""
    page.goto(f"{server.url}/projects/{project}/settings/labeling", wait_until="domcontentloaded")
    page.locator(".CodeMirror").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(config)
    save = page.get_by_text("Save", exact=True)
    with page.expect_response(
        lambda answer: answer.request.method == "PATCH" and f"/projects/{project}" in answer.url
    ) as heard:
        save.click()
    assert heard.value.ok, heard.value.text()


def choose_tool(page: Any, name: str) -> None:
    """Take one of the tools that ask the backend, such as ``rectangle-tool``."""
    page.locator(".lsf-tool_smart:visible").first.hover()
    inner = page.locator(f".lsf-toolbar__smart [aria-label={name}]")
    if inner.count() and inner.first.is_visible():
        inner.first.click()
    else:
        page.locator(".lsf-tool_smart:visible").first.click()
    page.mouse.move(5, 5)


def draw(page: Any, where: dict[str, float], truth: npt.NDArray[np.bool_], tool: str) -> None:
    """Click into an object, or draw a box around it."""

    def window(x: float, y: float) -> tuple[float, float]:
        return in_window(where, truth, x, y)

    if tool == "key-point-tool":
        y, x = np.argwhere(truth)[np.count_nonzero(truth) // 2]
        page.mouse.click(*window(x + 0.5, y + 0.5))
        return
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    corners = [(columns[0], rows[0]), (columns[-1] + 1, rows[-1] + 1)]
    if tool == "rectangle-3-point-tool":
        for x, y in (corners[0], (corners[1][0], corners[0][1]), corners[1]):
            page.mouse.move(*window(x - 2, y))
            page.mouse.move(*window(x, y), steps=3)
            page.mouse.click(*window(x, y))
            page.wait_for_timeout(300)
        return
    page.mouse.move(*window(*corners[0]))
    page.mouse.down()
    page.mouse.move(*window(corners[1][0] - 5, corners[1][1] - 5), steps=5)
    page.mouse.move(*window(*corners[1]), steps=3)
    page.mouse.up()


def in_window(
    where: dict[str, float], truth: npt.NDArray[np.bool_], x: float, y: float
) -> tuple[float, float]:
    """Return where a place of the picture is in the window."""
    scale = min(where["width"] / truth.shape[1], where["height"] / truth.shape[0])
    return where["x"] + x * scale, where["y"] + y * scale


def shown(
    page: Any, where: dict[str, float], truth: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return the mean colour of the window where an object is."""
    window = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), np.float64)
    places = [in_window(where, truth, x, y) for y, x in np.argwhere(truth)[::7]]
    colours = [window[int(y), int(x)] for x, y in places]
    mean: npt.NDArray[np.float64] = np.mean(colours, axis=0)
    return mean
