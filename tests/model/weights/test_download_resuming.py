"""Downloads that break off or are stopped, and go on where they were."""

from __future__ import annotations

from pathlib import Path

import pooch
import pytest
from tests.model.weights.conftest import FileServer, MakeEntry, files_in

from sam_plugins.errors import DownloadError
from sam_plugins.model.weights.download import fetch


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
