"""Training in a real window: from committed labels to a version that all widgets use."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.utils.notifications import notification_manager
from tests.napari_plugin.helpers import keep_screenshot, open_widget

from sam_plugins.model.engine.tuning_options import FineTuningOptions
from sam_plugins.model.io.labelled import list_manifest_files
from sam_plugins.model.weights.store import ModelStore
from sam_plugins.napari_plugin.current_model import current_model
from sam_plugins.napari_plugin.folder import FolderSettings, PictureFolder
from sam_plugins.napari_plugin.jobs import JobState
from sam_plugins.napari_plugin.layers import add_labels
from sam_plugins.napari_plugin.settings import keep_settings
from sam_plugins.napari_plugin.training import ProjectSummary, TrainParams
from sam_plugins.napari_plugin.training_trial import TrainingRates

pytestmark = pytest.mark.gui


def add_pictures(viewer: Any, qtbot: Any, widget: Any, test_data: Path, count: int) -> None:
    """Label pictures as the truth has them, and add each to the project."""
    for number, file in enumerate(list_manifest_files(test_data, ["dsb2018"], split="val")[:count]):
        viewer.layers.clear()
        known = file.read()
        pixels = known.image[:256, :256]
        image = viewer.add_image(pixels, rgb=pixels.ndim == 3, name=f"cells {number}")
        objects = add_labels(viewer, image, "objects")
        objects.data[...] = known.labels[:256, :256]
        widget.summary.setText("")
        widget.add_picture()
        qtbot.waitUntil(lambda: "objects" in widget.summary.text(), timeout=180_000)


def test_labels_become_a_version_that_all_widgets_use(
    viewer: Any, qtbot: Any, test_data: Path, tmp_path: Path
) -> None:
    widget = open_widget(viewer, "Train")
    widget.folder.setText(str(tmp_path / "project"))
    widget.name.setText("my-cells")
    widget.is_complete.setChecked(True)
    add_pictures(viewer, qtbot, widget, test_data, 3)
    assert "Training needs both" not in widget.summary.text()
    widget.controls.set(method="decoder", steps=2, rounds=1)
    widget.train()
    qtbot.waitUntil(lambda: widget.job.state is not JobState.RUNNING, timeout=600_000)
    assert widget.job.state is JobState.DONE
    assert len(widget.curve.losses) == 2
    assert [step for step, _ in widget.curve.measured] == [2, 2, 2]  # And parts of the way.
    assert "held-out pictures" in widget.outcome.text()
    viewer.window._qt_window.resize(1400, 950)
    keep_screenshot(viewer, qtbot, "train")
    if not ModelStore().versions("my-cells"):
        assert "Nothing was better" in widget.outcome.text()
        return
    widget.promote(force=True)
    assert ModelStore().find("my-cells").number == 1
    assert current_model().choice.name == "my-cells"


def test_stop_ends_training_at_once(
    viewer: Any, qtbot: Any, test_data: Path, tmp_path: Path
) -> None:
    widget = open_widget(viewer, "Train")
    widget.folder.setText(str(tmp_path / "project"))
    widget.is_complete.setChecked(True)
    add_pictures(viewer, qtbot, widget, test_data, 2)
    widget.controls.set(steps=1000, rounds=1)
    widget.train()
    qtbot.wait(1500)
    started = time.monotonic()
    widget.cancel()
    qtbot.waitUntil(lambda: widget.job.state is not JobState.RUNNING, timeout=60_000)
    assert widget.job.state is JobState.CANCELLED
    assert time.monotonic() - started < 20
    assert "as it was" in widget.outcome.text()
    assert not ModelStore().names()


def test_what_is_missing_is_said(viewer: Any, tmp_path: Path) -> None:
    widget = open_widget(viewer, "Train")
    widget.folder.setText("")
    widget.train()
    assert "choose a folder" in notification_manager.records[-1].message
    widget.folder.setText(str(tmp_path))
    widget.add_picture()
    assert "no image in the viewer" in notification_manager.records[-1].message


@pytest.mark.slow
def test_a_few_steps_tell_how_long_training_takes(
    viewer: Any, qtbot: Any, test_data: Path, tmp_path: Path
) -> None:
    widget = open_widget(viewer, "Train")
    widget.folder.setText(str(tmp_path / "project"))
    widget.is_complete.setChecked(True)
    add_pictures(viewer, qtbot, widget, test_data, 3)
    widget.controls.set(method="decoder", steps=2, rounds=1)
    assert not widget.estimate.text()
    widget.try_training()
    qtbot.waitUntil(lambda: widget.job.state is not JobState.RUNNING, timeout=600_000)
    assert widget.estimate.text().startswith("About ")
    assert "B of memory or more (" in widget.estimate.text()
    assert not ModelStore().names()
    viewer.window._qt_window.resize(1400, 950)
    keep_screenshot(viewer, qtbot, "train-estimate")
    widget.controls.set(steps=100_000)
    assert " h " in widget.estimate.text()
    widget.controls.set(method="full")
    assert not widget.estimate.text()  # that was not tried


def test_how_long_training_takes_is_the_sum_of_its_parts() -> None:
    rates = TrainingRates("full", "cpu", preparing=2, step=0.5, measuring=3, nbytes=0)
    params = TrainParams(steps=300, rounds=6)
    shares = len(FineTuningOptions().shares)
    assert rates.seconds(params, ProjectSummary(10, 4, 99)) == 20 + 150 + 3 * 4 * (7 + shares)


def test_slices_of_a_stack_and_done_pictures_of_a_folder_are_added_at_once(
    viewer: Any, qtbot: Any, tmp_path: Path
) -> None:
    widget = open_widget(viewer, "Train")
    widget.folder.setText(str(tmp_path / "project"))
    widget.add_folder()
    assert "open one in Folder" in notification_manager.records[-1].message
    rng = np.random.default_rng(0)
    image = viewer.add_image(rng.integers(0, 255, (5, 40, 40), np.uint8), name="stack")
    objects = add_labels(viewer, image, "objects")
    objects.data[[0, 2, 4], 5:15, 5:15] = 1
    widget.buttons["add_stack"].click()
    assert widget.is_running
    assert widget.buttons["cancel"].isEnabled()
    assert not widget.buttons["start"].isEnabled()
    qtbot.waitUntil(lambda: not widget.is_running, timeout=60_000)
    assert widget.outcome.text() == "3 pictures added."
    assert widget.summary.text().startswith("3 objects; ")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    tifffile.imwrite(pictures / "one.tif", rng.integers(0, 255, (40, 40), np.uint8))
    folder = PictureFolder(pictures)
    folder.write_labels(0, objects.data[2])
    folder.set_done(0, True)
    keep_settings("folder", FolderSettings(str(pictures)))
    widget.buttons["add_folder"].click()
    qtbot.waitUntil(lambda: not widget.is_running, timeout=60_000)
    assert widget.outcome.text() == "1 pictures added."
    assert widget.summary.text().startswith("4 objects; ")
