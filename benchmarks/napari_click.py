"""How long a click in napari takes until its mask is painted, in a real window.

Run it under a display, such as ``xvfb-run -a -s "-screen 0 1600x1000x24" python
benchmarks/napari_click.py``. The picture is encoded first; then each click is timed from the press
of the mouse until the window has drawn the mask. Meanwhile a timer of Qt watches how long the event
loop was ever kept from running.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import napari
import numpy as np
import numpy.typing as npt
import torch
from qtpy.QtCore import QEventLoop, QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from sam_plugins.napari_plugin.segmenter import Segmenter
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget
from sides import picture

SIDE = 1024


class LoopWatch:
    """Notes the longest time between two turns of the event loop."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.longest = 0.0
        self._timer = QTimer()
        self._timer.setInterval(1)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last)
        self._last = now

    def take(self) -> float:
        """Return the longest gap in milliseconds, and begin anew."""
        longest, self.longest, self._last = self.longest, 0.0, time.perf_counter()
        return 1000 * longest


def until(is_so: Callable[[], Any], seconds: float = 120) -> None:
    """Let the window live until something is so."""
    end = time.perf_counter() + seconds
    while not is_so():
        if time.perf_counter() > end:
            raise TimeoutError("it did not happen in time")
        QApplication.processEvents()
        time.sleep(0.0005)


class Clicker:
    """Clicks on a canvas and waits for the mask to be drawn."""

    def __init__(self, viewer: napari.Viewer, widget: SegmentWidget, segmenter: Segmenter) -> None:
        self._widget = widget
        self._segmenter = segmenter
        self._canvas = viewer.window._qt_viewer.canvas
        self._draws = self._painted = 0
        self._turning = QEventLoop()
        self.cpu: list[float] = []  # milliseconds of all threads
        segmenter.session.state_changed.connect(self._on_state)  # after our own painting
        self._canvas._scene_canvas.events.draw.connect(self._on_draw)

    def _on_draw(self, event: object) -> None:  # noqa: ARG002
        self._draws += 1
        if self._draws > self._painted:
            self._turning.quit()

    def _on_state(self) -> None:
        draft = self._widget.controller.active_draft
        if draft is not None and draft.answer is not None:
            self._painted = self._draws

    def _point(self, y: float, x: float) -> QPoint:
        def mapped(a: float, b: float) -> npt.NDArray[np.float64]:
            return np.asarray(self._canvas._map_canvas2world((a, b), self._canvas.view), float)

        origin = mapped(0, 0)
        matrix = np.stack([mapped(1, 0) - origin, mapped(0, 1) - origin], axis=1)
        across, down = np.linalg.solve(matrix, np.array([y, x]) - origin)
        return QPoint(round(float(across)), round(float(down)))

    def click(self, y: float, x: float) -> float:
        """Return the milliseconds from the press to the drawn mask."""
        where = self._point(y, x)
        until(lambda: not self._segmenter.asker.is_busy)
        for _ in range(5):
            QApplication.processEvents()
        keys = Qt.KeyboardModifier.NoModifier
        self._painted = self._draws + 1_000_000
        start, used = time.perf_counter(), time.process_time()
        QTest.mouseClick(self._canvas.native, Qt.MouseButton.LeftButton, keys, where)
        # As the application waits, for events: a loop of ours would hold Python's lock.
        if self._draws <= self._painted:
            self._turning.exec()
        self.cpu.append(1000 * (time.process_time() - used))
        return 1000 * (time.perf_counter() - start)


def told(name: str, values: list[float]) -> str:
    """Return a line of the result."""
    low, middle, high = np.percentile(values, [10, 50, 90])
    return (
        f"{name:<28} median {middle:6.1f} ms   10 to 90 %: {low:.1f} to {high:.1f}   "
        f"longest {max(values):.1f}"
    )


def main() -> None:
    """Print the latencies and the longest gaps of the event loop."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clicks", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1500, 950)
    viewer.add_image(picture(SIDE), rgb=True)
    for _ in range(20):
        QApplication.processEvents()
    watch = LoopWatch()
    start = time.perf_counter()
    widget = SegmentWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Segment")
    docked = time.perf_counter()  # on a busy machine that alone takes more than a second
    until(lambda: time.perf_counter() - docked > 2)
    opening = watch.take()
    segmenter = widget.segmenter
    assert segmenter is not None
    until(segmenter.is_ready)
    ready, encoding = time.perf_counter() - start, watch.take()
    viewer.reset_view()
    clicker = Clicker(viewer, widget, segmenter)
    rng = np.random.default_rng(0)
    places = rng.uniform(50, SIDE - 50, (options.clicks, 2))
    clicker.click(*places[0])  # the layers are made once
    widget.controller.clear()
    first_layers = watch.take()
    firsts, seconds = [], []
    for y, x in places:
        firsts.append(clicker.click(y, x))
        seconds.append(clicker.click(y + 20, x + 20))
        widget.controller.clear()
    clicking = watch.take()
    print(
        f"napari {napari.__version__}, {options.threads} threads, {SIDE} x {SIDE} pixels, "
        f"{options.clicks} objects"
    )
    print(told("first click on an object", firsts))
    print(told("second click on it", seconds))
    print(told("processor time of a click", clicker.cpu))
    print(f"load of the machine          {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(
        f"until the picture is ready   {ready:.1f} s (model and embedding, or found in the cache)"
    )
    print(
        "longest event-loop gap, ms:  "
        f"opening {opening:.0f}, loading and encoding {encoding:.0f}, "
        f"first layers {first_layers:.0f}, clicking {clicking:.0f}"
    )
    widget.controller.close()
    viewer.close()


if __name__ == "__main__":
    main()
