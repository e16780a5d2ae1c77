"""How long a real window stands still while the shipped model works, asked as people ask it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.gui, pytest.mark.slow]
pytest.importorskip("napari")

from qtpy.QtCore import Qt, QTimer  # noqa: E402
from skimage.filters import threshold_otsu  # noqa: E402
from skimage.measure import label, regionprops  # noqa: E402
from tests.napari_plugin.helpers import layer_of, open_widget  # noqa: E402
from tests.napari_plugin.segmenting import answered, until  # noqa: E402

from sam_plugins.model.inference.predict import encode_image  # noqa: E402
from sam_plugins.model.io.images import read_image  # noqa: E402
from sam_plugins.model.io.labelled import list_manifest_files  # noqa: E402
from sam_plugins.napari_plugin.current_model import current_model  # noqa: E402
from sam_plugins.napari_plugin.jobs import JobProgress, start_job  # noqa: E402
from sam_plugins.napari_plugin.project_pictures import (  # noqa: E402
    LabelledPicture,
    add_picture_to_project,
)
from sam_plugins.napari_plugin.samples import nuclei_3d  # noqa: E402
from sam_plugins.napari_plugin.training import TrainParams, train_project  # noqa: E402
from sam_plugins.napari_plugin.worker import in_process  # noqa: E402

LONGEST = 0.1
SECONDS = 600.0
_SCHEDULE = Path("/proc/self/task") / str(threading.get_native_id()) / "schedstat"


@pytest.fixture(autouse=True)
def _idle() -> None:
    """Measure nothing on a machine that others keep busy, but where that is asked for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    is_busy = hasattr(os, "getloadavg") and os.getloadavg()[0] > (cores or 1)
    if is_busy and not os.environ.get("SAM_PLUGINS_TEST_BUSY"):
        pytest.skip(
            f"other programs keep all cores busy (load {os.getloadavg()[0]:.1f}); "
            "SAM_PLUGINS_TEST_BUSY=1 measures all the same"
        )


def seconds_without_a_core() -> float:
    """Return how long this thread has waited for a core by now; 0 where nobody tells."""
    try:
        return int(_SCHEDULE.read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


@contextmanager
def beating() -> Iterator[list[float]]:
    """Note the time between beats of the event loop, but for what other programs took of it."""
    gaps: list[float] = []
    last = (time.perf_counter(), seconds_without_a_core())

    def beat() -> None:
        nonlocal last
        now = (time.perf_counter(), seconds_without_a_core())
        gaps.append(now[0] - last[0] - (now[1] - last[1]))
        last = now

    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(beat)
    timer.start(5)
    try:
        yield gaps
    finally:
        timer.stop()


def longest_gap(qtbot: Any, is_done: Callable[[], bool], what: str) -> float:
    """Return the longest time that the window stands still until something is done."""
    with beating() as gaps:
        qtbot.waitUntil(is_done, timeout=int(SECONDS * 1000))
    print(f"{what}: {len(gaps)} beats, longest gap {max(gaps) * 1000:.0f} ms")
    return max(gaps)


def working(function: Any, *args: Any) -> Callable[[], bool]:
    """Start a job, and return whether it has ended, which must be well."""
    ended: list[str] = []
    start_job(
        function,
        *args,
        title="Working",
        on_result=lambda _: ended.append("result"),
        on_finished=lambda: ended.append("finished"),
    )

    def is_done() -> bool:
        assert ended in ([], ["result"], ["result", "finished"])
        return "finished" in ended

    return is_done


def encode(*, progress: JobProgress) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        progress(number, 3)
        encode_image(current_model().load(), rng.integers(0, 255, (1024, 1024, 3), np.uint8))


def test_while_encoding(viewer: Any, qtbot: Any) -> None:
    viewer.add_image(np.random.default_rng(1).integers(0, 255, (1024, 1024), np.uint8))
    current_model().load()
    assert longest_gap(qtbot, working(encode), "encode") < LONGEST


def test_while_objects_are_found_and_painted(viewer: Any, qtbot: Any, test_data: Path) -> None:
    file = list_manifest_files(test_data, ["dapi_tissue"], split="val")[0]
    picture = read_image(file.image_path)
    viewer.add_image(picture)
    # napari's first labels layer takes it 0.1 s and more, whoever adds it.
    viewer.add_labels(np.zeros(picture.shape[:2], np.uint32)).data[:] = 1
    current_model().load()
    widget = open_widget(viewer, "Automatic")
    qtbot.wait(1500)  # the window has its size, the widget is painted
    viewer.layers.selection.active = viewer.layers[0]
    widget.run()
    assert longest_gap(qtbot, lambda: not widget.job.is_running, "automatic") < LONGEST
    found = layer_of(viewer, "automatic")
    qtbot.waitUntil(lambda: found.data.max() > 50, timeout=20_000)


def test_while_objects_are_followed_and_painted(viewer: Any, qtbot: Any, open_segment: Any) -> None:
    ((volume, keywords, _),) = nuclei_3d()
    viewer.add_image(volume, **keywords)
    index = len(volume) // 2
    viewer.dims.set_current_step(0, index)
    widget, _ = open_segment(ahead=False)
    bright = volume[index] > threshold_otsu(volume[index])  # type: ignore[no-untyped-call]
    nucleus = max(regionprops(label(bright)), key=lambda one: one.area)  # type: ignore[no-untyped-call]
    position = viewer.layers[0].data_to_world((index, *nucleus.centroid))
    segmenter = widget.segmenter
    segmenter.click(position)
    answered(widget)
    until(lambda: segmenter.view.current is not None)
    qtbot.wait(500)
    widget.controller.propagate()
    follower = segmenter.through.follower
    assert longest_gap(qtbot, lambda: not follower.is_running, "propagate") < LONGEST
    (one,) = segmenter.session.state.followed
    assert len(one.slices) > 4


def test_while_training(viewer: Any, qtbot: Any, test_data: Path, tmp_path: Path) -> None:
    viewer.add_image(np.random.default_rng(1).integers(0, 255, (1024, 1024), np.uint8))
    for number, file in enumerate(list_manifest_files(test_data, ["dsb2018"], split="val")[:3]):
        known = file.read()
        image, labels = known.image[:256, :256], known.labels[:256, :256]
        add_picture_to_project(
            tmp_path / "project",
            "my-cells",
            LabelledPicture(f"cells-{number}", image, labels, is_complete=True),
            progress=JobProgress(lambda kind, value: None),
        )
    params = TrainParams(method="full", steps=4, rounds=1)
    work = working(in_process, train_project, tmp_path / "project", "my-cells", params, "cpu")
    assert longest_gap(qtbot, work, "training") < LONGEST
