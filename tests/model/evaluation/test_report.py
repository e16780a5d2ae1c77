"""Reports: their figures, their JSON, their tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.labelled_sets import SIZE_HW

from sam_plugins.errors import OutputError, UnreadableImageError
from sam_plugins.model.evaluation.automatic import FLOOR_NAME
from sam_plugins.model.evaluation.measure import measure
from sam_plugins.model.evaluation.report import Report, to_json, to_markdown, write_report
from sam_plugins.model.io.labelled import LabelledFile, list_manifest_files


def bright(image: np.ndarray) -> np.ndarray:
    """Everything bright as one object."""
    return (image > 100).astype(np.int32)


@pytest.fixture
def report(data_dir: Path, truth_model: type[Any]) -> Report:
    """Both tasks on both sets."""
    files = list_manifest_files(data_dir)
    return measure("truth", files, model=truth_model(), segmenter=bright, data={"split": "val"})


def test_figures(report: Report) -> None:
    prompts = report.prompts
    assert prompts is not None
    assert prompts.pictures == {"cells": 2, "photos": 2}
    assert prompts.objects["photos"] == 6
    for name in prompts.sets:
        own = [score.box_iou for score in report.object_scores if score.set_name == name]
        assert prompts.sets[name]["box_iou"].mean == pytest.approx(np.mean(own))
    means = [prompts.sets[name]["point_best_iou"].mean for name in ("cells", "photos")]
    assert prompts.over_sets["point_best_iou"].mean == pytest.approx(np.mean(means))
    assert list(report.automatic) == ["truth", FLOOR_NAME]
    floor, model = report.automatic[FLOOR_NAME], report.automatic["truth"]
    assert floor.over_sets["msa"].mean > model.over_sets["msa"].mean
    assert model.sets["cells"]["merges"].mean > 0
    assert set(report.seconds) == {"prompts", "automatic"}


def test_json_holds_every_figure_and_no_nan(report: Report) -> None:
    content = json.loads(to_json(report))
    assert content["model"] == "truth"
    assert content["data"] == {"split": "val"}
    box = content["prompts"]["sets"]["cells"]["box_iou"]
    assert box["low"] <= box["mean"] <= box["high"]
    assert len(content["object_scores"]) == len(report.object_scores)
    dices = [score["dice"] for score in content["picture_scores"] if score["image_id"] == "p"]
    assert dices == [None, None]
    assert "object_scores" not in json.loads(to_json(report, with_scores=False))


def test_markdown_tables_are_whole(report: Report) -> None:
    text = to_markdown(report)
    assert "one point, best of 3" in text
    assert f"| cells | {FLOOR_NAME} | 2 |" in text
    assert "**mean over 2 sets**" in text
    for block in text.split("\n\n"):
        rows = [line for line in block.split("\n") if line.startswith("|")]
        assert len({line.count("|") for line in rows}) <= 1
    assert "nan" not in text.lower()


def test_a_report_of_one_task(data_dir: Path, truth_model: type[Any]) -> None:
    files = list_manifest_files(data_dir, ["photos"])[:1]
    text = to_markdown(measure("m", files, model=truth_model()))
    assert "Automatic" not in text
    only = measure("m", files, segmenter=bright, with_floor=False)
    assert only.prompts is None
    assert json.loads(to_json(only))["prompts"] is None
    assert FLOOR_NAME not in to_markdown(only)


def test_progress_is_told(data_dir: Path) -> None:
    told: list[tuple[str, int, int]] = []
    files = list_manifest_files(data_dir, ["photos"])
    measure("m", files, segmenter=bright, on_progress=lambda *what: told.append(what))
    assert told == [("automatic", 1, 2), ("automatic", 2, 2)]


def test_a_picture_that_fails_is_told_and_left_out_of_every_figure(
    data_dir: Path, truth_model: type[Any]
) -> None:
    files = list_manifest_files(data_dir)
    one = {"model": truth_model(), "segmenter": bright}
    expected = measure("m", files[1:], **one)
    files[0].label_path.write_bytes(b"no picture")
    failed: list[tuple[LabelledFile, Exception]] = []
    told: list[tuple[str, int, int]] = []
    found = measure(
        "m",
        files,
        **one,
        on_failure=lambda *what: failed.append(what),
        on_progress=lambda *what: told.append(what),
    )
    assert [file for file, _ in failed] == files[:1]
    assert isinstance(failed[0][1], UnreadableImageError)
    assert found.object_scores == expected.object_scores
    assert [score.image_id for score in found.picture_scores] == [
        score.image_id for score in expected.picture_scores
    ]
    assert found.prompts == expected.prompts
    assert told[-1] == ("automatic", len(files), len(files))
    with pytest.raises(UnreadableImageError):
        measure("m", files, **one)


def test_a_picture_that_fails_half_way_is_left_out_as_well(
    data_dir: Path, truth_model: type[Any]
) -> None:
    def broken(image: np.ndarray) -> np.ndarray:
        raise RuntimeError("broken")

    failed: list[str] = []
    report = measure(
        "m",
        list_manifest_files(data_dir, ["photos"]),
        model=truth_model(),
        segmenter=broken,
        on_failure=lambda file, error: failed.append(str(error)),
    )
    assert failed == ["broken", "broken"]
    assert (report.object_scores, report.picture_scores) == ([], [])


def test_wrong_numbers_are_no_failure_of_a_picture(data_dir: Path, truth_model: type[Any]) -> None:
    failed: list[object] = []
    with pytest.raises(ValueError, match="max_objects must be 1 or more"):
        measure(
            "m",
            list_manifest_files(data_dir),
            model=truth_model(),
            max_objects=0,
            on_failure=lambda *what: failed.append(what),
        )
    assert not failed


def test_nothing_is_said_of_clicks_on_no_objects(data_dir: Path, truth_model: type[Any]) -> None:
    files = list_manifest_files(data_dir, ["photos"])[:1]
    Image.fromarray(np.zeros(SIZE_HW, np.uint8)).save(files[0].label_path)
    text = to_markdown(measure("m", files, clicked=truth_model()))
    assert "### Clicks until the object is found" in text
    assert "lower" not in text


def test_nothing_to_measure_is_refused(data_dir: Path, truth_model: type[Any]) -> None:
    with pytest.raises(ValueError, match="needs pictures and a model or a segmenter, got 0"):
        measure("m", [], model=truth_model())
    with pytest.raises(ValueError, match="model None and segmenter None"):
        measure("m", list_manifest_files(data_dir))


def test_a_report_is_written_whole(report: Report, tmp_path: Path) -> None:
    write_report(tmp_path / "report.json", report)
    assert json.loads((tmp_path / "report.json").read_text())["model"] == "truth"
    with pytest.raises(OutputError, match=r"cannot write .*the folder does not exist"):
        write_report(tmp_path / "nowhere" / "report.json", report)
