"""How much quicker two worker processes of one core are than one, on the same pictures.

``python benchmarks/two_workers.py`` takes some minutes on a quiet machine with two idle cores, and
means nothing on a busy one: there, two workers get what one would. ``--pictures 4`` tries it out.

Both sides run in turns on clusters that have started and loaded the model, which is reported apart.
Everything else counts: reading, encoding, the instance decoder, prompts, drawing and writing three
files for each picture, and handing out tasks.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from sam_plugins.cli.core import PromptChoice, Running
from sam_plugins.cli.results import Job
from sam_plugins.cli.segment_jobs import Order, Summary, segment_jobs
from sam_plugins.cli.view import View
from sam_plugins.model.cluster.opening import open_runner
from sam_plugins.model.cluster.outcome import Runner
from timing import conditions

SIDE = 384
SIDES = (1, 2)


def main() -> None:
    """Print the comparison."""
    options = _options()
    order = Order(options.model, Running("cpu"), "auto", PromptChoice(), View())
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as opened:
        pictures = _pictures(Path(name) / "pictures", options.pictures)
        runners: dict[int, Runner] = {}
        for workers in SIDES:
            start = time.perf_counter()
            runners[workers] = opened.enter_context(
                open_runner("local", len(pictures), workers=workers, threads=1)
            )
            # A few more pictures than workers, so that each has loaded the model.
            _segment(pictures[: 3 * workers], order, runners[workers], Path(name) / "warm-up")
            print(f"{workers} worker(s) started and warm: {time.perf_counter() - start:.1f} s")
        seconds: dict[int, list[float]] = {workers: [] for workers in SIDES}
        for repetition in range(options.repetitions):
            for workers, runner in runners.items():
                folder = Path(name) / f"{workers}-{repetition}"
                start = time.perf_counter()
                _segment(pictures, order, runner, folder)
                seconds[workers].append(time.perf_counter() - start)
    print(conditions(options.repetitions, time.perf_counter))
    print("| workers of one core | s, best | pictures per s |\n|---|---|---|")
    for workers, taken in seconds.items():
        print(f"| {workers} | {min(taken):.1f} | {len(pictures) / min(taken):.2f} |")
    print(f"\nTwo are {min(seconds[1]) / min(seconds[2]):.2f} times as fast as one.")


def _options() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=64, metavar="N")
    parser.add_argument("--repetitions", type=int, default=3, metavar="N")
    parser.add_argument("--model", default="default", metavar="NAME")
    return parser.parse_args()


def _pictures(folder: Path, count: int) -> list[Path]:
    """Write different pieces of a real picture of tissue."""
    folder.mkdir()
    source = data.immunohistochemistry()
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        top, left = rng.integers(0, np.array(source.shape[:2]) - SIDE + 1)
        piece = np.rot90(source[top : top + SIDE, left : left + SIDE], number % 4)
        paths.append(folder / f"tissue-{number:03d}.png")
        Image.fromarray(np.ascontiguousarray(piece)).save(paths[-1])
    return paths


def _segment(pictures: list[Path], order: Order, runner: Runner, folder: Path) -> None:
    """Segment pictures into a folder."""
    summary = Summary()
    jobs = [Job(picture, picture.stem, folder, overwrite=True) for picture in pictures]
    segment_jobs(jobs, order, summary, runner)
    assert len(summary.results) == len(pictures), summary.failures.entries


if __name__ == "__main__":
    main()
