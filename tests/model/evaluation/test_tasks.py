"""The tasks from pictures to a report, and the report's files, page and plots."""

from __future__ import annotations

import base64
import builtins
import csv
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.labelled_sets import discs

from sam_plugins.errors import DatasetError, MissingExtraError, OutputError
from sam_plugins.model.evaluation.automatic import FLOOR_NAME
from sam_plugins.model.evaluation.bootstrap import bootstrap_statistic
from sam_plugins.model.evaluation.click_curve import Dialogue
from sam_plugins.model.evaluation.gallery import Gallery, painted
from sam_plugins.model.evaluation.html_page import html_page
from sam_plugins.model.evaluation.mask_grid import square_grid
from sam_plugins.model.evaluation.plots import draw_plot
from sam_plugins.model.evaluation.report_folder import prepare_folder, write_folder
from sam_plugins.model.evaluation.run_task import run_task
from sam_plugins.model.evaluation.single_point import LowResMasks
from sam_plugins.model.evaluation.task_report import (
    Line,
    Plot,
    TaskReport,
    report_json,
    report_markdown,
)
from sam_plugins.model.evaluation.tasks.automatic import Automatic
from sam_plugins.model.evaluation.tasks.clicks import Clicks
from sam_plugins.model.evaluation.tasks.edges import Edges
from sam_plugins.model.evaluation.tasks.single_point import FLOOR, SinglePoint
from sam_plugins.model.io.labelled import LabelledFile, LabelledImage, list_manifest_files


@pytest.fixture
def asked(truth_model: type[Any]) -> Any:
    """A model that knows the answers, also to clicks: wrong at first, right from the second on."""

    class Asked(truth_model):  # type: ignore[misc]
        def answer(self, embedding: Any, dialogue: Dialogue) -> LowResMasks:
            click = dialogue.clicks[0]
            exact = self._blob(embedding, click.x, click.y)[None, None]
            logits = exact if len(dialogue.clicks) > 1 else torch.full_like(exact, 5.0)
            return LowResMasks(logits, torch.ones(1, 1))

    return Asked()


def bright(image: np.ndarray) -> np.ndarray:
    return (image > 100).astype(np.int32)


@pytest.fixture
def report(data_dir: Path, asked: Any) -> TaskReport:
    """One point and one box on two sets."""
    files = list_manifest_files(data_dir)
    return run_task(SinglePoint(asked), files, model_name="truth", data={"split": "val"})


def test_the_floor_stands_beside_the_model(report: TaskReport) -> None:
    assert list(report.summaries) == ["truth", FLOOR]
    model, floor = report.summaries.values()
    assert model.sets["cells"]["point_best_iou"].mean > 0.9
    # Bright discs on dark ground are what a threshold finds; a disc fills 0.8 of its box.
    assert floor.sets["cells"]["point_best_iou"].mean > 0.9
    assert 0.7 < floor.sets["cells"]["box_iou"].mean < 0.85
    assert np.isnan(floor.sets["cells"]["point_calibration_error"].mean)
    assert len(report.objects) == 24
    assert {row["method"] for row in report.pictures} == {"truth", FLOOR}
    first = report.pictures[0]
    own = [
        row["box_iou"] for row in report.objects
        if (row["method"], row["set_name"], row["image_id"]) == ("truth", "cells", "a")
    ]  # fmt: skip
    assert (first["set"], first["image"], first["objects"]) == ("cells", "a", 3)
    assert first["box_iou"] == pytest.approx(np.mean(own))


def test_the_plot_says_how_many_reach_an_iou(report: TaskReport) -> None:
    (plot,) = report.plots
    best = np.array([row["point_best_iou"] for row in report.objects if row["method"] == "truth"])
    line = plot.lines[0]
    assert line.y[0] == 1
    for limit, share in zip(line.x, line.y, strict=True):
        assert share == pytest.approx((best >= limit).mean())
    assert [one.is_floor for one in plot.lines] == [False, False, False, True, True]


def test_clicks_have_a_curve(data_dir: Path, asked: Any) -> None:
    report = run_task(Clicks(asked), list_manifest_files(data_dir), model_name="m")
    curve, found = report.plots
    assert [line.label for line in curve.lines] == ["mean over sets", "cells", "photos"]
    cells = curve.lines[1]
    assert cells.x == tuple(range(1, 21))
    assert cells.y[0] < 0.2 < 0.9 < cells.y[1]
    assert cells.y[2] == pytest.approx(report.summaries["m"].sets["cells"]["iou_3"].mean)
    assert all(
        low <= y <= high for low, y, high in zip(cells.low, cells.y, cells.high, strict=True)
    )
    assert found.lines[0].y[0] == 0
    assert found.lines[0].y[-1] > 0.8
    assert report.notes == ["No click lowers the mean IoU."]
    assert report.objects[0]["noc85"] == 2
    captions = [caption for caption, _ in report.examples[0].panels]
    assert captions == ["objects", "1 click", "3 clicks"]


def test_automatic_has_a_curve_by_iou(data_dir: Path) -> None:
    report = run_task(Automatic(bright), list_manifest_files(data_dir), model_name="m")
    (plot,) = report.plots
    assert [line.label for line in plot.lines] == ["m", FLOOR_NAME]
    rows = [row for row in report.pictures if row["method"] == FLOOR_NAME]
    assert plot.lines[1].y[0] == pytest.approx(np.mean([row["ap50"] for row in rows]))
    assert [caption for caption, _ in report.examples[0].panels] == ["objects", "m", FLOOR_NAME]


def test_incomplete_pictures_are_left_out_where_they_would_be_wrong(data_dir: Path) -> None:
    files = list_manifest_files(data_dir)
    task = Edges(lambda image: np.zeros(image.shape, np.float32), thresholds=1)
    report = run_task(task, files, model_name="m")
    assert report.notes == [
        "1 of 4 pictures are left out, because not every object in them is annotated."
    ]
    assert report.summaries["m"].pictures == {"cells": 2, "photos": 1}
    partial = [file for file in files if not file.complete]
    with pytest.raises(DatasetError, match=r"edges needs pictures in which every .* none of the 1"):
        run_task(task, partial, model_name="m")


def test_a_picture_that_fails_is_left_out(data_dir: Path, asked: Any) -> None:
    files = list_manifest_files(data_dir, ["photos"])
    files[0].label_path.unlink()
    failed: list[LabelledFile] = []
    told: list[tuple[int, int]] = []
    report = run_task(
        SinglePoint(asked),
        files[:1] + list_manifest_files(data_dir, ["cells"]),
        model_name="m",
        on_failure=lambda file, _: failed.append(file),  # type: ignore[arg-type]
        on_progress=lambda *what: told.append(what),
    )
    assert failed == files[:1]
    assert list(report.summaries["m"].sets) == ["cells"]
    assert told[-1] == (3, 3)


def test_markdown_and_json(report: TaskReport) -> None:
    text = report_markdown(report)
    assert "| cells | truth | 2 | 6 |" in text
    assert f"| **mean over 2 sets** | {FLOOR} | 4 | 12 |" in text
    assert "nan" not in text.lower()
    content = json.loads(report_json(report))
    assert content["task"] == "single-point"
    assert content["settings"]["max_objects"] is None
    assert content["methods"][FLOOR]["sets"]["cells"]["point_calibration_error"]["mean"] is None
    assert len(content["objects"]) == 24
    assert content["plots"][0]["name"] == "found"
    assert "objects" not in json.loads(report_json(report, with_rows=False))


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img"}:
            self.open.append(tag)
        found = dict(attributes)
        assert not {"href", "onclick", "srcset"} & set(found)
        if "src" in found:
            self.sources.append(found["src"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_holds_everything_itself(report: TaskReport) -> None:
    pytest.importorskip("matplotlib")
    page = Page(html_page(report, {plot.name: draw_plot(plot) for plot in report.plots}))
    assert not page.open
    panels = sum(len(example.panels) for example in report.examples)
    assert len(page.sources) == panels + 1
    for source in page.sources:
        kind, _, content = source.partition(";base64,")
        assert kind in {"data:image/png", "data:image/jpeg"}
        assert Image.open(io.BytesIO(base64.b64decode(content))).size[0] > 20
    for example in report.examples:
        assert f"{example.name}, {example.value:.3f}" in page.words
    assert f"{len(report.pictures)} rows" in page.words


def test_names_cannot_break_the_page(report: TaskReport) -> None:
    evil = TaskReport(
        "t", "<b>", "<script>alert(1)</script>", {"folder": "<i>"}, {}, report.summaries,
        pictures=[{"set": "<img src=x>", "image": "&", "method": "m"}], notes=["<hr>"],
    )  # fmt: skip
    text = html_page(evil, {})
    assert not re.search(r"<(script|b|i|hr|img)>|<img src=x", text)


def test_a_page_without_plots_says_why(report: TaskReport) -> None:
    assert "Matplotlib is not installed" in Page(html_page(report, {})).words


def test_the_folder_of_a_report(report: TaskReport, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = prepare_folder(tmp_path / "new" / "report", "single-point")
    paths, missing = write_folder(folder, report)
    assert missing is None
    assert {path.name for path in paths} == {path.name for path in folder.iterdir()} == {
        "report.json", "report.html", "table.md", "pictures.csv", "objects.csv", "found.png",
    }  # fmt: skip
    with (folder / "objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["box_iou"]) for row in rows] == [row["box_iou"] for row in report.objects]
    assert Image.open(io.BytesIO((folder / "found.png").read_bytes())).size[0] > 500
    assert prepare_folder(folder, "single-point") == folder  # a report of the same task


def test_what_is_no_report_is_kept(tmp_path: Path) -> None:
    (tmp_path / "pictures.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"holds pictures\.csv, and no report of edges; pass"):
        prepare_folder(tmp_path, "edges")
    prepare_folder(tmp_path, "edges", overwrite=True)
    other = {"task": "clicks", "model": "m", "data": {}, "settings": {}, "methods": {}}
    (tmp_path / "report.json").write_text(json.dumps(other))
    with pytest.raises(OutputError, match="no report of edges"):
        prepare_folder(tmp_path, "edges")


def test_without_matplotlib_the_rest_is_written(
    report: TaskReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match=r'Matplotlib, .* pip install "sam-plugins\[evalu'):
        draw_plot(report.plots[0])
    paths, error = write_folder(tmp_path, report)
    assert "sam-plugins[evaluate]" in str(error)
    assert "report.html" in {path.name for path in paths}
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("how", [{"log_x": True}, {"iso_f": True}, {}])
def test_plots_are_drawn(how: dict[str, bool]) -> None:
    pytest.importorskip("matplotlib")
    line = Line("a", (1.0, 10.0), (0.2, 0.8), (0.1, 0.7), (0.3, 0.9))
    lines = (line, Line("floor", (1.0, 10.0), (0.1, 0.1), is_floor=True))
    picture = np.asarray(Image.open(io.BytesIO(draw_plot(Plot("p", "t", "x", "y", lines, **how)))))
    bare = np.asarray(Image.open(io.BytesIO(draw_plot(Plot("p", "t", "x", "y", (), **how)))))
    assert picture.shape[2] == 4
    assert not np.array_equal(picture, bare)


def test_the_gallery_shows_best_worst_and_typical() -> None:
    gallery, drawn = Gallery(), []

    def draw(number: int) -> Callable[[], list[tuple[str, np.ndarray]]]:
        def one() -> list[tuple[str, np.ndarray]]:
            drawn.append(number)
            return [("x", np.full((4, 4, 3), number % 250, np.uint8))]

        return one

    values = np.random.default_rng(0).permutation(300)
    for value in values.tolist():
        gallery.add(str(value), value / 300, draw(value))
    gallery.add("nothing", float("nan"), draw(999))
    chosen = gallery.chosen()
    assert [one.kind for one in chosen] == ["best"] * 3 + ["typical"] * 3 + ["worst"] * 3
    assert [one.name for one in chosen if one.kind == "best"] == ["299", "298", "297"]
    assert [one.name for one in chosen if one.kind == "worst"] == ["0", "1", "2"]
    assert all(abs(one.value - 0.5) < 0.1 for one in chosen if one.kind == "typical")
    assert len(drawn) < 150
    assert 999 not in drawn


@pytest.mark.parametrize(
    ("count", "kinds"), [(0, ""), (1, "b"), (2, "bw"), (4, "bbww"), (5, "bbtww")]
)
def test_few_pictures_are_some_of_each_kind(count: int, kinds: str) -> None:
    gallery = Gallery()
    for number in range(count):
        gallery.add(str(number), number, lambda: [("x", np.zeros((4, 4, 3), np.uint8))])
    assert "".join(one.kind[0] for one in gallery.chosen()) == kinds


def test_larger_masks_are_painted_below() -> None:
    small, large = np.zeros((2, 5, 5), bool)
    small[2, 2], large[1:4, 1:4] = True, True
    assert painted([small, large], (5, 5))[2].tolist() == [0, 2, 1, 2, 0]


def test_a_square_grid_has_the_same_points_along_both_sides() -> None:
    points = square_grid((100, 300), 4)
    assert points.shape == (16, 2)
    assert points[0].tolist() == [37, 12]
    assert points[-1].tolist() == [262, 87]
    with pytest.raises(ValueError, match="points_per_side must be 1 or more, got 0"):
        square_grid((2, 2), 0)


def test_figures_of_whole_sets_have_intervals() -> None:
    values = np.random.default_rng(1).random(200)

    def best(weights: np.ndarray) -> np.ndarray:
        return (weights @ values) / weights.sum(axis=1)

    found = bootstrap_statistic([(best, 200)])
    error = values.std() / np.sqrt(200)
    assert found.mean == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    two = bootstrap_statistic([(best, 200), (lambda weights: np.ones(len(weights)), 5)])
    assert two.mean == pytest.approx((values.mean() + 1) / 2)
    assert two.count == 2
    assert two.high - two.low == pytest.approx((found.high - found.low) / 2, rel=0.2)
    assert np.isnan(bootstrap_statistic([(lambda w: np.full(len(w), np.nan), 5)]).mean)
    assert np.isnan(bootstrap_statistic([(best, 200)][:0]).mean)
    with pytest.raises(ValueError, match="resamples must be 1 or more, got 0"):
        bootstrap_statistic([(best, 200)], resamples=0)


def test_a_figure_of_a_single_picture_has_no_interval() -> None:
    def in_first(weights: np.ndarray) -> np.ndarray:
        return np.where(weights[:, 0] > 0, 0.7, np.nan)

    found = bootstrap_statistic([(in_first, 10)])
    assert found.mean == 0.7
    assert np.isnan(found.low)


def test_the_drawing_of_a_rgb_picture(image_of: Callable[..., LabelledImage], asked: Any) -> None:
    image = image_of(discs())
    panels = SinglePoint(asked).measure(image).draw()
    assert [caption for caption, _ in panels] == ["objects and points", "most confident masks"]
    assert all(picture.shape == (48, 64, 3) for _, picture in panels)
