"""The pictures of these tests: three discs each, by whose names their labels are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.labelled_sets import discs

Run = Callable[..., Any]
PICTURES = 8


def true_labels(pictures: Path, name: str) -> np.ndarray:
    """Return the labels of a picture by its name."""
    return discs(int(Path(name).stem.removeprefix("cells-").removesuffix("a")))


def label_all(run: Run, tmp_path: Path, pictures: Path) -> None:
    """Bring in all labels."""
    for path in sorted(pictures.iterdir()):
        brought = tmp_path / f"brought-{path.stem}.png"
        Image.fromarray(true_labels(pictures, path.name)).save(brought)
        run("label", path, "--labels", brought, "--author", "ada", "--seconds", "6")
