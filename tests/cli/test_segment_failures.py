"""Pictures that fail while the others go on."""

from __future__ import annotations

import errno
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.cli.helpers import RESULTS_OF_A, RunSegment, Said, names

from sam_plugins.cli import main, segment_jobs
from sam_plugins.cli.core import Found
from sam_plugins.errors import UnknownModelError


def test_one_unreadable_file_among_many(
    run_segment: RunSegment, out: Path, pictures: Path, said: Said
) -> None:
    (pictures / "aa.png").write_bytes((pictures / "b.png").read_bytes()[:60])
    assert run_segment(pictures) == 1
    assert len(names(out)) == 6
    err = said(r"sam-plugins: error: cannot read .*aa\.png: ")
    assert re.search(r"sam-plugins: 2 of 3 segmented, 1 failed: .*aa\.png", err)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("no.png", r"error: cannot read .*no\.png: no such file; check the name"),
        ("*.webp", r"error: no file matches .*\*\.webp; check the pattern"),
        ("empty", r"error: no image in the folder .*empty; expected names ending in \.tif"),
    ],
)
def test_nothing_to_do(
    run_segment: RunSegment,
    tmp_path: Path,
    named: str,
    message: str,
    said: Said,
) -> None:
    (tmp_path / "empty").mkdir()
    assert run_segment(str(tmp_path / named)) == 1
    said(message)


def test_a_name_that_is_too_long_stops_no_other(
    run_segment: RunSegment, out: Path, pictures: Path, said: Said
) -> None:
    command = ["n" * 300, str(pictures / "a.png")]
    assert run_segment(*command) == 1
    assert names(out) == RESULTS_OF_A
    said(r"error: cannot read n{300}: ")


def test_a_folder_that_may_not_be_listed_stops_no_other(
    run_segment: RunSegment,
    out: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: Said,
) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    private = tmp_path / "private"
    private.mkdir()
    command = [private, str(pictures / "a.png")]
    assert run_segment(*command) == 1
    said(r"error: cannot read .*private: Permission denied; ask its owner")
    assert len(list(out.glob("*"))) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such path at all")
def test_a_name_whose_results_would_be_too_long(
    run_segment: RunSegment, out: Path, pictures: Path, said: Said
) -> None:
    long = (pictures / "a.png").rename(pictures / f"{'n' * 246}.png")
    assert run_segment(long, str(pictures / "b.png")) == 1
    assert len(names(out)) == 3
    said(r"cannot write .*n_(labels\.tif|objects\.json): the name is too long")


def test_the_rest_go_on_after_any_error_of_the_system(
    run_segment: RunSegment,
    out: Path,
    pictures: Path,
    core: Any,
    monkeypatch: pytest.MonkeyPatch,
    said: Said,
) -> None:
    real = core.automatic
    count = iter(range(2))

    def fail_first(*arguments: Any, **options: Any) -> Found:
        if next(count) == 0:
            raise OSError(errno.EIO, "Input/output error")
        return real(*arguments, **options)

    monkeypatch.setattr(core, "automatic", fail_first)
    assert run_segment(pictures) == 1
    assert len(names(out)) == 3
    err = said(r"error: .*a\.png: \[Errno 5\] Input/output error")
    assert "1 of 2 segmented, 1 failed" in err


def test_debugging_shows_the_traceback_of_a_picture_and_goes_on(
    run_segment: RunSegment, out: Path, pictures: Path, said: Said
) -> None:
    (pictures / "a.png").write_bytes(b"no picture")
    assert run_segment(pictures, "--debug") == 1
    assert len(names(out)) == 3
    said(r"Traceback \(most recent call last\):[^$]*UnreadableImageError")


def test_pictures_that_would_write_the_same_files(
    run_segment: RunSegment, out: Path, pictures: Path, said: Said
) -> None:
    Image.open(pictures / "a.png").save(pictures / "A.bmp")
    assert run_segment(pictures) == 1
    err = said(
        r"a\.png and .*A\.bmp would both be written as a_labels\.tif; rename one, or segment"
    )
    assert re.search(r"A\.bmp and .*a\.png would both be written", err)
    assert "1 of 3 segmented, 2 failed" in err
    assert names(out) == ["b_labels.tif", "b_objects.json", "b_overlay.png"]


@pytest.mark.parametrize("options", [[], ["--debug"]])
def test_a_mistake_of_ours_costs_one_picture(
    run_segment: RunSegment,
    out: Path,
    pictures: Path,
    core: Any,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    said: Said,
) -> None:
    def stumble(*_: Any, **__: Any) -> Found:
        monkeypatch.undo()  # the next picture is segmented as usual
        raise AttributeError("no attribute of that name")

    monkeypatch.setattr(core, "automatic", stumble)
    assert run_segment(pictures, *options) == 1
    assert len(names(out)) == 3
    err = said(
        r"a\.png: internal error: AttributeError: no attr.*; .* with --debug and report what"
    )
    assert "1 of 2 segmented, 1 failed" in err
    assert ("Traceback (most recent call last)" in err) == bool(options)


@pytest.mark.parametrize(
    ("message", "doubt"),
    [
        ("could not create a primitive", ", or oneDNN failed for another reason"),
        ("std::bad_alloc", ""),
    ],
)
def test_memory_that_runs_out_in_a_library(
    run_segment: RunSegment,
    pictures: Path,
    core: Any,
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    doubt: str,
    said: Said,
) -> None:
    def fail(*_: Any, **__: Any) -> Found:
        raise RuntimeError(message)

    monkeypatch.setattr(core, "automatic", fail)
    assert run_segment(pictures / "a.png") == 1
    said(rf"error: not enough memory for .*a\.png{doubt}; save a crop")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="there is no folder like Linux's /sys")
def test_a_folder_that_takes_no_files_is_noticed_before_the_model_is_loaded(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.setattr(segment_jobs, "load_core", lambda *_: pytest.fail("the model was loaded"))
    assert main(["segment", str(pictures), "-o", "/sys/kernel"]) == 1
    said(
        r"error: cannot write /sys/kernel: .*(you may not write there|read-only|try another folder)"
    )


def test_json_tells_why_nothing_was_done(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(pictures / "a.png"), str(tmp_path / "*.webp"), "--json"]
    assert main([*command, "--model", "defualt", "-o", str(tmp_path / "out")]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["results"] == []
    assert document["failed"][0]["image"] == str(tmp_path / "*.webp")
    assert document["error"].startswith("no model is called 'defualt'")


def test_json_tells_how_far_it_came(
    run_segment: RunSegment,
    pictures: Path,
    core: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = core.automatic

    def interrupt_second(*arguments: Any, **options: Any) -> Found:
        if core.seen:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(core, "automatic", interrupt_second)
    assert run_segment(pictures, "--json") == 130
    document = json.loads(capsys.readouterr().out)
    assert [Path(result["image"]).name for result in document["results"]] == ["a.png"]
    assert "interrupted" in document["error"]


def run_out_of_memory(*_: Any, **__: Any) -> None:
    raise MemoryError("Unable to allocate 9 GiB")


def test_memory_that_runs_out(
    run_segment: RunSegment,
    pictures: Path,
    core: Any,
    monkeypatch: pytest.MonkeyPatch,
    said: Said,
) -> None:
    monkeypatch.setattr(core, "automatic", run_out_of_memory)
    assert run_segment(pictures / "a.png") == 1
    err = said(r"not enough memory for .*a\.png; save a crop or a reduced copy of it")
    assert "--level" not in err


def test_memory_that_runs_out_on_a_pyramid(
    run_segment: RunSegment,
    tmp_path: Path,
    core: Any,
    monkeypatch: pytest.MonkeyPatch,
    said: Said,
) -> None:
    path = tmp_path / "p.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        options = {"tile": (16, 16), "photometric": "minisblack"}
        writer.write(np.zeros((64, 64), np.uint8), subifds=1, **options)
        writer.write(np.zeros((32, 32), np.uint8), subfiletype=1, **options)
    monkeypatch.setattr(core, "automatic", run_out_of_memory)
    command = [path]
    assert run_segment(*command) == 1
    said(r"not enough memory for .*; take a coarser level of its pyramid with --level 1")
    assert run_segment(*command, "--level", "1") == 1  # the coarsest
    said(r"not enough memory for .*; save a crop or a reduced copy")


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_is_one_line_unless_debugging(
    run_segment: RunSegment,
    pictures: Path,
    debug: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(model: str, device: str | None) -> None:
        raise UnknownModelError(f"no model is called {model!r}:\n did you mean default?")

    monkeypatch.setattr(segment_jobs, "load_core", fail)
    command = [pictures, "--model", "defualt"]
    assert run_segment(*command, *(["--debug"] if debug else [])) == 1
    expected = "sam-plugins: error: no model is called 'defualt': did you mean default?\n"
    err = capsys.readouterr().err
    assert err.endswith(expected)
    assert ("Traceback" in err) == debug == (err != expected)
