"""The review queue in a real window: pictures come one after the other, with proposals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.napari_plugin.helpers import keep_screenshot, open_widget
from tests.napari_plugin.test_reviewing import SQUARES, project, square

from sam_plugins.model.engine.project.project import Project

pytestmark = pytest.mark.gui

__all__ = ["project"]


def states(folder: Path, name: str) -> list[str]:
    with Project.open(folder) as known:
        objects = known.labels.objects(known.find_image(name).image_id)
        return sorted(str(one.review) for one in objects)


def opened(widget: Any, qtbot: Any) -> str:
    """Wait for a picture, and return its name."""
    qtbot.waitUntil(lambda: not widget.review.is_running, timeout=120_000)
    return str(widget.review.picture.name)


def test_a_person_reviews_one_picture_after_the_other(
    viewer: Any, qtbot: Any, project: Path
) -> None:
    widget = open_widget(viewer, "Train")
    widget.folder.setText(str(project))
    widget.reload()
    review = widget.review
    qtbot.waitUntil(lambda: "3 proposals wait in 1 pictures" in review.queue.text(), timeout=60_000)
    assert not review.buttons["accept"].isEnabled()
    review.buttons["next"].click()
    assert opened(widget, qtbot) == "p1.tif"
    image, objects = viewer.layers
    assert (image.name, objects.name) == ("p1.tif", "p1.tif objects")
    assert all(objects.data[square(*place)].all() for place in SQUARES)
    viewer.window._qt_window.resize(1400, 950)
    keep_screenshot(viewer, qtbot, "review")

    objects.data[square(*SQUARES[0])] = 0
    review.buttons["next"].click()  # not with changes that nobody has kept
    assert not review.is_running
    assert review.picture.name == "p1.tif"
    review.buttons["accept"].click()
    qtbot.waitUntil(
        lambda: review.picture is None or review.picture.name != "p1.tif", timeout=120_000
    )
    assert opened(widget, qtbot) in {"p0.tif", "p2.tif"}
    assert states(project, "p1.tif") == ["accepted", "accepted", "rejected"]
    assert image not in viewer.layers
    assert len(viewer.layers) == 2
    assert widget.summary.text().startswith("2 objects; ")

    second = review.picture.name
    assert set(states(project, second)) == {"proposed"}
    review.buttons["reject"].click()
    qtbot.waitUntil(
        lambda: review.picture is None or review.picture.name != second, timeout=120_000
    )
    assert set(states(project, second)) == {"rejected"}
    assert opened(widget, qtbot) not in {"p1.tif", second}


def test_nothing_is_reviewed_without_a_project(viewer: Any) -> None:
    from napari.utils.notifications import notification_manager

    widget = open_widget(viewer, "Train")
    widget.folder.setText("")
    widget.review.go_on()
    assert "choose a folder" in notification_manager.records[-1].message
    widget.review.accept()
    assert "no picture to accept" in notification_manager.records[-1].message
