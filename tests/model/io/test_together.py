"""Files that belong together appear together or not at all."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.model.io.writing import (
    NAMES,
    SHARING_VIOLATION,
    contents,
    files_in,
    from_windows,
    write_half,
)

from sam_plugins.errors import OutputError
from sam_plugins.model.io.together import files_together


def write_together(folder: Path, content: bytes, error: BaseException | None = None) -> None:
    with files_together([folder / name for name in NAMES]) as staged:
        for path in staged:
            path.write_bytes(content)
        assert [path.name for path in staged] == list(NAMES)
        if error is not None:
            raise error


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


# ------------------------------------------------------------------------------ several processes

WRITER = """
import sys
from pathlib import Path
from sam_plugins.model.io.together import files_together, taking_turns

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
