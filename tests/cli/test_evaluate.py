"""``sam-plugins evaluate`` from files to figures, with a small model of random weights."""

from __future__ import annotations

import dataclasses
import errno
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.cli.small_model import SMALL, write_small_model
from tests.labelled_sets import write_sets
from tests.model.inference.tiny_clip import write_tiny_clip

from sam_plugins.cli.app import main
from sam_plugins.model.io.atomic import output_error
from sam_plugins.model.io.rle import encode_mask
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of random weights."""
    return write_small_model(tmp_path / "small.safetensors")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two small sets."""
    return write_sets(tmp_path / "data")


@pytest.fixture
def evaluate(weights: Path, data: Path) -> Callable[..., int]:
    """Run a task on the small model and the small sets; return the exit code."""

    def run(task: str, *options: object, folder: Path | str = data) -> int:
        command = ["evaluate", task, "--data", str(folder), "--model", str(weights)]
        return main([*command, *map(str, options)])

    return run


def test_a_table_and_every_figure(
    evaluate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    assert evaluate("single-point", "-o", out) == 0
    printed = capsys.readouterr().out
    written = json.loads((out / "report.json").read_text())
    assert f"| cells | {written['model']} | 2 | 6 |" in printed
    assert f"| **mean over 2 sets** | {written['model']} | 4 | 12 |" in printed
    assert len(written["objects"]) == 24
    floor = written["methods"]["Otsu + watershed, filled box"]["sets"]["cells"]
    assert floor["point_best_iou"]["mean"] > 0.9
    assert (out / "table.md").read_text() == printed.removesuffix("\n")
    assert len((out / "pictures.csv").read_text().splitlines()) == 9
    assert "Best, typical and worst pictures" in (out / "report.html").read_text()
    assert written["model"].startswith("small-")


def test_automatic_stands_beside_its_floor(
    evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("automatic", "--sets", "cells", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed["methods"]) == [printed["model"], "Otsu + watershed"]
    assert printed["methods"]["Otsu + watershed"]["sets"]["cells"]["msa"]["mean"] > 0.9
    assert printed["settings"]["mode"] == "auto"


def test_edges_of_every_detector(
    evaluate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--points-per-side", 3, "--thresholds", 5, "-o", tmp_path / "out"]
    assert evaluate("edges", *options) == 0
    printed, _ = capsys.readouterr()
    assert "| ODS | OIS | AP | R50 |" in printed
    assert "1 of 4 pictures are left out" in printed
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(written["methods"]) == [written["model"], "Canny", "Sobel"]
    assert {row["method"] for row in written["pictures"]} == set(written["methods"])
    assert written["settings"]["points_per_side"] == 3


def test_proposals_of_a_grid(
    evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("proposals", "--points-per-side", 4, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    floor = printed["methods"]["Otsu + watershed"]["sets"]["cells"]
    assert floor["ar10"]["mean"] > 0.9
    assert floor["ar10_small"]["mean"] == floor["ar10"]["mean"]
    assert floor["ar10_large"]["mean"] is None


def test_instances_from_moved_boxes(
    evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (extra: evaluate)")
    assert evaluate("instances", "--noise", 0, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["settings"]["noise"] == 0
    assert 0.6 < printed["methods"]["filled box"]["sets"]["cells"]["ap"]["mean"] < 0.95


def write_coco(data: Path, folder: Path) -> tuple[Path, Path]:
    """Write the val pictures of ``cells`` as a COCO file, and boxes of a detector for one."""
    labels = [np.asarray(Image.open(data / f"cells/val/labels/{name}.png")) for name in "ab"]
    objects = [
        {
            "id": 10 * image + number, "image_id": image, "category_id": 5, "iscrowd": 0,
            "segmentation": encode_mask(label == number),
        }
        for image, label in enumerate(labels, 1)
        for number in (1, 2, 3)
    ]  # fmt: skip
    content = {
        "images": [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate("ab", 1)],
        "annotations": objects,
        "categories": [{"id": 5, "name": "cell"}],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    boxes = [[5, 5, 15, 15], [13, 27, 16, 16], [38, 14, 18, 18]]
    results = [{"image_id": 1, "category_id": 5, "bbox": box, "score": 0.9} for box in boxes]
    (folder / "results.json").write_text(json.dumps(results))
    return folder / "coco.json", folder / "results.json"


def test_boxes_of_a_detector_on_a_coco_set(
    evaluate: Callable[..., int], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (extra: evaluate)")
    coco, results = write_coco(data, tmp_path)
    pictures = data / "cells" / "val" / "images"
    out = tmp_path / "out"
    options = ["--coco", coco, "--detections", results, "-o", out]
    assert evaluate("instances", *options, folder=pictures) == 0
    assert "results.json has no box for 1 of 2 pictures." in capsys.readouterr().out
    written = json.loads((out / "report.json").read_text())
    assert written["settings"] == {
        "boxes": "results.json", "by_class": True, "bootstrap_seed": 0,
    }  # fmt: skip
    assert written["data"] == {
        "folder": "images", "coco": "coco.json", "complete": True, "max_pictures": None,
    }  # fmt: skip
    boxes = {row["image"]: row["boxes"] for row in written["pictures"]}
    assert boxes == {"1": 3, "2": 0}
    # The filled boxes of one of two pictures: half of the objects, at IoU 0.7 to 0.8.
    assert written["methods"]["filled box"]["sets"]["coco"]["ap50"]["mean"] == pytest.approx(
        51 / 101, abs=0.01
    )


def test_without_pycocotools_the_extra_is_named(
    evaluate: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    assert evaluate("instances") == 1
    message = r'error: mask AP is counted by pycocotools, .* pip install "sam-plugins\[evaluate\]"'
    assert re.search(message, capsys.readouterr().err)


def test_without_matplotlib_plots_are_missed(
    evaluate: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    options = ["--sets", "cells", "--max-objects", 1, "-o", tmp_path / "out"]
    assert evaluate("single-point", *options) == 0
    err = capsys.readouterr().err
    assert re.search(r'no plots: .* Matplotlib, .* pip install "sam-plugins\[evaluate\]"', err)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.json", "report.html", "table.md", "pictures.csv", "objects.csv"}


def test_one_set_as_json(evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("single-point", "--sets", "photos", "--max-objects", 1, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    sets = printed["methods"][printed["model"]]["sets"]
    assert list(sets) == ["photos"]
    assert sets["photos"]["objects"] == 2
    assert "objects" not in printed


def test_a_folder_of_pictures_and_one_of_labels(
    evaluate: Callable[..., int], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = data / "cells" / "train"
    options = ["--labels", split / "labels"]
    assert evaluate("automatic", *options, folder=split / "images") == 0
    assert "| images | Otsu + watershed | 1 | 3 |" in capsys.readouterr().out


def test_at_most_so_many_pictures_of_each_set(
    evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    ids = []
    for sets in (["cells", "photos"], ["cells"]):
        options = ["--sets", *sets, "--max-pictures", 1, "--max-objects", 1, "--json"]
        assert evaluate("single-point", *options) == 0
        printed = json.loads(capsys.readouterr().out)
        found = printed["methods"][printed["model"]]["sets"]
        assert {name: one["pictures"] for name, one in found.items()} == dict.fromkeys(sets, 1)
        ids.append(found["cells"]["point_best_iou"]["mean"])
    assert ids[0] == ids[1]  # the same picture, whatever other sets there are


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("single-point", ["--max-objects", "0"], "--max-objects must be 1 or more, got 0"),
        ("clicks", ["--max-objects", "-1"], "--max-objects must be 1 or more, got -1"),
        ("edges", ["--thresholds", "0"], "--thresholds must be 1 or more, got 0"),
        ("proposals", ["--points-per-side", "0"], "--points-per-side must be 1 or more, got 0"),
        ("instances", ["--noise", "-1"], "--noise must be 0 or more, got -1"),
        ("instances", ["--noise", "0", "--detections", "x"], "--noise belongs to the true boxes"),
        ("edges", ["--labels", "x", "--sets", "cells"], "belong to folders with manifests"),
        ("edges", ["--coco", "x", "--split", "train"], "belong to folders with manifests"),
        ("edges", ["--coco", "x", "--labels", "y"], "--labels and --coco are two ways to say"),
        ("edges", ["--incomplete"], "--incomplete belongs to --labels or --coco"),
        ("edges", ["--max-pictures", "0"], "--max-pictures must be 1 or more, got 0"),
        ("single-point", ["--from-box"], "unrecognized arguments: --from-box"),
    ],
)
def test_wrong_usage(
    data: Path, task: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", task, "--data", str(data), *options])
    assert message in capsys.readouterr().err


def test_one_unreadable_picture_does_not_stop_the_others(
    evaluate: Callable[..., int], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = data / "cells" / "val" / "images" / "a.png"
    broken.write_bytes(broken.read_bytes()[:60])
    assert evaluate("single-point", "--max-objects", 1, "-o", tmp_path / "out") == 1
    printed, err = capsys.readouterr()
    assert re.search(r"\| cells \| small-\w+ \| 1 \| 1 \|", printed)
    assert f"error: cannot read {broken}: " in err
    assert f"3 of 4 measured, 1 failed: {broken}" in err
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [failed["image"] for failed in written["data"]["failed"]] == [str(broken)]


def test_a_picture_that_the_model_cannot_use_is_named(
    evaluate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, array in (
        ("pictures", np.full((20, 30), np.nan, np.float32)),
        ("labels", np.ones((20, 30), np.uint16)),
    ):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", array)
    options = ["--labels", tmp_path / "labels"]
    assert evaluate("automatic", *options, folder=tmp_path / "pictures") == 1
    printed, err = capsys.readouterr()
    assert printed == ""
    assert re.search(r"error: .*a\.tif: .*finite", err)


def test_a_model_that_cannot_do_it_is_refused_first(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(SMALL, instance_decoder=None)
    passport = Passport(name="mute", config=config, version="1", licence="Apache-2.0")
    state = build_sam(config).state_dict()
    weights = save_model_file(tmp_path / "mute.safetensors", state, passport)

    def measured(*_: object, **__: object) -> None:
        pytest.fail("something was measured before the model was refused")

    command = ["evaluate", "automatic", "--data", str(data), "--model", str(weights)]
    monkeypatch.setattr("sam_plugins.model.evaluation.run_task.run_task", measured)
    assert main(command) == 1
    message = "needs a model with an instance decoder, which mute-[0-9a-f]+ has not; measure it wi"
    assert re.search(message, capsys.readouterr().err)


def test_pictures_that_do_not_suit_a_task_are_told(
    evaluate: Callable[..., int], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = data / "cells" / "val"
    (split / "images" / "v.tif").unlink()
    options = ["--labels", split / "labels", "--incomplete"]
    assert evaluate("edges", *options, folder=split / "images") == 1
    message = "edges needs pictures in which every object is annotated, and none of the 2 is"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("data/cells/manifest.json", "a file of that name exists; choose another name"),
        ("data/cells/manifest.json/x", "part of the path is a file, not a folder"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_first(
    data: Path, tmp_path: Path, output: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", "no-such-model", "-o", str(tmp_path / output)]
    assert main(["evaluate", "clicks", "--data", str(data), *options]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert "no-such-model" not in err


def test_files_that_are_no_report_are_kept(
    evaluate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text("my notes")
    options = ["--sets", "cells", "--max-objects", 1, "-o", out]
    assert evaluate("single-point", *options) == 1
    message = r"error: .*out holds report\.json, and no report of single-point; pass --overwrite"
    assert re.search(message, capsys.readouterr().err)
    assert (out / "report.json").read_text() == "my notes"
    assert evaluate("single-point", *options, "--overwrite") == 0
    assert evaluate("single-point", *options) == 0  # a report of ours


def test_a_disk_that_fills_up_does_not_cost_the_table(
    evaluate: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(paths: list[Path]) -> None:
        raise output_error(paths[0], OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr("sam_plugins.model.evaluation.report_folder.files_together", full)
    assert evaluate("single-point", "--max-objects", 1, "-o", tmp_path / "out") == 1
    printed, err = capsys.readouterr()
    assert "| **mean over 2 sets** |" in printed
    assert "the disk is full; free some space" in err


def test_the_report_says_which_data(
    evaluate: Callable[..., int],
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["--max-objects", 1, "--json"]
    assert evaluate("single-point", "--sets", "cells", "--split", "train", *options) == 0
    described = json.loads(capsys.readouterr().out)["data"]
    assert described == {
        "folder": "data", "sets": ["cells"], "split": "train", "max_pictures": None,
    }  # fmt: skip
    monkeypatch.chdir(data / "cells" / "train" / "images")
    assert evaluate("single-point", "--labels", "../labels", *options, folder=".") == 0
    described = json.loads(capsys.readouterr().out)["data"]
    assert described == {
        "folder": "images", "labels": ["labels"], "complete": True, "max_pictures": None,
    }  # fmt: skip


def test_an_unknown_set_is_one_line(
    evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("clicks", "--sets", "cels") == 1
    assert "no data set 'cels'" in capsys.readouterr().err


@pytest.mark.parametrize("from_box", [False, True])
def test_clicks(
    evaluate: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    from_box: bool,
) -> None:
    out = tmp_path / "out"
    options = ["--sets", "photos", "--max-objects", 1, "-o", out]
    assert evaluate("clicks", *options, *(["--from-box", "--unsteady"] if from_box else [])) == 0
    printed = capsys.readouterr().out
    assert "| NoC@85 | NoC@90 |" in printed
    assert ("| box |" in printed) is from_box
    written = json.loads((out / "report.json").read_text())
    curve = np.mean([score["ious"] for score in written["objects"]], axis=0)
    falling = ", ".join(str(number) for number in np.flatnonzero(np.diff(curve) < 0) + 2)
    told = f"Clicks after which the mean IoU is lower: {falling}."
    assert f"\n{told if falling else 'No click lowers the mean IoU.'}\n" in printed
    assert [len(score["ious"]) for score in written["objects"]] == [20, 20]
    mean = written["methods"][written["model"]]["over_sets"]["iou_20"]["mean"]
    assert mean == pytest.approx(np.mean([score["ious"][-1] for score in written["objects"]]))
    assert written["settings"]["from_box"] is from_box
    assert written["settings"]["steady"] is not from_box
    drawn = {plot["name"]: plot["lines"][0] for plot in written["plots"]}["curve"]
    assert drawn["x"] == list(range(0 if from_box else 1, 21))
    assert drawn["y"][-1] == pytest.approx(mean)


def test_phrases_are_asked_for_and_another_phrase_stands_beside(
    evaluate: Callable[..., int], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (extra: text)")
    clip = write_tiny_clip(tmp_path / "clip")
    path = data / "photos" / "manifest.json"
    manifest = json.loads(path.read_text())
    for one, name in zip(manifest["files"][0]["objects"], ("cat", "dog", "cat"), strict=True):
        one["category"] = name
    path.write_text(json.dumps(manifest))
    out = tmp_path / "report"
    assert evaluate("text", "--sets", "photos", "--clip", clip, "-o", out) == 0
    printed = capsys.readouterr().out
    assert "another phrase" in printed
    assert "Each phrase counting once, 2 of them: IoU 0." in printed
    report = json.loads((out / "report.json").read_text())
    phrases = {(row["method"], row["phrase"]) for row in report["objects"]}
    (name,) = {method for method, _ in phrases} - {"another phrase"}
    assert phrases == {(m, p) for m in (name, "another phrase") for p in ("cat", "dog")}
    assert evaluate("text", "--sets", "cells", "--clip", clip) == 1
    message = "text needs pictures whose objects have a category, and none here has one"
    assert message in capsys.readouterr().err
    assert evaluate("text", "--sets", "photos", "--clip", tmp_path / "none") == 1
    assert "none" in capsys.readouterr().err


def test_no_object_at_all_is_no_report(
    evaluate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("pictures", "labels"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / folder / "a.png")
    pair = ["--data", tmp_path / "pictures", "--labels", tmp_path / "labels"]
    assert main(["evaluate", "single-point", *map(str, pair)]) == 1
    said = capsys.readouterr()
    assert "none of the 1 pictures has an object to measure on" in said.err
    assert not said.out


@pytest.mark.parametrize("folder", ["pictures", "labels"])
def test_no_report_is_written_among_pictures(
    tmp_path: Path, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("pictures", "labels"):
        (tmp_path / name).mkdir()
    pair = ["--data", f"{tmp_path}/pictures", "--labels", f"{tmp_path}/labels"]
    with pytest.raises(SystemExit):
        main(["evaluate", "automatic", *pair, "-o", f"{tmp_path}/{folder}/"])
    assert "is a folder of pictures, which plots would join" in capsys.readouterr().err
