"""How time and memory grow with prompts, objects, sides, slices and tiles, and a plot of it.

``growth.py [--max-prompts 4096] [--max-objects 4096] [--max-side 16384] [--max-slices 256]
[--max-tiles 256] [--plot FILE]``; the largest take minutes. Slices and tiles are segmented by a
threshold, each number in a process of its own: the model's time is the same for each of them. What
is told as exponent is the slope in the last steps of the doubly logarithmic plot: 1 is linear, 2
quadratic (for the side of a picture, 2 is linear in its pixels).
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from any_size import measured
from sam_plugins.model.inference.automatic import Proposals, put_together
from sam_plugins.model.inference.candidates import (
    Candidates,
    MaskFilter,
    chain_of,
    decode_candidates,
)
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_image, encode_rgb
from sam_plugins.model.inference.segment_options import AUTO
from sam_plugins.model.inference.suppression import PackedMasks
from sam_plugins.model.inference.types import ImageEmbedding
from sides import as_bfloat16, clock_of, parser, picture, shipped
from timing import conditions


class Point(NamedTuple):
    """What so many of something cost."""

    number: int
    seconds: float
    megabytes: float


Work = Callable[[], object]
Series = Iterator[tuple[int, Work]]
Measured = Iterator[tuple[int, dict[str, float]]]


def prompts(model: Model, most: int) -> Series:
    """Ask with more and more points of one picture, and keep the good masks."""
    embedding = encode_rgb(model, picture(512))
    generator = np.random.default_rng(0)
    for number in powers(most):
        points_xy = generator.uniform(0, 511, (number, 2)).astype(np.float32)
        yield (
            number,
            lambda points=points_xy: decode_candidates(
                model, embedding, points, MaskFilter(0.7, 0.7)
            ),
        )


def objects(most: int) -> Series:
    """Put more and more discs together to a label image of 1024 x 1024."""
    sizes = (1024, 1024)
    embedding = ImageEmbedding(torch.zeros(1, 1, 64, 64), (), sizes, sizes, sizes, "discs")
    for number in powers(most):
        proposals = discs(embedding, number)
        yield number, lambda found=proposals: put_together(found, embedding, AUTO)


def sides(model: Model, most: int) -> Series:
    """Encode larger and larger pictures of 16 bits, which are reduced to the model's input."""
    for side in powers(most, least=512):
        rows = np.arange(side, dtype=np.uint16)
        image = rows[:, None] ^ rows[None, :]
        yield side, lambda image=image: encode_image(model, image)


def slices(most: int) -> Measured:
    """Segment longer and longer stacks of 512 x 512."""
    for number in powers(most):
        with tempfile.TemporaryDirectory() as folder:
            yield number, measured(Path(folder), 512, slices=number, finder="threshold")


def tiles(most: int) -> Measured:
    """Segment larger and larger squares, in tiles of 512."""
    for number in powers(most):
        side = 512 * math.isqrt(number)
        with tempfile.TemporaryDirectory() as folder:
            yield number, measured(Path(folder), side, finder="threshold")


def tell(found: Measured) -> list[Point]:
    """Print what processes of their own took, in processor time and their whole memory."""
    points = []
    for number, took in found:
        points.append(Point(number, took["cpu_seconds"], took["peak_mib"] * 2**20 / 1e6))
        print(f"| {number} | {points[-1].seconds:.3f} | {points[-1].megabytes:.0f} |", flush=True)
    return points


def discs(embedding: ImageEmbedding, number: int) -> Proposals:
    """Return proposals of equal discs on a grid, each four times, a little moved."""
    chain = chain_of(embedding)
    across = max(1, int(np.ceil(np.sqrt(number / 4))))
    y, x = np.mgrid[:256, :256].astype(np.float32)
    radius, parts, points = 100 / across, [], []
    for index in range(number):
        place = index // 4
        centre = (np.array([place % across, place // across]) + 0.5) * 256 / across + index % 4
        logits = np.float32(4 * radius) - 4 * np.hypot(x - centre[0], y - centre[1])
        parts.append((PackedMasks.pack(logits[None] > 0), chain.cut(logits)))
        points.append(4 * centre)
    scores = np.linspace(0.9, 0.5, number, dtype=np.float32)
    found = Candidates(
        np.arange(number),
        scores,
        scores,
        PackedMasks.concatenate([packed for packed, _ in parts]),
        tuple(cut for _, cut in parts),
    )
    return Proposals(np.array(points, np.float32), found)


def powers(most: int, least: int = 1) -> Iterator[int]:
    """Yield numbers up to ``most``, each four times the one before, or twice from 512 on."""
    number = least
    while number <= most:
        yield number
        number *= 4 if least == 1 else 2


def measure(series: Series, clock: Callable[[], float]) -> list[Point]:
    """Do the work of each number once, the first one twice, as it warms up."""
    found = []
    for number, work in series:
        if not found:
            work()
        gc.collect()
        with _PeakMemory() as memory:
            start = clock()
            work()
            seconds = clock() - start
        found.append(Point(number, seconds, memory.megabytes))
        print(f"| {number} | {seconds:.3f} | {memory.megabytes:.0f} |", flush=True)
    return found


class _PeakMemory:
    """How much more memory the process had at most within the block than before it."""

    def __enter__(self) -> _PeakMemory:
        self._start = self._peak = _resident()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self._peak = max(self._peak, _resident())

    @property
    def megabytes(self) -> float:
        """Megabytes."""
        return max(self._peak, _resident()) / 1e6 - self._start / 1e6


def _resident() -> int:
    """Return the bytes of the process that are in memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def exponent(points: list[Point]) -> float:
    """Return the slope of time over the last three points, both logarithmic."""
    last = points[-3:]
    numbers, seconds = np.log([p.number for p in last]), np.log([p.seconds for p in last])
    return float(np.polyfit(numbers, seconds, 1)[0]) if len(last) > 1 else float("nan")


def plot(found: dict[str, list[Point]], path: Path) -> None:
    """Draw time and memory of each series."""
    mpl.rcParams["font.size"] = 9
    figure = Figure(figsize=(3.2 * len(found), 5), layout="constrained")
    axes = figure.subplots(2, len(found), squeeze=False)
    for column, (name, points) in enumerate(found.items()):
        numbers = [point.number for point in points]
        for row, values, unit in (
            (0, [point.seconds for point in points], "seconds"),
            (1, [max(point.megabytes, 0.1) for point in points], "megabytes more"),
        ):
            axes[row, column].loglog(numbers, values, marker="o")
            axes[row, column].set_xlabel(name)
            axes[row, column].set_ylabel(unit)
            axes[row, column].grid(visible=True, alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def options() -> argparse.Namespace:
    """Read the command line."""
    arguments = parser(__doc__ or "", repetitions=1)
    arguments.add_argument("--max-prompts", type=int, default=4096)
    arguments.add_argument("--max-objects", type=int, default=4096)
    arguments.add_argument("--max-side", type=int, default=16384)
    arguments.add_argument("--max-slices", type=int, default=256)
    arguments.add_argument("--max-tiles", type=int, default=256)
    arguments.add_argument("--plot", type=Path, default=Path("build/bench/growth.svg"))
    return arguments.parse_args()


def main() -> None:
    """Print the tables and write the plot."""
    chosen = options()
    torch.set_num_threads(chosen.threads)
    print(conditions(1, chosen.clock))
    own = as_bfloat16(shipped(chosen))
    found = {}
    for name, series in (
        ("prompts", prompts(own, chosen.max_prompts)),
        ("objects", objects(chosen.max_objects)),
        ("side of the picture", sides(own, chosen.max_side)),
    ):
        print(f"\n| {name} | s | MB more |\n|---|---|---|")
        found[name] = measure(series, clock_of(chosen))
        print(f"\nExponent of time: {exponent(found[name]):.2f}")
    for name, took in (
        ("slices", slices(chosen.max_slices)),
        ("tiles", tiles(chosen.max_tiles)),
    ):
        print(f"\n| {name} | CPU s | MB in all |\n|---|---|---|")
        found[name] = tell(took)
        print(f"\nExponent of time: {exponent(found[name]):.2f}")
    plot(found, chosen.plot)


if __name__ == "__main__":
    main()
