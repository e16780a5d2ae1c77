"""``sam-plugins segment`` with a fake model: files, exit codes and messages."""

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

from sam_plugins.cli import main, segment
from sam_plugins.cli.core import Found, PromptChoice
from sam_plugins.cli.inputs import RESULT_ENDINGS, find_images, plan_jobs, result_name
from sam_plugins.errors import OutputError, UnknownModelError, UnreadableImageError
from sam_plugins.model.io import labels as labels_module
from sam_plugins.model.io.atomic import output_error
from sam_plugins.model.io.rle import decode_mask

RESULTS_OF_A = ["a_labels.tif", "a_objects.json", "a_overlay.png"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stderr_line(capsys: pytest.CaptureFixture[str], pattern: str) -> str:
    err = capsys.readouterr().err
    assert re.search(pattern, err), err
    return err


# ------------------------------------------------------------------------------ results


def test_three_files_for_each_picture(pictures: Path, tmp_path: Path, core: Any) -> None:
    out = tmp_path / "new" / "out"
    assert main(["segment", str(pictures / "b.png"), "-o", str(out)]) == 0
    assert names(out) == ["b_labels.tif", "b_objects.json", "b_overlay.png"]
    labels = tifffile.imread(out / "b_labels.tif")
    assert labels.dtype == np.uint16
    assert labels.max() == 3
    table = json.loads((out / "b_objects.json").read_text())
    assert table["image"] == "b.png"
    assert table["model"] == "fake-0123456789ab"
    assert table["mode"] == "auto"
    assert table["size_hw"] == [20, 30]
    assert [o["score"] for o in table["objects"]] == [0.9, 0.7, 0.5]
    assert table["objects"][0]["area"] == 20
    assert table["objects"][0]["box_xyxy"] == [2, 2, 6, 5]
    mask = decode_mask(table["objects"][1]["segmentation"])
    np.testing.assert_array_equal(mask, labels == 2)
    with Image.open(out / "b_overlay.png") as overlay:
        assert overlay.size == (30, 20)


def test_a_folder_a_pattern_and_files(pictures: Path, tmp_path: Path, core: Any) -> None:
    for i, named in enumerate(
        ([str(pictures)], [str(pictures / "*.png")], [str(pictures / "a.png"), str(pictures)])
    ):
        out = tmp_path / f"out{i}"
        assert main(["segment", *named, "-o", str(out)]) == 0
        assert len(names(out)) == 6


def test_results_beside_the_pictures_are_not_segmented(pictures: Path, core: Any) -> None:
    assert main(["segment", str(pictures), "-o", str(pictures)]) == 0
    assert main(["segment", str(pictures), "-o", str(pictures)]) == 0
    assert main(["segment", str(pictures / "*"), "-o", str(pictures)]) == 0
    assert not [name for name in names(pictures) if "_labels_labels" in name]


def test_results_that_a_shell_names_are_not_segmented(
    pictures: Path, core: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in sorted(pictures.iterdir()):
        Image.open(path).save(path.with_suffix(".tif"))
        path.unlink()
    expected = ["a.tif", "b.tif"]
    for _ in range(3):  # as a shell expands *
        command = ["segment", *(str(pictures / name) for name in names(pictures))]
        assert main([*command, "-o", str(pictures)]) == 0
        expected = sorted({*expected, *(f"{n}{e}" for n in "ab" for e in RESULT_ENDINGS.values())})
        assert names(pictures) == expected
    assert len(core.seen) == 6
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main([*command, "-o", str(pictures)]) == 0
    stderr_line(capsys, "left out 6 results of earlier runs")


def test_only_results_to_segment(
    pictures: Path, core: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(pictures), "-o", str(pictures)]) == 0
    named = str(pictures / "a_labels.tif")
    assert main(["segment", named, "-o", str(pictures)]) == 1
    stderr_line(
        capsys, r"cannot segment .*a_labels\.tif: it is a result of an earlier run; name the"
    )


def test_a_picture_that_is_only_named_like_a_result(
    pictures: Path, tmp_path: Path, core: Any
) -> None:
    named = (pictures / "a.png").rename(pictures / "mine_overlay.png")
    out = tmp_path / "out"
    assert main(["segment", str(named), "-o", str(out)]) == 0
    assert "mine_overlay_labels.tif" in names(out)


def test_nothing_is_said_in_a_pipe(
    pictures: Path, tmp_path: Path, core: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(pictures), "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_progress_and_files(
    pictures: Path,
    tmp_path: Path,
    core: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(["segment", str(pictures), "-o", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"b\.png: 3 objects in \d+\.\d s -> .*b_labels\.tif", err)
    assert "image" in err


def test_a_summary_as_json(
    pictures: Path, tmp_path: Path, core: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(pictures), str(tmp_path / "no.png"), "-o", str(tmp_path / "out"), "--json"]
    assert main(["segment", *arguments]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary["model"] == "fake-0123456789ab"
    assert [r["objects"] for r in summary["results"]] == [1, 3]
    assert Path(summary["results"][0]["files"]["labels"]).is_file()
    assert summary["failed"][0]["image"] == str(tmp_path / "no.png")
    assert "no such file" in summary["failed"][0]["error"]


def test_prompts(pictures: Path, tmp_path: Path, core: Any) -> None:
    out = tmp_path / "out"
    options = ["--point", "4,3", "--point", "5,3.5", "--negative", "20,10", "--box", "1,1,9,9"]
    assert main(["segment", str(pictures / "a.png"), "-o", str(out), *options]) == 0
    assert core.asked == [PromptChoice([(4, 3), (5, 3.5)], [(20, 10)], [(1, 1, 9, 9)])]
    table = json.loads((out / "a_objects.json").read_text())
    assert table["mode"] == "prompts"
    assert table["prompts"]["boxes_xyxy"] == [[1, 1, 9, 9]]
    assert table["objects"][0]["score"] == 0.75


def test_the_mode_is_passed_on(pictures: Path, tmp_path: Path, core: Any) -> None:
    main(["segment", str(pictures / "a.png"), "-o", str(tmp_path / "out"), "--mode", "grid"])
    assert core.asked == ["grid"]


def test_the_view(tmp_path: Path, core: Any) -> None:
    data = np.zeros((4, 2, 20, 30), np.uint16)
    data[2, 1, 2:6, 2:8] = 500
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, data, metadata={"axes": "ZCYX", "Channel": {"Name": ["DAPI", "GFP"]}})
    out = tmp_path / "out"
    options = ["--plane", "2", "--channels", "red=gfp", "--limits", "0,1000"]
    assert main(["segment", str(path), "-o", str(out), *options]) == 0
    assert core.seen[0].max() == 128
    assert not core.seen[0][..., 1:].any()
    table = json.loads((out / "stack_objects.json").read_text())
    assert table["view"] == {"channels": {"red": "gfp"}, "limits": [[0, 1000]], "plane": 2}


def test_limits_below_zero(tmp_path: Path, core: Any) -> None:
    data = np.full((20, 30), -160, np.int16)
    data[2:9, 2:9] = 240
    tifffile.imwrite(tmp_path / "ct.tif", data)
    command = ["segment", str(tmp_path / "ct.tif"), "-o", str(tmp_path / "out")]
    assert main([*command, "--limits", "-160,640"]) == 0
    assert np.unique(core.seen[0]).tolist() == [0, 128]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (["--point", "-.5,3"], PromptChoice([(-0.5, 3)], [], [])),
        (["--box", "-0.5,-.5,9,9"], PromptChoice([], [], [(-0.5, -0.5, 9, 9)])),
        (["--point", "4,3", "--negative", "-0.5,1"], PromptChoice([(4, 3)], [(-0.5, 1)], [])),
    ],
)
def test_prompts_on_the_outer_edge_of_the_first_pixels(
    pictures: Path, tmp_path: Path, core: Any, option: list[str], expected: PromptChoice
) -> None:
    assert main(["segment", str(pictures / "a.png"), *option, "-o", str(tmp_path / "out")]) == 0
    assert core.asked == [expected]


def test_channels_recorded_one_by_one_are_stretched_one_by_one(tmp_path: Path, core: Any) -> None:
    data = np.zeros((2, 20, 30), np.uint16)
    data[0, 2:9, 2:9], data[1, 8:15, 8:15] = 50, 5000
    tifffile.imwrite(tmp_path / "c.ome.tif", data, metadata={"axes": "CYX"})
    assert main(["segment", str(tmp_path / "c.ome.tif"), "-o", str(tmp_path / "out")]) == 0
    assert core.seen[0].max(axis=(0, 1)).tolist() == [255, 255, 0]


# ------------------------------------------------------------------------------ failures


def test_one_unreadable_file_among_many(
    pictures: Path, tmp_path: Path, core: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "aa.png").write_bytes((pictures / "b.png").read_bytes()[:60])
    out = tmp_path / "out"
    assert main(["segment", str(pictures), "-o", str(out)]) == 1
    assert len(names(out)) == 6
    err = stderr_line(capsys, r"sam-plugins: error: cannot read .*aa\.png: ")
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
    tmp_path: Path, core: Any, named: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["segment", str(tmp_path / named), "-o", str(tmp_path / "out")]) == 1
    stderr_line(capsys, message)


def test_a_name_that_is_too_long_stops_no_other(
    pictures: Path, tmp_path: Path, core: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["segment", "n" * 300, str(pictures / "a.png"), "-o", str(out)]
    assert main(command) == 1
    assert names(out) == RESULTS_OF_A
    stderr_line(capsys, r"error: cannot read n{300}: ")


def test_a_folder_that_may_not_be_listed_stops_no_other(
    pictures: Path,
    tmp_path: Path,
    core: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    private = tmp_path / "private"
    private.mkdir()
    out = tmp_path / "out"
    command = ["segment", str(private), str(pictures / "a.png"), "-o", str(out)]
    assert main(command) == 1
    stderr_line(capsys, r"error: cannot read .*private: Permission denied; ask its owner")
    assert len(list(out.glob("*"))) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such path at all")
def test_a_name_whose_results_would_be_too_long(
    pictures: Path, tmp_path: Path, core: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    long = (pictures / "a.png").rename(pictures / f"{'n' * 246}.png")
    out = tmp_path / "out"
    assert main(["segment", str(long), str(pictures / "b.png"), "-o", str(out)]) == 1
    assert len(names(out)) == 3
    stderr_line(capsys, r"cannot write .*n_(labels\.tif|objects\.json): the name is too long")


def test_the_rest_go_on_after_any_error_of_the_system(
    pictures: Path,
    tmp_path: Path,
    core: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = core.automatic
    count = iter(range(2))

    def fail_first(*arguments: Any) -> Found:
        if next(count) == 0:
            raise OSError(errno.EIO, "Input/output error")
        return real(*arguments)

    monkeypatch.setattr(core, "automatic", fail_first)
    out = tmp_path / "out"
    assert main(["segment", str(pictures), "-o", str(out)]) == 1
    assert len(names(out)) == 3
    err = stderr_line(capsys, r"error: .*a\.png: \[Errno 5\] Input/output error")
    assert "1 of 2 segmented, 1 failed" in err


def test_debugging_shows_the_traceback_of_a_picture_and_goes_on(
    pictures: Path,
    tmp_path: Path,
    core: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (pictures / "a.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    assert main(["segment", str(pictures), "-o", str(out), "--debug"]) == 1
    assert len(names(out)) == 3
    stderr_line(capsys, r"Traceback \(most recent call last\):[^$]*UnreadableImageError")


def test_pictures_that_would_write_the_same_files(
    pictures: Path, tmp_path: Path, core: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.open(pictures / "a.png").save(pictures / "A.bmp")
    assert main(["segment", str(pictures), "-o", str(tmp_path / "out")]) == 1
    stderr_line(capsys, r"would both be written as a_labels\.tif; rename one, or segment them")
    assert not (tmp_path / "out").exists()


def test_results_may_be_made_anew_until_somebody_changed_them(
    pictures: Path, tmp_path: Path, core: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(pictures), "-o", str(tmp_path)]
    assert main(command) == 0
    assert main(command) == 0
    corrected = np.full((20, 30), 7, np.uint16)
    tifffile.imwrite(tmp_path / "a_labels.tif", corrected)
    assert main(command) == 1
    stderr_line(capsys, r"a_labels\.tif exists and was changed since .*; pass --overwrite")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a_labels.tif"), corrected)
    assert main([*command, "--overwrite"]) == 0
    assert tifffile.imread(tmp_path / "a_labels.tif").max() == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff"])
def test_files_that_are_not_ours_are_kept(
    pictures: Path, tmp_path: Path, core: Any, content: bytes
) -> None:
    (tmp_path / "a_objects.json").write_bytes(content)
    assert main(["segment", str(pictures / "a.png"), "-o", str(tmp_path)]) == 1
    assert (tmp_path / "a_objects.json").read_bytes() == content


def test_a_folder_that_cannot_be_made(
    pictures: Path, tmp_path: Path, core: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["segment", str(pictures), "-o", str(tmp_path / "file")]) == 1
    stderr_line(capsys, r"error: cannot create the folder .*file: a file of that name exists")


@pytest.mark.parametrize(
    ("writer", "function", "named"),
    [
        (labels_module.tifffile, "imwrite", "a_labels.tif"),
        (labels_module.Image.Image, "save", "a_overlay.png"),
        (labels_module, "write_bytes", "a_objects.json"),
    ],
)
def test_a_full_disk(
    pictures: Path,
    tmp_path: Path,
    core: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    writer: Any,
    function: str,
    named: str,
) -> None:
    def full(path: Any, *_: Any, **__: Any) -> None:
        error = OSError(errno.ENOSPC, "No space left on device")
        raise error if function != "write_bytes" else output_error(path, error)

    out = tmp_path / "out"
    command = ["segment", str(pictures / "a.png"), "-o", str(out)]
    with monkeypatch.context() as patched:
        patched.setattr(writer, function, full)
        assert main(command) == 1
    where = re.escape(str(out / named))
    stderr_line(capsys, rf"error: cannot write {where}: the disk is full; free some space")
    assert names(out) == []
    assert main(command) == 0
    assert names(out) == RESULTS_OF_A


@pytest.mark.parametrize("writer", ["write_labels", "write_picture", "write_objects"])
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_ctrl_c_between_the_files_of_a_picture_leaves_none_of_them(
    pictures: Path,
    tmp_path: Path,
    core: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    writer: str,
    is_done: bool,
) -> None:
    real = getattr(labels_module, writer)
    count = iter(range(10))

    def interrupted(*arguments: Any, **options: Any) -> None:
        is_second_picture = next(count) == 1
        if is_done or not is_second_picture:
            real(*arguments, **options)
        if is_second_picture:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(labels_module, writer, interrupted)
        assert main(["segment", str(pictures), "-o", str(out)]) == 130
    assert names(out) == RESULTS_OF_A
    stderr_line(capsys, "sam-plugins: interrupted; every file that was written is complete")
    assert main(["segment", str(pictures), "-o", str(out)]) == 0
    assert len(names(out)) == 6


@pytest.mark.parametrize("moves", range(1, 7))
def test_ctrl_c_while_files_get_their_names_changes_nothing(
    pictures: Path, tmp_path: Path, core: Any, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    command = ["segment", str(pictures / "a.png"), "-o", str(tmp_path)]
    assert main(command) == 0
    before = {name: (tmp_path / name).read_bytes() for name in RESULTS_OF_A}
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
        assert main([*command, "--point", "4,3"]) == 130
    assert {name: (tmp_path / name).read_bytes() for name in RESULTS_OF_A} == before
    assert not list(tmp_path.glob(".*"))
    assert main(command) == 0


@pytest.mark.parametrize("left", [{"objects"}, {"objects", "overlay"}])
def test_what_a_machine_that_stopped_can_leave_is_made_anew(
    pictures: Path, tmp_path: Path, core: Any, left: set[str]
) -> None:
    command = ["segment", str(pictures / "a.png"), "-o", str(tmp_path)]
    assert main(command) == 0
    for kind, ending in RESULT_ENDINGS.items():
        if kind not in left:
            (tmp_path / f"a{ending}").unlink()
    assert main(command) == 0
    assert set(RESULTS_OF_A) <= set(names(tmp_path))


def test_an_overlay_that_cannot_be_drawn_leaves_no_labels(
    pictures: Path,
    tmp_path: Path,
    core: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = Found(np.ones((30, 3), np.int32), np.array([0.5]))
    monkeypatch.setattr(core, "automatic", lambda *_: wrong)
    out = tmp_path / "out"
    assert main(["segment", str(pictures), "-o", str(out)]) == 1
    assert names(out) == []
    err = stderr_line(capsys, r"error: .*a\.png: rgb must be of shape \(H, W, 3\)")
    assert "0 of 2 segmented, 2 failed" in err


def run_out_of_memory(*_: Any) -> None:
    raise MemoryError("Unable to allocate 9 GiB")


def test_memory_that_runs_out(
    pictures: Path,
    tmp_path: Path,
    core: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core, "automatic", run_out_of_memory)
    assert main(["segment", str(pictures / "a.png"), "-o", str(tmp_path / "out")]) == 1
    err = stderr_line(
        capsys, r"not enough memory for .*a\.png; save a crop or a reduced copy of it"
    )
    assert "--level" not in err


def test_memory_that_runs_out_on_a_pyramid(
    tmp_path: Path, core: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        options = {"tile": (16, 16), "photometric": "minisblack"}
        writer.write(np.zeros((64, 64), np.uint8), subifds=1, **options)
        writer.write(np.zeros((32, 32), np.uint8), subfiletype=1, **options)
    monkeypatch.setattr(core, "automatic", run_out_of_memory)
    command = ["segment", str(path), "-o", str(tmp_path / "out")]
    assert main(command) == 1
    stderr_line(
        capsys, r"not enough memory for .*; take a coarser level of its pyramid with --level 1"
    )
    assert main([*command, "--level", "1"]) == 1  # the coarsest
    stderr_line(capsys, r"not enough memory for .*; save a crop or a reduced copy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--channels", "red=5"], r"error: .*a\.png: channel 5 does not exist: the image has 1"),
        (["--channels", "pink=0"], r"error: .*a\.png: channels must use the colours red"),
        (["--channels", "DAPI"], r"error: .*a\.png: no channel is named 'DAPI'"),
        (["--limits", "0,1", "--limits", "0,2"], r"a\.png: limits must be \(low, high\) or one"),
        (["--plane", "Z=3"], r"a\.png has no stack axis 'Z'"),
        (["--level", "1"], r"a\.png has the levels 0 to 0, got 1"),
        (["--axes", "ZYX"], r"a\.png has the shape \(20, 30\) with the axes 'ZYX'"),
        (["--point", "100,3"], r"a\.png: points_xy must lie within the image, got \(100, 3\)"),
    ],
)
def test_options_that_do_not_fit_the_picture(
    pictures: Path,
    tmp_path: Path,
    core: Any,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["segment", str(pictures / "a.png"), "-o", str(tmp_path / "out"), *options]
    assert main(command) == 1
    stderr_line(capsys, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "the following arguments are required: IMAGE, -o/--output"),
        (["a.png", "-o", "o", "--mode", "magic"], "invalid choice: 'magic'"),
        (["a.png", "-o", "o", "--point", "3"], "expected a point as x,y such as 120,85, got '3'"),
        (["a.png", "-o", "o", "--point", "nan,1"], "expected a point as x,y .*, got 'nan,1'"),
        (["a.png", "-o", "o", "--box", "1,2,3"], "expected a box as x0,y0,x1,y1 .*, got '1,2,3'"),
        (["a.png", "-o", "o", "--box", "9,2,3,8"], "with x0 < x1, y0 < y1, got '9,2,3,8'"),
        (["a.png", "-o", "o", "--limits", "-5,-7"], "with low < high, got '-5,-7'"),
        (["a.png", "-o", "o", "--limits", "5,5"], "limits as low,high .*with low < high, got"),
        (["a.png", "-o", "o", "--limits", "5"], "expected limits as low,high .*, got '5'"),
        (["a.png", "-o", "o", "--plane", "Z"], "expected a plane as 5 or Z=5,T=0, .*, got 'Z'"),
        (["a.png", "-o", "o", "--channels", "red=0,1"], "expected channels as red=0,green=2 or"),
        (["a.png", "-o", "o", "--channels", "red="], "expected channels as .*, got 'red='"),
        (["a.png", "-o", "o", "--channels", "red=0,red=1"], "expected channels as .*, got 'red"),
        (["a.png", "-o", "o", "--negative", "1,1"], "--negative needs a --point or a --box that"),
        (
            ["a.png", "-o", "o", "--point", "1,1", "--box", "0,0,1,1", "--box", "0,0,2,2"],
            "points refine one object: give them with at most one --box",
        ),
    ],
)
def test_wrong_usage(
    options: list[str], message: str, core: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["segment", *options])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert re.search(message, " ".join(err.split())), err


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_is_one_line_unless_debugging(
    pictures: Path,
    tmp_path: Path,
    debug: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(model: str, device: str | None) -> None:
        raise UnknownModelError(f"no model is called {model!r}:\n did you mean default?")

    monkeypatch.setattr(segment, "load_core", fail)
    command = ["segment", str(pictures), "-o", str(tmp_path / "out"), "--model", "defualt"]
    if debug:
        with pytest.raises(UnknownModelError, match="no model is called 'defualt'"):
            main([*command, "--debug"])
        return
    assert main(command) == 1
    expected = "sam-plugins: error: no model is called 'defualt': did you mean default?\n"
    assert capsys.readouterr().err == expected


# ------------------------------------------------------------------------------ parts


def test_names_of_results() -> None:
    assert result_name(Path("x/a.tif")) == "a"
    assert result_name(Path("x/a.OME.TIFF")) == "a"
    assert result_name(Path("x/a.ome.zarr")) == "a"
    assert result_name(Path("x/.ome.tif")) == ".ome"


def test_a_zarr_folder_is_one_image(tmp_path: Path) -> None:
    import zarr

    zarr.create_array(tmp_path / "a.zarr", data=np.zeros((4, 4), np.uint8))
    (tmp_path / "plain").mkdir()
    (tmp_path / ".hidden.png").touch()
    assert find_images(str(tmp_path / "a.zarr")) == [tmp_path / "a.zarr"]
    assert find_images(str(tmp_path)) == [tmp_path / "a.zarr"]
    with pytest.raises(UnreadableImageError, match="no image in the folder"):
        find_images(str(tmp_path / "plain"))


def test_brackets_in_real_names_are_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].png").touch()
    assert find_images(str(tmp_path / "a[1].png")) == [tmp_path / "a[1].png"]


def test_naming_a_picture_twice_is_no_clash(tmp_path: Path) -> None:
    assert len(plan_jobs([Path("a.png"), Path("a.png")], tmp_path)) == 1
    with pytest.raises(OutputError, match=r"a\.png and b/a\.png would both be written as a_label"):
        plan_jobs([Path("a.png"), Path("b/a.png")], tmp_path)
