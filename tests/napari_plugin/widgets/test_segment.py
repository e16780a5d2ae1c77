"""What **Segment** says beside the canvas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.napari_plugin.helpers import put_labels
from tests.napari_plugin.segmenting import load

from sam_plugins.napari_plugin.session.files import SavedSession, save_session
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.session.values import Answer, PointPrompt, Sight
from sam_plugins.napari_plugin.widgets.groups import WrappedText
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget

pytestmark = pytest.mark.gui


def test_an_object_prompted_in_two_slices_is_one_object_to_commit(viewer: Any) -> None:
    viewer.add_image(np.zeros((3, 32, 32), np.uint8))
    widget = SegmentWidget(viewer, load=load)
    assert widget.segmenter is not None
    session = widget.segmenter.session

    def say(index: int, *, new_object: bool = False) -> str:
        sight = Sight(Plane((1, 2), (index,)), Window(0, 0, 32, 32))
        draft = session.add_prompts([PointPrompt(5, 5)], sight, new_object=new_object)
        mask = MaskCrop.of(np.ones((8, 8), bool))
        session.set_answer(draft.key, draft.turns, Answer((mask,), (0.9,)))
        return widget.status()

    assert "score 0.90" in say(0)
    assert "more to commit" not in say(1)
    assert "1 more to commit" in say(1, new_object=True)
    widget.controller.close()


def test_a_session_is_discarded_only_when_a_person_says_so(viewer: Any, qtbot: Any) -> None:
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication, QMessageBox, QPushButton

    from sam_plugins.napari_plugin.recovery import sessions_directory

    image = np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8)
    viewer.add_image(image)
    first = SegmentWidget(viewer, load=load)
    assert first.segmenter is not None
    qtbot.waitUntil(lambda: bool(first.controller.recovery._saves), timeout=60_000)
    put_labels(first.segmenter.session, Plane((0, 1), ()), np.ones((32, 32), np.uint32))
    first.controller.close()  # what is saved then is offered to the next one
    (path,) = sessions_directory().glob("*.samsession")
    viewer.layers.clear()
    viewer.add_image(image)
    widget = SegmentWidget(viewer, load=load)
    assert widget.segmenter is not None
    qtbot.waitUntil(lambda: widget._offered is not None, timeout=60_000)
    button = widget.findChild(QPushButton, "discard")
    answers: list[str] = []

    def say(role: Any) -> None:
        """Press a button of the question that is asked."""

        def press() -> None:
            box = QApplication.activeModalWidget()
            assert isinstance(box, QMessageBox)
            answers.append(box.text())
            box.button(role).click()

        QTimer.singleShot(200, press)

    say(QMessageBox.StandardButton.Cancel)
    button.click()
    assert path.exists()
    assert widget._offered is not None
    say(QMessageBox.StandardButton.Discard)
    button.click()
    assert not path.exists()
    assert widget._offered is None
    assert len(answers) == 2
    assert "cannot be undone" in answers[0]
    widget.controller.close()


def test_a_session_that_vanished_meanwhile_is_not_offered(
    viewer: Any, qtbot: Any, tmp_path: Path
) -> None:
    viewer.add_image(np.zeros((32, 32), np.uint8))
    widget = SegmentWidget(viewer, load=load)
    segmenter = widget.segmenter
    assert segmenter is not None
    qtbot.waitUntil(lambda: bool(widget.controller.recovery._saves), timeout=60_000)
    gone, there = tmp_path / "gone.samsession", tmp_path / "there.samsession"
    planes = {Plane((0, 1), ()): np.arange(32 * 32, dtype=np.uint32).reshape(32, 32) % 23}
    save_session(there, SavedSession(segmenter.session.state, (32, 32), "uint32", planes))
    widget.controller.recovery.found.emit(segmenter, [gone])
    assert widget._offered is None
    widget.controller.recovery.found.emit(segmenter, [gone, there])
    assert widget._offered == (segmenter, there)
    assert "22 committed" in widget._offer_label.text()
    widget.controller.close()


def test_wrapped_text_keeps_its_height_in_a_column_that_scrolls(qtbot: Any) -> None:
    from qtpy.QtWidgets import QScrollArea, QVBoxLayout, QWidget

    area, column = QScrollArea(), QWidget()
    qtbot.addWidget(area)
    layout = QVBoxLayout(column)
    text = WrappedText()
    high = QWidget()
    high.setFixedHeight(500)
    layout.addWidget(text)
    layout.addWidget(high)
    area.setWidget(column)
    area.setWidgetResizable(True)
    area.resize(200, 300)
    area.show()
    text.setText("word " * 60)
    qtbot.waitUntil(lambda: text.height() >= text.heightForWidth(text.width()) > 100, timeout=5000)
    text.setText("word")
    qtbot.waitUntil(lambda: text.minimumHeight() < 50, timeout=5000)


def test_buttons_stay_where_they_are_whatever_the_status_says(viewer: Any, qtbot: Any) -> None:
    from qtpy.QtCore import QPoint
    from qtpy.QtWidgets import QApplication, QPushButton

    viewer.add_image(np.zeros((32, 32), np.uint8), name="nuclei of the left kidney, 63x")
    widget = SegmentWidget(viewer, load=load)
    qtbot.addWidget(widget)
    widget.resize(340, 700)
    widget.show()
    qtbot.waitExposed(widget)
    assert widget.segmenter is not None
    session = widget.segmenter.session
    button = widget.findChild(QPushButton, "commit")

    def height() -> int:
        widget._status.setText(widget.status())
        for _ in range(3):  # layouts are made in later turns
            QApplication.processEvents()
        return int(button.mapTo(widget, QPoint(0, 0)).y())

    with_hint = height()
    sight = Sight(Plane((0, 1), ()), Window(0, 0, 32, 32))
    draft = session.add_prompts([PointPrompt(5, 5)], sight)
    mask = MaskCrop.of(np.ones((8, 8), bool))
    session.set_answer(draft.key, draft.turns, Answer((mask,), (0.9,)))
    assert "score 0.90" in widget.status()
    assert height() == with_hint
    draft = session.add_prompts([PointPrompt(5, 5)], sight, new_object=True)
    session.set_answer(draft.key, draft.turns, Answer((mask,) * 3, (0.4, 0.91, 0.625)))
    assert "mask 2 of 3, scores 0.40, [0.91], 0.62; 1 more to commit" in widget.status()
    assert height() == with_hint
    widget.controller.cycle_mask()
    assert "mask 3 of 3, scores 0.40, 0.91, [0.62]" in widget.status()
    widget.controller.toggle_sign()
    assert height() == with_hint
    widget.controller.close()
