"""Our widgets in the window: tabs of each other, until people pull them apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.napari_plugin.segmenting import rest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from qtpy.QtCore import Qt  # noqa: E402
from qtpy.QtWidgets import QDockWidget, QLabel, QWidget  # noqa: E402

from sam_plugins.napari_plugin.docking import share_place  # noqa: E402

SEGMENT, AUTOMATIC, MODELS = "Segment", "Automatic", "Models"


def neighbours(dock: Any) -> set[QDockWidget]:
    return set(dock.parentWidget().tabifiedDockWidgets(dock))


def test_widgets_opened_from_the_menu_are_tabs_of_each_other(viewer: Any) -> None:
    viewer.add_image(np.zeros((32, 32), np.uint8))
    segment, widget = viewer.window.add_plugin_dock_widget("sam-plugins", SEGMENT)
    rest()
    height = segment.height()
    automatic, _ = viewer.window.add_plugin_dock_widget("sam-plugins", AUTOMATIC)
    rest()
    assert neighbours(segment) == {automatic}
    assert not automatic.visibleRegion().isEmpty()
    models, _ = viewer.window.add_plugin_dock_widget("sam-plugins", MODELS)
    rest()
    assert neighbours(segment) == {automatic, models}
    segment.raise_()
    rest()
    assert not segment.visibleRegion().isEmpty()
    assert segment.height() > 0.8 * height  # but for the tabs
    widget.controller.close()


@pytest.fixture
def dock(viewer: Any) -> Callable[..., QDockWidget]:
    """Return what docks a widget of ours, or of others."""

    def dock(name: str, *, is_ours: bool = True, area: str = "right") -> Any:
        widget = QLabel(name)
        if is_ours:
            share_place(widget)
        made = viewer.window.add_dock_widget(widget, name=name, area=area)
        rest()
        return made

    return dock


def test_only_ours_in_the_same_area_become_tabs(dock: Callable[..., Any]) -> None:
    dock("other", is_ours=False)
    first = dock("first")
    assert not neighbours(first)
    below = dock("below", area="bottom")
    assert not neighbours(below)
    second = dock("second")
    assert neighbours(first) == {second}


def test_what_people_pulled_apart_stays_apart(dock: Callable[..., Any]) -> None:
    first, second = dock("first"), dock("second")
    second.setFloating(True)
    rest()
    third = dock("third")
    assert neighbours(third) == {first}
    area = Qt.DockWidgetArea.RightDockWidgetArea
    first.parentWidget().addDockWidget(area, second)  # dropped below the others
    second.hide()
    second.show()
    rest()
    assert not neighbours(second)


def test_outside_a_dock_nothing_is_done(viewer: Any, qtbot: Any) -> None:
    widget = QWidget()
    qtbot.addWidget(widget)
    share_place(widget)
    widget.show()
    rest()
    assert widget.parentWidget() is None
