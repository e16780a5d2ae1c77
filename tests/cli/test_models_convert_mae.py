"""From an official MAE checkpoint to a SAM that can be trained, as the page tells it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.docs.pages import blocks, commands
from tests.model.weights.test_mae import TINY, mae_state

from sam_plugins.cli import main
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.networks.config import SamConfig
from sam_plugins.model.weights import mae
from sam_plugins.model.weights.checkpoints import read_weight_file
from sam_plugins.model.weights.mae import mae_start

PAGE = "docs/how-to/pretrain-and-distill.md"
COMMAND = next(
    words[1:]
    for block in blocks("sh")
    if block.page == PAGE
    for _, words in commands(block)
    if words[:3] == ["sam-plugins", "models", "convert"]
)
SOURCE, TARGET = COMMAND[2], COMMAND[4]
ENCODER = replace(TINY, out_dim=16)


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of its own, and let the smallest SAM be smaller."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mae, "SAM_VIT_B", SamConfig(ENCODER))


def test_a_sam_starts_from_an_official_file(capsys: pytest.CaptureFixture[str]) -> None:
    state = mae_state()
    torch.save({"model": state}, SOURCE)  # as the MAE repository saves its files
    assert main(COMMAND) == 0
    said = capsys.readouterr()
    assert said.out.strip() == TARGET
    assert f"`sam-plugins train PICTURES --from {TARGET}` trains it" in said.err
    model = load_model(f"./{TARGET}", device="cpu")
    encoder = model.network.image_encoder.state_dict()
    for name, tensor in mae_start(state, ENCODER).state_dict.items():
        torch.testing.assert_close(encoder[name], tensor, rtol=0, atol=0)
    passport = read_weight_file(Path(TARGET)).passport
    assert passport is not None
    assert passport.parent is not None
    assert passport.parent.startswith(f"{Path(SOURCE).stem}-")
    assert passport.config.preprocessing.max_long_side == TINY.image_size

    first = Path(TARGET).read_bytes()
    assert main(COMMAND) == 1
    assert "overwrite it with --overwrite" in capsys.readouterr().err
    assert main([*COMMAND, "--overwrite", "--name", "mine", "--licence", "CC-BY-NC-4.0"]) == 0
    again = load_model(f"./{TARGET}", device="cpu").network.state_dict()
    for name, tensor in model.network.state_dict().items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=0)
    assert Path(TARGET).read_bytes() != first  # its passport


def test_what_cannot_become_one(capsys: pytest.CaptureFixture[str]) -> None:
    state = mae_state()
    del state["blocks.1.attn.qkv.weight"]
    torch.save(state, SOURCE)
    assert main(COMMAND) == 1
    assert "1 of its weights are missing, such as blocks.1.attn.qkv" in capsys.readouterr().err
    assert main(["models", "show", f"./{SOURCE}"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "`sam-plugins models convert FILE -o sam.safetensors` makes a SAM of it" in said
    torch.save({"fc.weight": torch.ones(1)}, SOURCE)
    assert main(COMMAND) == 1
    assert "its architecture is not known" in capsys.readouterr().err
    assert not Path(TARGET).exists()
