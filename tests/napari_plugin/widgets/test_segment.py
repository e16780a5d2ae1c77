"""What **Segment** says beside the canvas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.napari_plugin.segmenting import load

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
