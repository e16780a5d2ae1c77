"""What several tests of widgets do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def open_widget(viewer: Any, name: str) -> Any:
    """Open one of our widgets as people do from the menu, and return it."""
    _, widget = viewer.window.add_plugin_dock_widget("sam-plugins", name)
    return widget


def keep_screenshot(viewer: Any, qtbot: Any, name: str) -> None:
    """Save a picture of the whole window where ``SAM_PLUGINS_SCREENSHOTS`` names a folder."""
    folder = os.environ.get("SAM_PLUGINS_SCREENSHOTS")
    if folder:
        qtbot.wait(300)
        viewer.window._qt_window.grab().save(str(Path(folder) / f"{name}.png"))
