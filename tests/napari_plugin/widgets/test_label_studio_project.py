"""A project of Label Studio in napari's Train and Models, and back: one store of labels and models.

What the tutorial "Annotate in Label Studio, improve in napari" says of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.labelled_sets import discs, picture_of
from tests.labelstudio_backend.learning.helpers import KEY
from tests.labelstudio_backend.learning.small_project import (
    annotated,
    drawn,
    small_settings,
    tiny_parent,
)
from tests.napari_plugin.helpers import open_widget

from sam_plugins.cli import main
from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.store import ModelStore, StoredVersion
from sam_plugins.napari_plugin.layers import add_labels
from sam_plugins.napari_plugin.training import open_project

pytestmark = pytest.mark.gui
NAME = f"label-studio-{KEY}"


@pytest.fixture
def swapped() -> list[str]:
    """The models that a backend was told to use, in their order."""
    return []


@pytest.fixture
def learning(tmp_path: Path, swapped: list[str]) -> Iterator[BackendLearning]:
    """A backend with four tasks that people submitted, three objects in each."""
    made = BackendLearning(
        small_settings(tmp_path), fetch=drawn, swap_model=lambda _, model: swapped.append(model)
    )
    for task in range(1, 5):
        made.on_webhook(annotated(task))
    made.work()
    yield made
    made.close()


def trained(folder: Path) -> StoredVersion:
    """Put a version of the project's model into the store, as a training does."""
    parent = tiny_parent(folder)
    return ModelStore().add(NAME, parent, model_id=load_checkpoint(parent).model_id)


def test_a_project_of_label_studio_goes_on_in_napari_and_back(
    viewer: Any,
    qtbot: Any,
    tmp_path: Path,
    learning: BackendLearning,
    swapped: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ModelStore().promote(str(trained(tmp_path)), force=True)
    learning.work()
    assert swapped == [f"{NAME}@1"]
    models = open_widget(viewer, "Models")
    models.select(f"{NAME}@1")
    assert models.selected.name == f"{NAME}@1"
    models.use()
    assert models._model.choice.name in {NAME, f"{NAME}@1"}

    folder = Path(learning.status()["projects"][KEY]["folder"])
    widget = open_widget(viewer, "Train")
    widget.folder.setText(str(folder))
    widget.reload()
    qtbot.waitUntil(lambda: "12 objects" in widget.summary.text(), timeout=120_000)
    assert widget.name.text() == NAME

    labels = discs(5)
    image = viewer.add_image(picture_of(labels), name="hard")
    add_labels(viewer, image, "objects").data[...] = labels
    widget.is_complete.setChecked(True)
    widget.add_picture()
    qtbot.waitUntil(lambda: "15 objects" in widget.summary.text(), timeout=120_000)
    with open_project(folder, "not used") as project:
        assert project.settings.name == NAME
        assert len(project.labels.images()) == 5
    assert main(["engine", "status", str(folder)]) == 0
    assert "15" in capsys.readouterr().out

    learning.on_webhook(annotated(5))
    learning.work()
    with open_project(folder, "not used") as project:
        assert len(project.labels.images()) == 6

    trained(tmp_path)
    widget.promote(force=True)
    learning.work()
    assert swapped == [f"{NAME}@1", f"{NAME}@2"]
    widget.roll_back()
    learning.work()
    assert swapped[-1] == f"{NAME}@1"
