"""What the plugin contributes is there, and right."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npe2 import PluginManifest

from sam_plugins.napari_plugin import samples

MANIFEST = Path(__file__).resolve().parents[2] / "src" / "sam_plugins" / "napari.yaml"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    read: PluginManifest = PluginManifest.from_file(MANIFEST)
    return read


def test_every_command_can_be_imported(manifest: PluginManifest) -> None:
    manifest.validate_imports()
    for command in manifest.contributions.commands or []:
        assert command.python_name is not None
        module, _, name = command.python_name.partition(":")
        target: Any = importlib.import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
        assert callable(target)


def test_widgets_samples_and_menu(manifest: PluginManifest) -> None:
    contributed = manifest.contributions
    widgets = [one.display_name for one in contributed.widgets or []]
    assert widgets == ["Segment", "Automatic", "Folder", "Train", "Models"]
    assert {one.key for one in contributed.sample_data or []} == {
        "cell", "coins", "tissue", "nuclei", "film",
    }  # fmt: skip
    assert "napari/layers/segment" in (contributed.menus or {})
    icon = MANIFEST.parent / "napari_plugin" / "icon.svg"
    assert icon.read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.parametrize(
    ("sample", "shape"),
    [
        (samples.cell, (660, 550)),
        (samples.coins, (303, 384)),
        (samples.tissue, (256, 256, 3)),
        (samples.nuclei_3d, (32, 192, 192)),
        (samples.moving_cells, (24, 256, 256)),
    ],
)
def test_samples_are_pictures_and_the_same_each_time(sample: Any, shape: tuple[int, ...]) -> None:
    ((data, _, kind),) = sample()
    assert data.shape == shape
    assert kind == "image"
    assert data.std() > 5
    assert np.array_equal(data, sample()[0][0])


@pytest.mark.gui
def test_a_sample_opens_in_the_viewer(viewer: Any) -> None:
    (layer,) = viewer.open_sample("sam-plugins", "nuclei")
    assert tuple(layer.scale) == (2.0, 1.0, 1.0)
