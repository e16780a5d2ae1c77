"""What the tests of reading share: pictures to write, and a look at what is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.model.io.images import read_image

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (40, 60), dtype=np.uint8)
RGB = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
GREY16 = RNG.integers(1000, 5000, (40, 60), dtype=np.uint16)
STACK = RNG.integers(0, 60000, (5, 40, 60), dtype=np.uint16)


def check(path: Path, expected: npt.NDArray[Any], **arguments: Any) -> None:
    """Check that a file is read as these pixels, of this type."""
    result = read_image(path, **arguments)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)
