"""What is asked of **Segment** in a real window before the model has answered."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from qtpy.QtCore import Qt  # noqa: E402
from tests.napari_plugin.segmenting import (  # noqa: E402
    CTRL,
    SHIFT,
    Hand,
    Nuclei,
    Open,
    answered,
    drafts,
    load_held_back,
    objects,
    until,
)

from sam_plugins.napari_plugin.current_model import current_model  # noqa: E402
from sam_plugins.napari_plugin.params import SegmentParams  # noqa: E402
from sam_plugins.napari_plugin.segmenter import Segmenter  # noqa: E402
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget  # noqa: E402


@pytest.fixture(scope="module")
def nuclei(test_data: Path) -> Nuclei:
    return Nuclei.read(test_data)


@dataclass(frozen=True)
class Held:
    """**Segment** on the nuclei, whose model answers when it may go."""

    widget: SegmentWidget
    hand: Hand
    segmenter: Segmenter
    may_go: threading.Event


@pytest.fixture
def held(viewer: Any, open_segment: Open, nuclei: Nuclei) -> Held:
    may_go = threading.Event()
    viewer.add_image(nuclei.image)
    widget, hand = open_segment(loader=load_held_back(may_go))
    assert widget.segmenter is not None
    return Held(widget, hand, widget.segmenter, may_go)


def test_answers_that_come_too_late_are_dropped(held: Held, nuclei: Nuclei) -> None:
    widget, hand, may_go, asker = held.widget, held.hand, held.may_go, held.segmenter.asker
    hand.click(nuclei.nucleus(0)[1])
    hand.click((3, 3), CTRL)  # the first answer is stale already
    first = drafts(widget)[0].turns[:1]
    may_go.set()
    answered(widget)
    assert drafts(widget)[0].answer == asker.answerer().answer(
        drafts(widget)[0].sight, drafts(widget)[0].turns
    )
    assert drafts(widget)[0].turns[:1] == first
    may_go.clear()
    hand.key(Qt.Key.Key_N)
    hand.click(nuclei.nucleus(1)[1])
    generation = asker.generation
    hand.key(Qt.Key.Key_C, SHIFT)
    may_go.set()
    until(lambda: not asker.is_busy)
    assert drafts(widget) == ()
    widget.controller.set_params(SegmentParams(contrast="layer"))
    assert asker.generation == generation + 1


def test_another_mask_may_be_wanted_before_the_answer_is_there(held: Held, nuclei: Nuclei) -> None:
    widget, hand, may_go = held.widget, held.hand, held.may_go
    hand.click(nuclei.nucleus(0)[1])
    hand.key(Qt.Key.Key_M)
    hand.key(Qt.Key.Key_M)
    assert "Then the next mask" in widget.status()
    hand.key(Qt.Key.Key_N)
    hand.click(nuclei.nucleus(1)[1])
    hand.key(Qt.Key.Key_M)
    hand.click((3, 3), CTRL)  # what was wanted of the answer before is no longer
    may_go.set()
    answered(widget)
    first, second = drafts(widget)
    best = int(np.argmax(first.answer.scores))
    assert first.choice == (best + 2) % 3
    assert second.turns[-1].choice is None
    assert not held.segmenter.choice.is_awaited
    hand.key(Qt.Key.Key_Z, CTRL)
    assert drafts(widget)[0].choice == best


def test_objects_may_be_committed_before_the_answer_is_there(held: Held, nuclei: Nuclei) -> None:
    widget, hand, may_go, segmenter = held.widget, held.hand, held.may_go, held.segmenter
    may_go.set()
    hand.click(nuclei.nucleus(0)[1])
    answered(widget)
    hand.key(Qt.Key.Key_N)
    hand.click(nuclei.nucleus(1)[1])
    answered(widget)
    may_go.clear()
    hand.click((3, 3), CTRL)
    assert widget.controller.commit() == (1,)  # what is answered
    assert len(drafts(widget)) == 1
    assert "Then it is committed." in widget.status()
    hand.click(nuclei.nucleus(2)[1])  # begins another object
    hand.key(Qt.Key.Key_M)
    hand.key(Qt.Key.Key_C)
    params = widget.controller.params
    widget.controller.set_params(replace(params, class_name="another"))
    may_go.set()
    until(lambda: not drafts(widget))
    first, second, third = sorted(segmenter.session.state.objects, key=lambda one: one.key)
    assert np.unique(objects(widget)).tolist() == [0, 1, 2, 3]
    assert {one.class_name for one in (first, second, third)} == {params.class_name}
    assert len(second.turns) == 2
    asked = segmenter.asker.answerer().answer
    assert second.mask == asked(second.sight, second.turns).masks[0]
    assert third.turns[0].choice is not None
    assert "Then it is committed." not in widget.status()
    hand.key(Qt.Key.Key_Z, CTRL)
    assert objects(widget).max() == 2
    hand.key(Qt.Key.Key_C, SHIFT)


def test_a_commit_that_is_waited_for_is_taken_back_or_says_what_is_wrong(
    held: Held, nuclei: Nuclei
) -> None:
    from napari.utils.notifications import notification_manager

    widget, hand, may_go, segmenter = held.widget, held.hand, held.may_go, held.segmenter
    hand.click(nuclei.nucleus(0)[1])
    hand.key(Qt.Key.Key_C)
    hand.click((3, 3), CTRL)  # another prompt for it
    assert not segmenter.committing.is_awaited
    hand.key(Qt.Key.Key_C)
    hand.key(Qt.Key.Key_Z, CTRL)
    assert not segmenter.committing.is_awaited
    hand.click(nuclei.nucleus(0)[1])
    assert len(drafts(widget)) == 1  # it goes on with what is not to be committed any more
    hand.key(Qt.Key.Key_C)
    hand.key(Qt.Key.Key_C, SHIFT)
    assert not segmenter.committing.is_awaited
    hand.click(nuclei.nucleus(0)[1])
    hand.key(Qt.Key.Key_C)
    segmenter.objects.data = segmenter.objects.data.astype(np.uint8)
    segmenter.session.reserve_labels(255)
    may_go.set()
    answered(widget)
    until(lambda: not segmenter.committing.is_awaited)
    assert "a label must lie within 1 and 255" in notification_manager.records[-1].message
    assert len(drafts(widget)) == 1
    assert not objects(widget).any()


def test_another_model_answers_what_the_one_before_had_not(held: Held, nuclei: Nuclei) -> None:
    widget, hand, may_go = held.widget, held.hand, held.may_go
    hand.click(nuclei.nucleus(0)[1])
    current_model().changed.emit(current_model().choice)  # as when a version is promoted
    until(lambda: held.segmenter.asker.generation > 0)
    may_go.set()
    answered(widget)
    (draft,) = drafts(widget)
    assert draft.answer is not None
