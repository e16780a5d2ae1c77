"""Complete files or none."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.model.io.writing import (
    ACCESS_DENIED,
    ENTRY_NOT_FOUND,
    INVALID_NAME,
    SHARING_VIOLATION,
    contents,
    files_in,
    from_windows,
    write_half,
)

from sam_plugins.errors import OutputError
from sam_plugins.model.io import atomic
from sam_plugins.model.io.atomic import (
    folder_for_results,
    make_folder,
    output_error,
    require_writable,
    require_writable_folder,
    write_bytes,
)


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


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:  # as /proc does
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(Path, "mkdir", refuse)
    message = (
        rf"^cannot create the folder {tmp_path}/a/b: nothing can be made in {tmp_path}; choose "
        r"another place$"
    )
    with pytest.raises(OutputError, match=message):
        make_folder(tmp_path / "a" / "b")


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


def test_a_folder_of_a_block_that_failed_goes_only_when_it_holds_nothing(tmp_path: Path) -> None:
    def work(folder: Path, *written: str) -> None:
        with folder_for_results(folder, beside=".lock") as made:
            (made / "embeddings").mkdir()
            for name in written:
                (made / name).touch()
            raise KeyError

    def fail(folder: Path, *written: str) -> None:
        with pytest.raises(KeyError):
            work(folder, *written)

    fail(tmp_path / "a" / "bare", ".lock")
    assert not (tmp_path / "a").exists()
    fail(tmp_path / "used", ".lock", "state")
    assert sorted(path.name for path in (tmp_path / "used").iterdir()) == [
        ".lock", "embeddings", "state",
    ]  # fmt: skip
    (tmp_path / "older").mkdir()
    fail(tmp_path / "older")
    assert (tmp_path / "older").is_dir()
