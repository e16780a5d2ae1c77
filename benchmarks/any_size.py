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


def measure(picture: Path, output: Path, *, tile: int | None, finder: str, limit: float) -> None:
    """Segment a picture in this process, and print what it took as JSON.

    Parameters
    ----------
    picture, output : Path
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
    if finder == "model":
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


def measured(
    folder: Path, side: int, *, tile: int | None = None, finder: str = "model", limit: float = 0
) -> dict[str, float]:
    """Return what a picture of a side takes in a process of its own.

    Parameters are those of :func:`measure`.

    Raises
    ------
    RuntimeError
        If that process fails, as where its memory does not suffice; with what it said.
    """
    picture, output = folder / f"{side}.zarr", folder / f"{side}_labels.zarr"
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
        raise RuntimeError(f"side {side}: exit code {done.returncode}: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _bright_pieces(rgb: npt.NDArray[np.uint8]) -> object:
    """Return the bright pieces of a window as its objects."""
    from sam_plugins.model.inference.types import Segmentation

    pieces, count = ndimage.label(ndimage.gaussian_filter(rgb[..., 0], 2) > 110)
    return Segmentation(pieces, np.ones(count, np.float32), np.zeros((count, 2), np.float32))


def main() -> None:
    """Print a table, one row for each side."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
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
            took = measured(Path(folder), side, **settings)
        each = took["cpu_seconds"] / side**2 * 1e6
        print(
            f"| {side} | {took['objects']} | {took['cpu_seconds']:.1f} | {each:.2f} "
            f"| {took['wall_seconds']:.1f} | {took['peak_mib']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
