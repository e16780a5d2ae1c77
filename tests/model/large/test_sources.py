"""What tells one picture from another, without reading it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from sam_plugins.model.large.sources import FileSource


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Return a Zarr of four chunks."""
    path = tmp_path / "a.zarr"
    array = zarr.open_array(path, mode="w", shape=(64, 64), chunks=(32, 32), dtype=np.uint8)
    array[:] = 7
    return path


def changed(path: Path) -> None:
    """Let a chunk be written later than before, whatever the clock of the file system is."""
    zarr.open_array(path, mode="r+")[40:, 40:] = 9  # chunk c/1/1
    for file in path.rglob("*"):
        state = file.stat()
        if file.is_file() and file.parent.name == "1":
            os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))


def test_a_chunk_that_was_written_in_place_tells_another_picture(picture: Path) -> None:
    before = FileSource(str(picture)).described()
    assert FileSource(str(picture)).described() == before
    changed(picture)
    assert FileSource(str(picture)).described() != before


def test_labels_within_an_ome_zarr_are_no_change_of_it(picture: Path) -> None:
    before = FileSource(str(picture)).described()
    (picture / "labels" / "cells").mkdir(parents=True)
    (picture / "labels" / "cells" / "0").write_bytes(b"1")
    assert FileSource(str(picture)).described() == before


def test_a_file_that_was_written_again_is_another_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8))
    before = FileSource(str(path)).described()
    os.utime(path, ns=(0, 10**9))
    assert FileSource(str(path)).described() != before
