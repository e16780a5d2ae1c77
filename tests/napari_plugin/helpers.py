"""What several tests of widgets do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import skimage.data

from sam_plugins.napari_plugin.layers import Role, role_of
from sam_plugins.napari_plugin.session.changes import LabelChange
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.session.session import Session


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


def find_layer(viewer: Any, role: Role) -> Any:
    """Return the topmost layer of a role, None for none."""
    return next((one for one in reversed(viewer.layers) if role_of(one) == role), None)


def layer_of(viewer: Any, role: Role) -> Any:
    """Return the layer of a role, which must be there."""
    layer = find_layer(viewer, role)
    assert layer is not None
    return layer


def row_of_coins() -> npt.NDArray[np.uint8]:
    """Return coins of some twenty pixels in 40 x 1,100, more than the model sees; none twice."""
    coins = skimage.data.coins()[::2, ::2]
    rows = [coins[top : top + 40] for top in (0, 37, 74, 111)]
    picture: npt.NDArray[np.uint8] = np.hstack([*rows, rows[0][::-1], rows[1][::-1]])[:, :1100]
    return picture


def put_labels(session: Session, plane: Plane, labels: npt.NDArray[Any]) -> None:
    """Write the labels of a whole plane as one step, as widgets do with what they found."""
    before = session.canvas.read(plane)
    window = Window(0, 0, *before.shape)
    change = LabelChange.between(plane, window, before, labels.astype(before.dtype))
    assert change is not None
    session.reserve_labels(int(labels.max()))
    change.redo(session.canvas)
    session.note_written("labels", [change])
