"""Stacks of any length: slices on disk, linked, resumed."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.model.large.mosaics import Oracle, coins_labels, drawn
from tests.model.large.test_automatic import SHOWN, Stops

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.inference.segment_options import AUTO
from sam_plugins.model.inference.volume.linked_volume import FoundInSlice, link_slices
from sam_plugins.model.large import stack as stacks
from sam_plugins.model.large.job import TileJob
from sam_plugins.model.large.linked import LinkFolder
from sam_plugins.model.large.plan import TilePlan
from sam_plugins.model.large.results import work_folder
from sam_plugins.model.large.sources import ArraySource
from sam_plugins.model.large.stack import run_stack, segment_large_stack


def moving(count: int) -> npt.NDArray[np.int32]:
    """Return labels (Z, H, W) of coins that move by two pixels from slice to slice."""
    coins = np.pad(coins_labels(), 10)
    return np.stack([np.roll(coins, 2 * index, axis=1) for index in range(count)])


def job_of(stack: npt.NDArray[np.uint8], output: Path) -> TileJob:
    return TileJob(
        source=ArraySource(stack, limits=SHOWN, channel_axis=2),
        plan=TilePlan(stack.shape[1:3], 160, 30),
        contrast=SHOWN,
        model_id="oracle",
        mode="auto",
        options=AUTO,
        folder=work_folder(output),
        extra={"slices": ["Z", len(stack)], "voxel_size_zyx": [1.0, 1.0, 1.0]},
    )


def test_a_stack_by_tiles_is_linked_as_whole_slices_are(tmp_path: Path) -> None:
    truth = moving(4)
    stack = np.stack([drawn(labels) for labels in truth])
    output = tmp_path / "a_labels.zarr"
    found = run_stack(job_of(stack, output), output, Oracle())
    expected = np.zeros(truth.shape, np.int32)

    def of_slice(index: int) -> FoundInSlice:
        _, labels = np.unique(truth[index], return_inverse=True)
        number = labels.max()
        return FoundInSlice(labels.reshape(truth[index].shape), np.ones(number))

    linked = link_slices(of_slice, expected)
    labels = found.labels()[:]
    assert len(found) == len(linked)
    assert ((labels > 0) == (expected > 0)).all()
    pairs = np.unique(np.stack([labels.ravel(), expected.ravel()], 1), axis=0)
    assert len(pairs) == len(found) + 1
    with found.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["voxels"]) for row in rows] == np.bincount(labels.ravel())[1:].tolist()
    assert {(row["first_slice"], row["last_slice"]) for row in rows} >= {("0", "3")}


def test_an_interrupted_stack_goes_on(tmp_path: Path) -> None:
    stack = np.stack([drawn(labels) for labels in moving(3)])
    output, other = tmp_path / "a_labels.zarr", tmp_path / "b_labels.zarr"
    whole = run_stack(job_of(stack, other), other, Oracle())
    with pytest.raises(KeyboardInterrupt):
        run_stack(job_of(stack, output), output, Stops(after=10))
    rest = Oracle()
    again = run_stack(job_of(stack, output), output, rest)
    assert rest.asked == 3 * len(job_of(stack, output).plan) - 10
    assert (again.labels()[:] == whole.labels()[:]).all()
    assert again.table.read_bytes() == whole.table.read_bytes()


def test_a_picture_is_no_stack(tmp_path: Path) -> None:
    with pytest.raises(UnusableImageError, match=r"expected a stack with 3 axes, slices first"):
        segment_large_stack(np.zeros((9, 9)), tmp_path / "a_labels.zarr")


def killed_while_linking(output: Path, slices: int, die_at: tuple[str, int]) -> None:
    """Run a stack in a process that kills itself before it keeps a slice."""
    program = f"""
import os, signal
import numpy as np
from pathlib import Path
from tests.model.large.mosaics import Oracle, drawn
from tests.model.large.test_stack import job_of, moving
from sam_plugins.model.large import linked
from sam_plugins.model.large.stack import run_stack

keep = linked.LinkFolder.{die_at[0]}
def dying(self, index, content):
    if index == {die_at[1]}:
        os.kill(os.getpid(), signal.SIGKILL)
    keep(self, index, content)
linked.LinkFolder.{die_at[0]} = dying
output = Path({str(output)!r})
run_stack(job_of(np.stack([drawn(one) for one in moving({slices})]), output), output, Oracle())
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("die_at", "linked", "written"), [(("keep", 3), 3, 0), (("keep_voxels", 2), 5, 2)]
)
def test_a_stack_that_was_killed_goes_on_after_the_slices_that_are_linked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    die_at: tuple[str, int],
    linked: int,
    written: int,
) -> None:
    output, other = tmp_path / "a_labels.zarr", tmp_path / "b_labels.zarr"
    stack = np.stack([drawn(labels) for labels in moving(5)])
    whole = run_stack(job_of(stack, other), other, Oracle())
    killed_while_linking(output, 5, die_at)
    kept: list[tuple[str, int]] = []
    for name in ("keep", "keep_voxels"):
        _noting(monkeypatch, name, kept)
    rest = Oracle()
    again = run_stack(job_of(stack, output), output, rest)
    assert rest.asked == 0
    assert [index for name, index in kept if name == "keep"] == list(range(linked, 5))
    assert [index for name, index in kept if name == "keep_voxels"] == list(range(written, 5))
    assert (again.labels()[:] == whole.labels()[:]).all()
    assert again.table.read_bytes() == whole.table.read_bytes()


def test_slices_that_are_linked_are_written_again_where_the_labels_were_removed(
    tmp_path: Path,
) -> None:
    output, other = tmp_path / "a_labels.zarr", tmp_path / "b_labels.zarr"
    stack = np.stack([drawn(labels) for labels in moving(3)])
    whole = run_stack(job_of(stack, other), other, Oracle())
    killed_while_linking(output, 3, ("keep_voxels", 2))
    shutil.rmtree(work_folder(output) / "labels.zarr")
    again = run_stack(job_of(stack, output), output, Oracle())
    assert (again.labels()[:] == whole.labels()[:]).all()


def _noting(monkeypatch: pytest.MonkeyPatch, name: str, kept: list[tuple[str, int]]) -> None:
    """Note the slices that are kept."""
    keep = getattr(LinkFolder, name)

    def noting(self: LinkFolder, index: int, content: object) -> None:
        kept.append((name, index))
        keep(self, index, content)

    monkeypatch.setattr(LinkFolder, name, noting)


def test_linking_takes_no_more_than_is_asked_for_before_it() -> None:
    side = 2048
    y, x = np.mgrid[:side, :side]
    labels = ((y // 64) * (side // 64) + x // 64 + 1).astype(np.int32)

    class Nowhere:
        shape, dtype = (5, side, side), np.dtype(np.uint32)

        def __getitem__(self, where: Any) -> Any:
            return np.zeros((side, side), np.uint32)

        def __setitem__(self, where: Any, values: Any) -> None:
            pass

    del y, x
    tracemalloc.start()
    try:
        link_slices(lambda _: FoundInSlice(labels.copy(), np.ones(1024)), Nowhere())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.7 * stacks._BYTES_PER_PIXEL < peak / side**2 < stacks._BYTES_PER_PIXEL
