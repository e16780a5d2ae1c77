"""Results are complete or absent, and nobody's work is replaced."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.cli.helpers import RESULTS_OF_A, RunSegment, Said, names

from sam_plugins.cli import main
from sam_plugins.cli.core import Found
from sam_plugins.cli.results import RESULT_ENDINGS
from sam_plugins.model.io import labels as labels_module
from sam_plugins.model.io.atomic import output_error
from sam_plugins.model.io.temporary import place


def test_results_may_be_made_anew_until_somebody_changed_them(
    run_segment: RunSegment, pictures: Path, out: Path, said: Said
) -> None:
    assert run_segment(pictures) == 0
    assert run_segment(pictures) == 0
    corrected = np.full((20, 30), 7, np.uint16)
    tifffile.imwrite(out / "a_labels.tif", corrected)
    assert run_segment(pictures) == 1
    said(r"a_labels\.tif exists and was changed since .*; pass --overwrite")
    np.testing.assert_array_equal(tifffile.imread(out / "a_labels.tif"), corrected)
    assert run_segment(pictures, "--overwrite") == 0
    assert tifffile.imread(out / "a_labels.tif").max() == 1


def edit_overlay(path: Path) -> None:
    with Image.open(path) as picture:
        edited = picture.convert("RGB")
    edited.putpixel((0, 0), (1, 2, 3))
    edited.save(path)


def edit_table(path: Path) -> None:
    table = json.loads(path.read_bytes())
    table["objects"][0]["class"] = "nucleus"
    path.write_text(json.dumps(table), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "edit"), [("a_overlay.png", edit_overlay), ("a_objects.json", edit_table)]
)
def test_every_result_that_somebody_changed_is_kept(
    run_segment: RunSegment,
    out: Path,
    pictures: Path,
    name: str,
    edit: Callable[[Path], None],
    said: Said,
) -> None:
    assert run_segment(pictures / "a.png") == 0
    edit(out / name)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run_segment(pictures / "a.png") == 1
    said(rf"{name} exists and was changed since it was written, .*; pass --overwrite")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run_segment(pictures / "a.png", "--overwrite") == 0
    assert run_segment(pictures / "a.png") == 0


def test_a_table_that_was_only_laid_out_anew_is_untouched(
    run_segment: RunSegment, out: Path, pictures: Path
) -> None:
    assert run_segment(pictures / "a.png") == 0
    table = out / "a_objects.json"
    table.write_text(json.dumps(json.loads(table.read_bytes())), encoding="utf-8")
    assert run_segment(pictures / "a.png") == 0


def test_what_somebody_changes_while_the_model_works_is_kept(
    run_segment: RunSegment,
    out: Path,
    pictures: Path,
    core: Any,
    monkeypatch: pytest.MonkeyPatch,
    said: Said,
) -> None:
    assert run_segment(pictures / "a.png") == 0
    real = core.automatic

    def edit_meanwhile(*arguments: Any, **options: Any) -> Found:
        edit_overlay(out / "a_overlay.png")
        return real(*arguments, **options)

    monkeypatch.setattr(core, "automatic", edit_meanwhile)
    assert run_segment(pictures / "a.png") == 1
    said(r"a_overlay\.png exists and was changed since")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"digests": 1}'])
def test_files_that_are_not_ours_are_kept(
    pictures: Path, tmp_path: Path, core: Any, content: bytes
) -> None:
    (tmp_path / "a_objects.json").write_bytes(content)
    assert main(["segment", str(pictures / "a.png"), "-o", str(tmp_path)]) == 1
    assert (tmp_path / "a_objects.json").read_bytes() == content


def test_a_folder_that_cannot_be_made(
    pictures: Path, tmp_path: Path, core: Any, said: Said
) -> None:
    (tmp_path / "file").touch()
    assert main(["segment", str(pictures), "-o", str(tmp_path / "file")]) == 1
    said(r"error: cannot create the folder .*file: a file of that name exists")


@pytest.mark.parametrize(
    ("writer", "function", "named"),
    [
        (labels_module.tifffile, "imwrite", "a_labels.tif"),
        (labels_module.Image.Image, "save", "a_overlay.png"),
        (labels_module, "write_bytes", "a_objects.json"),
    ],
)
def test_a_full_disk(
    run_segment: RunSegment,
    out: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    writer: Any,
    function: str,
    named: str,
    said: Said,
) -> None:
    def full(path: Any, *_: Any, **__: Any) -> None:
        error = OSError(errno.ENOSPC, "No space left on device")
        raise error if function != "write_bytes" else output_error(path, error)

    command = [pictures / "a.png"]
    with monkeypatch.context() as patched:
        patched.setattr(writer, function, full)
        assert run_segment(*command) == 1
    where = re.escape(str(out / named))
    said(rf"error: cannot write {where}: the disk is full; free some space")
    assert names(out) == []
    assert run_segment(*command) == 0
    assert names(out) == RESULTS_OF_A


@pytest.mark.parametrize("writer", ["write_labels", "write_picture", "write_objects"])
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_ctrl_c_between_the_files_of_a_picture_leaves_none_of_them(
    run_segment: RunSegment,
    out: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    writer: str,
    is_done: bool,
    said: Said,
) -> None:
    real = getattr(labels_module, writer)
    count = iter(range(10))

    def interrupted(*arguments: Any, **options: Any) -> None:
        is_second_picture = next(count) == 1
        if is_done or not is_second_picture:
            real(*arguments, **options)
        if is_second_picture:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(labels_module, writer, interrupted)
        assert run_segment(pictures) == 130
    assert names(out) == RESULTS_OF_A
    said("sam-plugins: interrupted; every file that was written is complete")
    assert run_segment(pictures) == 0
    assert len(names(out)) == 6


@pytest.mark.parametrize("moves", range(1, 7))
def test_ctrl_c_while_files_get_their_names_changes_nothing(
    run_segment: RunSegment,
    pictures: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    moves: int,
) -> None:
    command = [pictures / "a.png"]
    assert run_segment(*command) == 0
    before = {name: (out / name).read_bytes() for name in RESULTS_OF_A}
    real = Path.replace
    count = iter(range(1, 100))

    def interrupted(self: Path, target: Path) -> Path:
        moved = real(self, target)
        is_given_its_name = self.suffix != ".part"  # and not a single file finished
        if is_given_its_name and next(count) == moves:
            raise KeyboardInterrupt
        return moved

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", interrupted)
        assert run_segment(*command, "--point", "4,3") == 130
    assert {name: (out / name).read_bytes() for name in RESULTS_OF_A} == before
    assert not list(out.glob(".*"))
    assert run_segment(*command) == 0


@pytest.mark.parametrize("left", [{"objects"}, {"objects", "overlay"}])
def test_what_a_machine_that_stopped_can_leave_is_made_anew(
    run_segment: RunSegment, pictures: Path, out: Path, left: set[str]
) -> None:
    command = [pictures / "a.png"]
    assert run_segment(*command) == 0
    for kind, ending in RESULT_ENDINGS.items():
        if kind not in left:
            (out / f"a{ending}").unlink()
    assert run_segment(*command) == 0
    assert set(RESULTS_OF_A) <= set(names(out))


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot tell which processes live")
def test_what_a_killed_run_began_is_finished_even_if_nothing_may_be_replaced(
    run_segment: RunSegment, pictures: Path, out: Path, said: Said
) -> None:
    assert run_segment(pictures / "a.png") == 0
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    staging = out / f".{place()}-{ended.pid}-0123456789ab.part"
    for kind in ("new", "old"):
        (staging / kind).mkdir(parents=True)
        shutil.copy(out / "a_labels.tif", staging / kind)
    (out / "a_labels.tif").unlink()
    edit_overlay(out / "a_overlay.png")
    assert run_segment(pictures / "a.png") == 1
    said(r"a_overlay\.png exists and was changed since")
    assert names(out) == RESULTS_OF_A


def test_an_overlay_that_cannot_be_drawn_leaves_no_labels(
    run_segment: RunSegment,
    out: Path,
    pictures: Path,
    core: Any,
    monkeypatch: pytest.MonkeyPatch,
    said: Said,
) -> None:
    wrong = Found(np.ones((30, 3), np.int32), np.array([0.5]))
    monkeypatch.setattr(core, "automatic", lambda *_, **__: wrong)
    assert run_segment(pictures) == 1
    assert names(out) == []
    err = said(r"error: .*a\.png: rgb must be of shape \(H, W, 3\)")
    assert "0 of 2 segmented, 2 failed" in err
