"""What can be done in a session, and that all of it can be undone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_plugins.napari_plugin.session.changes import LabelChange
from sam_plugins.napari_plugin.session.documents import state_to_document
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import ArrayCanvas, Plane, Window
from sam_plugins.napari_plugin.session.session import Session
from sam_plugins.napari_plugin.session.values import (
    Answer,
    BoxPrompt,
    Draft,
    MaskPrompt,
    PointPrompt,
    Sight,
)

SIZE = 24
PLANES = (Plane((1, 2), (0,)), Plane((1, 2), (2,)), Plane((2, 0), (5,)))
SIGHTS = tuple(Sight(plane, Window(0, 0, 3, 3)) for plane in PLANES)


def square(top: int, left: int, side: int) -> MaskCrop:
    return MaskCrop.of(np.ones((side, side), bool), (top, left))


def answered(session: Session, *masks: MaskCrop, scores: tuple[float, ...] = ()) -> None:
    draft = session.state.active
    assert draft is not None
    scores = scores or tuple(0.9 - 0.1 * i for i in range(len(masks)))
    assert session.set_answer(draft.key, draft.turns, Answer(masks, scores, "model"))


@pytest.fixture
def session() -> Session:
    return Session(ArrayCanvas(np.zeros((SIZE, SIZE), np.uint16)))


SIGHT = Sight(Plane(), Window(0, 0, SIZE, SIZE))


def click(session: Session, mask: MaskCrop, **kw: Any) -> Draft:
    draft = session.add_prompts([PointPrompt(1, 1)], SIGHT, **kw)
    answered(session, mask)
    return draft


def labels(session: Session) -> npt.NDArray[Any]:
    return session.canvas.read(SIGHT.plane)


def test_a_click_an_answer_and_a_commit_make_an_object(session: Session) -> None:
    told = []
    session.labels_changed.connect(lambda plane, window: told.append((plane, window)))
    click(session, square(2, 3, 4))
    assert session.commit(class_name="nucleus") == (1,)
    assert np.argwhere(labels(session)).min(0).tolist() == [2, 3]
    assert (labels(session) == 1).sum() == 16
    assert told == [(Plane(), Window(2, 3, 6, 7))]
    (known,) = session.state.objects
    assert (known.class_name, known.model_id, known.score) == ("nucleus", "model", 0.9)
    assert session.state.drafts == ()


def test_the_next_object_starts_from_nothing(session: Session) -> None:
    click(session, square(2, 3, 4))
    session.commit()
    draft = session.add_prompts([PointPrompt(20, 20)], SIGHT)
    assert draft.mask is None
    assert len(draft.prompts) == 1


def test_a_stale_answer_is_dropped(session: Session) -> None:
    first = session.add_prompts([PointPrompt(1, 1)], SIGHT)
    session.add_prompts([PointPrompt(5, 5)], SIGHT)
    assert not session.set_answer(first.key, first.turns, Answer((square(0, 0, 2),), (1.0,)))
    active = session.state.active
    assert active is not None
    assert active.mask is None
    assert session.set_answer(active.key, active.turns, Answer((square(0, 0, 3),), (1.0,)))
    assert not session.set_answer(active.key, active.turns, Answer((square(0, 0, 2),), (1.0,)))


def test_undoing_a_stroke_keeps_the_answer_that_came_after_it(session: Session) -> None:
    draft = session.add_prompts([PointPrompt(1, 1)], SIGHT)
    before = session.canvas.read(SIGHT.plane)
    window = Window(0, 0, *before.shape)
    change = LabelChange.between(SIGHT.plane, window, before, before + 7)
    assert change is not None
    change.redo(session.canvas)
    session.note_written("paint", [change])
    answered(session, square(2, 2, 3))
    seen = session.state.drafts
    assert session.undo() == "paint"
    assert session.state.drafts == seen
    session.undo()
    session.redo()
    assert session.state.drafts == seen
    session.redo()
    assert session.state.drafts == seen
    session.undo()
    session.undo()
    session.add_prompts([PointPrompt(2, 1)], SIGHT)
    assert session.state.active is not None
    assert session.state.active.key == draft.key
    assert session.state.active.answer is None


def test_the_chosen_mask_is_kept_and_committed(session: Session) -> None:
    session.add_prompts([PointPrompt(1, 1)], SIGHT)
    answered(session, square(0, 0, 2), square(0, 0, 4), square(0, 0, 6), scores=(0.3, 0.9, 0.5))
    assert session.cycle() == 2
    assert session.cycle() == 0
    session.undo()
    session.commit()
    assert (labels(session) == 1).sum() == 36
    assert session.state.objects[0].turns[-1].choice == 2


@pytest.mark.parametrize(("overlap", "kept"), [("keep", 16), ("replace", 12)])
def test_overlap(session: Session, overlap: Any, kept: int) -> None:
    click(session, square(0, 0, 4))
    session.commit()
    click(session, square(2, 2, 4))
    session.commit(overlap=overlap)
    assert (labels(session) == 1).sum() == kept
    assert (labels(session) == 2).sum() == 28 - kept


def test_many_boxes_are_many_objects_and_one_step(session: Session) -> None:
    drafts = session.add_objects([BoxPrompt(i, 0, i + 2, 2) for i in (0, 5, 10)], SIGHT)
    for i, draft in enumerate(drafts):
        assert session.set_answer(draft.key, draft.turns, Answer((square(0, 5 * i, 2),), (0.5,)))
    assert session.commit() == (1, 2, 3)
    assert np.unique(labels(session)).tolist() == [0, 1, 2, 3]
    session.undo()
    session.undo()
    assert session.state.drafts == ()
    assert session.undo() is None


def test_what_was_found_is_one_step_and_is_accepted_or_dropped_one_by_one(
    session: Session,
) -> None:
    click(session, square(10, 10, 3))
    before = session.state
    found = [Answer((square(i, 0, 2),), (0.5,), "model") for i in (0, 4, 8)]
    drafts = session.add_found(found, SIGHT)
    assert [draft.answer for draft in drafts] == found
    assert len({draft.key for draft in session.state.drafts}) == 4
    assert session.commit(keys=[drafts[1].key]) == (1,)
    np.testing.assert_array_equal(labels(session), square(4, 0, 2).on(Window(0, 0, SIZE, SIZE)))
    session.drop(drafts[0].key)
    session.drop(drafts[0].key)  # nothing is left to drop: no step
    assert [draft.key for draft in session.state.drafts] == [before.drafts[0].key, drafts[2].key]
    assert [session.undo() for _ in range(3)] == ["drop", "commit", "find"]
    assert session.state == before
    assert session.add_found([], SIGHT) == ()
    assert session.undo_title == "point"


def test_a_second_box_is_another_object_and_a_point_refines_the_last(session: Session) -> None:
    session.add_prompts([BoxPrompt(0, 0, 2, 2)], SIGHT)
    session.add_prompts([BoxPrompt(5, 5, 8, 8)], SIGHT)
    session.add_prompts([PointPrompt(6, 6, False)], SIGHT)
    assert [len(draft.turns) for draft in session.state.drafts] == [1, 2]


def test_classes_are_written_in_semantic_mode(session: Session) -> None:
    for left in (0, 8):
        click(session, square(0, left, 3))
        session.commit(class_label=4, class_name="myelin")
    assert np.unique(labels(session)).tolist() == [0, 4]
    assert len(session.state.objects) == 2


def test_an_edited_object_keeps_its_number_and_loses_what_it_had(session: Session) -> None:
    session.canvas.write(Plane(), Window(4, 4, 10, 10), np.full((6, 6), 7, np.uint16))
    session.reserve_labels(7)
    draft = session.edit(7, SIGHT)
    assert draft.prompts == (MaskPrompt(square(4, 4, 6)),)
    click(session, square(5, 5, 2))
    assert session.commit() == (7,)
    assert (labels(session) == 7).sum() == 4
    session.undo()
    assert (labels(session) == 7).sum() == 36
    click(session, square(0, 0, 2), new_object=True)
    assert 8 in session.commit()


def test_a_number_that_another_tool_took_is_not_given_again(session: Session) -> None:
    click(session, square(1, 1, 2))
    session.reserve_labels(7)  # painted by hand after the first step
    assert session.undo() == "point"
    click(session, square(3, 3, 2))
    assert session.commit() == (8,)
    session.reserve_labels(9)
    session.undo()
    session.undo()
    session.redo()
    assert session.state.next_label == 10
    click(session, square(8, 8, 2), new_object=True)
    assert session.commit() == (10, 11)


def test_merge_split_fill_delete(session: Session) -> None:
    ring = square(0, 0, 5).mask
    ring[2, 2] = False
    click(session, MaskCrop.of(ring))
    session.commit()
    click(session, square(0, 10, 3))
    session.commit()
    session.fill(1, Plane())
    assert (labels(session) == 1).sum() == 25
    assert session.merge([1, 2], Plane()) == 1
    assert np.unique(labels(session)).tolist() == [0, 1]
    assert session.split(1, Plane()) == (1, 3)
    assert (labels(session) == 3).sum() == 9
    assert session.split(1, Plane(), [(0, 2), (4, 2)]) == (1, 4)
    assert (labels(session) == 4).sum() + (labels(session) == 1).sum() == 25
    session.delete(3, Plane())
    assert np.unique(labels(session)).tolist() == [0, 1, 4]
    for _ in range(5):
        session.undo()
    assert np.unique(labels(session)).tolist() == [0, 1, 2]


def test_an_object_is_deleted_on_all_slices_as_one_step() -> None:
    stack = np.zeros((6, 9, 9), np.uint16)
    stack[1:5, 2:6, 2:6] = 3
    stack[3, 3, 3] = 7
    before = stack.copy()
    session = Session(ArrayCanvas(stack))
    session.delete(3, [Plane((1, 2), (index,)) for index in range(6)])
    assert np.unique(stack).tolist() == [0, 7]
    assert session.undo() == "delete"
    np.testing.assert_array_equal(stack, before)
    session.delete(3, Plane((1, 2), (2,)))
    assert not stack[2].any()
    np.testing.assert_array_equal(stack[[1, 3, 4]], before[[1, 3, 4]])


def test_objects_are_merged_and_filled_on_all_slices_as_one_step() -> None:
    stack = np.zeros((6, 9, 9), np.uint16)
    stack[1:5, 2:6, 2:6] = 3
    stack[1:3, 3, 3] = 0
    stack[2:, :2, :2] = 7
    stack[0, 8, 8] = 9
    before = stack.copy()
    session = Session(ArrayCanvas(stack))
    planes = [Plane((1, 2), (index,)) for index in range(6)]
    assert session.merge([3, 7], planes) == 3
    np.testing.assert_array_equal(stack == 3, (before == 3) | (before == 7))
    np.testing.assert_array_equal(stack == 9, before == 9)
    session.fill(3, planes)
    assert (stack[1:5, 2:6, 2:6] == 3).all()
    assert [session.undo(), session.undo()] == ["fill", "merge"]
    np.testing.assert_array_equal(stack, before)
    session.merge([3, 7], planes[2])
    np.testing.assert_array_equal(stack[3:], before[3:])


def test_what_cannot_be_done_says_why(session: Session) -> None:
    click(session, square(0, 0, 5))
    session.commit()
    with pytest.raises(ValueError, match=r"pixels of the object 9 to delete, got none"):
        session.delete(9, Plane())
    with pytest.raises(ValueError, match=r"pixels of the object 9 to fill, got none"):
        session.fill(9, Plane())
    with pytest.raises(ValueError, match=r"pixels of the object 9 in this plane, got none"):
        session.edit(9, SIGHT)
    with pytest.raises(ValueError, match=r"pixels of the object 9 to merge, got none"):
        session.merge([1, 9], Plane())
    with pytest.raises(ValueError, match=r"set a point in each part"):
        session.split(1, Plane())
    with pytest.raises(ValueError, match=r"two points or more, one in each part, got 1"):
        session.split(1, Plane(), [(1, 1)])
    with pytest.raises(ValueError, match=r"merging needs two objects or more, got 1"):
        session.merge([1, 1], Plane())
    with pytest.raises(ValueError, match=r"at least one prompt, got none"):
        session.add_prompts([], SIGHT)
    small = Session(ArrayCanvas(np.zeros((SIZE, SIZE), np.uint8)))
    small.reserve_labels(255)
    click(small, square(0, 0, 5))
    with pytest.raises(ValueError, match=r"1 and 255, which is what uint8 can hold, got 256"):
        small.commit()
    assert small.state.active is not None


# ------------------------------------------------------------------------ undo, for any session

small = st.integers(0, 4)


def fingerprint(session: Session) -> bytes:
    """Return every byte of a session."""
    assert isinstance(session.canvas, ArrayCanvas)
    pixels: bytes = session.canvas.array.tobytes()
    return json.dumps(state_to_document(session.state)).encode() + pixels


def present(session: Session, sight: Sight) -> list[int]:
    return [int(value) for value in np.unique(session.canvas.read(sight.plane)) if value]


def any_label(session: Session, sight: Sight, a: int) -> int:
    there = present(session, sight)
    return there[a % len(there)] if there else 1


def stack(sight: Sight) -> list[Plane]:
    return [sight.plane.moved(sight.plane.other_axes[0], index) for index in range(9)]


def answer(session: Session, a: int, b: int, c: int) -> None:
    active = session.state.active
    if active is not None:
        made = tuple(square(b + i, a, 1 + c) for i in range(1 + 2 * (a % 2)))
        scores = (0.1, 0.5, 0.3)[: len(made)]
        session.set_answer(active.key, active.turns, Answer(made, scores))


Operation = Callable[[Session, Sight, int, int, int], object]
OPERATIONS: dict[str, Operation] = {
    "point": lambda s, sight, a, b, c: s.add_prompts(
        [PointPrompt(a, b, c > 0)], sight, new_object=b == 0
    ),
    "box": lambda s, sight, a, b, c: s.add_prompts([BoxPrompt(a, b, a + 2, b + 2)], sight),
    "boxes": lambda s, sight, a, b, c: s.add_objects(
        [BoxPrompt(i, b, i + 2, b + 2) for i in range(a)], sight
    ),
    "found": lambda s, sight, a, b, c: s.add_found(
        [Answer((square(b + i, c, 2),), (0.5,)) for i in range(a)], sight
    ),
    "drop": lambda s, sight, a, b, c: s.drop(a),
    "accept": lambda s, sight, a, b, c: s.commit(keys=[a, b]),
    "answer": lambda s, sight, a, b, c: answer(s, a, b, c),
    "cycle": lambda s, sight, a, b, c: s.cycle(),
    "commit": lambda s, sight, a, b, c: s.commit(),
    "replace": lambda s, sight, a, b, c: s.commit(overlap="replace"),
    "semantic": lambda s, sight, a, b, c: s.commit(class_label=a + 1),
    "clear": lambda s, sight, a, b, c: s.clear(),
    "edit": lambda s, sight, a, b, c: s.edit(any_label(s, sight, a), sight),
    "delete": lambda s, sight, a, b, c: s.delete(any_label(s, sight, a), sight.plane),
    "delete through": lambda s, sight, a, b, c: s.delete(any_label(s, sight, a), stack(sight)),
    "merge": lambda s, sight, a, b, c: s.merge(present(s, sight)[:3], sight.plane),
    "merge through": lambda s, sight, a, b, c: s.merge(
        [any_label(s, sight, a), any_label(s, SIGHTS[b % 3], c)], stack(sight)
    ),
    "split": lambda s, sight, a, b, c: s.split(
        any_label(s, sight, a), sight.plane, [(a, b), (b, c)] if c else ()
    ),
    "fill": lambda s, sight, a, b, c: s.fill(any_label(s, sight, a), sight.plane),
    "fill through": lambda s, sight, a, b, c: s.fill(any_label(s, sight, a), stack(sight)),
    "undo": lambda s, sight, a, b, c: s.undo(),
    "redo": lambda s, sight, a, b, c: s.redo(),
}
operations = st.lists(
    st.tuples(st.sampled_from(sorted(OPERATIONS)), small, small, small), min_size=50, max_size=50
)


@given(operations)
@settings(max_examples=60, deadline=None)
def test_fifty_operations_undone_restore_every_byte(done: list[tuple[str, int, int, int]]) -> None:
    rng = np.random.default_rng(0)
    start = rng.integers(1, 9, (9, 9, 9), np.uint16)
    start[rng.random(start.shape) < 0.9] = 0
    session = Session(ArrayCanvas(start))
    session.reserve_labels(int(start.max()))
    before = fingerprint(session)
    for what, a, b, c in done:
        with contextlib.suppress(ValueError):  # no such object, nothing to split
            OPERATIONS[what](session, SIGHTS[c % 3], a, b, c)
    after, undone, redone = fingerprint(session), 0, 0
    while session.undo() is not None:
        undone += 1
    assert fingerprint(session) == before
    while session.redo() is not None:
        redone += 1
    assert redone >= undone
    if not any(what in {"undo", "redo"} for what, *_ in done):
        assert redone == undone
        assert fingerprint(session) == after
