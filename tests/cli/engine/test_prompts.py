"""``engine label --prompts``: documents that are none are told in words, and nothing is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.cli.app import main
from sam_plugins.model.engine.project.project import Project, ProjectSettings
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport

POINT = '"points_xy": [[5, 5]]'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one picture, and a tiny model."""
    passport = Passport("tiny", TINY_PYRAMID, version="1", licence="CC0")
    network = make_model(TINY_PYRAMID, "tiny").network
    model = save_model_file(tmp_path / "tiny.safetensors", network.state_dict(), passport)
    picture = tmp_path / "cell.png"
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20).astype(np.uint8)).save(picture)
    with Project.create(tmp_path / "project", ProjectSettings("cells", str(model))) as made:
        made.labels.add_images([picture])
    return tmp_path / "project"


def told(
    project: Path, content: str, capsys: pytest.CaptureFixture[str], *more: str, code: int = 1
) -> str:
    path = project.parent / "prompts.json"
    path.write_text(content, encoding="utf-8")
    capsys.readouterr()
    assert main(["engine", "label", str(project), "cell.png", "--prompts", str(path), *more]) == (
        code
    )
    said = capsys.readouterr().err
    assert "internal error" not in said
    return said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f'{{"objects": [{{{POINT}, "corrects": ["a"]}}]}}', "has no object ['a']"),
        (f'{{"objects": [{{{POINT}, "corrects": {{}}}}]}}', "has no object {}"),
        ('{"accept": [["x"]]}', "has no object ['x']"),
        ('{"reject": [{}]}', "has no object {}"),
        (f'{{"objects": [{{{POINT}, "class_name": 5}}]}}', "class_name must be a name, got 5"),
        (f'{{"objects": [{{{POINT}, "class_name": ""}}]}}', "class_name must be a name, got ''"),
        (f'{{"objects": [{{{POINT}, "seconds": true}}]}}', "seconds must be 0 or more, got True"),
        (f'{{"objects": [{{{POINT}, "seconds": 1e999}}]}}', "seconds must be 0 or more, got inf"),
        ('{"objects": [3]}', "a JSON object of 'box_xyxy', 'class_name', 'corrects',"),
        ("[" * 100_000, "are no JSON"),
        ("nope", '{"objects": [{"points_xy": [[120, 85]]}]}'),
    ],
)
def test_what_makes_no_sense_is_told(
    project: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in told(project, content, capsys)
    with Project.open(project) as opened:
        assert opened.labels.objects() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"objects": [3]}', "object 1 of the prompts must be a JSON object"),
        ('{"accept": 5}', "'objects', 'accept' and 'reject' of the prompts must be lists"),
        ('{"accept": null}', "'objects', 'accept' and 'reject' of the prompts must be lists"),
        ('{"objects": [{"corrects": []}]}', "has no object []"),
        ('{"accept": [[1]]}', "has no object [1]"),
        ("[]", "the prompts must be a JSON object with"),
    ],
)
def test_it_is_told_with_accept_all_too(
    project: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in told(project, content, capsys, "--accept-all")


def test_the_mark_that_windows_writes_first_is_left_out(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "has no object 'x'" in told(project, '\ufeff{"accept": ["x"]}', capsys)


def test_the_same_prompts_twice_are_one_object(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = f'{{"objects": [{{{POINT}}}]}}'
    told(project, prompts, capsys, code=0)
    with Project.open(project) as opened:
        (once,) = opened.labels.objects()
    told(project, prompts, capsys, code=0)
    with Project.open(project) as opened:
        (twice,) = opened.labels.objects()
    assert (twice.object_id, twice.rle) == (once.object_id, once.rle)
    told(project, f'{{"objects": [{{{POINT}}}], "reject": ["{once.object_id}"]}}', capsys, code=0)
    with Project.open(project) as opened:
        assert len(opened.labels.objects()) == 2  # one of them rejected, as was said
