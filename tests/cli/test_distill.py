"""``sam-plugins distill``, from a tiny SAM to a tiny student."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.model.engine.test_distillation import student_of, write_teacher
from tests.model.inference.tiny_models import TINY_PYRAMID
from tests.unlabelled_pictures import write_pictures

from sam_plugins.cli import distill as command
from sam_plugins.cli.app import main
from sam_plugins.model.engine import distillation
from sam_plugins.model.engine.students import STUDENTS
from sam_plugins.model.inference.loading import load_model


@pytest.fixture
def run(tmp_path: Path) -> list[str]:
    """Arguments of a quick run."""
    teacher = write_teacher(tmp_path / "teacher.safetensors", TINY_PYRAMID)
    write_pictures(tmp_path / "pictures", 5)
    return [
        "distill", str(teacher), str(tmp_path / "pictures"),
        "-o", str(tmp_path / "small.safetensors"),
        "--steps", "2", "--batch-size", "1", "--device", "cpu", "--name", "mine",
    ]  # fmt: skip


@pytest.fixture
def small_student(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "student_config", lambda *_: student_of(TINY_PYRAMID))


@pytest.mark.usefixtures("small_student")
def test_a_run_and_what_it_says(
    run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run += ["--student", "pyramid"]
    assert main(run) == 0
    printed = capsys.readouterr().out
    assert re.search(r"STEP +LOSS +IOU WITH THE TEACHER +OF THE SAME MASK\n0 ", printed)
    assert "On 1 held-out pictures, 16 clicks" in printed
    assert "an image encoder of 0.0 million weights, that of teacher-" in printed
    path = tmp_path / "small.safetensors"
    model = load_model(path)
    assert model.model_id.startswith("mine-")
    picture = str(tmp_path / "pictures" / "0.png")
    assert main(["segment", picture, "-o", str(tmp_path / "out"), "--model", str(path)]) == 0
    assert (tmp_path / "out" / "0_labels.tif").is_file()
    capsys.readouterr()
    assert main(["models", "show", str(path)]) == 0
    assert "distilled from teacher-" in capsys.readouterr().out

    assert main(run) == 1
    assert "small.safetensors exists: choose another name, or replace it with --overwrite" in (
        capsys.readouterr().err
    )
    assert main([*run, "--overwrite", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["checks"][0]["step"] == 0
    assert values["checks"][-1]["step"] == 2


def test_a_student_that_does_not_fit(run: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(run) == 1
    assert "tiny_vit has none: choose the student pyramid" in capsys.readouterr().err
    assert not list(Path(run[2]).parent.glob("*-distillation"))


@pytest.mark.usefixtures("small_student")
def test_an_unreadable_picture_among_many(
    run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pictures" / "0.png").write_bytes(b"nothing")
    assert main([*run, "--work", str(tmp_path / "work")]) == 1
    said = capsys.readouterr().err
    assert re.search(r"error: cannot read .*0\.png", said)
    assert "4 of 5 used, 1 failed" in said
    assert (tmp_path / "small.safetensors").is_file()
    assert (tmp_path / "work" / "embeddings").is_dir()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-o", "small.pth"], "-o must name a file that ends in .safetensors, got 'small.pth'"),
        (["--batch-size", "0"], "error: --batch-size must be 1 or more, got 0"),
        (["--steps", "0"], "error: --steps must be 1 or more, got 0"),
        (["--decoder-steps", "-1"], "error: --decoder-steps must be 0 or more, got -1"),
        (["--learning-rate", "0"], "error: --learning-rate must be positive and finite, got 0"),
        (["--held-out", "1"], "error: --held-out must lie in [0, 1), got 1"),
        (["--seed", "-1"], "error: --seed must be 0 or more, got -1"),
        (["--student", "resnet"], "invalid choice: 'resnet'"),
    ],
)
def test_wrong_usage(
    run: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*run, *more])
    assert message in capsys.readouterr().err


def test_a_teacher_that_is_not_there(run: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run[1] = "nothing.safetensors"
    assert main(run) == 1
    assert "the file of weights nothing.safetensors does not exist" in capsys.readouterr().err


def test_students_are_those_that_exist() -> None:
    assert command.STUDENTS == STUDENTS
