"""Downloads to a disk that is read-only, full or without locks, and two at a time."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pooch
import pytest
from tests.model.weights.conftest import FileServer, MakeEntry, files_in

from sam_plugins.errors import DownloadError
from sam_plugins.model.weights.download import fetch
from sam_plugins.model.weights.registry import ModelEntry


def test_a_cache_that_cannot_be_made(make_entry: MakeEntry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DownloadError, match=r"cannot write the weights.*SAM_PLUGINS_HOME"):
        fetch(make_entry(), tmp_path / "file" / "models")


@pytest.mark.skipif(
    sys.platform == "win32" or (hasattr(os, "geteuid") and os.geteuid() == 0),
    reason="permissions do not bind the superuser, and Windows has others",
)
def test_a_read_only_cache(server: FileServer, make_entry: MakeEntry, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    folder.chmod(0o500)
    try:
        with pytest.raises(DownloadError, match=r"cannot write the weights.*Permission denied"):
            fetch(make_entry(), folder)
    finally:
        folder.chmod(0o700)


def test_a_read_only_cache_that_has_the_file_serves_it(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny_model.pth").write_bytes(server.content)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert fetch(make_entry(), tmp_path).read_bytes() == server.content
    (tmp_path / "tiny_model.pth").unlink()
    with pytest.raises(DownloadError, match="Read-only file system"):
        fetch(make_entry(), tmp_path)


def test_a_disk_without_locks(
    server: FileServer,
    make_entry: MakeEntry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert fetch(make_entry(), tmp_path).read_bytes() == server.content
    assert "knows no locks: do not download twice at once" in caplog.text


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_without_room_is_noticed_before(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(10**9, 10**9 - 2_000_000, 2_000_000))
    with pytest.raises(DownloadError, match=r"need 375 MB more .* where 2 MB are free"):
        fetch(make_entry(size_bytes=375_000_000), tmp_path)
    assert server.requests == []


def test_a_disk_that_fills_up_is_left_as_it_was(
    make_entry: MakeEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_until_full(self: object, url: str, output_file: object, *_: object) -> None:
        output_file.write(b"some bytes")  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", write_until_full)
    with pytest.raises(DownloadError, match="No space left on device"):
        fetch(make_entry(), tmp_path)
    assert files_in(tmp_path) == []


def _fetch_in_process(entry: ModelEntry, folder: Path, results: object) -> None:
    path = fetch(entry, folder)
    results.put(hashlib.sha256(path.read_bytes()).hexdigest())  # type: ignore[attr-defined]


def test_two_processes_fetch_a_file_once(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    server.gate = threading.Event()
    entry = make_entry()
    processes = [
        context.Process(target=_fetch_in_process, args=(entry, tmp_path, results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    # The first is held inside its download until both had the time to start.
    threading.Timer(3.0, server.gate.set).start()
    assert [results.get(timeout=60) for _ in processes] == [server.sha256] * 2
    for process in processes:
        process.join(30)
    assert server.requests == [None]
    assert files_in(tmp_path) == ["tiny_model.pth"]
