"""What the model sees: channels, limits, planes, levels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.cli.helpers import RunSegment, Said


def test_the_view(run_segment: RunSegment, out: Path, tmp_path: Path, core: Any) -> None:
    data = np.zeros((4, 2, 20, 30), np.uint16)
    data[2, 1, 2:6, 2:8] = 500
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, data, metadata={"axes": "ZCYX", "Channel": {"Name": ["DAPI", "GFP"]}})
    options = ["--plane", "2", "--channels", "red=gfp", "--limits", "0,1000"]
    assert run_segment(path, *options) == 0
    assert core.seen[0].max() == 128
    assert not core.seen[0][..., 1:].any()
    table = json.loads((out / "stack_objects.json").read_text())
    assert table["view"] == {"channels": {"red": "gfp"}, "limits": [[0, 1000]], "plane": 2}


def test_limits_below_zero(run_segment: RunSegment, tmp_path: Path, core: Any) -> None:
    data = np.full((20, 30), -160, np.int16)
    data[2:9, 2:9] = 240
    tifffile.imwrite(tmp_path / "ct.tif", data)
    assert run_segment(tmp_path / "ct.tif", "--limits", "-160,640") == 0
    assert np.unique(core.seen[0]).tolist() == [0, 128]


def test_channels_recorded_one_by_one_are_stretched_one_by_one(
    run_segment: RunSegment, tmp_path: Path, core: Any
) -> None:
    data = np.zeros((2, 20, 30), np.uint16)
    data[0, 2:9, 2:9], data[1, 8:15, 8:15] = 50, 5000
    tifffile.imwrite(tmp_path / "c.ome.tif", data, metadata={"axes": "CYX"})
    assert run_segment(tmp_path / "c.ome.tif") == 0
    assert core.seen[0].max(axis=(0, 1)).tolist() == [255, 255, 0]


@pytest.mark.parametrize("tiled", [False, True])
def test_who_chooses_channels_says_that_an_unnamed_axis_is_theirs(
    run_segment: RunSegment, out: Path, tmp_path: Path, core: Any, tiled: bool
) -> None:
    data = np.zeros((7, 150, 200), np.uint16)
    data[0, :75], data[6, :, :100] = 900, 900
    tifffile.imwrite(tmp_path / "seven.tif", data, photometric="minisblack")
    chosen = ["--channels", "red=0,green=6"]
    assert run_segment(tmp_path / "seven.tif", *chosen, *(["--tile", "64"] if tiled else [])) == 0
    if not tiled:
        seen = core.seen[0]
        assert seen[0, 0].tolist() == [255, 255, 0]
        assert seen[0, -1].tolist() == [255, 0, 0]
        assert seen[-1, 0].tolist() == [0, 255, 0]
    else:
        ((source, *_),) = core.asked
        assert source.axes == "CYX"


@pytest.mark.parametrize(
    ("axes", "options", "message"),
    [
        (
            "QYX",
            [],
            r"along [A-Z] \(7 planes\); .*; if these are channels, .* --channels red=0,green=2$",
        ),
        ("QYX", ["--channels", "red=0,green=7"], r"if these are channels, say so with --axes CYX$"),
        ("QYX", ["--channels", "red=DAPI"], r"if these are channels, say so with --axes CYX$"),
        ("ZYX", ["--channels", "red=0,green=6"], r"along Z .*with --axes CYX$"),
        ("ZYX", [], r"along Z .*with --stack$"),
    ],
)
def test_a_stack_that_may_be_channels_names_the_way(
    run_segment: RunSegment,
    tmp_path: Path,
    axes: str,
    options: list[str],
    message: str,
    said: Said,
) -> None:
    data = np.random.default_rng(0).integers(0, 999, (7, 20, 30)).astype(np.uint16)
    path = tmp_path / (
        "seven.tif" if axes == "QYX" else "seven.ome.tif"
    )  # a plain TIFF has no names
    metadata = None if axes == "QYX" else {"axes": axes}
    tifffile.imwrite(path, data, photometric="minisblack", metadata=metadata)
    assert run_segment(path, *options) == 1
    assert re.search(message, said("error: ").splitlines()[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--channels", "red=5"], r"error: .*a\.png: channel 5 does not exist: the image has 1"),
        (["--channels", "pink=0"], r"error: .*a\.png: --channels must use the colours red"),
        (["--channels", "DAPI"], r"error: .*a\.png: no channel is named 'DAPI'"),
        (
            ["--limits", "0,1", "--limits", "0,2"],
            r"a\.png: --limits must be given once, or once for each of the 1 shown channels, got 2",
        ),
        (["--plane", "Z=3"], r"a\.png is a single picture and no stack: leave out --plane"),
        (["--plane", "3"], r"a\.png is a single picture and no stack: leave out --plane"),
        (
            ["--level", "1"],
            r"a\.png is no pyramid: it has level 0 alone, got level 1; leave out --level",
        ),
        (["--axes", "ZYX"], r"a\.png has the shape \(20, 30\) .* such as --axes ZYX"),
        (["--axes", "XX"], r"a\.png has the shape \(20, 30\) .* such as --axes ZYX"),
        (["--point", "100,3"], r"a\.png: --point and --negative must lie within the image, got"),
    ],
)
def test_options_that_do_not_fit_the_picture(
    run_segment: RunSegment,
    pictures: Path,
    options: list[str],
    message: str,
    said: Said,
) -> None:
    assert run_segment(pictures / "a.png", *options) == 1
    said(message)


@pytest.mark.parametrize(
    ("shape", "axes", "options", "message"),
    [
        ((5, 20, 30), "CYX", [], r"such as --channels red=0,green=2$"),
        ((4, 20, 30), "CYX", [], r"such as --channels red=0,green=2$"),
        ((3, 20, 30), "ZYX", [], r"is a stack along Z .* with --plane Z=0, or .* with --stack$"),
        (
            (2, 3, 20, 30),
            "TZYX",
            ["--plane", "T=1"],
            r"along Z .*; choose one, such as --plane Z=0$",
        ),
        ((2, 3, 20, 30), "TZYX", ["--plane", "1"], r"name the axes, such as --plane Z=0,T=0$"),
        ((3, 20, 30), "ZYX", ["--axes", "YYX"], r"has the axis Y twice in 'YYX'; correct --axes$"),
    ],
)
def test_the_core_speaks_in_options(
    run_segment: RunSegment,
    tmp_path: Path,
    shape: tuple[int, ...],
    axes: str,
    options: list[str],
    message: str,
    said: Said,
) -> None:
    data = np.random.default_rng(0).integers(0, 999, shape).astype(np.uint16)
    tifffile.imwrite(tmp_path / "s.ome.tif", data, metadata={"axes": axes})
    assert run_segment(tmp_path / "s.ome.tif", *options) == 1
    assert re.search(message, said("error: ").splitlines()[0])


@pytest.mark.parametrize(
    ("limits", "first"), [("500,900", np.nan), ("500,900", 0), ("-9,-1", 0), ("0,9e9", 0)]
)
def test_limits_that_leave_nothing_to_see(
    run_segment: RunSegment, tmp_path: Path, limits: str, first: float, said: Said
) -> None:
    data = np.arange(600, dtype=np.float32).reshape(20, 30) / 10
    data[0, :2] = first, 0.1
    tifffile.imwrite(tmp_path / "a.tif", data)
    assert run_segment(tmp_path / "a.tif", "--limits", limits) == 0
    said(r"warning: .*a\.tif: every pixel looks the same with these --limits, .* 0(\.1)? to 59\.9")


@pytest.mark.parametrize(
    ("gaps", "options", "message"),
    [
        (
            [np.nan],
            [],
            r"1 pixel is not finite and seen as black \(infinity as white\); the edges of",
        ),
        ([np.nan, np.inf, -np.inf], [], r"3 pixels are not finite and seen as black"),
        ([], [], None),
    ],
)
def test_pixels_that_are_no_numbers_are_counted(
    run_segment: RunSegment,
    tmp_path: Path,
    gaps: list[float],
    options: list[str],
    message: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = np.arange(600, dtype=np.float32).reshape(20, 30)
    data[3, : len(gaps)] = gaps
    tifffile.imwrite(tmp_path / "a.tif", data)
    assert run_segment(tmp_path / "a.tif", *options) == 0
    told = capsys.readouterr().err
    if message is None:
        assert told == ""
    else:
        assert re.fullmatch(rf"sam-plugins: warning: \S*a\.tif: {message}.*\n", told)


def test_only_the_channels_that_are_shown_have_gaps(
    run_segment: RunSegment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = np.arange(2400, dtype=np.float32).reshape(4, 20, 30)
    data[1, 0, 0] = data[3, 1, :2] = np.nan
    tifffile.imwrite(tmp_path / "a.ome.tif", data, metadata={"axes": "CYX"})
    assert run_segment(tmp_path / "a.ome.tif", "--channels", "red=0,green=2") == 0
    assert capsys.readouterr().err == ""
    assert run_segment(tmp_path / "a.ome.tif", "--channels", "1,3", "--overwrite") == 0
    assert "3 pixels are not finite" in capsys.readouterr().err


def test_limits_that_suit_are_no_warning(
    run_segment: RunSegment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.arange(600, dtype=np.uint16).reshape(20, 30))
    tifffile.imwrite(tmp_path / "plain.tif", np.full((20, 30), 7, np.uint16))
    assert run_segment(tmp_path / "*.tif", "--limits", "100,4000") == 0
    assert capsys.readouterr().err == ""
