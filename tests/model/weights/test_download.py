"""Downloads: whole, resumed, refused, cut short, altered, without a disk, and two at a time."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

import pooch
import pytest
import xxhash

from sam_plugins.errors import DownloadError, HashMismatchError
from sam_plugins.model.weights.download import fetch
from sam_plugins.model.weights.paths import models_directory
from sam_plugins.model.weights.registry import ModelEntry

MakeEntry = Callable[..., ModelEntry]
FileServer = Any  # The class of that name in conftest.py.


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_file_is_fetched_once_and_then_found(server: FileServer, make_entry: MakeEntry) -> None:
    path = fetch(make_entry())
    assert path == models_directory() / "tiny_model.pth"
    assert path.read_bytes() == server.content
    assert fetch(make_entry()) == path
    assert server.requests == [None]
    assert files_in(path.parent) == ["tiny_model.pth"]


def test_an_interrupted_download_goes_on_where_it_stopped(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    server.cut_after = [30_000, 20_000]
    path = fetch(make_entry(), tmp_path, wait_seconds=0)
    assert path.read_bytes() == server.content
    assert server.requests == [None, "bytes=30000-", "bytes=50000-"]


def test_a_later_run_resumes_what_an_earlier_one_left(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    server.cut_after = [40_000]
    with pytest.raises(DownloadError, match=r"broke off.*the next try goes on from there"):
        fetch(make_entry(), tmp_path, attempts=1)
    assert files_in(tmp_path) == ["tiny_model.pth.part"]
    assert fetch(make_entry(), tmp_path).read_bytes() == server.content
    assert server.requests == [None, "bytes=40000-"]


def test_a_server_without_ranges_sends_everything_again(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    server.ranges = False
    server.cut_after = [30_000]
    assert fetch(make_entry(), tmp_path, wait_seconds=0).read_bytes() == server.content


def test_a_server_that_continues_elsewhere_is_not_believed(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    (tmp_path / "tiny_model.pth.part").write_bytes(server.content[:100])
    server.claimed_start = 7
    with pytest.raises(DownloadError, match=r"asked for the bytes from 100 and sent 'bytes 7-"):
        fetch(make_entry(), tmp_path, attempts=1)


def test_remains_of_another_version_are_replaced(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    (tmp_path / "tiny_model.pth.part").write_bytes(b"old" * 1000)
    assert fetch(make_entry(), tmp_path).read_bytes() == server.content
    assert server.requests == ["bytes=3000-", None]


@pytest.mark.parametrize("extra", [b"", b"too much"])
def test_a_part_that_is_complete_or_too_long_ends_well(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path, extra: bytes
) -> None:
    (tmp_path / "tiny_model.pth.part").write_bytes(server.content + extra)
    assert fetch(make_entry(), tmp_path).read_bytes() == server.content


def test_a_passing_server_error_is_tried_again(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    server.statuses = [503, 200]
    assert fetch(make_entry(), tmp_path, wait_seconds=0).read_bytes() == server.content


@pytest.mark.parametrize("status", [408, 429])
@pytest.mark.parametrize("asked", [None, "0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon"])
def test_a_server_that_is_busy_is_tried_again(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path, status: int, asked: str | None
) -> None:
    server.statuses, server.retry_after = [status, status, 200], asked
    assert fetch(make_entry(), tmp_path, wait_seconds=0).read_bytes() == server.content
    assert len(server.requests) == 3


def test_a_pause_is_as_long_as_the_server_asks(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    server.statuses, server.retry_after = [503, 200], "1"
    start = time.monotonic()
    assert fetch(make_entry(), tmp_path, wait_seconds=0).read_bytes() == server.content
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize("is_date", [False, True])
def test_a_server_that_asks_for_hours_is_given_up(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path, is_date: bool
) -> None:
    server.statuses = [429]
    server.retry_after = formatdate(time.time() + 7200, usegmt=True) if is_date else "7200"
    message = r"answered 429 Too Many Requests and asks for a pause of 7[12]\d\d s"
    with pytest.raises(DownloadError, match=message):
        fetch(make_entry(), tmp_path)
    assert len(server.requests) == 1
    assert files_in(tmp_path) == []


def test_a_pause_can_be_ended(server: FileServer, make_entry: MakeEntry, tmp_path: Path) -> None:
    server.statuses, server.retry_after = [503], "100"
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch(make_entry(), tmp_path, progress=stop)
    assert time.monotonic() - start < 50
    assert told == [(0, len(server.content))]


def test_tries_are_counted_while_they_get_no_further(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    server.cut_after = [10_000] * 9
    assert fetch(make_entry(), tmp_path, wait_seconds=0).read_bytes() == server.content
    assert len(server.requests) == 10
    (tmp_path / "tiny_model.pth").unlink()
    server.requests.clear()
    server.cut_after = [10_000, 0, 0, 10_000, 0, 0, 0]
    with pytest.raises(DownloadError, match="the connection broke off"):
        fetch(make_entry(), tmp_path, wait_seconds=0)
    assert len(server.requests) == 7
    assert (tmp_path / "tiny_model.pth.part").stat().st_size == 20_000


def test_starting_over_is_no_way_forward(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    server.ranges = False
    server.cut_after = [30_000] * 9
    with pytest.raises(DownloadError, match="the connection broke off"):
        fetch(make_entry(), tmp_path, wait_seconds=0)
    assert len(server.requests) == 4


@pytest.mark.parametrize("ranges", [True, False])
def test_an_answer_without_a_size_that_is_cut_goes_on(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path, ranges: bool
) -> None:
    server.tells_size, server.ranges = False, ranges
    server.cut_after = [30_000]
    with pytest.raises(DownloadError, match=rf"after 30000 of {len(server.content)} bytes"):
        fetch(make_entry(), tmp_path, attempts=1)
    assert files_in(tmp_path) == ["tiny_model.pth.part"]
    server.cut_after = [40_000]
    assert fetch(make_entry(), tmp_path, wait_seconds=0).read_bytes() == server.content


def test_without_any_size_the_digest_tells_what_was_cut(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    server.tells_size, server.cut_after = False, [30_000]
    with pytest.raises(HashMismatchError, match="did not deliver the published file"):
        fetch(make_entry(size_is_exact=False), tmp_path)


def test_a_page_without_a_size_is_no_beginning_of_the_file(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    server.tells_size = False
    server.elsewhere["/files/model.pth?moved"] = b"<!DOCTYPE html><html>please log in</html>"
    with pytest.raises(HashMismatchError, match="a web page"):
        fetch(make_entry(urls=(f"{server.url}?moved",)), tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize("tells_size", [True, False])
@pytest.mark.parametrize("old", [b"", b"old" * 1000])
def test_a_file_that_is_too_long_is_not_fetched(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path, tells_size: bool, old: bytes
) -> None:
    entry = make_entry()
    size = len(server.content)
    server.content, server.tells_size = server.content * 200, tells_size
    if old:
        (tmp_path / "tiny_model.pth.part").write_bytes(old)
    told: list[int] = []
    with pytest.raises(HashMismatchError, match=rf"did not deliver .*: expected {size} bytes, got"):
        fetch(entry, tmp_path, progress=lambda done, _: told.append(done))
    assert max(told, default=0) <= (0 if tells_size else size)
    assert len(server.requests) == 1
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("tells_size", [True, False])
@pytest.mark.parametrize("ranges", [True, False])
def test_progress_never_tells_more_than_the_file(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path, tells_size: bool, ranges: bool
) -> None:
    server.tells_size, server.ranges, server.cut_after = tells_size, ranges, [50_000]
    size = len(server.content)
    told: list[tuple[int, int]] = []
    fetch(
        make_entry(),
        tmp_path,
        wait_seconds=0,
        progress=lambda done, total: told.append((done, total)),
    )
    assert {total for _, total in told} == {size}
    assert told[-1] == (size, size)
    assert max(done for done, _ in told) == size


def test_a_refusal_names_url_and_place_and_is_not_repeated(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    server.statuses = [404]
    with pytest.raises(DownloadError, match="the server answered 404 Not Found") as caught:
        fetch(make_entry(), tmp_path)
    assert server.url in str(caught.value)
    assert f"save it here as {tmp_path / 'tiny_model.pth'}" in str(caught.value)
    assert len(server.requests) == 1
    assert files_in(tmp_path) == []


def test_a_mirror_helps_when_the_first_address_refuses(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    server.statuses = [404, 200]
    entry = make_entry(urls=(f"{server.url}?first", f"{server.url}?second"))
    assert fetch(entry, tmp_path).read_bytes() == server.content
    assert server.paths == ["/files/model.pth?first", "/files/model.pth?second"]


def test_a_mirror_helps_when_the_first_address_delivers_something_else(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    server.elsewhere["/files/model.pth?moved"] = b"<!DOCTYPE html><html>please log in</html>"
    entry = make_entry(urls=(f"{server.url}?moved", server.url))
    assert fetch(entry, tmp_path).read_bytes() == server.content
    assert server.paths == ["/files/model.pth?moved", "/files/model.pth"]
    assert server.requests == [None, None]  # Nothing of the page is kept and continued.
    assert files_in(tmp_path) == ["tiny_model.pth"]


def test_when_no_mirror_has_the_published_file_the_last_one_is_named(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    urls = (f"{server.url}?first", f"{server.url}?second")
    entry = make_entry(urls=urls, digest=f"md5:{'0' * 32}")
    with pytest.raises(HashMismatchError, match=r"\?second did not deliver the published file"):
        fetch(entry, tmp_path)
    assert len(server.requests) == 2
    assert files_in(tmp_path) == []


def test_without_a_connection_the_message_says_what_to_put_where(
    make_entry: MakeEntry, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound and not listening: every connection is refused.
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/model.pth"
        with pytest.raises(DownloadError, match="no connection to the server") as caught:
            fetch(make_entry(urls=(url,)), tmp_path, attempts=2, wait_seconds=0)
    message = str(caught.value)
    assert f"download {url} (0 MB, sha256:" in message
    assert str(tmp_path / "tiny_model.pth") in message
    assert files_in(tmp_path) == []


def test_a_server_that_says_nothing_is_given_up(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.gate = threading.Event()
    monkeypatch.setattr("sam_plugins.model.weights.transfer._TIMEOUT_SECONDS", (1, 0.1))
    with pytest.raises(DownloadError, match="the server did not answer in time"):
        fetch(make_entry(), tmp_path, attempts=1)
    server.gate.set()


def test_offline_by_choice_opens_no_connection(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAM_PLUGINS_OFFLINE", "1")
    with pytest.raises(DownloadError, match="SAM_PLUGINS_OFFLINE forbids connections"):
        fetch(make_entry(), tmp_path)
    assert server.requests == []
    (tmp_path / "tiny_model.pth").write_bytes(server.content)  # By hand, as the message says.
    assert fetch(make_entry(), tmp_path).read_bytes() == server.content


def test_a_wrong_hash_leaves_nothing_behind(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    entry = make_entry()
    server.content = b"<!DOCTYPE html><html>please log in</html>"
    with pytest.raises(
        HashMismatchError, match=r"expected sha256:.*got sha256:.*41 bytes, a web page.*discarded"
    ):
        fetch(entry, tmp_path)
    assert files_in(tmp_path) == []


def test_a_resumed_download_that_is_wrong_twice_is_discarded(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    (tmp_path / "tiny_model.pth.part").write_bytes(b"old")
    with pytest.raises(HashMismatchError, match="did not deliver"):
        fetch(make_entry(digest="sha256:" + "0" * 64), tmp_path)
    assert files_in(tmp_path) == []


def test_a_file_that_changed_on_disk_is_not_used(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    path = fetch(make_entry(), tmp_path)
    path.write_bytes(b"something else")
    with pytest.raises(HashMismatchError, match=r"is not the published file.*Delete it"):
        fetch(make_entry(), tmp_path)
    assert fetch(make_entry(), tmp_path, verify_existing=False) == path


def test_whatever_is_downloaded_can_be_checked(make_entry: MakeEntry) -> None:
    with pytest.raises(ValueError, match="'tiny_model' is downloaded and must have a digest"):
        make_entry(digest=None)


def test_other_digests_are_checked_as_well(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path
) -> None:
    entry = make_entry(digest=f"xxh128:{xxhash.xxh128(server.content).hexdigest()}")
    assert fetch(entry, tmp_path).is_file()
    with pytest.raises(HashMismatchError, match="expected xxh128:00ff, got xxh128:"):
        fetch(make_entry(digest="xxh128:00ff"), tmp_path)


@pytest.mark.parametrize("algorithm", ["crc7", "xxh7", "xxhash"])
def test_an_unknown_digest_is_a_mistake_of_ours(
    make_entry: MakeEntry, tmp_path: Path, algorithm: str
) -> None:
    with pytest.raises(ValueError, match=f"unknown hash algorithm '{algorithm}'"):
        fetch(make_entry(digest=f"{algorithm}:00"), tmp_path)


def test_the_shipped_model_is_not_downloaded(make_entry: MakeEntry) -> None:
    with pytest.raises(ValueError, match="comes with the package"):
        fetch(make_entry(urls=()))


def test_attempts_are_counted_from_one(make_entry: MakeEntry, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="attempts must be 1 or more, got 0"):
        fetch(make_entry(), tmp_path, attempts=0)


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


def test_ctrl_c_leaves_no_half_file_under_the_name(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: object, url: str, output_file: object, *_: object) -> None:
        output_file.write(server.content[:500])  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pooch.HTTPDownloader, "__call__", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(make_entry(), tmp_path)
    assert files_in(tmp_path) == ["tiny_model.pth.part"]
    assert fetch(make_entry(), tmp_path).read_bytes() == server.content
    assert server.requests == ["bytes=500-"]


@pytest.mark.parametrize(("show", "is_drawn"), [(True, True), (False, False), (None, False)])
def test_the_bar_is_for_terminals(
    make_entry: MakeEntry,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    show: bool | None,
    is_drawn: bool,
) -> None:
    fetch(make_entry(), tmp_path, show_progress=show)
    out, err = capfd.readouterr()
    assert out == ""
    assert ("99.9k" in err) is is_drawn
    assert is_drawn or err == ""


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


def test_progress_is_told_and_may_stop_the_download_which_goes_on_later(
    server: FileServer, make_entry: MakeEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam_plugins.model.weights.transfer._CHUNK_BYTES", 10_000)
    size = len(server.content)
    told: list[tuple[int, int]] = []

    def stop_early(done: int, total: int) -> None:
        told.append((done, total))
        if done >= 20_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(make_entry(), tmp_path, progress=stop_early)
    assert told == [(10_000, size), (20_000, size)]
    assert files_in(tmp_path) == ["tiny_model.pth.part"]
    later: list[tuple[int, int]] = []
    path = fetch(make_entry(), tmp_path, progress=lambda done, total: later.append((done, total)))
    assert path.read_bytes() == server.content
    assert later[-1] == (size, size)
    assert later[0][0] > 10_000
