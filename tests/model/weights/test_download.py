"""Downloads: whole and found again, refused, from a mirror, and after a pause."""

from __future__ import annotations

import socket
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from tests.model.weights.conftest import FileServer, MakeEntry, files_in

from sam_plugins.errors import DownloadError, HashMismatchError
from sam_plugins.model.weights.download import fetch
from sam_plugins.model.weights.paths import models_directory


def test_a_file_is_fetched_once_and_then_found(server: FileServer, make_entry: MakeEntry) -> None:
    path = fetch(make_entry())
    assert path == models_directory() / "tiny_model.pth"
    assert path.read_bytes() == server.content
    assert fetch(make_entry()) == path
    assert server.requests == [None]
    assert files_in(path.parent) == ["tiny_model.pth"]


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


def test_the_shipped_model_is_not_downloaded(make_entry: MakeEntry) -> None:
    with pytest.raises(ValueError, match="comes with the package"):
        fetch(make_entry(urls=()))


def test_attempts_are_counted_from_one(make_entry: MakeEntry, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="attempts must be 1 or more, got 0"):
        fetch(make_entry(), tmp_path, attempts=0)


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
