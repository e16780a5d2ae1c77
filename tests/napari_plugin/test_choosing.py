"""Masks that are chosen before their answers are there; without a window."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from psygnal import Signal

from sam_plugins.napari_plugin.choosing import MaskChoice
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import ArrayCanvas, Plane, Window
from sam_plugins.napari_plugin.session.session import Session
from sam_plugins.napari_plugin.session.values import Answer, PointPrompt, Sight

SIGHT = Sight(Plane(), Window(0, 0, 16, 16))
MASKS = tuple(MaskCrop.of(np.ones((side, side), bool), (2, 2)) for side in (2, 4, 6))


class Segmenter:
    """What a choice sees of one."""

    changed = Signal()

    def __init__(self) -> None:
        self.session = Session(ArrayCanvas(np.zeros((16, 16), np.uint16)))
        self.viewpoint = SimpleNamespace(wider=lambda *_: None)


def test_masks_may_be_chosen_in_several_answers_that_come_at_once() -> None:
    segmenter: Any = Segmenter()
    session, choice = segmenter.session, MaskChoice(segmenter)
    session.state_changed.connect(choice.on_state)
    for x in (3, 8, 12):
        session.add_prompts([PointPrompt(x, 3)], SIGHT, new_object=True)
        choice.next()
    with session.state_changed.blocked():
        for draft in session.state.drafts[:2]:
            session.set_answer(draft.key, draft.turns, Answer(MASKS, (0.9, 0.5, 0.3)))
        session.drop(session.state.drafts[-1].key)
    session.state_changed.emit()
    assert [draft.choice for draft in session.state.drafts] == [1, 1]
    assert not choice.is_awaited
    assert not choice.is_choosing
