"""Session files: complete or not at all, found again after a crash, and asked again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam_plugins.napari_plugin.session.autosave import (
    Autosave,
    forget_session,
    note_offered,
    renew_session,
    unfinished_sessions,
)
from sam_plugins.napari_plugin.session.files import (
    ImageNote,
    SavedSession,
    SessionFileError,
    SessionWriter,
    load_session,
    save_session,
)
from sam_plugins.napari_plugin.session.followed import Followed
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import ArrayCanvas, Plane, Window
from sam_plugins.napari_plugin.session.replay import replay
from sam_plugins.napari_plugin.session.session import Session
from sam_plugins.napari_plugin.session.values import (
    Answer,
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    SegmentedObject,
    Sight,
    State,
    Turn,
)

PLANE = Plane((1, 2), (3,))
SIGHT = Sight(PLANE, Window(0, 0, 16, 16), 1, (("red", 0), ("cyan", 3)), ((0.5, 9.0), (1.0, 2.0)))
NOTE = ImageNote("cells", "/data/cells.tif", (5, 16, 16), "abc")


def square(top: int, left: int, side: int) -> MaskCrop:
    return MaskCrop.of(np.ones((side, side), bool), (top, left))


def answer_of(sight: Sight, turns: tuple[Turn, ...]) -> Answer:
    """Answer points by squares around them: a stand-in with no state of its own."""
    point = next(p for turn in turns for p in turn.prompts if isinstance(p, PointPrompt))
    sides = (2, 4, 6) if len(turns) == 1 else (3 + len(turns),)
    crops = tuple(square(round(point.y), round(point.x), side) for side in sides)
    return Answer(crops, (0.2, 0.8, 0.5)[: len(crops)], "model")


def say(session: Session, *prompts: PointPrompt | BoxPrompt) -> None:
    draft = session.add_prompts(prompts, SIGHT)
    session.set_answer(draft.key, draft.turns, answer_of(SIGHT, draft.turns))


@pytest.fixture
def session() -> Session:
    session = Session(ArrayCanvas(np.zeros((5, 16, 16), np.uint32)))
    say(session, PointPrompt(3, 4))
    session.cycle()
    session.commit(class_name="nucleus")
    say(session, PointPrompt(8.25, 9), PointPrompt(1, 2, False))
    say(session, PointPrompt(8, 8))
    return session


def saved(session: Session) -> SavedSession:
    planes = {plane: session.canvas.read(plane) for plane in session.touched_planes}
    return SavedSession(session.state, (5, 16, 16), "uint32", planes, NOTE, "default", {"a": 1})


def test_a_session_comes_back_as_it_was(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "a.samsession"
    save_session(path, saved(session))
    back = load_session(path)
    assert back.state == session.state
    assert (back.image, back.model, back.parameters) == (NOTE, "default", {"a": 1})
    canvas = ArrayCanvas(np.zeros((5, 16, 16), np.uint32))
    back.write_labels(canvas)
    np.testing.assert_array_equal(canvas.array, session.canvas.array)  # type: ignore[attr-defined]
    save_session(tmp_path / "b.samsession", saved(session))
    assert path.read_bytes() == (tmp_path / "b.samsession").read_bytes()


def test_an_edited_object_and_an_open_question_come_back(session: Session, tmp_path: Path) -> None:
    session.edit(1, SIGHT)
    session.add_prompts([BoxPrompt(0, 0, 3, 3)], SIGHT)
    active = session.state.active
    assert active is not None
    assert active.answer is None
    assert isinstance(active.prompts[0], MaskPrompt)
    save_session(tmp_path / "a.samsession", saved(session))
    assert load_session(tmp_path / "a.samsession").state == session.state


def test_objects_are_counted_wherever_they_came_from(session: Session) -> None:
    kept = saved(session)
    labels = {label for plane in kept.planes.values() for label in np.unique(plane) if label}
    assert kept.count_objects() == len(labels) > 0
    plane, there = next(iter(kept.planes.items()))
    added = there.copy()
    added[-1, -2:] = 90, 91  # no prompt led to these
    assert replace(kept, planes={**kept.planes, plane: added}).count_objects() == len(labels) + 2
    blank = {plane: np.zeros_like(there) for plane in kept.planes}
    assert replace(kept, planes=blank).count_objects() == 0  # deleted


def test_objects_of_a_class_and_prompted_slices_are_counted_as_objects(session: Session) -> None:
    known = session.state.objects[0]
    second, third = replace(known, key=1002), replace(known, key=1003)
    labels = {known.sight.plane: np.full((16, 16), known.label, np.uint32)}
    kept = replace(saved(session), planes=labels)

    def count(*objects: SegmentedObject) -> int:
        return replace(kept, state=State(objects=objects)).count_objects()

    assert count(known, second, third) == 3
    followed = Followed(known.key, 0, ((known.key, ()), (1002, ())), ())
    assert count(replace(known, followed=followed), second, third) == 2


def test_other_labels_are_refused(session: Session) -> None:
    with pytest.raises(SessionFileError, match=r"labels of shape \(5, 16, 16\), got \(4, 4\)"):
        saved(session).write_labels(ArrayCanvas(np.zeros((4, 4), np.uint32)))


def test_labels_that_cannot_hold_the_numbers_are_refused_as_they_are() -> None:
    large = np.full((4, 4), 300, np.uint16)
    one, other = Plane((1, 2), (0,)), Plane((1, 2), (1,))
    kept = SavedSession(State(), (2, 4, 4), "uint16", {one: large // 300, other: large})
    small = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(SessionFileError, match=r"number 300, but .* uint8 .* up to 255"):
        kept.write_labels(ArrayCanvas(small))
    assert not small.any()


def test_only_planes_that_changed_are_packed_again(session: Session, tmp_path: Path) -> None:
    writer = SessionWriter(tmp_path / "a.samsession")
    assert writer.stale_planes(session.touched_planes) == [PLANE]
    writer.write(saved(session), session.touched_planes)
    assert writer.stale_planes(session.touched_planes) == []
    session.commit()
    assert writer.stale_planes(session.touched_planes) == [PLANE]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK nonsense", r"is no session file, or is damaged"),
        ({"format": "other"}, r"must be a session of sam_plugins, got another document"),
        ({"format": "sam_plugins session", "version": 99}, r"is of version 99, .* reads up to 1"),
        ({"format": "sam_plugins session", "version": 1}, r"is damaged \(KeyError"),
    ],
)
def test_what_is_no_session_is_refused(
    content: bytes | dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.samsession"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("session.json", json.dumps(content))
    with pytest.raises(SessionFileError, match=message):
        load_session(path)


def test_a_missing_session_is_said(tmp_path: Path) -> None:
    with pytest.raises(SessionFileError, match=r"cannot read the session .*No such file"):
        load_session(tmp_path / "none.samsession")


def test_the_same_prompts_give_the_same_masks(session: Session) -> None:
    replayed = list(replay(session.state, answer_of))
    assert [entry.key for entry in replayed] == [1, 2]
    assert all(entry.is_same for entry in replayed)


def test_another_model_is_told(session: Session) -> None:
    def other(sight: Sight, turns: tuple[Turn, ...]) -> Answer:
        return Answer((square(0, 0, 1),), (1.0,))

    assert not any(entry.is_same for entry in replay(session.state, other))


def test_a_session_is_saved_by_itself_and_offered_later(session: Session, tmp_path: Path) -> None:
    autosave = Autosave(session, tmp_path, NOTE, lambda: ("default", {}), seconds=0.05)
    session.commit()
    autosave.save_soon()
    deadline = time.monotonic() + 10
    while not autosave.path.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert load_session(autosave.path).state == session.state
    assert unfinished_sessions(tmp_path) == []  # we are alive
    autosave.close()
    assert unfinished_sessions(tmp_path, image=NOTE) == [autosave.path]
    assert unfinished_sessions(tmp_path, image=ImageNote("cells", None, (5, 16, 16), "other")) == []
    forget_session(autosave.path)
    assert unfinished_sessions(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_only_sessions_that_were_offered_are_removed_to_save_space(
    session: Session, tmp_path: Path
) -> None:
    saved = SavedSession(session.state, (5, 16, 16), "uint32", {}, NOTE)
    offered = [tmp_path / f"offered{number:02}.samsession" for number in range(23)]
    others = [tmp_path / f"other{number:02}.samsession" for number in range(23)]
    for number, path in enumerate([*others, *offered]):
        save_session(path, saved)
        os.utime(path, (number, number))
        if path in offered:
            note_offered(path)
    Autosave(session, tmp_path, NOTE, lambda: ("", {})).close()
    left = sorted(tmp_path.glob("*.samsession"))
    assert left == sorted([*offered[3:], *others])
    assert len(list(tmp_path.glob("*.offered"))) == 20


def test_sessions_of_several_folders_are_offered(session: Session, tmp_path: Path) -> None:
    saved = SavedSession(session.state, (5, 16, 16), "uint32", {}, NOTE)
    paths = [tmp_path / name / "left.samsession" for name in ("new", "old")]
    for number, path in enumerate(paths):
        path.parent.mkdir()
        save_session(path, saved)
        os.utime(path, (number, number))
    found = unfinished_sessions(*(path.parent for path in paths), tmp_path / "none", image=NOTE)
    assert found == paths[::-1]


@pytest.mark.parametrize("is_half_done", [False, True])
def test_what_is_saved_is_of_one_moment(tmp_path: Path, is_half_done: bool) -> None:
    """A commit ends while pixels are read, or has written its pixels and not yet ended."""
    session = Session(ArrayCanvas(np.zeros((5, 16, 16), np.uint32)))
    session.touch(PLANE)
    autosave = Autosave(session, tmp_path, NOTE, lambda: ("default", {}), seconds=60)
    say(session, PointPrompt(3, 4))
    read, begun = session.canvas.read, threading.Event()

    def interrupted(plane: Plane, window: Window | None = None) -> Any:
        if begun.is_set():
            return read(plane, window)
        begun.set()
        if is_half_done:
            become = session._become

            def late(*arguments: Any) -> None:
                threading.Timer(0.03, become, arguments).start()

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(session, "_become", late)
                session.commit()
            return read(plane, window)
        before = read(plane, window)
        session.commit()
        return before

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.canvas, "read", interrupted)
        autosave.save_now()
    (path,) = tmp_path.glob("*.samsession")
    found = load_session(path)
    assert [one.label for one in found.state.objects] == [1]
    assert found.planes[PLANE].max() == 1
    autosave.close()


def test_a_session_without_anything_in_it_leaves_no_file(tmp_path: Path) -> None:
    empty = Session(ArrayCanvas(np.zeros((4, 4), np.uint8)))
    Autosave(empty, tmp_path, None, lambda: ("", {})).close()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_told_once(session: Session, tmp_path: Path) -> None:
    told: list[Exception] = []
    folder = tmp_path / "sessions"
    autosave = Autosave(session, folder, None, lambda: ("", {}), seconds=0.01, on_error=told.append)
    autosave.path.mkdir()  # a folder where the file should be
    session.commit()
    deadline = time.monotonic() + 10
    while not told and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    autosave.close()
    assert len(told) == 1
    assert "a folder of that name exists" in str(told[0])


def test_saving_goes_on_after_any_failure(session: Session, tmp_path: Path) -> None:
    told: list[Exception] = []
    is_broken = True

    def describe() -> tuple[str, dict[str, Any]]:
        if is_broken:
            raise RuntimeError("the layer is gone")
        return "", {}

    autosave = Autosave(session, tmp_path, NOTE, describe, seconds=0.01, on_error=told.append)
    session.commit()
    deadline = time.monotonic() + 10
    while not told and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert [str(error) for error in told] == ["the layer is gone"]
    is_broken = False
    while not autosave.path.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert load_session(autosave.path).state == session.state
    is_broken = True
    session.undo()
    autosave.close()
    assert unfinished_sessions(tmp_path, image=NOTE) == [autosave.path]  # it is not locked any more


KILLED = """
import sys, numpy as np
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.napari_plugin.session.test_files import NOTE, say
from sam_plugins.napari_plugin.session.autosave import Autosave
from sam_plugins.napari_plugin.session.planes import ArrayCanvas
from sam_plugins.napari_plugin.session.session import Session
from sam_plugins.napari_plugin.session.values import PointPrompt
session = Session(ArrayCanvas(np.zeros((5, 16, 16), np.uint32)))
autosave = Autosave(session, Path(sys.argv[1]), NOTE, lambda: ("default", {{}}), seconds=0.01)
number = 0
while True:
    number += 1
    say(session, PointPrompt(number % 9, number % 7))
    session.commit(overlap="replace")
    autosave.save_soon()
    if number == 30:
        print("working", flush=True)
"""


def test_kill_9_loses_nothing_that_was_saved(tmp_path: Path, repository: Path) -> None:
    code = KILLED.format(root=str(repository))
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=repository
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"working\n"
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob("*.samsession")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert unfinished_sessions(tmp_path, image=NOTE) == []
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (path,) = unfinished_sessions(tmp_path, image=NOTE)
    back = load_session(path)
    assert len(back.state.objects) > 0
    assert back.planes[PLANE].max() == max(known.label for known in back.state.objects)
    assert all(entry.is_same for entry in replay(back.state, answer_of))


def test_a_state_is_a_value() -> None:
    assert State() == State()


def test_planes_that_cross_come_back_as_the_labels_were(tmp_path: Path) -> None:
    labels = np.zeros((5, 16, 16), np.uint32)
    session = Session(ArrayCanvas(labels))
    autosave = Autosave(session, tmp_path, NOTE, lambda: ("", {}), seconds=60)
    other = Plane((0, 2), (4,))
    for number, plane in enumerate((PLANE, other, PLANE), start=1):
        plane.put(labels, Window(0, 0, *plane.size_hw(labels.shape)), np.uint32(number))  # type: ignore[arg-type]
        session.touch(plane)
        autosave.save_now()
    autosave.close()
    back = np.zeros_like(labels)
    load_session(autosave.path).write_labels(ArrayCanvas(back))
    np.testing.assert_array_equal(back, labels)


def test_what_others_change_without_a_word_is_saved_once_it_is_looked_for(tmp_path: Path) -> None:
    labels = np.zeros((5, 16, 16), np.uint32)
    session = Session(ArrayCanvas(labels))
    autosave = Autosave(session, tmp_path, NOTE, lambda: ("", {}), seconds=60)
    session.watch([PLANE])
    labels[3] = 7
    session.suspect()
    autosave.save_now()
    np.testing.assert_array_equal(load_session(autosave.path).planes[PLANE], labels[3])
    before = autosave.path.stat().st_mtime_ns
    session.suspect()
    autosave.save_now()
    assert autosave.path.stat().st_mtime_ns == before
    assert session.touched_planes == {PLANE: 1}
    autosave.close()


def test_looking_for_changes_copies_no_plane(tmp_path: Path) -> None:
    labels = np.arange(1 << 20, dtype=np.uint32).reshape(1024, 1024)
    writer = SessionWriter(tmp_path / "a.samsession")
    writer.write(SavedSession(State(), (1024, 1024), "uint32", {Plane(): labels}))
    tracemalloc.start()
    try:
        assert writer.is_written(Plane(), labels)
        assert not writer.is_written(Plane(), labels.T)
        assert writer.is_written(Plane(), labels)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        assert writer.is_written(Plane(), labels)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most - before < labels.nbytes // 4


def test_what_comes_to_be_suspect_while_others_look_stays_so() -> None:
    session = Session(ArrayCanvas(np.zeros((5, 16, 16), np.uint32)))
    session.watch([PLANE])

    def looks() -> bool:
        session.look_with(lambda: False)
        assert session.take_suspects() == ()  # another thread, which has asked already
        session.suspect()
        return False

    session.look_with(looks)
    assert session.take_suspects() == (PLANE,)
    assert session.take_suspects() == ()


def test_a_session_that_is_offered_is_none_of_those_that_are_too_many(
    session: Session, tmp_path: Path
) -> None:
    for age in range(30):
        path = tmp_path / f"{age}.samsession"
        save_session(path, saved(session))
        os.utime(path, (1e9 - age, 1e9 - age))
        note_offered(path)
    renew_session(path)
    renew_session(tmp_path / "gone.samsession")
    Autosave(session, tmp_path, NOTE, lambda: ("", {})).close()
    assert path.exists()
    assert len(list(tmp_path.glob("*.samsession"))) == 20
