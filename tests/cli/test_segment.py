"""``sam-plugins segment`` with a fake model: files, exit codes and messages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_plugins.cli import main, segment
from sam_plugins.cli.core import PromptChoice
from sam_plugins.cli.inputs import find_images, plan_jobs, result_name
from sam_plugins.errors import OutputError, UnknownModelError, UnreadableImageError
from sam_plugins.model.io import labels as labels_module
from sam_plugins.model.io.rle import decode_mask


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


def test_a_full_disk(
    pictures: Path,
    tmp_path: Path,
    core: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(labels_module.tifffile, "imwrite", full)
    out = tmp_path / "out"
    assert main(["segment", str(pictures / "a.png"), "-o", str(out)]) == 1
    stderr_line(capsys, r"error: cannot write .*a_labels\.tif: the disk is full; free some space")
    assert names(out) == []


def test_ctrl_c_leaves_no_half_file(
    pictures: Path,
    tmp_path: Path,
    core: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = labels_module.tifffile.imwrite
    count = iter(range(10))

    def interrupted(path: Path, *arguments: Any, **options: Any) -> None:
        real(path, *arguments, **options)
        if next(count) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(labels_module.tifffile, "imwrite", interrupted)
    out = tmp_path / "out"
    assert main(["segment", str(pictures), "-o", str(out)]) == 130
    assert names(out) == ["a_labels.tif", "a_objects.json", "a_overlay.png"]
    stderr_line(capsys, "sam-plugins: interrupted; every file that was written is complete")


def test_memory_that_runs_out(
    pictures: Path,
    tmp_path: Path,
    core: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(core, "automatic", fail)
    assert main(["segment", str(pictures / "a.png"), "-o", str(tmp_path / "out")]) == 1
    stderr_line(capsys, r"not enough memory for .*a\.png; try --level 1, a crop or a smaller mod")


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
