"""Which precision a training takes by itself, and that a run keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sam_plugins.model.engine.tuning_options import FineTuningOptions
from sam_plugins.model.training import precision
from sam_plugins.model.training.precision import resolve_precision
from sam_plugins.model.training.run_recipe import PlainRecipe
from sam_plugins.model.training.state import TrainingState


@pytest.mark.parametrize(
    ("abilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"bf16": True}, "bfloat16"),
        ({}, "float32"),
    ],
)
def test_a_processor_takes_what_it_has(
    abilities: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_abilities_of_cpu", lambda: abilities)
    assert resolve_precision("auto", "cpu") == expected
    assert FineTuningOptions().for_device("cpu") == FineTuningOptions(precision=expected)  # type: ignore[arg-type]
    assert resolve_precision("auto", "mps") == "float32"
    for named in ("float32", "bfloat16"):
        assert resolve_precision(named, "cpu") == named  # type: ignore[arg-type]


@pytest.mark.parametrize("has_it", [True, False])
def test_a_gpu_is_asked_without_emulation(monkeypatch: pytest.MonkeyPatch, has_it: bool) -> None:
    def supported(*, including_emulation: bool = True) -> bool:
        return has_it or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert resolve_precision("auto", "cuda:1") == ("bfloat16" if has_it else "float32")


def test_every_pytorch_tells_what_the_processor_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_precision("auto", "cpu") in {"float32", "bfloat16"}
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for has_it in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_it, raising=False)  # noqa: B023
        assert resolve_precision("auto", "cpu") == ("bfloat16" if has_it else "float32")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert resolve_precision("auto", "cpu") == "float32"


def test_a_run_that_began_keeps_its_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_abilities_of_cpu", lambda: {"avx512_bf16": True})
    path = tmp_path / "state.safetensors"
    assert resolve_precision("auto", "cpu", state_path=path) == "bfloat16"
    network = nn.Linear(2, 2)
    state = TrainingState(network, {}, torch.optim.AdamW(network.parameters()))
    state.save(path, PlainRecipe({"config": {"precision": "float32"}}))
    assert resolve_precision("auto", "cpu", state_path=path) == "float32"
    assert resolve_precision("bfloat16", "cpu", state_path=path) == "bfloat16"
    path.write_bytes(b"damaged")
    assert resolve_precision("auto", "cpu", state_path=path) == "bfloat16"


def test_other_precisions_are_refused() -> None:
    with pytest.raises(ValueError, match="precision must be auto, bfloat16 or float32, got 'half'"):
        FineTuningOptions(precision="half")  # type: ignore[arg-type]
