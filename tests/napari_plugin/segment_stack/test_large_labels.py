"""Labels of large stacks lie in a file, which is kept and gone on with."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from qtpy.QtCore import Qt  # noqa: E402
from qtpy.QtWidgets import QFileDialog, QLabel, QPushButton  # noqa: E402
from tests.napari_plugin.helpers import keep_screenshot, put_labels  # noqa: E402
from tests.napari_plugin.segment_stack.following import Labels, is_following, start  # noqa: E402
from tests.napari_plugin.segmenting import CTRL, SHIFT, Open, iou, objects, until  # noqa: E402

from sam_plugins.napari_plugin.label_arrays import create_labels, largest_label  # noqa: E402
from sam_plugins.napari_plugin.layers import add_labels  # noqa: E402
from sam_plugins.napari_plugin.samples import nuclei_3d  # noqa: E402
from sam_plugins.napari_plugin.session.planes import Plane  # noqa: E402


def test_a_large_stack_is_written_to_a_chunked_file(
    viewer: Any,
    open_segment: Open,
    embryo: tuple[Any, Labels],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sam_plugins.napari_plugin.label_arrays.LARGEST_IN_MEMORY", 1000)
    widget, hand, truth = start(viewer, open_segment, embryo)
    layer = widget.segmenter.objects  # type: ignore[union-attr]
    assert isinstance(layer.data, zarr.Array)
    assert layer.data.chunks[0] == 1
    hand.key(Qt.Key.Key_P)
    until(lambda: not is_following(widget))
    hand.key(Qt.Key.Key_C)
    committed = objects(widget)
    assert iou(committed == 1, truth) > 0.7
    hand.key(Qt.Key.Key_Z, CTRL)
    assert not objects(widget).any()
    hand.key(Qt.Key.Key_Z, CTRL | SHIFT)
    assert objects(widget).tobytes() == committed.tobytes()


def test_large_labels_are_offered_to_be_kept_and_their_numbers_stay_apart(
    viewer: Any, qtbot: Any, open_segment: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sam_plugins.napari_plugin.label_arrays.LARGEST_IN_MEMORY", 1000)
    volume = nuclei_3d()[0][0][:12]
    viewer.add_image(volume, name="nuclei")
    viewer.dims.set_point(0, 5)
    widget, hand = open_segment()
    segmenter = widget.segmenter
    assert segmenter is not None
    assert widget.stored_labels.isVisible()
    plane = Plane((1, 2), (5,))
    put_labels(segmenter.session, plane, (volume[5] > 200).astype(np.uint32) * 41)
    path = tmp_path / "kept.zarr"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    button = widget.findChild(QPushButton, "keep_labels")
    assert button is not None
    keep_screenshot(viewer, qtbot, "large-labels")
    button.click()
    segmenter.session.delete(41, plane)  # while they are being copied
    until(lambda: segmenter.stored.path == path)
    assert not segmenter.stored.is_temporary
    kept = zarr.open_array(path, mode="r")
    assert not np.asarray(kept[:]).any()
    hand.key(Qt.Key.Key_Z, CTRL)
    assert np.unique(np.asarray(kept[5])).tolist() == [0, 41]
    until(button.isHidden)
    label = widget.stored_labels.findChild(QLabel)
    assert label is not None
    assert "kept.zarr" in label.text()

    widget.controller.close()  # the next day
    viewer.layers.clear()
    image = viewer.add_image(volume, name="nuclei")
    add_labels(viewer, image, "objects", data=zarr.open_array(path, mode="r+"))
    widget, hand = open_segment()
    assert widget.segmenter is not None
    session = widget.segmenter.session
    until(lambda: session.state.next_label == 42)


def test_nothing_is_committed_before_the_numbers_of_a_file_are_known(
    viewer: Any, open_segment: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.utils.notifications import notification_manager

    labels = create_labels(tmp_path / "known.zarr", (4, 64, 64))
    labels[2, :9, :9] = 17
    goes_on = threading.Event()

    def slow(*given: Any) -> int:
        assert goes_on.wait(20)
        return largest_label(*given)

    monkeypatch.setattr("sam_plugins.napari_plugin.stored_labels.largest_label", slow)
    image = viewer.add_image(np.zeros((4, 64, 64), np.uint8))
    add_labels(viewer, image, "objects", data=labels)
    widget, _ = open_segment()
    assert widget.controller.commit() == ()
    assert "still being counted" in notification_manager.records[-1].message
    goes_on.set()
    assert widget.segmenter is not None
    session = widget.segmenter.session
    until(lambda: session.state.next_label == 18)
