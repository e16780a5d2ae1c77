"""How long a real window stands still while the shipped model works."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt, QTimer

from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.io.images import read_image
from sam_plugins.model.io.labelled import list_manifest_files
from sam_plugins.model.large.whole import segment
from sam_plugins.napari_plugin.current_model import current_model
from sam_plugins.napari_plugin.jobs import JobProgress, start_job
from sam_plugins.napari_plugin.training import TrainParams, add_labels_to_project, train_project
from sam_plugins.napari_plugin.worker import in_process

pytestmark = [pytest.mark.gui, pytest.mark.slow]

LONGEST = 0.1


def encode(*, progress: JobProgress) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        progress(number, 3)
        encode_image(current_model().load(), rng.integers(0, 255, (1024, 1024, 3), np.uint8))


def automatic(picture: Path, *, progress: JobProgress) -> None:
    segment(read_image(picture), current_model().load(), progress=progress)


def longest_gap(qtbot: Any, function: Any, *args: Any) -> float:
    """Return the longest time between beats of the event loop while a job works."""
    beats: list[float] = []
    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(lambda: beats.append(time.perf_counter()))
    timer.start(5)
    ended: list[str] = []
    start_job(
        function,
        *args,
        title="Working",
        on_result=lambda _: ended.append("result"),
        on_finished=lambda: ended.append("finished"),
    )
    qtbot.waitUntil(lambda: "finished" in ended, timeout=280_000)
    timer.stop()
    assert ended == ["result", "finished"]
    return float(np.diff(beats).max())


def test_the_window_lives_while_the_model_works(
    viewer: Any, qtbot: Any, test_data: Path, tmp_path: Path
) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > (cores or 1):
        pytest.skip(f"other programs keep all cores busy (load {os.getloadavg()[0]:.1f})")
    viewer.add_image(np.zeros((64, 64)))
    current_model().load()
    for number, file in enumerate(list_manifest_files(test_data, ["dsb2018"], split="val")[:3]):
        known = file.read()
        add_labels_to_project(
            tmp_path / "project",
            "my-cells",
            known.image[:256, :256],
            known.labels[:256, :256],
            f"cells-{number}",
            is_complete=True,
            progress=JobProgress(lambda kind, value: None),
        )
    picture = list_manifest_files(test_data, ["dapi_tissue"], split="val")[0].image_path
    params = TrainParams(method="full", steps=4, rounds=1)
    assert longest_gap(qtbot, encode) < LONGEST
    assert longest_gap(qtbot, automatic, picture) < LONGEST
    assert (
        longest_gap(
            qtbot, in_process, train_project, tmp_path / "project", "my-cells", params, "cpu"
        )
        < LONGEST
    )
