"""Real windows: a virtual display where there is none, and a viewer that knows our plugin."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MANIFEST = Path(__file__).resolve().parents[2] / "src" / "sam_plugins" / "napari.yaml"
NO_DISPLAY = (
    "no display: neither DISPLAY nor WAYLAND_DISPLAY is set and Xvfb is not installed "
    "(Debian: apt-get install xvfb, or run `make system-packages`)"
)


def _has_display() -> bool:
    return not sys.platform.startswith("linux") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )


def _start_virtual_display() -> None:
    """Start an X server that ends with its last client, which is this process."""
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1600x1000x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as lines:
        number = lines.readline().strip()
    if not number:
        pytest.fail(f"Xvfb ended with {server.wait()} before it had a display")
    os.environ["DISPLAY"] = f":{number}"
    # Registered before Qt is imported, hence called after Qt has left the display.
    atexit.register(server.wait)
    atexit.register(server.terminate)


@pytest.fixture(scope="session", autouse=True)
def display(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give Qt a display before its first use, and keep napari off the user's settings."""
    if not _has_display() and shutil.which("Xvfb"):
        _start_virtual_display()
    os.environ["NAPARI_CONFIG"] = str(tmp_path_factory.mktemp("napari") / "settings.yaml")


@pytest.fixture(autouse=True)
def _skip_without_display(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gui") and not _has_display():
        pytest.skip(NO_DISPLAY)


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any], npe2pm: Any) -> Iterator[Any]:
    """Return a napari viewer in a real, shown window, with our plugin registered."""
    from npe2 import PluginManifest

    from sam_plugins.napari_plugin.current_model import current_model

    npe2pm.register(PluginManifest.from_file(MANIFEST))
    current_model.cache_clear()
    shown = make_napari_viewer(show=True)
    yield shown
    from sam_plugins.napari_plugin.jobs import end_all_jobs

    assert end_all_jobs(60), "a job did not end within a minute"


@pytest.fixture
def open_segment(viewer: Any) -> Iterator[Any]:
    """Return what opens **Segment** beside the layers that are there."""
    from tests.napari_plugin.segmenting import opening_segment

    with opening_segment(viewer) as open_it:
        yield open_it
