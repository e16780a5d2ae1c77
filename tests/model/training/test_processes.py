"""Several processes compute what one would: shares, sums, and a whole training in two of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from sam_plugins.errors import MissingExtraError
from sam_plugins.model.training.processes import (
    OneProcess,
    launch_fabric,
    own_part,
    sum_gradients,
)

SCRIPT = """
import json, sys
import numpy as np, torch
from tests.model.inference.tiny_models import TINY_PYRAMID
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.training.batches import BatchMaker, BatchOptions, CropSize
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.processes import OneProcess, launch_fabric
from sam_plugins.model.training.prompt_simulation import PromptOptions
from sam_plugins.model.training.state import TrainingState
from sam_plugins.model.training.synthetic import synthetic_picture
from sam_plugins.model.training.trainer import train

count = int(sys.argv[1])
one = OneProcess() if count == 1 else launch_fabric(torch.device("cpu"), count)
pictures = [synthetic_picture(np.random.default_rng(seed), 128) for seed in range(4)]
# Three crops: two for one process, one for the other.
batches = BatchMaker(pictures, BatchOptions((CropSize(64, 3, 3, 1.0),), 0.0), 0)
config = TrainingConfig(
    steps=6, warmup_steps=1, dense_steps=2, learning_rate=1e-3, precision="float32",
    prompts=PromptOptions(rounds=(0.0, 0.5, 0.5)),
)
torch.manual_seed(0)
state = TrainingState.fresh(build_sam(TINY_PYRAMID), config)
seen = []
train(state, batches, config, workers=0, processes=one, report=lambda _, v: seen.append(v))
if one.rank == 0:
    total = sum(float(v.double().abs().sum()) for v in state.average.values())
    print(json.dumps({"seen": seen, "weights": total, "count": one.count}))
"""


def run(count: int, script: Path, repository: Path) -> dict[str, object]:
    """Run the script in so many processes; return what the first one printed."""
    paths = os.pathsep.join([str(repository / "src"), str(repository)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(count)], capture_output=True, text=True, check=False,
        env=environment, cwd=script.parent, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    values: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return values


@pytest.mark.slow  # three interpreters
def test_two_processes_give_the_losses_of_one(tmp_path: Path, repository: Path) -> None:
    pytest.importorskip(
        "lightning_fabric", reason="lightning-fabric is not installed (extra: train)"
    )
    script = tmp_path / "training.py"
    script.write_text(SCRIPT)
    one, two = (run(count, script, repository) for count in (1, 2))
    assert (one["count"], two["count"]) == (1, 2)
    alone, together = one["seen"], two["seen"]
    assert isinstance(alone, list)
    assert isinstance(together, list)
    assert len(alone) == len(together) == 6
    for here, there in zip(alone, together, strict=True):
        assert here.keys() == there.keys()
        for name, value in here.items():
            # Sums in another order: rounding alone, 3e-6 of the gradient's norm at most when this
            # was written. No pixel of a mask is so near to the threshold that it changes sides.
            assert there[name] == pytest.approx(value, rel=2e-5, abs=1e-5), name
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-5)


def test_shares_are_whole_and_even() -> None:
    for total in range(7):
        for count in (1, 2, 3):
            parts = [own_part(total, OneProcess(count, rank)) for rank in range(count)]
            assert [index for part in parts for index in part] == list(range(total))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


class _Twice(OneProcess):
    """Two processes with the same values."""

    def total(self, values: torch.Tensor) -> torch.Tensor:
        return 2 * values


def test_gradients_add_up_and_what_has_none_keeps_none() -> None:
    parameters = [nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(4))]
    parameters[0].grad = torch.full((2, 3), 0.5)
    sum_gradients(parameters, _Twice(count=2))
    assert parameters[0].grad is not None
    assert parameters[0].grad.tolist() == [[1.0] * 3] * 2
    assert parameters[1].grad is None


def test_without_fabric_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(MissingExtraError, match=r'needs Lightning Fabric.*"sam-plugins\[train\]"'):
        launch_fabric(torch.device("cpu"), 2)
