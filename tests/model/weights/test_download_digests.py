"""Downloads that are not the published file: cut short, too long, altered, a web page."""

from __future__ import annotations

from pathlib import Path

import pytest
import xxhash
from tests.model.weights.conftest import FileServer, MakeEntry, files_in

from sam_plugins.errors import HashMismatchError
from sam_plugins.model.weights.download import fetch


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
