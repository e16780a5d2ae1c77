"""The session needs no window and no network to be imported."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import sam_plugins.napari_plugin.session.replay
import sam_plugins.napari_plugin.session.autosave
import sam_plugins.napari_plugin.coordinates
import sam_plugins.napari_plugin.params
import sam_plugins.napari_plugin.images
import sam_plugins.napari_plugin.answering
heavy = {"torch", "napari", "qtpy", "PySide6", "PyQt6", "magicgui"} & set(sys.modules)
print(sorted(heavy))
"""


def test_no_torch_and_no_window_at_import() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
