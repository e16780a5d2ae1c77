"""Prompts of ``sam-plugins segment``, and command lines that make no sense."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.helpers import RunSegment

from sam_plugins.cli import main
from sam_plugins.cli.core import PromptChoice


def test_prompts(run_segment: RunSegment, out: Path, pictures: Path, core: Any) -> None:
    options = ["--point", "4,3", "--point", "5,3.5", "--negative", "20,10", "--box", "1,1,9,9"]
    assert run_segment(pictures / "a.png", *options) == 0
    assert core.asked == [PromptChoice([(4, 3), (5, 3.5)], [(20, 10)], [(1, 1, 9, 9)])]
    table = json.loads((out / "a_objects.json").read_text())
    assert table["mode"] == "prompts"
    assert table["prompts"]["boxes_xyxy"] == [[1, 1, 9, 9]]
    assert table["objects"][0]["score"] == 0.75


def test_masks_that_the_model_doubts_are_told(
    run_segment: RunSegment,
    pictures: Path,
    core: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_segment(pictures / "a.png", "--point", "4,3") == 0
    assert "prompts lie on objects" not in capsys.readouterr().err
    real = type(core).prompted

    def doubted(self: Any, rgb: Any, prompts: PromptChoice) -> Any:
        return replace(real(self, rgb, prompts), scores=np.array([0.24]))

    monkeypatch.setattr(type(core), "prompted", doubted)
    assert run_segment(pictures / "a.png", "--point", "4,3", "--overwrite") == 0
    assert "a.png: a mask with a score below 0.5" in capsys.readouterr().err


def test_the_mode_is_passed_on(run_segment: RunSegment, pictures: Path, core: Any) -> None:
    run_segment(pictures / "a.png", "--mode", "grid")
    run_segment(pictures / "a.png")
    assert core.asked == ["grid", "auto"]


def test_the_mask_is_passed_on(
    run_segment: RunSegment, out: Path, pictures: Path, core: Any
) -> None:
    assert run_segment(pictures / "a.png", "--point", "4,3", "--mask", "2") == 0
    assert core.asked[0].mask == 2
    assert json.loads((out / "a_objects.json").read_text())["prompts"]["mask"] == 2


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (["--point", "-.5,3"], PromptChoice([(-0.5, 3)], [], [])),
        (["--box", "-0.5,-.5,9,9"], PromptChoice([], [], [(-0.5, -0.5, 9, 9)])),
        (["--point", "4,3", "--negative", "-0.5,1"], PromptChoice([(4, 3)], [(-0.5, 1)], [])),
    ],
)
def test_prompts_on_the_outer_edge_of_the_first_pixels(
    run_segment: RunSegment,
    pictures: Path,
    core: Any,
    option: list[str],
    expected: PromptChoice,
) -> None:
    assert run_segment(pictures / "a.png", *option) == 0
    assert core.asked == [expected]


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
        (
            ["a.png", "-o", "o", "--point", "1,1", "--mode", "grid"],
            "--mode grid finds every object without prompts: leave it out, or leave out --point",
        ),
        (["a.png", "-o", "o", "--box", "1,1,2,2", "--mode", "auto"], "--mode auto finds every"),
        (["a.png", "-o", "o", "--point", "1,1", "--mask", "4"], "invalid choice: 4"),
        (["a.png", "-o", "o", "--mask", "2"], "--mask chooses among the masks of a single --point"),
        (["a.png", "-o", "o", "--point", "1,1", "--negative", "2,2", "--mask", "2"], "--mask choo"),
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
