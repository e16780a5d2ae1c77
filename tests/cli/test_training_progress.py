"""The progress of a training names its phases, and takes none but steps for steps."""

from __future__ import annotations

import sys

import pytest
from tests.cli.test_console import Clock, lines

from sam_plugins.cli.training_progress import training_progress
from sam_plugins.model.engine.tuning_progress import TrainingProgress


def test_measuring_is_no_time_of_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(
        "sam_plugins.cli.console.LoggedProgress.__init__.__defaults__", (1.0, clock)
    )
    with training_progress() as tell:
        for done in range(2):
            tell(TrainingProgress(0, 60, preparing=(done, 2)))
            clock.now += 40
        for done in range(8):
            tell(TrainingProgress(0, 60, measuring=(done, 8)))
            clock.now += 100
        tell(TrainingProgress(0, 60, measuring=(8, 8)))
        for step in range(1, 11):
            clock.now += 15
            tell(TrainingProgress(step, 60, loss=1.0))
        for done in range(8):
            clock.now += 100
            tell(TrainingProgress(10, 60, measuring=(done, 8)))
        tell(TrainingProgress(10, 60, figures={}))
        clock.now += 15
        tell(TrainingProgress(11, 60, loss=1.0))
        clock.now += 15
        tell(TrainingProgress(12, 60, loss=1.0))
    said = lines(capsys)
    assert said[0] == "training: preparing pictures, 1 of 2"
    assert said[1] == "training: measuring the model it starts from, 0 of 8 pictures"
    assert "training: 2 of 60 steps, about 14 min left" in said
    assert "training: measuring after step 10, 3 of 8 pictures" in said
    assert said[-1] == "training: 12 of 60 steps, about 12 min left"


def test_a_bar_names_the_phase(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with training_progress() as tell:
        tell(TrainingProgress(0, 60, preparing=(1, 2)))
        tell(TrainingProgress(0, 60, measuring=(3, 8)))
    said = capsys.readouterr().err
    assert "preparing pictures, 1 of 2: " in said
    assert "measuring the model it starts from, 3 of 8 pictures: " in said
