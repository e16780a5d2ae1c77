"""A project of the data engine with a tiny model, and the pictures that it learns from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from scipy import ndimage
from tests.cli.engine.cells import PICTURES, Run
from tests.labelled_sets import discs, picture_of

from sam_plugins.cli.app import main
from sam_plugins.model.engine import automatic_masks
from sam_plugins.model.engine.project import automatic
from sam_plugins.model.engine.proposals import Proposal
from sam_plugins.model.inference.full_size import WindowMask


@pytest.fixture
def parent(tiny: Path) -> Path:
    """The model that a project begins with."""
    return tiny


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Pictures with three discs each."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(PICTURES):
        Image.fromarray(picture_of(discs(seed))).save(folder / f"cells-{seed}a.png")
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run an action on the project; return its JSON, or the error where a code is expected."""

    def call(action: str, *arguments: object, code: int = 0) -> Any:
        project = str(tmp_path / "project")
        capsys.readouterr()
        assert main(["engine", action, project, *map(str, arguments), "--json"]) == code
        said = capsys.readouterr()
        values = json.loads(said.out)
        return values if code == 0 else values.get("error", values)

    return call


@pytest.fixture
def project(run: Run, parent: Path, pictures: Path) -> Run:
    """A project with all pictures."""
    run("init", "--name", "cells", "--model", parent, "--held-out", "0.25")
    run("import", pictures)
    return run


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let proposals be what is bright: random weights would propose anything or nothing."""

    def propose(model: Any, rgb: Any, *, min_score: float = 0.5, encode: Any) -> list[Proposal]:
        labels, _ = ndimage.label(rgb[..., 0] > 127)
        return [
            Proposal(WindowMask(window, labels[window] == index), 0.9 - index / 10, (1.0, 1.0))
            for index, window in enumerate(ndimage.find_objects(labels), start=1)
            if 0.9 - index / 10 >= min_score
        ]

    monkeypatch.setattr(automatic, "propose", propose)
    monkeypatch.setattr(automatic_masks, "propose", propose)
