"""The commands with the model that ships with the package, from files to files."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image
from scipy import ndimage

from sam_plugins.cli import console, main, torch_core


@pytest.fixture
def coin(tmp_path: Path) -> Path:
    """One coin, about 50 pixels wide, with what lies around it."""
    path = tmp_path / "coin.png"
    Image.fromarray(skimage.data.coins()[10:90, 60:160]).save(path)
    return path


@pytest.fixture
def nuclei(tmp_path: Path) -> Path:
    """Bright discs on dark ground, the first around (46, 34) with a radius of 14 pixels."""
    rows, columns = np.mgrid[:160, :200]
    discs = [(46, 34, 14), (110, 50, 12), (70, 110, 15), (150, 120, 13)]
    bright = np.max([np.hypot(columns - x, rows - y) < radius for x, y, radius in discs], axis=0)
    noise = np.random.default_rng(0).normal(0, 4, bright.shape)
    picture = ndimage.gaussian_filter(20 + 120.0 * bright, 1) + noise
    path = tmp_path / "nuclei.png"
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path)
    return path


def labels_of(out: Path, name: str) -> Any:
    return tifffile.imread(out / f"{name}_labels.tif")


def test_the_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "_LINE_SECONDS", math.inf)  # On slow machines it tells how far.
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = re.match(r"(\d+) objects in \d+\.\d s with default-[0-9a-f]{12}\n", out)
    assert found is not None, out
    assert int(found[1]) >= 10
    labels = labels_of(tmp_path / "demo-output", "ihc_colon")
    assert labels.max() == int(found[1])
    table = json.loads((tmp_path / "demo-output" / "ihc_colon_objects.json").read_text())
    assert [one["label"] for one in table["objects"]] == list(range(1, labels.max() + 1))
    assert all(0 <= one["score"] <= 1 for one in table["objects"])


def test_a_box_becomes_the_object_in_it(nuclei: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["segment", str(nuclei), "-o", str(out), "--box", "30,18,62,50"]) == 0
    labels = labels_of(out, "nuclei")
    assert labels.shape == (160, 200)
    rows, columns = np.mgrid[:160, :200]
    expected = np.hypot(rows - 34, columns - 46) < 14
    overlap = (expected & (labels == 1)).sum() / (expected | (labels == 1)).sum()
    assert overlap > 0.7
    (described,) = json.loads((out / "nuclei_objects.json").read_text())["objects"]
    assert described["area"] == (labels == 1).sum()


@pytest.mark.parametrize(
    ("prompts", "masks_each"),
    [
        (["--box", "17,5,77,65"], 1),
        (["--box", "17,5,77,65", "--box", "0,0,20,20"], 1),
        (["--point", "46,34", "--negative", "2,2"], 1),
        (["--point", "46,34"], 3),
    ],
)
def test_only_a_lone_point_may_mean_several_things(
    coin: Path,
    tmp_path: Path,
    prompts: list[str],
    masks_each: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[Any] = []

    def recorded(*arguments: Any, **options: Any) -> Any:
        answers.append(predict(*arguments, **options))
        return answers[-1]

    predict = torch_core.predict_masks
    monkeypatch.setattr(torch_core, "predict_masks", recorded)
    assert main(["segment", str(coin), "-o", str(tmp_path / "out"), *prompts]) == 0
    (answer,) = answers
    assert answer.iou_predictions.shape[1] == masks_each
    (described, *_) = json.loads((tmp_path / "out" / "coin_objects.json").read_text())["objects"]
    assert described["score"] == pytest.approx(float(answer.iou_predictions[0].max()), abs=1e-6)


def test_a_mask_may_be_chosen(coin: Path, tmp_path: Path) -> None:
    command = ["segment", str(coin), "--point", "46,34", "-o", str(tmp_path / "out")]
    scores = []
    for options in (["--mask", "1"], ["--mask", "2"], ["--mask", "3"], []):
        assert main([*command, *options]) == 0
        (found,) = json.loads((tmp_path / "out" / "coin_objects.json").read_text())["objects"]
        scores.append(found["score"])
    *each, best = scores
    assert len(set(each)) == 3
    assert best == max(each)


@pytest.mark.parametrize("size_hw", [(1, 100), (2, 100), (100, 2), (3, 3)])
@pytest.mark.parametrize("prompts", [[], ["--mode", "grid"], ["--point", "1,0"]])
def test_pictures_that_look_like_a_row_of_channels(
    tmp_path: Path, size_hw: tuple[int, int], prompts: list[str]
) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "thin.png")
    out = tmp_path / "out"
    assert main(["segment", str(tmp_path / "thin.png"), "-o", str(out), *prompts]) == 0
    assert labels_of(out, "thin").shape == size_hw


def test_a_picture_is_encoded_once(
    coin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    def counted(model: Any, rgb: Any) -> Any:
        seen.append(rgb.shape)
        return encode(model, rgb)

    encode = torch_core.encode_rgb
    monkeypatch.setattr(torch_core, "encode_rgb", counted)
    command = ["segment", str(coin), "-o", str(tmp_path / "out")]
    for prompts in ([], ["--point", "46,34"], ["--box", "17,5,77,65"], []):
        assert main([*command, *prompts]) == 0
    assert seen == [(80, 100, 3)]
