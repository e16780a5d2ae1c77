r"""How long a napari window stands still while something slow runs: in a thread, or in a process.

A timer in the event loop of a real window fires every 5 ms and notes how late it was; meanwhile the
picture is panned, as a user would. Linux says how long the thread of the window waited for a core
(because the machine is busy) and how long it slept (because another thread held the interpreter);
the sleep is what a process would spare. Run it on a display, or with one that nobody sees::

    xvfb-run -a -s "-screen 0 1600x1000x24" \
        python benchmarks/napari_responsiveness.py ../shared/data
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PLACES = ("thread", "thread, 1 core", "process", "process, 1 core")
_BEAT = 0.005
_DAPI = "dapi_tissue/val/images/kidney_40x_air_1.png"


def encode(data: str) -> None:
    """Encode pictures of 1024 x 1024."""
    from sam_plugins.model.inference.predict import encode_image

    del data
    rng = np.random.default_rng(0)
    for _ in range(3):
        encode_image(_model(), rng.integers(0, 255, (1024, 1024, 3), np.uint8))


def automatic(data: str) -> None:
    """Segment a picture of hundreds of nuclei."""
    from sam_plugins.model.io.images import read_image
    from sam_plugins.model.large.whole import segment

    segment(read_image(Path(data) / _DAPI), _model())


def grid(data: str) -> None:
    """Segment a picture with a grid of points."""
    from dataclasses import replace

    from skimage.data import coins

    from sam_plugins.model.inference.segment_options import GRID
    from sam_plugins.model.large.whole import segment

    del data
    segment(coins(), _model(), mode="grid", options=replace(GRID, points_per_side=16))  # type: ignore[no-untyped-call]


def training(data: str) -> None:
    """Fine-tune the shipped model for some steps, and measure it."""
    from sam_plugins.model.engine.fine_tuning import FineTuningOptions, fine_tune
    from sam_plugins.model.io.labelled import list_manifest_files

    files = list_manifest_files(data, ["dsb2018"], split="train")[:6]
    with tempfile.TemporaryDirectory() as folder:
        fine_tune(
            "default",
            files[:4],
            files[4:],
            Path(folder) / "model.safetensors",
            FineTuningOptions(steps=4, rounds=1),
        )


WORK: dict[str, Callable[[str], None]] = {
    "encode": encode,
    "automatic": automatic,
    "grid": grid,
    "training": training,
}

_MODELS: dict[str, Any] = {}


def _model() -> Any:  # noqa: ANN401
    """Return the shipped model, loaded once in each process."""
    from sam_plugins.model.inference.loading import load_model

    if "default" not in _MODELS:
        _MODELS["default"] = load_model()
    return _MODELS["default"]


def _load() -> None:
    _model()


def _with_cores(name: str, data: str, cores: int | None) -> None:
    """Do one kind of work with so many threads of PyTorch."""
    import torch

    torch.set_num_threads(cores or os.cpu_count() or 1)
    WORK[name](data)


@dataclass
class Lateness:
    """How late a timer of the event loop was, in seconds."""

    beats: list[Beat]
    seconds: float

    def row(self) -> str:
        """Return the cells of a table."""
        gaps = [beat.gap for beat in self.beats]
        worst = max(self.beats, key=lambda beat: beat.gap)
        asleep = [max(0.0, beat.asleep - _BEAT) for beat in self.beats]
        values = (
            float(np.percentile(gaps, 99)),
            worst.gap,
            worst.waited,
            max(asleep),
        )
        cells = " | ".join(f"{value * 1000:.0f}" for value in values)
        return f"{self.seconds:.1f} | {cells} | {100 * sum(asleep) / self.seconds:.1f}"


@dataclass(frozen=True)
class Beat:
    """Seconds between two beats, and of these: without a core to run on, and asleep."""

    gap: float
    waited: float
    asleep: float


def _schedule() -> tuple[float, float]:
    """Return the seconds that this thread ran, and those that it waited for a core."""
    text = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text()
    ran, waited, _ = text.split()
    return int(ran) / 1e9, int(waited) / 1e9


@contextmanager
def heartbeat(viewer: Any) -> Iterator[list[Beat]]:  # noqa: ANN401
    """Note the time between beats of the event loop, panning the picture ten times a second."""
    from qtpy.QtCore import Qt, QTimer

    beats: list[Beat] = []
    last = (time.perf_counter(), *_schedule())
    panned = last[0]

    def beat() -> None:
        nonlocal last, panned
        now = (time.perf_counter(), *_schedule())
        gap, ran, waited = (new - old for new, old in zip(now, last, strict=True))
        beats.append(Beat(gap, waited, max(0.0, gap - ran - waited)))
        last = now
        if now[0] - panned > 0.1:
            panned = now[0]
            shift = 20 * np.sin(panned * 4)
            camera.center = (0, 256 + shift, 256 - shift)

    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(beat)
    timer.start(round(_BEAT * 1000))
    try:
        yield beats
    finally:
        timer.stop()


def measure(viewer: Any, start: Callable[[], Callable[[], bool]]) -> Lateness:  # noqa: ANN401
    """Run the event loop until some work is done."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    begin = time.perf_counter()
    with heartbeat(viewer) as beats:
        is_done = start()
        watch = QTimer()
        watch.timeout.connect(lambda: loop.quit() if is_done() else None)
        watch.start(20)
        loop.exec()
        watch.stop()
    return Lateness(beats, time.perf_counter() - begin)


def in_thread(name: str, data: str, cores: int | None) -> Callable[[], bool]:
    """Start work as the plugin does."""
    from sam_plugins.napari_plugin.jobs import JobProgress, start_job

    def work(*, progress: JobProgress) -> None:
        del progress
        _with_cores(name, data, cores)

    ended: list[bool] = []
    start_job(work, title=name, on_finished=lambda: ended.append(True), is_shown=False)
    return lambda: bool(ended)


def in_process(
    pool: ProcessPoolExecutor, name: str, data: str, cores: int | None
) -> Callable[[], bool]:
    """Start work in a process that is ready."""
    future: Future[None] = pool.submit(_with_cores, name, data, cores)

    return future.done


def nothing() -> Callable[[], bool]:
    """Wait for two seconds."""
    end = time.perf_counter() + 2
    return lambda: time.perf_counter() > end


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder of data sets that holds dsb2018")
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--places", nargs="+", choices=PLACES, default=list(PLACES))
    args = parser.parse_args()
    import napari

    viewer = napari.Viewer(show=True)
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (512, 512), np.uint8))
    print(
        "| work | where | s | 99 % within, ms | longest gap, ms | of it without a core "
        "| longest sleep, ms | asleep, % |"
    )
    print("|---|---|---|---|---|---|---|---|")
    print(f"| nothing | | {measure(viewer, nothing).row()} |")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        for name in args.work:
            for place in args.places:
                cores = 1 if place.endswith("1 core") else None
                if place.startswith("thread"):
                    _model()
                    start = lambda: in_thread(name, args.data, cores)  # noqa: B023, E731
                else:
                    pool.submit(_load).result()
                    start = lambda: in_process(pool, name, args.data, cores)  # noqa: B023, E731
                print(f"| {name} | {place} | {measure(viewer, start).row()} |", flush=True)
    viewer.close()


if __name__ == "__main__":
    main()
