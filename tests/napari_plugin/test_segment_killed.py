"""napari killed at work: what was committed and what was open come back, and replay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.gui, pytest.mark.slow]
pytest.importorskip("napari")

WORK = """
import sys
from pathlib import Path
import napari
from tests.napari_plugin.segmenting import Nuclei, answered, load, until
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget
nuclei = Nuclei.read(Path(sys.argv[1]))
viewer = napari.Viewer()
viewer.add_image(nuclei.image)
widget = SegmentWidget(viewer, load=load)
until(lambda: widget.controller.recovery._saves)
for rank in range(3):
    widget.segmenter.click(nuclei.nucleus(rank)[1])
    answered(widget)
    if rank < 2:
        widget.controller.commit()
print("working", flush=True)
until(lambda: False, 600)
"""


def test_kill_9_of_napari_loses_nothing(
    test_data: Path, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.napari_plugin.segmenting import Nuclei, shipped_model

    from sam_plugins import EmbeddingCache
    from sam_plugins.napari_plugin.answering import Answerer
    from sam_plugins.napari_plugin.images import ImageSource
    from sam_plugins.napari_plugin.recovery import sessions_directory
    from sam_plugins.napari_plugin.session.autosave import unfinished_sessions
    from sam_plugins.napari_plugin.session.files import load_session
    from sam_plugins.napari_plugin.session.replay import replay
    from sam_plugins.napari_plugin.shown import show_model

    monkeypatch.setenv("SAM_PLUGINS_HOME", str(tmp_path / "home"))
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, str(test_data)], stdout=subprocess.PIPE, cwd=repository
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"working\n"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        files = list(sessions_directory().glob("*.samsession"))
        if files and load_session(files[0]).state.drafts:
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (path,) = unfinished_sessions(sessions_directory())
    saved = load_session(path)
    assert [known.label for known in saved.state.objects] == [1, 2]
    assert len(saved.state.drafts) == 1
    (labels,) = saved.planes.values()
    assert np.unique(labels).tolist() == [0, 1, 2]
    source = ImageSource([Nuclei.read(test_data).image])
    answerer = Answerer(shipped_model(), EmbeddingCache(), lambda sight: show_model(source, sight))
    replayed = list(replay(saved.state, answerer.answer))
    assert len(replayed) == 3
    assert all(entry.is_same for entry in replayed)
