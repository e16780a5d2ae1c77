"""Jobs in the activity dock of a real napari."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from qtpy.QtWidgets import QLabel, QProgressBar, QPushButton

from sam_plugins.errors import UnreadableImageError
from sam_plugins.napari_plugin.jobs import JobProgress, start_job

pytestmark = pytest.mark.gui


def slow_steps(count: int, *, progress: JobProgress) -> int:
    for number in range(count):
        progress(number, count)
        time.sleep(0.02)
    return count


def bars(viewer: Any) -> list[Any]:
    """Return the bars that people see."""
    found = viewer.window._qt_window.findChildren(QProgressBar)
    return [bar for bar in found if bar.parent().__class__.__name__ == "QtLabeledProgressBar"]


def test_a_job_shows_how_far_it_is_and_is_cancelled_by_its_button(viewer: Any, qtbot: Any) -> None:
    ends: list[str] = []
    job = start_job(
        slow_steps, 500, title="Looking at cells", on_cancelled=lambda: ends.append("cancelled")
    )
    qtbot.waitUntil(lambda: any(bar.value() >= 5 for bar in bars(viewer)), timeout=5000)
    (bar,) = bars(viewer)
    assert bar.maximum() == 500
    texts = [label.text() for label in bar.parent().findChildren(QLabel)]
    assert "Looking at cells: " in texts
    assert any(re.search(r"<\d\d:\d\d", text) for text in texts), texts  # time left
    (button,) = bar.parent().findChildren(QPushButton)
    started = time.monotonic()
    button.click()
    qtbot.waitUntil(lambda: ends == ["cancelled"], timeout=1000)
    assert job.wait(1.0)
    assert time.monotonic() - started < 1.0
    qtbot.waitUntil(lambda: not bars(viewer), timeout=2000)


def test_an_error_becomes_a_notification_with_its_remedy(viewer: Any, qtbot: Any) -> None:
    from napari.utils.notifications import notification_manager

    def fail(*, progress: JobProgress) -> None:
        raise UnreadableImageError("cell.png is damaged: save it again")

    before = len(notification_manager.records)
    start_job(fail, title="Failing")
    qtbot.waitUntil(lambda: len(notification_manager.records) > before, timeout=5000)
    note = notification_manager.records[-1]
    assert note.message == "cell.png is damaged: save it again"
    assert str(note.severity) == "error"


def test_the_window_closes_while_a_job_runs(viewer: Any, qtbot: Any) -> None:
    job = start_job(slow_steps, 500, title="Looking at cells", owner=viewer.window._qt_window)
    qtbot.waitUntil(lambda: bool(bars(viewer)), timeout=5000)
    viewer.close()
    qtbot.waitUntil(lambda: not job.is_running, timeout=2000)
    assert job.wait(1.0)
