"""What was found comes into the labels, with undo, and not at all when it is cancelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sam_plugins.napari_plugin.adding import Addition, Writing, find_addition
from sam_plugins.napari_plugin.jobs import JobCancelled, JobProgress
from sam_plugins.napari_plugin.session.planes import ArrayCanvas, Plane, Window
from sam_plugins.napari_plugin.session.session import Session

PLACES = [(Plane(), Window(0, 0, 4, 4)), (Plane(), Window(0, 4, 4, 8))]


def shown_and_there(dtype: Any = np.uint16) -> tuple[Any, Any]:
    """Return three found objects, the second of which is there already, as object 7."""
    shown = np.zeros((4, 8), np.uint32)
    shown[0, 2:6], shown[2, :3], shown[3, 5:] = 1, 2, 3
    there = np.zeros((4, 8), dtype)
    there[2, :2] = 7
    there[0, 5] = 7
    return shown, there


def find(shown: Any, there: Any, first: int = 1) -> Addition:
    progress = JobProgress(lambda kind, value: None)
    return find_addition(shown, there, PLACES, 4, first, progress=progress)


def test_new_objects_get_one_number_across_parts_and_leave_older_ones() -> None:
    shown, there = shown_and_there()
    untouched = there.copy()
    addition = find(shown, there)
    assert np.array_equal(there, untouched)  # nothing is written yet
    assert (addition.count, addition.largest) == (2, 9)
    canvas = ArrayCanvas(there)
    for change in addition.changes:
        change.redo(canvas)
    expected = untouched.copy()
    expected[0, 2:5], expected[3, 5:] = 8, 9
    assert np.array_equal(there, expected)


def test_numbers_begin_where_they_are_told_to() -> None:
    assert find(*shown_and_there(), first=40).largest == 41


def test_numbers_that_do_not_fit_are_refused() -> None:
    shown, there = shown_and_there(np.uint8)
    there[3, 0] = 255
    with pytest.raises(ValueError, match="255"):
        find(shown, there)


def test_cancelling_ends_it_before_anything_is_written() -> None:
    shown, there = shown_and_there()
    untouched = there.copy()
    progress = JobProgress(lambda kind, value: None)
    progress.cancel()
    with pytest.raises(JobCancelled):
        find_addition(shown, there, PLACES, 4, 1, progress=progress)
    assert np.array_equal(there, untouched)


@pytest.mark.gui
def test_a_session_undoes_and_redoes_all_of_it_at_once(qtbot: Any) -> None:
    shown, there = shown_and_there()
    untouched = there.copy()
    session = Session(ArrayCanvas(there))
    told: list[bool] = []
    addition = find(shown, there)
    writing = Writing(addition, session.canvas, session, lambda: told.append(True))
    qtbot.waitUntil(lambda: bool(told))
    written = there.copy()
    assert (written != untouched).sum() == 6
    assert session.state.next_label == 10  # what is committed next is another object
    assert session.undo() == "add what was found"
    assert np.array_equal(there, untouched)
    session.redo()
    assert np.array_equal(there, written)
    del writing


@pytest.mark.gui
def test_who_leaves_lets_the_rest_be_written_and_is_not_told(qtbot: Any) -> None:
    shown, there = shown_and_there()
    session = Session(ArrayCanvas(there))
    told: list[bool] = []
    writing = Writing(find(shown, there), session.canvas, session, lambda: told.append(True))
    writing.finish()
    assert (there > 7).sum() == 6
    qtbot.wait(50)
    assert not told
    assert session.undo_title == "add what was found"
