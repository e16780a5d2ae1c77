"""Memory does not grow with the picture: measured in processes of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from benchmarks.any_size import measured

LIMIT_GIB = 3.0

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="RLIMIT_DATA limits all data on Linux only"
)


@pytest.mark.slow
def test_all_but_the_model_stays_small_on_a_picture_of_4096_pixels(tmp_path: Path) -> None:
    """Reading, joining, painting and the pyramid: 16 times the pixels, hardly more memory."""
    small = measured(tmp_path, 1024, finder="threshold", limit=LIMIT_GIB)
    large = measured(tmp_path, 4096, finder="threshold", limit=LIMIT_GIB)
    assert large["objects"] > 10 * small["objects"]
    assert large["peak_mib"] < small["peak_mib"] + 250


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_shipped_model_on_2048_pixels_stays_below_the_limit(tmp_path: Path) -> None:
    took = measured(tmp_path, 2048, tile=1024, limit=LIMIT_GIB)
    assert took["objects"] > 500
    assert took["peak_mib"] < 1536


@pytest.mark.slow
@pytest.mark.timeout(8 * 3600)
@pytest.mark.skipif(
    "SAM_PLUGINS_HOURS" not in os.environ, reason="takes hours: set SAM_PLUGINS_HOURS=1 to run it"
)
def test_the_shipped_model_on_20000_pixels_stays_below_the_limit(tmp_path: Path) -> None:
    took = measured(tmp_path, 20_000, tile=1024, limit=LIMIT_GIB)
    assert took["objects"] > 50_000
    assert took["peak_mib"] < LIMIT_GIB * 1024


STACK_LIMIT_GIB = 1.0
"""With PyTorch some 400 MiB are left for the work; less makes the stack of the test small."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_stack_of_four_times_the_limit_has_the_true_objects(tmp_path: Path) -> None:
    side = 2048
    slices = int(4 * STACK_LIMIT_GIB * 2**30) // (8 * side**2)
    took = measured(tmp_path, side, slices=slices, finder="threshold", limit=STACK_LIMIT_GIB)
    assert took["objects"] == took["true_objects"] == 11_264
    assert took["peak_mib"] < STACK_LIMIT_GIB * 1024
