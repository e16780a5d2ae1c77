"""Complete files or none."""

from __future__ import annotations

import errno
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sam_plugins.errors import OutputError
from sam_plugins.model.io import atomic
from sam_plugins.model.io.atomic import (
    atomic_path,
    files_together,
    make_folder,
    output_error,
    remove_leftovers,
    require_writable,
    require_writable_folder,
    write_bytes,
)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half of the n")
        raise error


def test_a_file_is_written(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert files_in(tmp_path) == ["a.txt"]


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a much longer old content")
    write_bytes(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError, MemoryError])
def test_nothing_is_left_behind_when_interrupted(
    tmp_path: Path, error: type[BaseException]
) -> None:
    (tmp_path / "a.txt").write_bytes(b"old")
    with pytest.raises(error):
        write_half(tmp_path / "a.txt", error())
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert files_in(tmp_path) == ["a.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_bytes(tmp_path / "ours", b"")
    usual, ours = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "ours"))
    assert ours == usual


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"cannot write .*a\.txt: the disk is full; free some space"),
        (errno.EDQUOT, r"cannot write .*a\.txt: your disk quota is used up; free some space"),
        (errno.EACCES, r"cannot write .*a\.txt: you may not write there; choose another folder"),
        (errno.EPERM, r"cannot write .*a\.txt: you may not write there; choose another folder"),
        (errno.EROFS, r"cannot write .*a\.txt: the disk is read-only; choose another folder"),
        (errno.EIO, r"cannot write .*a\.txt: .*; try another folder"),
    ],
)
def test_what_the_disk_says(tmp_path: Path, number: int, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        write_half(tmp_path / "a.txt", OSError(number, os.strerror(number)))
    assert files_in(tmp_path) == []


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the folder does not exist; create it first"):
        write_bytes(tmp_path / "no" / "a.txt", b"")


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="part of the path is a file, not a folder"):
        write_bytes(tmp_path / "file" / "a.txt", b"")
    with pytest.raises(OutputError, match=r"cannot create the folder .*file: a file of that name"):
        make_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="part of the path is a file, not a folder"):
        make_folder(tmp_path / "file" / "b")


def test_a_folder_where_a_file_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*a: a folder of that name exists"):
        write_bytes(tmp_path / "a", b"")
    assert files_in(tmp_path) == ["a"]


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the name is too long; choose a shorter one"):
        write_bytes(tmp_path / ("a" * 300), b"")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts characters")
def test_long_names_are_counted_in_bytes(tmp_path: Path) -> None:
    name = "語" * 85
    require_writable(tmp_path / name)
    write_bytes(tmp_path / name, b"new")
    assert contents(tmp_path) == {name: b"new"}
    with pytest.raises(OutputError, match="the name is too long; choose a shorter one"):
        require_writable(tmp_path / (name + "a"))


# The numbers by which Windows reports the same three, and a file that a viewer holds open.
ENTRY_NOT_FOUND, ACCESS_DENIED, SHARING_VIOLATION, INVALID_NAME = 3, 5, 32, 123


def from_windows(number: int, winerror: int) -> OSError:
    error = OSError(number, "as Windows says it")
    error.winerror = winerror
    return error


def test_what_windows_says(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for name, error, message in (
        ("file/a", from_windows(errno.ENOENT, ENTRY_NOT_FOUND), "part of the path is a file, not"),
        ("no/a", from_windows(errno.ENOENT, ENTRY_NOT_FOUND), "the folder does not exist; create"),
        ("folder", from_windows(errno.EACCES, ACCESS_DENIED), "a folder of that name exists"),
        ("n" * 300, from_windows(errno.EINVAL, INVALID_NAME), "the name is too long; choose a sh"),
        ("file", from_windows(errno.EACCES, SHARING_VIOLATION), "has it open, .*; close it there"),
        ("file", from_windows(errno.EACCES, ACCESS_DENIED), "has it open, .*; close it there"),
        ("new", from_windows(errno.EACCES, ACCESS_DENIED), "you may not write there; choose anot"),
    ):
        with pytest.raises(OutputError, match=message):
            raise output_error(tmp_path / name, error)


def test_a_parent_that_windows_finds_to_be_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()

    def refuse(self: Path, **_: object) -> None:
        raise FileExistsError(errno.EEXIST, "as Windows says it")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match="part of the path is a file, not a folder"):
        make_folder(tmp_path / "file" / "b")


def test_folders_are_made_with_their_parents(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert make_folder(tmp_path / "a" / "b").is_dir()


def test_the_content_reaches_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    replace = Path.replace

    def recorded(self: Path, target: Path) -> Path:
        order.append("replace")
        return replace(self, target)

    monkeypatch.setattr(atomic.os, "fsync", lambda _: order.append("fsync"))
    monkeypatch.setattr(Path, "replace", recorded)
    write_bytes(tmp_path / "a", b"x")
    assert order == ["fsync", "replace"]


# ------------------------------------------------------------------------------ files together

NAMES = ("first", "second", "third")


def write_together(folder: Path, content: bytes, error: BaseException | None = None) -> None:
    with files_together([folder / name for name in NAMES]) as staged:
        for path in staged:
            path.write_bytes(content)
        assert [path.name for path in staged] == list(NAMES)
        if error is not None:
            raise error


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(params=[(), NAMES, ("second",)], ids=["new", "again", "one of them"])
def older(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, bytes]:
    """What is in the folder already."""
    for name in request.param:
        (tmp_path / name).write_bytes(b"old")
    return contents(tmp_path)


def test_files_appear_together(tmp_path: Path, older: dict[str, bytes]) -> None:
    write_together(tmp_path, b"new")
    assert contents(tmp_path) == dict.fromkeys(NAMES, b"new")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_files_that_are_not_complete_change_nothing(
    tmp_path: Path, older: dict[str, bytes], error: type[BaseException]
) -> None:
    with pytest.raises(error):
        write_together(tmp_path, b"new", error())
    assert contents(tmp_path) == older


def test_a_file_that_was_not_written_changes_nothing(
    tmp_path: Path, older: dict[str, bytes]
) -> None:
    def forget_the_second() -> None:
        with files_together([tmp_path / name for name in NAMES]) as staged:
            staged[0].write_bytes(b"new")
            staged[2].write_bytes(b"new")

    with pytest.raises(OutputError, match=r"cannot write .*second: .*; create it first"):
        forget_the_second()
    assert contents(tmp_path) == older


@pytest.mark.parametrize("is_moved", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("which", range(6))
def test_every_moment_of_getting_names_has_a_way_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int, is_moved: bool
) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(b"old")
    real = Path.replace
    count = iter(range(100))

    def interrupted(self: Path, target: Path) -> Path:
        is_now = next(count) == which
        moved = real(self, target) if is_moved or not is_now else target
        if is_now:
            raise KeyboardInterrupt
        return moved

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_together(tmp_path, b"new")
    assert contents(tmp_path) == dict.fromkeys(NAMES, b"old")


def test_what_a_machine_that_stops_leaves_has_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.replace
    left: list[set[str]] = []

    def recorded(self: Path, target: Path) -> Path:
        moved = real(self, target)
        left.append({path.name for path in tmp_path.iterdir() if path.is_file()})
        return moved

    monkeypatch.setattr(Path, "replace", recorded)
    write_together(tmp_path, b"old")
    write_together(tmp_path, b"new")
    assert len(left) == 9
    assert all("first" in names for names in left if names)


def test_a_file_that_cannot_be_replaced_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(b"old")
    real = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self == tmp_path / "second":
            raise from_windows(errno.EACCES, SHARING_VIOLATION)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    message = r"cannot write .*second: another program has it open, .*; close it there"
    with pytest.raises(OutputError, match=message):
        write_together(tmp_path, b"new")
    assert contents(tmp_path) == dict.fromkeys(NAMES, b"old")


def test_an_older_file_that_cannot_be_put_back_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "third").write_bytes(b"old")
    real = Path.replace

    def once(self: Path, target: Path) -> Path:
        if self != tmp_path / "third":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", once)
    with pytest.raises(OutputError, match=r"cannot write .*first: "):
        write_together(tmp_path, b"new")
    (kept,) = tmp_path.rglob("third")
    assert kept.read_bytes() == b"old"
    assert not list(tmp_path.rglob("first"))


def test_a_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "work").touch()
    with pytest.raises(OutputError, match=r"cannot write .*second: a folder of that name exists"):
        write_together(tmp_path, b"new")
    assert [path.name for path in tmp_path.rglob("*")] == ["second", "work"]


def test_errors_name_the_file_and_not_where_it_is_prepared(tmp_path: Path) -> None:
    named = tmp_path / "a.txt"
    message = rf"^cannot write {re.escape(str(named))}: the disk is full"
    with (
        pytest.raises(OutputError, match=message),
        files_together([named]) as (staged,),
    ):
        write_half(staged, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def test_files_together_need_a_folder_that_exists(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"first: the folder does not exist; create it first"):
        write_together(tmp_path / "no", b"")
    for paths in ([], [tmp_path / "a", tmp_path / "b" / "a"]):
        with (
            pytest.raises(ValueError, match="paths must be files of one folder, got"),
            files_together(paths),
        ):
            pass


# ------------------------------------------------------------------------------ asking first


def test_what_can_be_written_later(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    require_writable(tmp_path / "a")
    require_writable(tmp_path / "b")
    assert contents(tmp_path) == {"a": b"old"}


def test_a_folder_that_takes_files(tmp_path: Path) -> None:
    require_writable_folder(tmp_path)
    assert files_in(tmp_path) == []
    (tmp_path / "file").touch()
    for name, message in (
        ("file", r"cannot write .*file: part of the path is a file, not a folder"),
        ("no", r"cannot write .*no: the folder does not exist; create it first"),
    ):
        with pytest.raises(OutputError, match=message):
            require_writable_folder(tmp_path / name)


def test_what_can_never_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for named, message in (
        ("no/a", "the folder does not exist; create it first"),
        ("file/a", "part of the path is a file, not a folder"),
        (".", "a folder of that name exists; choose another name"),
        ("n" * 300, "the name is too long; choose a shorter one"),
    ):
        with pytest.raises(OutputError, match=message):
            require_writable(tmp_path / named)
    assert files_in(tmp_path) == ["file"]


# ------------------------------------------------------------------------------ several processes

WRITER = """
import sys
from pathlib import Path
from sam_plugins.model.io.atomic import files_together, taking_turns

folder, name = Path(sys.argv[1]), sys.argv[2]
targets = [folder / part for part in ("first", "second", "third")]
for number in range(150):
    with files_together(targets) as staged:
        for path in staged:
            path.write_text(f"{name} {number}")
    with taking_turns(folder):
        found = {path.read_text() for path in targets}
    assert len(found) == 1, found
"""

KILLED = """
import os, signal, sys
from pathlib import Path
from sam_plugins.model.io.atomic import files_together

folder, moves = Path(sys.argv[1]), int(sys.argv[2])
replace = Path.replace
count = iter(range(1, 100))

def killed(self, target):
    replace(self, target)
    if next(count) == moves:
        os.kill(os.getpid(), signal.SIGKILL)

Path.replace = killed
with files_together([folder / part for part in ("first", "second", "third")]) as staged:
    for path in staged:
        path.write_bytes(b"new")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="nobody waits on Windows")
def test_processes_that_write_the_same_files_take_turns(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name], stderr=subprocess.PIPE, text=True
        )
        for name in ("a", "b", "c")
    ]
    assert [writer.communicate()[1] for writer in writers] == ["", "", ""]
    assert files_in(tmp_path) == sorted(NAMES)
    assert len(set(contents(tmp_path).values())) == 1


def test_an_older_file_that_another_process_took_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(b"old")
    real = Path.replace

    def too_late(self: Path, target: Path) -> Path:
        if self == tmp_path / "second":
            self.unlink()
        return real(self, target)

    monkeypatch.setattr(Path, "replace", too_late)
    write_together(tmp_path, b"new")
    assert contents(tmp_path) == dict.fromkeys(NAMES, b"new")


@pytest.fixture
def ended() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leftover(folder: Path, process: int, place: str | None = None) -> Path:
    return folder / f".a.txt.{place or atomic._place()}-{process}-0123456789ab.part"


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot tell which processes live")
@pytest.mark.parametrize("moves", range(1, 7))
def test_what_a_killed_process_began_is_finished(tmp_path: Path, moves: int) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(b"old")
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(moves)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert files_in(tmp_path)[0].endswith(".part")
    remove_leftovers(tmp_path)
    assert contents(tmp_path) == dict.fromkeys(NAMES, b"new")


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot tell which processes live")
@pytest.mark.parametrize("moves", range(1, 6))
def test_what_somebody_made_after_the_kill_is_kept(tmp_path: Path, moves: int) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(b"old")
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(moves)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (tmp_path / "third").write_bytes(b"mine")  # set aside first, given its name last
    remove_leftovers(tmp_path)
    # what had not been set aside may belong to it: only gaps are filled
    first, second = (b"old" if moves < number else b"new" for number in (3, 2))
    assert contents(tmp_path) == {"first": first, "second": second, "third": b"mine"}


def test_two_machines_of_one_name_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = tmp_path / "machine-id"
    monkeypatch.setattr(atomic, "_MACHINE_ID", identity)
    places = []
    for text in ("0123\n", "4567\n", "\n", None):
        if text is None:
            identity.unlink()
        else:
            identity.write_text(text)
        places.append(atomic._place.__wrapped__())
    assert len(set(places)) == 3
    assert places[2] == places[3]  # an empty one is none: the network card counts
    monkeypatch.setattr(atomic.uuid, "getnode", lambda: 1)
    assert atomic._place.__wrapped__() != places[3]


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot tell which processes live")
def test_a_process_that_was_killed_before_leaves_nothing(tmp_path: Path, ended: int) -> None:
    (tmp_path / "first").write_bytes(b"old")
    staging = leftover(tmp_path, ended)
    for made in (staging, staging / "old", staging / "new"):
        made.mkdir()
    (staging / "new" / "first").write_bytes(b"half of the n")
    (tmp_path / staging.name.replace("a.txt", "b.txt")).touch()
    remove_leftovers(tmp_path)
    assert contents(tmp_path) == {"first": b"old"}


def test_what_may_be_in_use_or_is_not_ours_is_kept(tmp_path: Path, ended: int) -> None:
    kept = [
        leftover(tmp_path, os.getpid()),
        leftover(tmp_path, ended, place="ffffff"),
        leftover(tmp_path, ended),  # an older file that could not be put back
        tmp_path / f"{atomic._place()}-{ended}-0123456789ab.part",
        tmp_path / ".download.part",
    ]
    for path in kept:
        (path / "old").mkdir(parents=True)
        (path / "old" / "work").touch()
    remove_leftovers(tmp_path)
    assert all((path / "old" / "work").is_file() for path in kept)
    remove_leftovers(tmp_path / "no such folder")
