"""``sam-plugins segment --like`` and ``--text``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image
from tests.cli.helpers import RunSegment, Said

from sam_plugins.cli import main
from sam_plugins.cli.core import PromptChoice, TextChoice


def table_of(out: Path, name: str = "a") -> Any:
    return json.loads((out / f"{name}_objects.json").read_text())


def test_exemplars_are_passed_on_and_described(
    run_segment: RunSegment, out: Path, pictures: Path, core: Any
) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:6, 2:7] = 255
    Image.fromarray(mask).save(pictures.parent / "mask.png")
    options = ["--like", "4,3", "--like", "5,3.5", "--like-box", "1,1,9,9", "--min-likeness", "0.3"]
    options += ["--like-mask", str(pictures.parent / "mask.png")]
    assert run_segment(pictures / "a.png", *options) == 0
    asked = core.asked[0]
    assert asked.points_xy == [(4, 3), (5, 3.5)]
    assert asked.boxes_xyxy == [(1, 1, 9, 9)]
    assert asked.min_score == 0.3
    np.testing.assert_array_equal(asked.masks[0], mask)
    assert asked.source_rgb is None
    table = table_of(out)
    assert table["mode"] == "exemplars"
    assert table["exemplars"] == {
        "points_xy": [[4, 3], [5, 3.5]],
        "boxes_xyxy": [[1, 1, 9, 9]],
        "masks": ["mask.png"],
    }


def test_exemplars_of_another_picture(
    run_segment: RunSegment, out: Path, pictures: Path, core: Any
) -> None:
    assert run_segment(pictures, "--like", "4,3", "--like-in", pictures / "b.png") == 0
    first, second = (asked for asked in core.asked if not isinstance(asked, str))
    assert first is second
    expected = np.asarray(Image.open(pictures / "b.png"))
    np.testing.assert_array_equal(first.source_rgb[..., 0], expected)
    assert table_of(out)["exemplars"]["image"] == "b.png"


def test_texts_are_passed_on_and_described(
    run_segment: RunSegment, out: Path, pictures: Path, core: Any
) -> None:
    options = ["--text", "a cat", "--text", "a dog", "--not-text", "grass", "--clip", "folder"]
    assert run_segment(pictures / "b.png", *options, "--mode", "grid") == 0
    expected = TextChoice(["a cat", "a dog"], ["grass"], "folder", download=False)
    assert core.asked == [(expected, PromptChoice([], [], [])), "grid"]
    table = table_of(out, "b")
    assert table["mode"] == "text"
    assert table["text"] == ["a cat", "a dog"]
    assert table["not_text"] == ["grass"]
    assert table["phrases"] == ["a cat"] * 3


def test_a_text_with_points(run_segment: RunSegment, pictures: Path, core: Any) -> None:
    options = ["--text", "a cat", "--point", "4,3", "--negative", "9,9"]
    assert run_segment(pictures / "a.png", *options) == 0
    assert core.asked[0] == (TextChoice(["a cat"], []), PromptChoice([(4, 3)], [(9, 9)], []))


def test_messages_name_the_options(
    run_segment: RunSegment, pictures: Path, said: Said, out: Path
) -> None:
    assert run_segment(pictures / "a.png", "--like", "99,3") == 1
    said("--like must lie within the picture; --like-box too")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)).save(
        pictures.parent / "colour.png"
    )
    assert run_segment(pictures / "a.png", "--like-mask", pictures.parent / "colour.png") == 1
    said(
        r"labels must be one channel of integers, got shape \(20, 30, 3\) of uint8 in .*colour\.png"
    )


def test_a_grey_mask_that_was_saved_in_colour(
    run_segment: RunSegment, pictures: Path, core: Any
) -> None:
    mask = np.zeros((20, 30, 3), np.uint8)
    mask[2:6, 2:7] = 255
    path = pictures.parent / "mask.png"
    Image.fromarray(mask).save(path)
    assert run_segment(pictures / "a.png", "--like-mask", path) == 0
    np.testing.assert_array_equal(core.asked[0].masks[0], mask[..., 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--like", "3"], "expected a point as x,y such as 120,85, got '3'"),
        (["--like", "1,1", "--min-likeness", "2"], "expected a number from 0 to 1, got '2'"),
        (["--like", "1,1", "--min-likeness", "x"], "expected a number from 0 to 1, got 'x'"),
        (["--like-in", "b.png"], "--like-in and --min-likeness belong to --like, --like-box or"),
        (["--min-likeness", "0.5"], "--like-in and --min-likeness belong to --like, --like-box or"),
        (["--like", "1,1", "--point", "1,1"], r"exemplars \(--like ...\) go without --point"),
        (["--like", "1,1", "--text", "a cat"], r"exemplars \(--like ...\) go without --point"),
        (["--clip", "x"], "--not-text, --clip and --download-clip belong to --text"),
        (["--not-text", "x"], "--not-text, --clip and --download-clip belong to --text"),
        (["--download-clip"], "--not-text, --clip and --download-clip belong to --text"),
        (["--text", " "], "--text and --not-text need phrases that say what is meant, got an emp"),
        (["--text", "a", "--not-text", " "], "need phrases that say what is meant, got an empty"),
        (["--text", "a", "--box", "1,1,2,2"], "--text goes with --point and --negative, not with"),
        (["--text", "a", "--text", "b", "--point", "1,1"], "points refine one object: give them"),
        (["--text", "a", "--point", "1,1", "--mode", "grid"], "--mode grid finds every object"),
    ],
)
def test_wrong_usage(
    options: list[str], message: str, core: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["segment", "a.png", "-o", "o", *options])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert re.search(message, " ".join(err.split())), err


def test_several_pictures_need_to_know_where_the_exemplars_are(
    run_segment: RunSegment, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        run_segment(pictures, "--like", "4,3")
    assert left.value.code == 2
    assert "that the exemplars are in with --like-in, for there are 2" in capsys.readouterr().err


def test_the_shipped_model_finds_all_coins_like_one(tmp_path: Path) -> None:
    picture = np.asarray(skimage.data.coins())[:180, :200]
    Image.fromarray(picture).save(tmp_path / "coins.png")
    out = tmp_path / "out"
    options = ["--like", "47,40", "-o", str(out)]
    assert main(["segment", str(tmp_path / "coins.png"), *options]) == 0
    labels = tifffile.imread(out / "coins_labels.tif")
    assert labels[40, 47] > 0
    assert 6 <= labels.max() <= 9
