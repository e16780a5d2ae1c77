"""Objects through the slices of a stack, without a window: what counts where, commit, undo."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_plugins.napari_plugin.session.documents import state_from_document, state_to_document
from sam_plugins.napari_plugin.session.followed import (
    DoubtfulSlice,
    End,
    Followed,
    FollowedSlice,
    masks_of,
    object_at,
    object_keys,
)
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import ArrayCanvas, Plane, Window
from sam_plugins.napari_plugin.session.session import Session
from sam_plugins.napari_plugin.session.values import Answer, Draft, MaskPrompt, PointPrompt, Sight

DEPTH, SIDE = 8, 16


def sight(index: int) -> Sight:
    return Sight(Plane((1, 2), (index,)), Window(0, 0, SIDE, SIDE))


def square(top: int, left: int, side: int) -> MaskCrop:
    return MaskCrop.of(np.ones((side, side), bool), (top, left))


def click(session: Session, index: int, mask: MaskCrop, **keywords: Any) -> Draft:
    window = mask.window
    prompt = PointPrompt(window.left, window.top, keywords.pop("is_positive", True))
    draft = session.add_prompts([prompt], sight(index), **keywords)
    assert session.set_answer(draft.key, draft.turns, Answer((mask,), (0.9,), "model"))
    active = session.state.active
    assert active is not None
    return active


def follow(session: Session, key: int, masks: dict[int, MaskCrop]) -> Followed:
    drafts = [draft for draft in session.state.drafts if draft.object_key == key]
    found = Followed(
        key,
        0,
        tuple((draft.key, draft.turns) for draft in drafts),
        tuple(FollowedSlice(Plane((1, 2), (i,)), mask, 0.8) for i, mask in masks.items()),
        (End(-1, "edge of the range"), End(DEPTH, "edge of the range")),
        (DoubtfulSlice(1, 0.4, "confidence 0.40"),),
    )
    session.set_followed([found])
    return found


@pytest.fixture
def session() -> Session:
    return Session(ArrayCanvas(np.zeros((DEPTH, SIDE, SIDE), np.uint16)))


def labels(session: Session) -> Any:
    canvas = session.canvas
    assert isinstance(canvas, ArrayCanvas)
    return canvas.array


def test_a_followed_object_is_one_label_and_one_step(session: Session) -> None:
    first = click(session, 3, square(2, 2, 4))
    follow(session, first.key, {i: square(2, 2, 4 + i) for i in range(1, 6)})
    assert session.commit() == (1,)
    assert [(labels(session)[i] == 1).sum() for i in range(DEPTH)] == [
        0, 25, 36, 49, 64, 81, 0, 0,
    ]  # fmt: skip
    written = labels(session).tobytes()
    (known,) = session.state.objects
    assert known.followed is not None
    assert session.undo() == "commit"
    assert not labels(session).any()
    assert session.undo() == "propagate"
    assert session.state.followed == ()
    session.redo()
    session.redo()
    assert labels(session).tobytes() == written


def test_a_click_on_another_slice_is_about_the_same_object_unless_it_is_a_new_one(
    session: Session,
) -> None:
    first = click(session, 3, square(2, 2, 4))
    second = click(session, 5, square(3, 3, 4))
    third = click(session, 5, square(9, 9, 4), new_object=True)
    assert [first.object_key, second.object_key, third.object_key] == [1, 1, 3]
    assert object_keys(session.state) == (1, 3)
    again = click(session, 3, square(9, 9, 3))  # the active object is the third
    assert again.object_key == 3
    assert session.activate(1)
    back = click(session, 3, square(2, 2, 5))
    assert (back.key, len(back.turns)) == (1, 2)
    assert not session.activate(77)


def test_an_edited_object_that_is_followed_loses_what_it_had(session: Session) -> None:
    session.canvas.write(Plane((1, 2), (2,)), Window(0, 0, 6, 6), np.full((6, 6), 7, np.uint16))
    session.canvas.write(Plane((1, 2), (3,)), Window(0, 0, 6, 6), np.full((6, 6), 7, np.uint16))
    session.reserve_labels(7)
    before = labels(session).tobytes()
    edited = session.edit(7, sight(3))
    click(session, 5, square(9, 9, 2))  # another slice of the same object
    assert session.activate(edited.key)
    click(session, 3, square(2, 2, 2))  # so that the edited draft is the last one
    assert session.state.drafts[-1].key == edited.key
    follow(session, edited.key, {i: square(2, 2, 2) for i in range(2, 6)})
    assert session.commit() == (7,)
    assert [(labels(session)[i] == 7).sum() for i in range(DEPTH)] == [0, 0, 4, 4, 4, 4, 0, 0]
    session.undo()
    assert labels(session).tobytes() == before


def test_slices_that_were_not_followed_are_objects_of_their_own(session: Session) -> None:
    click(session, 3, square(2, 2, 4))
    click(session, 5, square(3, 3, 4))
    assert session.commit() == (1, 2)


def test_what_was_said_since_takes_the_place_of_what_was_found(session: Session) -> None:
    first = click(session, 3, square(2, 2, 4))
    follow(session, first.key, {i: square(2, 2, 6) for i in range(1, 6)})
    assert object_at(session.state, Plane((1, 2), (4,)), 3, 3) == first.key
    assert object_at(session.state, Plane((1, 2), (6,)), 3, 3) is None
    corrected = session.add_prompts([PointPrompt(7, 7, False)], sight(4))
    assert corrected.of == first.key
    assert corrected.prompts[0] == MaskPrompt(square(2, 2, 6))
    assert corrected.mask == square(2, 2, 6)
    session.set_answer(corrected.key, corrected.turns, Answer((square(2, 2, 3),), (0.9,)))
    inside = session.add_prompts([PointPrompt(3, 3)], sight(2))
    assert len(inside.prompts) == 1  # a new beginning
    session.set_answer(inside.key, inside.turns, Answer((square(1, 1, 2),), (0.9,)))
    masks = {plane.at[0]: mask for plane, mask in masks_of(session.state, first.key)}
    assert masks[4] == square(2, 2, 3)
    assert masks[2] == square(1, 1, 2)
    assert masks[3] == square(2, 2, 6)  # what was followed, and not the click itself
    (label,) = session.commit()
    assert (labels(session)[4] == label).sum() == 9
    assert len(session.state.objects) == 3
    session.undo()
    session.drop(inside.key)
    assert session.state.drafts == ()
    assert session.state.followed == ()


def test_a_followed_object_comes_back_from_a_file(session: Session) -> None:
    first = click(session, 3, square(2, 2, 4))
    follow(session, first.key, {i: square(2, 2, 6) for i in range(1, 6)})
    for _ in range(2):
        text = json.dumps(state_to_document(session.state))
        assert state_from_document(json.loads(text)) == session.state
        session.commit()
    old = state_to_document(session.state)
    del old["followed"]
    for entry in old["objects"]:
        del entry["followed"]
    assert state_from_document(old).objects[0].label == 1


def test_what_was_followed_of_a_dropped_object_is_left_out(session: Session) -> None:
    first = click(session, 3, square(2, 2, 4))
    found = follow(session, first.key, {3: square(2, 2, 6)})
    session.clear()
    assert session.state.followed == ()
    assert session.set_followed([found]) == 0


def test_axes_of_planes() -> None:
    plane = Plane((3, 1), (4, 5))
    assert plane.other_axes == (0, 2)
    assert plane.moved(0, 9).at == (9, 5)
    assert plane.index_on(2) == 5
    with pytest.raises(ValueError, match="axis must be one that the plane stands still on"):
        plane.index_on(1)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["click", "new", "follow", "commit", "undo", "redo", "drop", "clear"]),
            st.integers(0, DEPTH - 1),
            st.integers(0, 9),
        ),
        min_size=50,
        max_size=50,
    )
)
def test_fifty_operations_on_a_stack_undone_restore_every_byte(
    done: list[tuple[str, int, int]],
) -> None:
    session = Session(ArrayCanvas(np.zeros((DEPTH, SIDE, SIDE), np.uint16)))
    state, before = session.state, labels(session).tobytes()
    for what, index, place in done:
        active = session.state.active
        if what in ("click", "new"):
            click(session, index, square(place, place, 4), new_object=what == "new")
        elif what == "follow" and active is not None:
            masks = {i: square(place, i, 3) for i in range(index, DEPTH)}
            follow(session, active.object_key, masks)
        elif what == "drop" and active is not None:
            session.drop(active.key)
        elif what == "commit":
            session.commit(overlap="replace" if place > 4 else "keep")
        elif what in ("undo", "redo", "clear"):
            getattr(session, what)()
    after, pixels = session.state, labels(session).tobytes()
    steps = 0
    while session.undo() is not None:
        steps += 1
    assert (session.state, labels(session).tobytes()) == (state, before)
    for _ in range(steps):
        session.redo()
    assert (session.state, labels(session).tobytes()) == (after, pixels)
