"""``sam-plugins segment`` with a fake model: which pictures, which files, what is said."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.cli.helpers import RunSegment, Said, names

from sam_plugins.cli import main, segment_jobs
from sam_plugins.cli.results import RESULT_ENDINGS
from sam_plugins.model.io.rle import decode_mask


def test_three_files_for_each_picture(run_segment: RunSegment, out: Path, pictures: Path) -> None:
    assert run_segment(pictures / "b.png") == 0
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


@pytest.mark.parametrize("named", [[""], ["*.png"], ["a.png", ""]])
def test_a_folder_a_pattern_and_files(
    run_segment: RunSegment, out: Path, pictures: Path, named: list[str]
) -> None:
    assert run_segment(*(pictures / name for name in named)) == 0
    assert len(names(out)) == 6


def test_results_beside_the_pictures_are_not_segmented(pictures: Path, core: Any) -> None:
    assert main(["segment", str(pictures), "-o", str(pictures)]) == 0
    assert main(["segment", str(pictures), "-o", str(pictures)]) == 0
    assert main(["segment", str(pictures / "*"), "-o", str(pictures)]) == 0
    assert not [name for name in names(pictures) if "_labels_labels" in name]


def test_results_that_a_shell_names_are_not_segmented(
    pictures: Path, core: Any, monkeypatch: pytest.MonkeyPatch, said: Said
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
    said("left out 6 results of earlier runs")


def test_only_results_to_segment(pictures: Path, core: Any, said: Said) -> None:
    assert main(["segment", str(pictures), "-o", str(pictures)]) == 0
    named = str(pictures / "a_labels.tif")
    assert main(["segment", named, "-o", str(pictures)]) == 1
    said(r"cannot segment .*a_labels\.tif: it is a result of an earlier run; name the")


@pytest.mark.parametrize("named", ["mine_overlay.png", "", "*"])
def test_a_picture_that_is_only_named_like_a_result(
    run_segment: RunSegment, out: Path, pictures: Path, named: str
) -> None:
    (pictures / "a.png").rename(pictures / "mine_overlay.png")
    assert run_segment(pictures / named) == 0
    assert "mine_overlay_labels.tif" in names(out)


def test_nothing_is_said_in_a_pipe(
    run_segment: RunSegment, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_segment(pictures) == 0
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_progress_and_files(
    run_segment: RunSegment,
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert run_segment(pictures) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"b\.png: 3 objects in \d+\.\d s -> .*b_labels\.tif", err)
    assert "image" in err


def test_a_summary_as_json(
    run_segment: RunSegment, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_segment(pictures, tmp_path / "no.png", "--json") == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary["model"] == "fake-0123456789ab"
    assert [r["objects"] for r in summary["results"]] == [1, 3]
    assert Path(summary["results"][0]["files"]["labels"]).is_file()
    assert summary["failed"][0]["image"] == str(tmp_path / "no.png")
    assert "no such file" in summary["failed"][0]["error"]


# ------------------------------------------------------------------------------ again


def test_resume_passes_over_what_is_complete(
    run_segment: RunSegment,
    out: Path,
    pictures: Path,
    core: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_segment(pictures) == 0
    (out / "b_overlay.png").unlink()  # killed before all three had their names
    capsys.readouterr()
    assert run_segment(pictures, "--resume", "--json") == 0
    assert len(core.seen) == 3
    assert "b_overlay.png" in names(out)
    document = json.loads(capsys.readouterr().out)
    assert [one["objects"] for one in document["results"]] == [1, 3]
    assert run_segment(pictures, "--resume") == 0
    assert len(core.seen) == 3
    assert run_segment(pictures) == 0
    assert len(core.seen) == 5  # nobody asked


@pytest.mark.parametrize(
    "options",
    [
        ["--mode", "grid"],
        ["--box", "2,2,7,6"],
        ["--limits", "0,100"],
        ["--no-tiles"],
        ["--backend", "auto"],
        ["--like", "3,3", "--like-in", "LIKE"],
        ["--text", "a cell"],
    ],
)
def test_resume_does_again_what_is_asked_otherwise(
    run_segment: RunSegment, pictures: Path, core: Any, options: list[str]
) -> None:
    options = [str(pictures / "a.png") if one == "LIKE" else one for one in options]
    assert run_segment(pictures / "b.png") == 0
    before = len(core.asked)
    assert run_segment(pictures / "b.png", "--resume", *options) == 0
    between = len(core.asked)
    assert between > before
    assert run_segment(pictures / "b.png", "--resume", *options) == 0
    assert len(core.asked) == between


def test_resume_does_again_what_has_another_picture_or_model(
    run_segment: RunSegment, pictures: Path, core: Any
) -> None:
    assert run_segment(pictures / "b.png") == 0
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(pictures / "b.png")
    assert run_segment(pictures / "b.png", "--resume") == 0
    assert len(core.seen) == 2
    core.model_id = "fake-ba9876543210"
    assert run_segment(pictures / "b.png", "--resume") == 0
    assert len(core.seen) == 3


def test_resume_does_not_replace_what_people_changed(
    run_segment: RunSegment, out: Path, pictures: Path, said: Said
) -> None:
    assert run_segment(pictures / "b.png") == 0
    tifffile.imwrite(out / "b_labels.tif", np.full((20, 30), 7, np.uint16))
    assert run_segment(pictures / "b.png", "--resume") == 1
    said("was changed since it was written")


def test_resume_and_overwrite_exclude_each_other(
    run_segment: RunSegment, pictures: Path, said: Said
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_segment(pictures, "--resume", "--overwrite")
    said("--overwrite: not allowed with argument --resume")


def test_results_are_put_in_order_once_and_not_at_every_picture(
    run_segment: RunSegment, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sorted_lengths: list[int] = []

    def counting(values: Any) -> list[Any]:
        found = sorted(values)
        sorted_lengths.append(len(found))
        return found

    monkeypatch.setattr(segment_jobs, "sorted", counting, raising=False)
    for index in range(40):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(pictures / f"c{index:02d}.png")
    assert run_segment(pictures, "--json") == 0
    assert sum(sorted_lengths) <= 4 * 42


def test_results_are_in_the_order_of_the_jobs() -> None:
    summary = segment_jobs.Summary()
    for index in (2, 0, 1):
        summary.keep(index, {"image": str(index)})
    assert [one["image"] for one in summary.results] == ["0", "1", "2"]
    assert summary.document()["results"] == summary.results
