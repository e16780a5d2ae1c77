"""Runs of any kind: slices, logs, and what ends them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sam_plugins.errors import OutputError, TrainingError
from sam_plugins.model.training.run_log import RunLog, read_log
from sam_plugins.model.training.run_recipe import PlainRecipe
from sam_plugins.model.training.run_steps import Stop, move_weights, run_steps
from sam_plugins.model.training.state import TrainingState

RECIPE = PlainRecipe({"seed": 0})


class Numbers:
    """The batch of a step is drawn by its number."""

    def batch(self, step: int) -> Tensor:
        return torch.randn(4, 3, generator=torch.Generator().manual_seed(step))


class Learner:
    """Draw the sum of three numbers."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        network = nn.Linear(3, 1)
        self.state = TrainingState(network, {}, torch.optim.AdamW(network.parameters(), lr=0.1))

    def learn(self, batch: Tensor) -> Mapping[str, float]:
        loss = (self.state.model(batch)[:, 0] - batch.sum(1)).square().mean()
        return move_weights(self.state, loss, learning_rate=0.05, max_gradient_norm=10.0)

    def run(self, path: Path | None, stop: Stop, workers: int = 0) -> bool:
        return run_steps(
            self.state, Numbers(), self.learn, stop, state_path=path, recipe=RECIPE, workers=workers
        )


def test_slices_compute_what_one_run_would_have(tmp_path: Path) -> None:
    whole, path = Learner(), tmp_path / "sliced.safetensors"
    assert whole.run(tmp_path / "whole.safetensors", Stop(6))
    slices, is_complete = 0, False
    while not is_complete:
        part = Learner()
        if path.exists():
            part.state.load(path, RECIPE)
        is_complete = part.run(path, Stop(6, max_seconds=0), workers=int(slices == 3))
        slices += 1
    assert slices == 6
    assert torch.equal(part.state.model.weight, whole.state.model.weight)
    assert whole.run(path, Stop(6))  # nothing is left to do


def test_a_run_without_a_file_learns_the_same(tmp_path: Path) -> None:
    kept, unkept = Learner(), Learner()
    assert kept.run(tmp_path / "state.safetensors", Stop(3, save_every_seconds=0))
    assert unkept.run(None, Stop(3, save_every_seconds=0))
    assert torch.equal(unkept.state.model.weight, kept.state.model.weight)
    assert [one.name for one in tmp_path.iterdir()] == ["state.safetensors"]


def test_an_error_leaves_the_state_that_was_saved_last(tmp_path: Path) -> None:
    learner, path = Learner(), tmp_path / "state.safetensors"
    learner.run(path, Stop(3))
    before = path.read_bytes()
    weight = learner.state.model.weight.clone()

    def nothing(batch: Tensor) -> Mapping[str, float]:
        loss = learner.state.model(batch).sum() * float("nan")
        return move_weights(learner.state, loss, learning_rate=0.1, max_gradient_norm=1.0)

    with pytest.raises(TrainingError, match="the loss of step 3 is not a number; go on from the"):
        run_steps(learner.state, Numbers(), nothing, Stop(9), state_path=path, recipe=RECIPE)
    assert path.read_bytes() == before
    assert torch.equal(learner.state.model.weight, weight)


def test_a_log_takes_back_what_was_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with RunLog(path, ("step", "loss", "seconds"), 0) as log:
        for step in range(1, 5):
            log.add({"step": step, "loss": 1 / step})
    path.write_text(path.read_text() + "5,0.2")  # a line that was being written
    assert [row["step"] for row in read_log(path)] == ["1", "2", "3", "4"]
    with RunLog(path, ("step", "loss", "seconds"), 2) as log:
        log.add({"step": 3, "loss": 0.25, "seconds": 9.0})
    assert path.read_text() == "step,loss,seconds\n1,1,\n2,0.5,\n3,0.25,9\n"
    assert read_log(tmp_path / "nothing.csv") == []


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(OutputError, match=r"log\.csv: a folder of that name exists"):
        RunLog(tmp_path / "log.csv", ("step",), 0)


def test_recipes_name_what_differs() -> None:
    recipe = PlainRecipe({"a": {"b": 1, "c": [1, 2]}, "d": None})
    assert recipe.differences(recipe.to_dict()) == []
    assert recipe.differences({"a": {"b": 2, "c": [1, 2]}, "e": 1}) == ["a.b", "d", "e"]
