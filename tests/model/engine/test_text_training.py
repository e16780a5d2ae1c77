"""A model learns to take phrases, is saved with its passport, and is asked by the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.labelled_sets import discs, picture_of
from tests.model.inference.tiny_clip import DIM, write_tiny_clip
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.cli import main
from sam_plugins.errors import DatasetError
from sam_plugins.model.engine.text_training import TextTrainingOptions, train_with_texts
from sam_plugins.model.inference.clip import Clip, load_clip
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.io.folder_pairs import list_folder_pair
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport

pytest.importorskip("transformers", reason="transformers is not installed (extra: text)")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return load_clip(write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny-clip"), device="cpu")


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    network = make_model(TINY_PYRAMID, "tiny").network
    passport = Passport("tiny", TINY_PYRAMID, version="1", licence="CC0")
    return save_model_file(tmp_path / "tiny.safetensors", network.state_dict(), passport)


def files_of(folder: Path, count: int, *, empty: bool = False) -> list[LabelledFile]:
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for seed in range(count):
        labels = discs(seed)
        Image.fromarray(picture_of(labels)).save(folder / "images" / f"{seed}.png")
        Image.fromarray(labels * (not empty)).save(folder / "labels" / f"{seed}.png")
    return list_folder_pair(folder / "images", folder / "labels")


def test_from_labelled_pictures_to_a_phrase_on_the_command_line(
    tmp_path: Path, parent: Path, clip: Clip, capsys: pytest.CaptureFixture[str]
) -> None:
    files = files_of(tmp_path, 2)
    seen: list[int] = []
    options = TextTrainingOptions(steps=2, method="full")
    path = train_with_texts(
        parent,
        files,
        clip,
        tmp_path / "with-text.safetensors",
        options,
        report=lambda step, _: seen.append(step),
    )
    assert seen == [0, 1]
    model = load_model(path, device="cpu")
    assert model.config.prompt_encoder.text_dim == DIM
    assert model.passport is not None
    assert model.passport.extra["text_encoder"] == "tiny-clip"
    assert model.passport.parent == load_model(parent, device="cpu").model_id
    assert model.passport.licence == "CC0"
    assert model.passport.training_data[0].objects == 6

    folder = write_tiny_clip(tmp_path / "tiny-clip")
    ask = ["segment", str(files[0].image_path), "--model", str(path), "--clip", str(folder)]
    out = tmp_path / "out"
    assert main([*ask, "--text", "a disc", "--text", "a hole", "-o", str(out)]) == 0
    table = json.loads((out / "0_objects.json").read_text())
    assert (table["mode"], table["text"]) == ("text", ["a disc", "a hole"])
    assert table["phrases"] == ["a disc", "a hole"]
    assert tifffile.imread(out / "0_labels.tif").max() <= 2
    helped = [*ask, "--text", "a disc", "--point", "12,12", "-o", str(tmp_path / "helped")]
    assert main(helped) == 0
    capsys.readouterr()

    other = write_tiny_clip(tmp_path / "other-clip", dim=8)
    asked = [*ask[:-1], str(other), "--text", "a disc", "-o", str(tmp_path / "wrong")]
    assert main(asked) == 1
    assert "'tiny-clip', of 16 values, got 'other-clip', of 8" in capsys.readouterr().err


def test_any_other_model_ranks_its_masks_and_takes_no_points_with_a_text(
    tmp_path: Path, parent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "noise.png")
    folder = write_tiny_clip(tmp_path / "tiny-clip")
    ask = ["segment", str(tmp_path / "noise.png"), "--model", str(parent), "--clip", str(folder)]
    ask += ["--text", "a disc"]
    assert main([*ask, "--not-text", "a hole", "-o", str(tmp_path / "out")]) == 0
    table = json.loads((tmp_path / "out" / "noise_objects.json").read_text())
    assert len(table["phrases"]) == len(table["objects"])
    assert table["not_text"] == ["a hole"]
    assert main([*ask, "--point", "20,20", "-o", str(tmp_path / "pointed")]) == 1
    err = capsys.readouterr().err
    assert "leave out --point and --negative, and its masks are ranked by words" in err


def test_a_clip_that_is_not_there_is_said_in_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(picture_of(discs())).save(tmp_path / "a.png")
    ask = ["segment", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--text", "a disc"]
    assert main([*ask, "--clip", "lab/absent"]) == 1
    assert "or download it with --download-clip" in capsys.readouterr().err


def test_refusals(tmp_path: Path, parent: Path, clip: Clip) -> None:
    files = files_of(tmp_path, 1, empty=True)
    with pytest.raises(DatasetError, match="no training picture has a labelled object: label"):
        train_with_texts(parent, files, clip, tmp_path / "new.safetensors")
    with pytest.raises(ValueError, match=r"path must end in .safetensors, got 'new.pt'"):
        train_with_texts(parent, files, clip, tmp_path / "new.pt")
    with pytest.raises(ValueError, match="method must be 'decoder' or 'full', got 'lora'"):
        TextTrainingOptions(method="lora")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps must be 1 or more and learning_rate positive, got"):
        TextTrainingOptions(steps=0)
