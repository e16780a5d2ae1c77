"""What a first labels layer needs, fetched beside the window before the layer is made.

napari imports pandas for the first layer that can have features, and scikit-image's colours for the
first one with labels: a third of a second on the GUI thread, where nobody sees why.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from sam_plugins.napari_plugin.jobs import start_job
from sam_plugins.napari_plugin.quick_imports import without_collections

if TYPE_CHECKING:
    from qtpy.QtCore import QObject

    from sam_plugins.napari_plugin.jobs import JobProgress

LIBRARIES = ("pandas", "scipy.linalg", "skimage.color.colorconv")


def when_layers_are_cheap(then: Callable[[], None], owner: QObject) -> None:
    """Do something in a later turn of the event loop, once the libraries are there.

    Parameters
    ----------
    then : callable
        Called on the GUI thread, unless the owner is gone.
    owner : QObject
    """
    if all(name in sys.modules for name in LIBRARIES):
        timer = QTimer(owner)
        timer.setSingleShot(True)
        timer.timeout.connect(then)
        timer.timeout.connect(timer.deleteLater)
        timer.start(0)
    else:
        start_job(_fetch, title="Opening", owner=owner, on_finished=then, is_shown=False)


def _fetch(*, progress: JobProgress) -> None:
    """Import the libraries, in the thread of a job; one that is missing is napari's affair."""
    with without_collections():
        for name in LIBRARIES:
            progress.check()
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
