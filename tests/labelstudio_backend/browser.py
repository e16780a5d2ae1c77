"""A real browser in front of a real Label Studio."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
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
    """Open a task in the editor; return where its picture is in the window."""
    page.goto(f"{server.url}/projects/{project}/data?task={task}", wait_until="domcontentloaded")
    page.wait_for_selector(".konvajs-content canvas")
    page.wait_for_timeout(3000)  # the picture is laid out once more when it has its size
    found: dict[str, float] = page.locator(".konvajs-content").bounding_box()
    return found


def submit(page: Any) -> None:
    """Submit what is drawn."""
    page.get_by_role("button", name="Submit current annotation").click()


def accept_and_submit(page: Any) -> None:
    """Accept what is suggested, and submit."""
    page.get_by_test_id(ACCEPT).click()
    submit(page)


def start_training(page: Any, server: LabelStudio, project: int) -> None:
    """Press the button where Label Studio lists the model."""
    page.goto(f"{server.url}/projects/{project}/settings/ml", wait_until="domcontentloaded")
    page.get_by_role("button", name="Machine learning model options").click()
    page.get_by_text("Start Training", exact=True).click()
    with page.expect_response(lambda answer: answer.url.endswith("/train")) as heard:
        page.locator("button:has-text('Start Training')").last.click()  # asked once more
    assert heard.value.ok, heard.value.text()
