"""Time and peak memory of automatic segmentation against the side of the picture.

Each side is a process of its own: a picture of that side, a mosaic of scikit-image's coins in
Zarr, is segmented by tiles into OME-Zarr. What should be linear in the pixels is time, what should
not grow is memory. With ``--finder threshold`` the model is left out, and all the rest measured.

    python benchmarks/any_size.py --sides 512 1024 2048 4096
    python benchmarks/any_size.py --sides 20000 --tile 1024 --limit-gib 3
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sized
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zarr
from scipy import ndimage
from skimage import data

SIDES = (512, 1024, 2048, 4096, 8192, 16384)
_CHUNK = 512


def write_mosaic(path: Path, side: int) -> None:
    """Write a square picture that coins are repeated in, chunk by chunk.

    Parameters
    ----------
    path : Path
        Folder of the Zarr array, 8 bits.
    side : int
        Pixels.
    """
    coins = data.coins()
    array = zarr.create_array(
        path, shape=(side, side), chunks=(_CHUNK, _CHUNK), dtype="u1", dimension_names=["y", "x"]
    )
    for top in range(0, side, _CHUNK):
        rows = np.arange(top, min(top + _CHUNK, side)) % coins.shape[0]
        array[top : top + _CHUNK] = coins[np.ix_(rows, np.arange(side) % coins.shape[1])]


_CELL, _SQUARE, _PERIOD, _THICK = 64, 40, 12, 8
"""Of the stack: a square in each cell, on some slices of each period."""


def write_stack(path: Path, side: int, slices: int) -> int:
    """Write a stack of square columns, slice by slice, and return how many there are.

    One of a single slice, as the last may be, does not count: linking drops it.

    Parameters
    ----------
    path : Path
        Folder of the Zarr array, 64-bit floating point as deconvolution returns it.
    side : int
        Pixels, a multiple of 64.
    slices : int
    """
    array = zarr.create_array(
        path,
        shape=(slices, side, side),
        chunks=(1, _CHUNK, _CHUNK),
        dtype="f8",
        dimension_names=["z", "y", "x"],
    )
    inside = np.arange(side) % _CELL < _SQUARE
    full = np.where(np.logical_and.outer(inside, inside), 200.0, 20.0)
    for index in range(slices):
        array[index] = full if index % _PERIOD < _THICK else 20.0
    return (side // _CELL) ** 2 * len(range(0, slices - 1, _PERIOD))


def measure(picture: Path, output: Path, *, tile: int | None, finder: str, limit: float) -> None:
    """Segment a picture or a stack in this process, and print what it took as JSON.

    Parameters
    ----------
    picture, output : Path
        A Zarr array of three axes is a stack.
    tile : int, optional
    finder : {"model", "threshold"}
    limit : float
        GiB of data that the process may have; 0 for no limit.
    """
    if limit:
        most = int(limit * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    import torch

    from sam_plugins.model.inference.segment_options import AUTO
    from sam_plugins.model.large.automatic import plan_job, run_job, segment_large
    from sam_plugins.model.large.sources import FileSource

    torch.set_num_threads(1)
    start, wall = time.process_time(), time.perf_counter()
    if len(zarr.open_array(picture, mode="r").shape) == 3:
        found = _stack(picture, output, tile=tile, finder=finder)
    elif finder == "model":
        found = segment_large(picture, output, tile=tile)
    else:
        job = plan_job(
            FileSource(str(picture)), output, model_id=finder, mode="auto", options=AUTO,
            tile=tile or 512, halo=(tile or 512) // 8,
        )  # fmt: skip
        found = run_job(job, output, _bright_pieces)
    figures = {
        "objects": len(found),
        "cpu_seconds": time.process_time() - start,
        "wall_seconds": time.perf_counter() - wall,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


def _stack(picture: Path, output: Path, *, tile: int | None, finder: str) -> Sized:
    """Segment a stack, by a threshold without a model."""
    from sam_plugins.model.inference.segment_options import AUTO
    from sam_plugins.model.large.job import TileJob
    from sam_plugins.model.large.plan import TilePlan
    from sam_plugins.model.large.results import work_folder
    from sam_plugins.model.large.sources import FileSource
    from sam_plugins.model.large.stack import run_stack, segment_large_stack

    if finder == "model":
        return segment_large_stack(picture, output, tile=tile)
    length, height, width = zarr.open_array(picture, mode="r").shape
    job = TileJob(
        source=FileSource(str(picture)),
        plan=TilePlan((height, width), tile or 512, (tile or 512) // 8),
        contrast=(0.0, 255.0),
        model_id=finder,
        mode="auto",
        options=AUTO,
        folder=work_folder(output),
        extra={"slices": ["Z", length], "voxel_size_zyx": [1.0, 1.0, 1.0]},
    )
    return run_stack(job, output, _bright_pieces)


def measured(
    folder: Path,
    side: int,
    *,
    slices: int = 0,
    tile: int | None = None,
    finder: str = "model",
    limit: float = 0,
) -> dict[str, float]:
    """Return what a picture of a side, or a stack of them, takes in a process of its own.

    Parameters are those of :func:`measure`; with slices ``true_objects`` are told, too.

    Raises
    ------
    RuntimeError
        If that process fails, as where its memory does not suffice; with what it said.
    """
    name = f"{side}x{slices}" if slices else f"{side}"
    picture, output = folder / f"{name}.zarr", folder / f"{name}_labels.zarr"
    truth: dict[str, float] = {}
    if slices:
        truth["true_objects"] = write_stack(picture, side, slices)
    else:
        write_mosaic(picture, side)
    arguments = [
        "--child",
        str(picture),
        str(output),
        "--finder",
        finder,
        "--limit-gib",
        str(limit),
    ]
    if tile is not None:
        arguments += ["--tile", str(tile)]
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{name}: exit code {done.returncode}: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {**figures, **truth}


def _bright_pieces(rgb: npt.NDArray[np.uint8], near: object = None) -> object:
    """Return the bright pieces of a window as its objects."""
    from sam_plugins.model.inference.types import Segmentation

    del near  # what lies beyond it is left out later, too
    pieces, count = ndimage.label(ndimage.gaussian_filter(rgb[..., 0], 2) > 110)
    return Segmentation(pieces, np.ones(count, np.float32), np.zeros((count, 2), np.float32))


def main() -> None:
    """Print a table, one row for each side."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--slices", type=int, default=0, help="of stacks in place of pictures")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--finder", choices=("model", "threshold"), default="model")
    parser.add_argument("--limit-gib", type=float, default=0)
    parser.add_argument("--child", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    settings = {"tile": args.tile, "finder": args.finder, "limit": args.limit_gib}
    if args.child:
        measure(*args.child, **settings)
        return
    print("| side | objects | CPU s | CPU s per megapixel | wall s | peak MiB |")
    print("|---|---|---|---|---|---|")
    for side in args.sides:
        with tempfile.TemporaryDirectory() as folder:
            took = measured(Path(folder), side, slices=args.slices, **settings)
        each = took["cpu_seconds"] / side**2 / max(1, args.slices) * 1e6
        print(
            f"| {side} | {took['objects']} | {took['cpu_seconds']:.1f} | {each:.2f} "
            f"| {took['wall_seconds']:.1f} | {took['peak_mib']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
