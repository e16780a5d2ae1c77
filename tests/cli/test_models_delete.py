"""``sam-plugins models delete``: versions and downloaded weights, gone for good."""

from __future__ import annotations

import json
from pathlib import Path

import filelock
import pytest

from sam_plugins.cli import main
from sam_plugins.model.weights.registry import find_entry
from sam_plugins.model.weights.store import ModelStore


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAM_PLUGINS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SAM_PLUGINS_STORE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Two versions of a model, the second in use."""
    weights = tmp_path / "weights"
    weights.write_bytes(b"weights")
    made = ModelStore()
    for name in ("a", "b"):
        made.add("cells", weights, model_id=name)
        made.promote("cells", force=True)
    return made


def test_a_version(store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "delete", "cells@1"]) == 0
    assert capsys.readouterr().out == "cells@1 is deleted\n"
    assert [one.number for one in store.versions("cells")] == [2]


def test_the_version_in_use(store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "delete", "cells@2"]) == 1
    assert "in use; promote or roll back to another version first, or delete it with --force" in (
        capsys.readouterr().err
    )
    assert main(["models", "delete", "cells@2", "--force"]) == 0
    assert capsys.readouterr().out == "cells@2 is deleted; cells@1 is in use now\n"
    assert main(["models", "delete", "cells@1", "--force"]) == 0
    assert capsys.readouterr().out == "cells@1 is deleted; no version is in use now\n"
    assert store.names() == []


def test_what_was_deleted_before_an_error_is_said(
    store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "delete", "cells@1", "cells@7", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in said["deleted"]] == ["cells@1"]
    assert "there is no version 7 of cells, only cells@2" in said["error"]


def test_downloaded_weights(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = find_entry("sam_vit_b").path
    assert path.is_relative_to(home)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(b"wei")
    assert main(["models", "delete", "sam_vit_b", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"deleted": [{"name": "sam_vit_b", "path": str(path)}]}
    assert not path.exists()
    assert not part.exists()


def test_weights_that_just_arrive(capsys: pytest.CaptureFixture[str]) -> None:
    path = find_entry("sam_vit_b").path
    path.parent.mkdir(parents=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(b"wei")
    with filelock.FileLock(f"{path}.lock"):
        assert main(["models", "delete", "sam_vit_b"]) == 1
    assert "another program is downloading model 'sam_vit_b'" in capsys.readouterr().err
    assert part.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("default", "model 'default' comes with the package and stays with it"),
        ("sam_vit_b", "model 'sam_vit_b' is not on this machine"),
        ("sam_vit_bb", "did you mean"),
        ("other@1", "has no model 'other'"),
    ],
)
def test_what_cannot_be_deleted(
    name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "delete", name, "--force"]) == 1
    assert message in capsys.readouterr().err.replace("Did", "did")
