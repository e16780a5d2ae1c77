"""Embeddings are computed once, and no disk, crash or neighbour changes an answer."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import torch
from tests.model.inference.embeddings import embedding, equal

from sam_plugins.errors import CacheError
from sam_plugins.model.inference import cache as cache_module
from sam_plugins.model.inference.cache import CacheWarning, EmbeddingCache, embedding_key
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.networks.config import Preprocessing

KEYS = [f"{i:040x}" for i in range(20)]
NBYTES = 2 * (8 * 16 * 16 + 4 * 32 * 32)


def never() -> ImageEmbedding:
    raise AssertionError("computed again")


# ------------------------------------------------------------------------------ keys


def test_the_key_depends_on_everything_that_matters() -> None:
    rgb = np.zeros((6, 4, 3), np.uint8)
    other = rgb.copy()
    other[5, 3, 2] = 1
    keys = {
        embedding_key(rgb, Preprocessing(), "a"),
        embedding_key(other, Preprocessing(), "a"),
        embedding_key(rgb.reshape(4, 6, 3), Preprocessing(), "a"),
        embedding_key(rgb, Preprocessing(pad_to=32), "a"),
        embedding_key(rgb, Preprocessing(), "b"),
    }
    assert len(keys) == 5
    assert all(len(key) == 40 for key in keys)


def test_the_key_does_not_depend_on_the_memory_layout() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    fortran = np.asfortranarray(rgb)
    flipped = rgb[::-1].copy()[::-1]
    keys = {embedding_key(a, Preprocessing(), "a") for a in (rgb, fortran, flipped)}
    assert len(keys) == 1


# ------------------------------------------------------------------------------ answers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_fresh_memory_and_disk_agree_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    given = embedding()
    given = replace(given, features=given.features.to(dtype), skips=(given.skips[0].to(dtype),))
    first = EmbeddingCache(tmp_path)
    fresh = first.get_or_compute(KEYS[0], lambda: given)
    from_memory = first.get_or_compute(KEYS[0], never)
    from_disk = EmbeddingCache(tmp_path).get_or_compute(KEYS[0], never)
    assert equal(fresh, from_memory)
    assert equal(fresh, from_disk)
    assert fresh.features.dtype == dtype
    torch.testing.assert_close(fresh.features, given.features, rtol=1e-3, atol=1e-6)


def test_a_compact_cache_answers_what_it_keeps_and_others_read_it(tmp_path: Path) -> None:
    compact = EmbeddingCache(tmp_path, compact=True)
    fresh = compact.get_or_compute(KEYS[0], embedding)
    assert equal(fresh, compact.get_or_compute(KEYS[0], never))
    assert equal(fresh, EmbeddingCache(tmp_path).get_or_compute(KEYS[0], never))
    assert compact.bytes_of(KEYS[0]) == compact.disk_bytes > 0
    assert compact.bytes_of(KEYS[1]) == 0


def test_results_belong_to_the_caller() -> None:
    cache = EmbeddingCache()
    cache.get_or_compute(KEYS[0], embedding).features.zero_()
    assert cache.get_or_compute(KEYS[0], never).features.any()


def test_get_does_not_compute(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    assert cache.get(KEYS[0]) is None
    cache.get_or_compute(KEYS[0], embedding)
    found = cache.get(KEYS[0])
    assert found is not None
    assert found.model_id == "tiny-000000000000"


def test_values_beyond_float16_are_returned_and_not_kept(tmp_path: Path) -> None:
    huge = replace(embedding(), features=torch.full((1, 8, 16, 16), 1e6))
    cache = EmbeddingCache(tmp_path)
    assert cache.get_or_compute(KEYS[0], lambda: huge).features.max() == 1e6
    assert cache.get(KEYS[0]) is None


def test_mixed_types_are_returned_and_not_kept() -> None:
    mixed = replace(embedding(), features=embedding().features.double())
    cache = EmbeddingCache()
    assert cache.get_or_compute(KEYS[0], lambda: mixed).features.dtype == torch.float64
    assert cache.get(KEYS[0]) is None


def test_errors_of_the_encoder_reach_the_caller_and_block_nobody() -> None:
    cache = EmbeddingCache()

    def fail() -> ImageEmbedding:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        cache.get_or_compute(KEYS[0], fail)
    assert cache.get_or_compute(KEYS[0], embedding).features.any()


# ------------------------------------------------------------------------------ limits


def test_memory_drops_the_least_recently_used() -> None:
    cache = EmbeddingCache(max_memory_bytes=3 * NBYTES)
    for i in range(3):
        cache.get_or_compute(KEYS[i], lambda i=i: embedding(i))
    cache.get_or_compute(KEYS[0], never)
    cache.get_or_compute(KEYS[3], lambda: embedding(3))
    assert [cache.get(key) is not None for key in KEYS[:4]] == [True, False, True, True]
    assert cache.memory_bytes == 3 * NBYTES


def test_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, max_memory_bytes=NBYTES - 1, max_disk_bytes=NBYTES)
    cache.get_or_compute(KEYS[0], embedding)
    assert cache.memory_bytes == 0
    assert cache.disk_bytes == 0


def test_the_disk_drops_the_least_recently_used(tmp_path: Path) -> None:
    limit = 3 * (NBYTES + 1000)
    cache = EmbeddingCache(tmp_path, max_memory_bytes=0, max_disk_bytes=limit)
    for i in range(3):
        cache.get_or_compute(KEYS[i], lambda i=i: embedding(i))
        os.utime(tmp_path / f"{KEYS[i]}.embedding", (1000 + i, 1000 + i))
    cache.get_or_compute(KEYS[0], never)  # used just now
    cache.get_or_compute(KEYS[3], lambda: embedding(3))
    assert [cache.get(key) is not None for key in KEYS[:4]] == [True, False, True, True]
    assert cache.disk_bytes <= limit


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.embedding").write_bytes(b"x" * 10**6)
    cache = EmbeddingCache(tmp_path, max_memory_bytes=0, max_disk_bytes=NBYTES + 1000)
    for i in range(3):
        cache.get_or_compute(KEYS[i], lambda i=i: embedding(i))
    assert cache.get(KEYS[2]) is not None
    assert cache.get(KEYS[1]) is None
    cache.clear()
    assert (tmp_path / "notes.embedding").exists()
    assert cache.disk_bytes == 0


def test_clear_forgets(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.get_or_compute(KEYS[0], embedding)
    cache.clear()
    assert cache.get(KEYS[0]) is None
    assert cache.memory_bytes == 0


def test_clear_says_what_it_cannot_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.get_or_compute(KEYS[0], embedding)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(CacheError, match=r"cannot remove .*: Permission denied; remove the folder"):
        cache.clear()


# ------------------------------------------------------------------------------ crashes, bad disks


def test_damaged_files_are_computed_again(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path).get_or_compute(KEYS[0], embedding)
    path = tmp_path / f"{KEYS[0]}.embedding"
    path.write_bytes(path.read_bytes()[:-100])
    cache = EmbeddingCache(tmp_path)
    assert cache.get(KEYS[0]) is None
    assert not path.exists()
    assert equal(cache.get_or_compute(KEYS[0], embedding), cache.get_or_compute(KEYS[0], never))
    assert path.exists()


def test_half_files_of_a_crash_are_ignored_and_removed(tmp_path: Path) -> None:
    old, new = (tmp_path / f".{KEYS[0]}.embedding.{n}.part" for n in ("old", "new"))
    old.write_bytes(b"half")
    new.write_bytes(b"another process is just writing this")
    os.utime(old, (1000, 1000))
    cache = EmbeddingCache(tmp_path)
    assert cache.get(KEYS[0]) is None
    cache.get_or_compute(KEYS[1], embedding)
    assert not old.exists()
    assert new.exists()


def test_a_disk_that_cannot_be_written_warns_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = EmbeddingCache(tmp_path / "file" / "embeddings")
    message = r"embeddings are kept in memory only: cannot create .*embeddings: "
    with pytest.warns(CacheWarning, match=message):
        cache.get_or_compute(KEYS[0], embedding)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.get_or_compute(KEYS[1], embedding)
        cache.get_or_compute(KEYS[0], never)
        cache.get_or_compute(KEYS[1], never)


def break_writing(monkeypatch: pytest.MonkeyPatch, error: OSError) -> list[Path]:
    """Make every file fail when it gets its name; return the names that were tried."""
    attempts: list[Path] = []

    def fail(_: Path, target: Path) -> None:
        attempts.append(target)
        raise error

    monkeypatch.setattr(Path, "replace", fail)
    return attempts


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full; free some"),
        (errno.EDQUOT, "your disk quota is used up"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EACCES, "you may not write there"),
    ],
)
def test_a_full_or_forbidden_disk_warns_once_and_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    attempts = break_writing(monkeypatch, OSError(number, "some words"))
    cache = EmbeddingCache(tmp_path)
    with pytest.warns(CacheWarning, match=f"kept in memory only: .* {reason}") as caught:
        cache.get_or_compute(KEYS[0], embedding)
    assert caught[0].filename == __file__  # The caller's line, not one of the cache.
    cache.get_or_compute(KEYS[1], embedding)
    cache.get_or_compute(KEYS[0], never)
    assert len(attempts) == 1
    assert {path.name for path in tmp_path.iterdir()} <= {".eviction.lock"}


def test_a_failure_that_may_pass_is_logged_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = EmbeddingCache(tmp_path)
    with monkeypatch.context() as patched:
        break_writing(patched, OSError(errno.EMFILE, "Too many open files"))
        cache.get_or_compute(KEYS[0], embedding)
    assert "an embedding is kept in memory only: cannot write" in caplog.text
    assert cache.disk_bytes == 0
    cache.get_or_compute(KEYS[1], embedding)
    assert EmbeddingCache(tmp_path).get(KEYS[1]) is not None


def test_a_file_that_another_process_reads_stays_and_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to replace an open file; what another process wrote has the same content."""
    cache = EmbeddingCache(tmp_path)
    with monkeypatch.context() as patched, warnings.catch_warnings():
        warnings.simplefilter("error")

        def compute() -> ImageEmbedding:
            EmbeddingCache(tmp_path).get_or_compute(KEYS[0], embedding)  # Another one is faster.
            break_writing(patched, PermissionError(errno.EACCES, "Access is denied"))
            return embedding()

        cache.get_or_compute(KEYS[0], compute)
    assert EmbeddingCache(tmp_path).get(KEYS[0]) is not None
    cache.get_or_compute(KEYS[1], embedding)
    assert EmbeddingCache(tmp_path).get(KEYS[1]) is not None
    assert not list(tmp_path.glob("*.part"))


def test_a_disk_without_locks_is_kept_within_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    cache = EmbeddingCache(tmp_path, max_memory_bytes=0, max_disk_bytes=NBYTES + 1000)
    for i in range(3):
        cache.get_or_compute(KEYS[i], lambda i=i: embedding(i))
    assert 0 < cache.disk_bytes <= cache.max_disk_bytes


def test_a_read_only_cache_is_still_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    EmbeddingCache(tmp_path).get_or_compute(KEYS[0], embedding)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    EmbeddingCache(tmp_path).get_or_compute(KEYS[0], never)


# ------------------------------------------------------------------------------ neighbours


def test_threads_that_ask_together_compute_once() -> None:
    cache = EmbeddingCache(max_memory_bytes=0)  # not even kept: the waiting threads share it
    calls: list[int] = []
    together = threading.Barrier(8)
    results: list[ImageEmbedding] = []

    def compute() -> ImageEmbedding:
        calls.append(1)
        time.sleep(0.2)
        return embedding()

    def ask() -> None:
        together.wait()
        results.append(cache.get_or_compute(KEYS[0], compute))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(results) == 8
    assert all(equal(results[0], result) for result in results)


def test_when_the_first_thread_fails_the_next_one_tries() -> None:
    cache = EmbeddingCache()
    started = threading.Event()
    outcomes: list[str] = []

    def fail() -> ImageEmbedding:
        started.set()
        time.sleep(0.1)
        raise RuntimeError("cancelled")

    def first() -> None:
        with pytest.raises(RuntimeError, match="cancelled"):
            cache.get_or_compute(KEYS[0], fail)
        outcomes.append("failed")

    thread = threading.Thread(target=first)
    thread.start()
    started.wait()
    cache.get_or_compute(KEYS[0], embedding)
    thread.join()
    assert outcomes == ["failed"]


def test_different_keys_do_not_wait_for_each_other() -> None:
    cache = EmbeddingCache()
    inner: list[ImageEmbedding] = []

    def compute() -> ImageEmbedding:
        thread = threading.Thread(
            target=lambda: inner.append(cache.get_or_compute(KEYS[1], embedding))
        )
        thread.start()
        thread.join(10)
        return embedding()

    cache.get_or_compute(KEYS[0], compute)
    assert len(inner) == 1


LIMIT = 3 * (NBYTES + 1000)


def _hammer(directory: str, worker: int, together: Any, queue: Any) -> None:
    """Ask for many embeddings through a cache that is always too small."""
    try:
        cache = EmbeddingCache(directory, max_memory_bytes=0, max_disk_bytes=LIMIT)
        generator = np.random.default_rng(worker)
        together.wait(120)
        for _ in range(60):
            i = int(generator.integers(0, len(KEYS)))
            result = cache.get_or_compute(KEYS[i], lambda i=i: embedding(i))
            expected = embedding(i).features.half().float()
            if not torch.equal(result.features, expected):
                queue.put(f"worker {worker} got another embedding for {i}")
                return
        queue.put("ok")
    except BaseException as error:
        queue.put(repr(error))
        raise


def test_processes_share_a_folder_and_its_limit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue, together = context.Queue(), context.Barrier(4)
    workers = [
        context.Process(target=_hammer, args=(str(tmp_path), worker, together, queue))
        for worker in range(3)
    ]
    for worker in workers:
        worker.start()
    together.wait(120)
    cache = EmbeddingCache(tmp_path)
    sizes: list[int] = []
    while any(worker.is_alive() for worker in workers):
        with filelock.FileLock(tmp_path / ".eviction.lock"):  # a listing takes time
            sizes.append(cache.disk_bytes)
        time.sleep(0.001)
    assert [queue.get(timeout=20) for _ in workers] == ["ok"] * 3
    assert len(sizes) > 10
    assert 0 < max(*sizes, cache.disk_bytes) <= LIMIT
    assert not list(tmp_path.glob("*.part"))


def test_who_waits_for_others_in_vain_keeps_nothing_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_LOCK_SECONDS", 0.05)
    cache = EmbeddingCache(tmp_path, max_memory_bytes=0, max_disk_bytes=NBYTES + 1000)
    cache.get_or_compute(KEYS[0], embedding)
    with filelock.FileLock(tmp_path / ".eviction.lock"):
        assert equal(cache.get_or_compute(KEYS[1], embedding), cache.get_or_compute(KEYS[0], never))
    assert cache.get(KEYS[1]) is None
    cache.get_or_compute(KEYS[2], embedding)
    assert cache.get(KEYS[2]) is not None
    assert cache.disk_bytes <= cache.max_disk_bytes


def test_files_that_cannot_be_removed_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = EmbeddingCache(tmp_path, max_memory_bytes=0, max_disk_bytes=NBYTES + 1000)
    cache.get_or_compute(KEYS[0], embedding)

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "open elsewhere")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        cache.get_or_compute(KEYS[1], embedding)
    assert cache.get(KEYS[1]) is None
    assert cache.get(KEYS[0]) is not None


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("key", ["", "abc", "../../../../etc/passwd", "A" * 40, "g" * 40])
def test_keys_are_digests(key: str) -> None:
    with pytest.raises(ValueError, match="key must be 16 to 128 hexadecimal digits, got"):
        EmbeddingCache().get_or_compute(key, embedding)
    with pytest.raises(ValueError, match="key must be 16 to 128 hexadecimal digits, got"):
        EmbeddingCache().get(key)


def test_sizes_are_not_negative() -> None:
    with pytest.raises(ValueError, match="sizes must be 0 or more bytes, got -1 and 5"):
        EmbeddingCache(max_memory_bytes=-1, max_disk_bytes=5)


def test_what_is_held_is_known_without_reading_it(tmp_path: Path) -> None:
    key = "0123456789abcdef"
    cache = EmbeddingCache(tmp_path)
    assert not cache.holds(key)
    cache.get_or_compute(key, embedding)
    assert cache.holds(key)
    assert EmbeddingCache(tmp_path).holds(key)
    assert not EmbeddingCache().holds(key)
    with pytest.raises(ValueError, match="hexadecimal digits"):
        cache.holds("../key")
