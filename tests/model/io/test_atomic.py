"""Complete files or none."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from sam_plugins.errors import OutputError
from sam_plugins.model.io import atomic
from sam_plugins.model.io.atomic import atomic_path, make_folder, write_bytes


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
