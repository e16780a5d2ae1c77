"""Stacks on the command line: which axis the slices go along, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from tests.cli.conftest import FakeCore
from tests.cli.helpers import RunSegment, Said, names

from sam_plugins.cli import main
from sam_plugins.cli.core import PromptChoice
from sam_plugins.cli.divided import count_parts
from sam_plugins.cli.segment_jobs import Order
from sam_plugins.cli.stacks import StackChoice
from sam_plugins.cli.view import View
from sam_plugins.model.large.sources import FileSource


@pytest.fixture
def stack(pictures: Path) -> Path:
    path = pictures / "stack.tif"
    planes = np.zeros((4, 20, 30), np.uint8)
    tifffile.imwrite(path, planes, photometric="minisblack", metadata={"axes": "ZYX"})
    return path


@pytest.fixture
def film(pictures: Path) -> Path:
    """Stacks at several times."""
    path = pictures / "film.tif"
    tifffile.imwrite(
        path, np.zeros((3, 4, 20, 30), np.uint8), imagej=True, metadata={"axes": "TZYX"}
    )
    return path


def test_a_stack_is_segmented_along_its_axis(
    run_segment: RunSegment,
    core: FakeCore,
    stack: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_segment(stack, "--stack", "--voxel-size", "2,0.5,0.5", "--tile", "64", "--json") == 0
    source, mode, options = core.asked[-1]
    assert (source, mode) == (FileSource(str(stack)), "auto")
    assert (options["axis"], options["voxel_size_zyx"]) == ("Z", (2.0, 0.5, 0.5))
    assert (options["tile"], options["overwrite"]) == (64, False)
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["files"]["labels"] == str(out / "stack_labels.zarr")
    assert names(out) == ["stack_labels.zarr"]


def test_a_stack_is_as_many_tasks_as_it_has_slices(pictures: Path, stack: Path, film: Path) -> None:
    order = Order("default", None, "auto", PromptChoice(), View(), stack=StackChoice())
    assert count_parts([stack, pictures / "a.png"], order) == 4 + 1
    assert count_parts([film], order) == 1  # which of its axes, nobody said


def test_other_axes_are_fixed_by_plane(
    run_segment: RunSegment, core: FakeCore, film: Path, said: Said
) -> None:
    assert run_segment(film, "--stack", "--plane", "T=2", "--mode", "grid") == 0
    source, mode, options = core.asked[-1]
    assert (source.plane, mode, options["axis"]) == ({"T": 2}, "grid", "Z")
    assert run_segment(film, "--stack") == 1
    said(r"stack along T \(3 planes\), Z \(4 planes\): --stack takes one .* as --plane T=0")
    assert run_segment(film, "--stack", "--plane", "T=0,Z=0") == 1
    said(r"--plane must leave one of them free, or leave out --stack")


def test_a_picture_is_no_stack_and_a_stack_no_picture(
    run_segment: RunSegment, pictures: Path, stack: Path, said: Said
) -> None:
    assert run_segment(pictures / "a.png", "--stack") == 1
    said(r"a\.png is a single picture and no stack: leave out --stack")
    assert run_segment(stack) == 1
    said(r"stack along Z \(4 planes\); choose one plane with --plane Z=0, or .* with --stack")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--voxel-size", "2,1,1"], "--voxel-size belongs to --stack"),
        (["--stack", "--voxel-size", "2,0,1"], "expected lengths as z,y,x such as 2,0.5,0.5"),
        (["--stack", "--box", "1,1,5,5"], "--stack finds every object of a stack"),
        (["--stack", "--like", "1,1"], "--stack finds every object of a stack"),
        (["--stack", "--no-tiles"], "--stack divides large slices into tiles"),
        (["--stack", "--plane", "2"], "--stack takes every slice: name a place"),
    ],
)
def test_contradictions_are_wrong_usage(
    run_segment: RunSegment,
    stack: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_segment(stack, *arguments)
    assert message in capsys.readouterr().err


def test_who_interrupts_is_told_that_the_slices_are_kept(
    run_segment: RunSegment, core: FakeCore, stack: Path, said: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(core, "stack", interrupted)
    assert run_segment(stack, "--stack") == 130
    said(r"stack\.tif: what is done is kept; the same command goes on from there")


@pytest.mark.slow
def test_a_real_stack_is_segmented_and_a_second_run_is_done_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    balls = np.zeros((3, 96, 96), np.uint8)
    rows, columns = np.mgrid[:96, :96]
    for z in range(3):
        for y, x in ((30, 30), (64, 60)):
            balls[z][(rows - y) ** 2 + (columns - x) ** 2 < 150] = 200
    zarr.create_array(tmp_path / "a.zarr", data=balls, chunks=(1, 48, 48))
    command = [
        "segment", str(tmp_path / "a.zarr"), "--axes", "ZYX", "--stack", "-o", str(tmp_path),
        "--json",
    ]  # fmt: skip
    for _ in range(2):
        assert main(command) == 0
        (result,) = json.loads(capsys.readouterr().out)["results"]
        assert result["objects"] == 2
    labels = zarr.open_array(tmp_path / "a_labels.zarr" / "0", mode="r")[:]
    assert labels.shape == balls.shape
    assert len({int(labels[z, 30, 30]) for z in range(3)} - {0}) == 1
    assert not any(".work" in name for name in names(tmp_path))
