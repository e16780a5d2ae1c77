"""Large pictures on the command line: when they are segmented by tiles, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.cli.conftest import FakeCore
from tests.cli.helpers import RunSegment, Said, names

from sam_plugins.cli import torch_core
from sam_plugins.cli.core import PromptChoice, Running
from sam_plugins.cli.results import is_own_result
from sam_plugins.cli.segment_jobs import Order
from sam_plugins.cli.tiles import TileChoice, count_tasks
from sam_plugins.cli.view import View
from sam_plugins.model.cluster import opening
from sam_plugins.model.cluster.outcome import SerialRunner
from sam_plugins.model.large.automatic import segment_large
from sam_plugins.model.large.sources import FileSource


@pytest.fixture
def large(pictures: Path) -> Path:
    """A picture that the fake model takes for large."""
    path = pictures / "large.tif"
    tifffile.imwrite(path, np.zeros((8, 1200), np.uint8), photometric="minisblack")
    return path


def test_large_pictures_are_segmented_by_tiles_and_small_ones_are_not(
    run_segment: RunSegment,
    core: FakeCore,
    pictures: Path,
    large: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_segment(pictures / "a.png", large, "--limits", "0,90", "--json") == 0
    source, mode, options = core.asked[-1]
    assert (mode, options["tile"]) == ("auto", None)
    assert source == FileSource(str(large), limits=(0.0, 90.0))
    results = json.loads(capsys.readouterr().out)["results"]
    assert results[1]["files"]["labels"] == str(out / "large_labels.zarr")
    assert results[1]["objects"] == 5
    assert {"a_labels.tif", "large_labels.zarr"} <= set(names(out))


def test_tiles_can_be_forced_and_refused(
    run_segment: RunSegment, core: FakeCore, pictures: Path, large: Path, out: Path
) -> None:
    assert run_segment(pictures / "a.png", "--tile", "256") == 0
    assert core.asked[-1][2]["tile"] == 256
    assert run_segment(large, "--no-tiles") == 0
    assert core.looked_closer == [False]
    assert core.asked[-1] == "auto"
    assert (out / "large_labels.tif").is_file()


def test_prompts_on_a_large_picture_are_answered_at_the_level_that_they_ask_for(
    run_segment: RunSegment, core: FakeCore, pictures: Path, large: Path, out: Path
) -> None:
    assert run_segment(large, "--point", "5,5", "--mask", "2") == 0
    source, mode, options = core.asked[-1]
    assert (source, mode) == (FileSource(str(large)), "prompts")
    assert options["prompts"] == PromptChoice([(5.0, 5.0)], [], [], 2)
    assert (options["tile"], options["overwrite"]) == (None, False)
    assert names(out) == ["large_labels.zarr"]
    assert run_segment(large, "--point", "5,5", "--no-tiles") == 0
    assert core.asked[-1].points_xy == [(5.0, 5.0)]
    assert run_segment(pictures / "a.png", "--box", "2,2,9,9", "--tile", "256") == 0
    assert core.asked[-1][2]["tile"] == 256
    assert {"large_labels.tif", "a_labels.zarr"} <= set(names(out))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tile", "63"], "expected the side of a tile, 64 or more, got '63'"),
        (["--tile", "256", "--no-tiles"], "not allowed with argument --tile"),
        (["--tile", "256", "--like", "3,3"], "--tile goes without --like"),
        (["--tile", "256", "--text", "cell"], "--tile goes without --like"),
    ],
)
def test_contradictions_are_wrong_usage(
    run_segment: RunSegment,
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_segment(pictures / "a.png", *arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("options", [(), ("--coarse",)])
def test_the_whole_picture_is_looked_at_once_more_where_that_is_wanted(
    run_segment: RunSegment, core: FakeCore, large: Path, options: tuple[str, ...]
) -> None:
    assert run_segment(large, *options) == 0
    assert core.asked[-1][2]["coarse"] is bool(options)


@pytest.mark.parametrize("coarse", [False, True])
def test_tiles_are_planned_alike_here_and_for_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, coarse: bool
) -> None:
    path = tmp_path / "picture.tif"
    tifffile.imwrite(path, np.zeros((40, 2100), np.uint8), photometric="minisblack")
    core, choice = (
        torch_core.TorchCore.load("default", Running("cpu")),
        TileChoice(512, coarse=coarse),
    )
    planned = core.planned(FileSource(str(path)), tmp_path / "a", "auto", choice, overwrite=False)
    assert planned.plan.tile == 512
    assert (planned.coarse is not None) is coarse
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(torch_core, "segment_large", lambda *_, **options: asked.append(options))
    core.by_tiles(
        FileSource(str(path)), tmp_path / "a", "auto", choice, overwrite=False, progress=None
    )
    assert (asked[0]["tile"], asked[0]["coarse"]) == (512, coarse)


@pytest.mark.parametrize("others", [("--no-tiles",), ("--stack",), ("--point", "3,3")])
def test_what_has_no_tiles_is_not_looked_at_once_more(
    run_segment: RunSegment, large: Path, said: Said, others: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_segment(large, "--coarse", *others)
    said("--coarse is for every object of pictures that are segmented by tiles")


def test_labels_of_other_settings_are_named_in_options(
    run_segment: RunSegment,
    core: FakeCore,
    large: Path,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def by_tiles(source: FileSource, output: Path, *arguments: object, **options: object) -> None:
        output.mkdir(parents=True)
        segment_large(source, output, mode="grid", tile=512)

    monkeypatch.setattr(core, "by_tiles", by_tiles)
    assert run_segment(large) == 1
    said(r"large_labels\.zarr exists and is not ours; replace labels of ours with --overwrite")


def test_who_interrupts_is_told_that_the_work_is_kept(
    run_segment: RunSegment,
    core: FakeCore,
    large: Path,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def by_tiles(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(core, "by_tiles", by_tiles)
    assert run_segment(large) == 130
    said(r"large\.tif: what is done is kept; the same command goes on from there")


@pytest.mark.parametrize(
    ("tile", "is_refused", "tasks"), [(None, False, 2), (100, False, 13), (None, True, 2)]
)
def test_a_picture_is_as_many_tasks_as_it_has_tiles(
    pictures: Path, large: Path, tile: int | None, is_refused: bool, tasks: int
) -> None:
    order = Order(
        "default", None, "auto", PromptChoice(), View(), choice=TileChoice(tile, is_refused)
    )
    assert count_tasks([pictures / "a.png", large], order) == tasks


def test_one_large_picture_keeps_several_processes_busy(
    core: FakeCore, pictures: Path, out: Path, run_segment: RunSegment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = pictures / "wide.tif"
    tifffile.imwrite(path, np.zeros((8, 2100), np.uint8), photometric="minisblack")
    counts: list[int] = []

    @contextmanager
    def opened(scheduler: str, count: int, **_: object) -> Iterator[SerialRunner]:
        counts.append(count)
        yield SerialRunner()

    monkeypatch.setattr(opening, "open_runner", opened)
    assert run_segment(path, "--scheduler", "local", "--workers", "2") == 0
    assert counts == [5]


def test_labels_of_an_earlier_run_are_no_picture(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "a_labels.zarr", tmp_path / "b_labels.zarr"
    for folder, attributes in ((ours, {"sam_plugins": {"count": 3}}), (theirs, {"other": 1})):
        folder.mkdir()
        (folder / ".zattrs").write_text(json.dumps(attributes))
    assert is_own_result(ours)
    assert not is_own_result(theirs)
