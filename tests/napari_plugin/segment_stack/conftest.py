"""An embryo, and **Segment** beside it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest
import tifffile


@pytest.fixture(scope="module")
def embryo(test_data: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A stack with its labels."""
    folder = test_data / "mouse_embryo_3d" / "train"
    (path,) = (folder / "images").iterdir()
    (labels,) = (folder / "labels").iterdir()
    return tifffile.imread(path), tifffile.imread(labels)


@pytest.fixture
def open_segment(open_segment: Any) -> Any:
    """Return what opens **Segment**, which encodes no other slices unless it is to."""
    return partial(open_segment, ahead=False)
