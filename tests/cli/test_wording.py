"""Messages of the core in the words of the command line; those about files: test_segment_view."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.labelled_sets import write_sets

from sam_plugins.cli import main
from sam_plugins.cli.wording import in_options
from sam_plugins.errors import MemoryLimitError, UnusableImageError
from sam_plugins.model.inference.automatic import segment_embedding
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.io.images import read_image
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.comparison import Comparison
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.store import ModelStore


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40).astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            ["--point", "50,3"],
            r"a\.png: --point and --negative must lie within the picture",
        ),
        (["--box", "70,70,90,90"], r"a\.png: --box must overlap the picture of 40 x 30 pixels"),
    ],
)
def test_prompts_beside_the_picture(
    picture: Path, tmp_path: Path, prompt: list[str], message: str, capsys: Any
) -> None:
    assert main(["segment", str(picture), "-o", str(tmp_path / "out"), *prompt]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_axes_are_named_only_by_commands_that_take_them(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((7, 20, 30), np.uint16), photometric="minisblack")
    with pytest.raises(UnusableImageError, match=r"axes='CYX'$") as refused:
        read_image(tmp_path / "a.tif")
    assert in_options(str(refused.value)).endswith("; choose one, such as --plane Q=0")


def test_a_model_without_an_instance_decoder(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passport = load_checkpoint("default").passport
    assert passport is not None
    mute = dataclasses.replace(
        passport, config=dataclasses.replace(passport.config, instance_decoder=None)
    )
    weights = save_model_file(
        tmp_path / "mute.safetensors", build_sam(mute.config).state_dict(), mute
    )
    command = ["segment", str(picture), "-o", str(tmp_path / "out"), "--model", str(weights)]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert re.search(r"error: .*--mode auto needs a model .*; use --mode grid with it", err)


@pytest.mark.parametrize(
    "command",
    [["train", "--name", "mine"], ["evaluate", "clicks", "--split", "train", "--data"]],
)
def test_sets_without_pictures_of_a_split(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_sets(tmp_path / "data")
    assert main([*command, str(data), "--sets", "photos"]) == 1
    message = (
        r"no labelled picture of the split 'train' in the sets photos of .*; choose --split val, "
        r"or choose other --sets, or save planes of volumes as pictures\n$"
    )
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("comparison", "message"),
    [
        (None, r"mine@1 was never measured .*, or promote it with --force\n$"),
        (
            Comparison("a", "mSA", 0.5, 0.5, -0.1, 0.1, 12),
            r"mine@1 is not better .*, or promote it with --force\n$",
        ),
    ],
)
def test_a_version_that_is_not_better(
    tmp_path: Path,
    comparison: Comparison | None,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    ModelStore().add("mine", tmp_path / "a.safetensors", model_id="b", comparison=comparison)
    assert main(["models", "promote", "mine"]) == 1
    assert re.search(message, capsys.readouterr().err)


def run_out_of_memory(*_: Any, **__: Any) -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("patched", "remedy", "end"),
    [
        ("automatic.grid_points", "points_per_side", "; crop the picture or reduce it"),
        ("predict._decode", "reduce the picture to 16 x 16 pixels", "or close other programs"),
    ],
)
def test_memory_that_runs_out_while_masks_are_decoded(
    patched: str, remedy: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model("default")
    embedding = encode_image(model, np.eye(32))
    monkeypatch.setattr(f"sam_plugins.model.inference.{patched}", run_out_of_memory)
    with pytest.raises(MemoryLimitError, match=remedy) as raised:
        segment_embedding(model, embedding, mode="grid")
    assert in_options(str(raised.value)).endswith(end)


@pytest.mark.parametrize(
    ("said", "typed"),
    [
        ("or start again with overwrite=True", "or start again with --overwrite"),
        ("batch_size=16 needs a quarter", "--batch-size 16 needs a quarter"),
        ("no mask is left: stability_score_thresh=0.95 refused all; set pred_iou_thresh=0.8",
         "no mask is left: --min-stability 0.95 refused all; set --min-iou 0.8"),
        ("are free in x; choose a work folder on another disk, or fewer pictures",
         "are free in x; choose another disk with --work, or fewer pictures"),
    ],
)  # fmt: skip
def test_runs_speak_of_their_options(said: str, typed: str) -> None:
    # That the core says so: tests/model/engine/test_pretraining.py and test_distillation.py.
    assert in_options(said) == typed


@pytest.mark.filterwarnings("default::sam_plugins.model.inference.reduction.ReducedImageWarning")
def test_a_strip_that_is_seen_reduced_names_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strip = tmp_path / "strip.png"
    Image.fromarray(np.zeros((30, 1500), np.uint8)).save(strip)
    assert main(["segment", str(strip), "-o", str(tmp_path / "out"), "--json"]) == 0
    said = capsys.readouterr()
    assert "warning: the model sees this picture of 30 x 1500 pixels reduced to 20 x 1024" in (
        said.err
    )
    assert "segment it by tiles with --tile 512" in said.err
    json.loads(said.out)
