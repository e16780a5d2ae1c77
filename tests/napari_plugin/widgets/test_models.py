"""The table of models in a real window."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtWidgets import QMessageBox, QTextBrowser
from tests.napari_plugin.helpers import keep_screenshot, open_widget

from sam_plugins.model.weights.comparison import Comparison
from sam_plugins.model.weights.registry import find_entry
from sam_plugins.model.weights.store import ModelStore
from sam_plugins.napari_plugin.current_model import ModelChoice, current_model

pytestmark = pytest.mark.gui


def add_version(low: float = 0.01) -> None:
    """Store the shipped weights as a version of a project."""
    comparison = Comparison("default-1", "mSA", 0.6, 0.5, low, 0.2, 8)
    ModelStore().add(
        "my-cells", find_entry("default").path, model_id="my-cells-1", comparison=comparison
    )


def test_the_shipped_model_is_there_with_its_passport(viewer: Any, qtbot: Any) -> None:
    widget = open_widget(viewer, "Models")
    assert widget.selected.name == "default"
    passport = widget.findChild(QTextBrowser)
    text = passport.toPlainText()
    assert "Apache-2.0" in text
    assert "pictures" in text
    assert widget.buttons["use"].isEnabled()
    assert not widget.buttons["delete"].isEnabled()
    widget.select("mobile_sam")
    assert widget.buttons["download"].isEnabled()
    assert not widget.buttons["use"].isEnabled()
    widget.select("default")
    viewer.window._qt_window.resize(1500, 950)
    keep_screenshot(viewer, qtbot, "models")


def test_promote_roll_back_and_use_change_the_model_of_all_widgets(viewer: Any, qtbot: Any) -> None:
    add_version()
    add_version()
    heard: list[ModelChoice] = []
    current_model().changed.connect(heard.append)
    widget = open_widget(viewer, "Models")
    widget.select("my-cells@1")
    widget.promote()
    assert ModelStore().find("my-cells").number == 1
    assert heard[0].name == "my-cells"
    assert current_model().load().passport is not None
    widget.select("my-cells@2")
    widget.promote(force=True)
    assert ModelStore().find("my-cells").number == 2
    widget.roll_back()
    assert ModelStore().find("my-cells").number == 1
    widget.select("my-cells@2")
    widget.delete_now(widget.selected)
    assert [str(one) for one in ModelStore().versions("my-cells")] == ["my-cells@1"]
    widget.select("default")
    widget.use()
    assert current_model().choice.name == "default"


def test_a_version_without_proof_is_promoted_only_after_a_question(
    viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_version(low=-0.1)
    widget = open_widget(viewer, "Models")
    widget.select("my-cells@1")
    asked: list[str] = []

    def answer(parent: Any, title: str, text: str) -> Any:
        asked.append(text)
        return QMessageBox.StandardButton.No

    monkeypatch.setattr(QMessageBox, "question", answer)
    widget.promote()
    assert "not better beyond doubt" in asked[0]
    assert not ModelStore().versions("my-cells")[0].is_in_use


def test_a_download_that_fails_says_what_to_do(
    viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.utils.notifications import notification_manager

    monkeypatch.setenv("SAM_PLUGINS_OFFLINE", "1")
    widget = open_widget(viewer, "Models")
    widget.select("mobile_sam")
    before = len(notification_manager.records)
    widget.download()
    qtbot.waitUntil(lambda: len(notification_manager.records) > before, timeout=5000)
    assert "SAM_PLUGINS_OFFLINE" in notification_manager.records[-1].message
    qtbot.waitUntil(widget.buttons["download"].isEnabled, timeout=2000)


def test_the_choice_is_kept_between_sessions(viewer: Any) -> None:
    current_model().choose(ModelChoice("sam_vit_b", "cpu"))
    current_model.cache_clear()
    assert current_model().choice == ModelChoice("sam_vit_b", "cpu")
