"""Widgets that are opened in a fresh process: PyTorch is not imported where the window waits."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

CODE = """
import os, sys, threading, time
import numpy as np
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            threads.append(threading.current_thread() is threading.main_thread())

threads = []
sys.meta_path.insert(0, Watch())
application = QApplication([])
viewer = ViewerModel()
viewer.add_image(np.zeros((64, 64), np.uint8))

from sam_plugins.napari_plugin.jobs import end_all_jobs
from sam_plugins.napari_plugin.widgets.automatic import AutomaticWidget
from sam_plugins.napari_plugin.widgets.models import ModelsWidget

widgets = AutomaticWidget(viewer), ModelsWidget()
print(widgets[0]._status.text())
assert widgets[1]._device.currentText() == "auto"
while not ("on c" in widgets[0]._status.text() and widgets[1]._device.count() > 1):
    application.processEvents()
    time.sleep(0.02)
print(widgets[0]._status.text())
print([widgets[1]._device.itemText(i) for i in range(2)])
print(threads)
sys.stdout.flush()
end_all_jobs(60)
os._exit(0)
"""


def test_devices_are_looked_for_beside_the_window() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
    first, then, devices, threads = done.stdout.splitlines()
    assert first.startswith("1 picture for the model; how long, the first one will tell")
    assert then.startswith("1 picture for the model, on c")
    assert devices == "['auto', 'cpu']"
    assert threads == "[False]"  # once, and in another thread
