"""``sam-plugins pretrain`` and what comes after it, with a tiny network on small pictures."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image
from tests.labelled_sets import discs
from tests.model.engine.test_pretraining import CONFIG
from tests.unlabelled_pictures import write_pictures

from sam_plugins.cli import pretrain as command
from sam_plugins.cli.app import main
from sam_plugins.cli.console import StageBars
from sam_plugins.model.training.pretraining_config import NETWORKS, PretrainingConfig


@pytest.fixture
def run(tmp_path: Path) -> list[str]:
    """Arguments of a quick run."""
    write_pictures(tmp_path / "plates" / "a", 4)
    write_pictures(tmp_path / "plates" / "b", 2)
    (tmp_path / "config.json").write_text(json.dumps(asdict(CONFIG)))
    return [
        "pretrain", f"{tmp_path}/plates/*", "-o", str(tmp_path / "run"),
        "--config", str(tmp_path / "config.json"), "--device", "cpu",
    ]  # fmt: skip


def test_a_run_and_what_it_says(
    run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*run, "--steps", "2", "--seed", "4"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"STEP +HELD-OUT LOSS +OF A CONSTANT\n0 +[\d.]+ +[\d.]+\n", printed)
    assert "5 pictures learned from, 1 held out" in printed
    assert f"{tmp_path}/run/sam.safetensors  (a SAM that starts from it" in printed
    written = PretrainingConfig.read(tmp_path / "run" / "config.json")
    assert (written.steps, written.seed, written.network) == (2, 4, CONFIG.network)

    assert main(run) == 1
    said = capsys.readouterr().err
    assert "holds a complete run (mae.safetensors): choose another folder, or start again" in said
    assert "with --overwrite" in said
    assert main([*run, "--steps", "1", "--overwrite", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [check["step"] for check in values["checks"]] == [0, 1]
    assert (values["pictures"], values["held_out"], values["failed"]) == (5, 1, [])
    assert Path(values["mae"]).is_file()


def test_its_checkpoint_starts_training(
    run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*run, "--steps", "2"]) == 0
    labels = tmp_path / "labels"
    pictures = sorted((tmp_path / "plates" / "a").iterdir())
    labels.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(discs(number)).save(labels / picture.name)
    train = ["train", str(tmp_path / "plates" / "a"), "--labels", str(labels), "--name", "mine"]
    sam = str(tmp_path / "run" / "sam.safetensors")
    quick = ["--steps", "2", "--rounds", "1", "--held-out", "0.3"]
    capsys.readouterr()
    assert main([*train, "--from", sam, *quick, "--json"]) == 0
    rounds = json.loads(capsys.readouterr().out)["rounds"]
    measured = [(one["step"], one["share"]) for one in rounds]
    assert measured == [(0, 1), (2, 1), (2, 0.6), (2, 0.3)]

    mae = str(tmp_path / "run" / "mae.safetensors")
    assert main([*train, "--from", mae, *quick]) == 1
    assert "mae.safetensors is a masked autoencoder, an image encoder to start training from" in (
        capsys.readouterr().err
    )


def test_an_unreadable_picture_among_many(
    run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plates" / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert main([*run, "--steps", "1", "--json"]) == 1
    said = capsys.readouterr()
    assert re.search(r"error: cannot read .*a/0\.png", said.err)
    assert "5 of 6 used, 1 failed" in said.err
    values = json.loads(said.out)
    assert values["pictures"] + values["held_out"] == 5
    assert len(values["failed"]) == 1
    assert (tmp_path / "run" / "sam.safetensors").is_file()


def test_no_picture_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["pretrain", str(tmp_path / "empty"), "-o", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "no image in the folder" in said
    assert "there is no picture to learn from" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--steps", "0"], "error: --steps must be 1 or more, got 0"),
        (["--batch-size", "-1"], "error: --batch-size must be 1 or more, got -1"),
        (["--warmup-steps", "-1"], "error: --warmup-steps must be 0 or more, got -1"),
        (["--learning-rate", "nan"], "error: --learning-rate must be positive and finite, got nan"),
        (["--held-out", "1"], "error: --held-out must lie in [0, 1), got 1"),
        (["--seed", "-1"], "error: --seed must be 0 or more, got -1"),
        (["--input-size", "0"], "error: --input-size must be a multiple"),
        (["--input-size", "8"], "a patch to draw of the 1 that --input-size 8 has, got"),
        (
            ["--input-size", "100"],
            "error: --input-size must be a multiple of the patches of 8 pixels",
        ),
        (["--sam-size", "100"], "error: --sam-size must be a multiple of the patches of 16 pix"),
        (["--workers", "-1"], "--workers must be 0 or more, got -1"),
        (["--encoder", "resnet"], "invalid choice: 'resnet'"),
    ],
)
def test_wrong_usage(
    run: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*run, *more])
    assert message in capsys.readouterr().err


def test_a_config_that_is_none(
    run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text('{"stepz": 3}')
    assert main(run) == 1
    assert "is no configuration of a pre-training run: unknown values stepz" in (
        capsys.readouterr().err
    )


def test_encoders_are_those_that_exist() -> None:
    assert tuple(NETWORKS) == command.ENCODERS


def test_one_bar_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    @contextlib.contextmanager
    def bar(stage: str) -> Iterator[Callable[[int, int], None]]:
        said.append(f"open {stage}")
        yield lambda done, total: said.append(f"{stage} {done}/{total}")
        said.append(f"close {stage}")

    monkeypatch.setattr("sam_plugins.cli.console.step_progress", bar)
    with StageBars() as bars:
        bars("reading", 1, 2)
        bars("reading", 2, 2)
        bars("training", 1, 9)
    assert said == [
        "open reading", "reading 1/2", "reading 2/2", "close reading",
        "open training", "training 1/9", "close training",
    ]  # fmt: skip
