"""The file: created once, recognised, whole after a kill, and errors in words."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.model.engine.label_store.helpers import BATCH, accepted, square, write_picture

from sam_plugins.errors import LabelStoreError, SamPluginsError
from sam_plugins.model.engine.label_store import ImageRecord, LabelStore
from sam_plugins.model.engine.label_store.database import FILE_NAME, SCHEMA_VERSION


def start_writer(
    store: LabelStore, image: ImageRecord, name: str, batches: int
) -> subprocess.Popen:
    """Start a process that writes to a store."""
    command = [sys.executable, "-m", "tests.model.engine.label_store.helpers"]
    return subprocess.Popen(
        [*command, str(store.folder), image.image_id, name, str(batches)],
        stdout=subprocess.PIPE,
        text=True,
    )


def pragma(store: LabelStore, statement: str) -> None:
    """Change something in the file, past the store."""
    connection = sqlite3.connect(store.folder / FILE_NAME)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_several_processes_write_at_once(store: LabelStore, image: ImageRecord) -> None:
    writers = [start_writer(store, image, f"writer{number}", 15) for number in range(3)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    for writer in writers:
        writer.stdout.close()
    ids = {one.object_id for one in store.objects(image.image_id)}
    assert ids == {
        f"writer{number}-{batch}-{index}"
        for number in range(3)
        for batch in range(15)
        for index in range(BATCH)
    }


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a signal of POSIX")
def test_a_writer_that_is_killed_leaves_whole_batches(
    store: LabelStore, image: ImageRecord
) -> None:
    said = -1
    for number, after in enumerate((0.0, 0.007)):
        writer = start_writer(store, image, f"killed{number}", 100_000)
        assert writer.stdout is not None
        for line in iter(writer.stdout.readline, ""):
            said = int(line)
            if said >= 5:
                break
        time.sleep(after)
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read()
        writer.stdout.close()
        assert writer.wait(timeout=60) == -signal.SIGKILL
        said = max([said, *map(int, rest.split())])

        names = [one.object_id for one in store.objects(image.image_id)]
        own = {name for name in names if name.startswith(f"killed{number}-")}
        batches = {int(name.split("-")[1]) for name in own}
        assert len(own) == BATCH * len(batches)
        assert batches >= set(range(said + 1)), "what was said to be stored is there"
    connection = sqlite3.connect(store.folder / FILE_NAME)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    store.put_objects([accepted(image.image_id, square(0, 0))])


def test_threads_share_a_store(store: LabelStore, image: ImageRecord) -> None:
    def write(name: str) -> None:
        for number in range(20):
            store.put_objects(
                [accepted(image.image_id, square(0, number), object_id=f"{name}-{number}")]
            )

    threads = [threading.Thread(target=write, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.objects(image.image_id)) == 80


def _put_in_child(store: LabelStore, image_id: str) -> None:
    store.put_objects([accepted(image_id, square(1, 1), object_id="child")])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_store_survives_a_fork(store: LabelStore, image: ImageRecord) -> None:
    child = multiprocessing.get_context("fork").Process(
        target=_put_in_child, args=(store, image.image_id)
    )
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert [one.object_id for one in store.objects(image.image_id)] == ["child"]


def test_an_error_within_a_batch_stores_nothing_of_it(
    store: LabelStore, image: ImageRecord
) -> None:
    with pytest.raises(LabelStoreError, match="has no picture 'other'; add it first"):
        store.put_objects([accepted(image.image_id, square(0, 0)), accepted("other", square(0, 0))])
    assert store.objects(image.image_id) == []


def test_a_full_disk_is_said_and_what_was_there_stays(
    store: LabelStore, image: ImageRecord
) -> None:
    store.put_objects([accepted(image.image_id, square(0, 0), object_id="before")])
    with store._database.reading() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    store._database._connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's full disk
    many = [accepted(image.image_id, square(0, 0), author="x" * 500) for _ in range(500)]
    with pytest.raises(LabelStoreError, match="the disk is full; free some space and try again"):
        store.put_objects(many)
    assert [one.object_id for one in store.objects(image.image_id)] == ["before"]
    store._database._connection.execute("PRAGMA max_page_count = 100000")
    store.put_objects(many)
    assert len(store.objects(image.image_id)) == 501


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """A folder with a store that this process may read and not write, also where it is root's."""
    if os.name == "nt":
        pytest.skip("permissions of folders are POSIX's")
    folder = Path(tempfile.mkdtemp())
    with LabelStore.create(folder / "store") as store:
        record = store.add_images([write_picture(folder / "a.png")])[0]
        store.put_objects([accepted(record.image_id, square(0, 0))])
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(user)
        for path in paths:
            path.chmod(0o755)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()


def test_a_read_only_folder_opens_for_reading(locked_folder: Path) -> None:
    with LabelStore.open(locked_folder / "store", read_only=True) as store:
        (record,) = store.images()
        assert store.label_image(record.image_id).max() == 1
        with pytest.raises(LabelStoreError, match="was opened for reading only; open it for"):
            store.set_complete(record.image_id)


def test_a_read_only_folder_is_not_written(locked_folder: Path) -> None:
    with pytest.raises(LabelStoreError, match=r"read-only; open it for reading only \(read_only"):
        LabelStore.open(locked_folder / "store").set_complete("any")
    with pytest.raises(LabelStoreError, match="you may not write there; choose another folder"):
        LabelStore.create(locked_folder / "new")


def test_a_new_store_is_not_made_over_an_old_one(store: LabelStore) -> None:
    with pytest.raises(LabelStoreError, match="holds a label store already; open it, or choose"):
        LabelStore.create(store.folder)


def test_no_store_no_folder(tmp_path: Path) -> None:
    with pytest.raises(LabelStoreError, match=r"no label store in .*nowhere .*; create one, or"):
        LabelStore.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    assert issubclass(LabelStoreError, SamPluginsError)


def test_a_store_of_the_future_is_refused(store: LabelStore) -> None:
    pragma(store, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(
        LabelStoreError,
        match=rf"newer sam-plugins \(its tables have version {SCHEMA_VERSION + 1}, this one knows "
        rf"{SCHEMA_VERSION}\); upgrade",
    ):
        LabelStore.open(store.folder)


def test_creating_that_was_killed_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch()
    with pytest.raises(LabelStoreError, match="was never finished; create it again"):
        LabelStore.open(tmp_path)
    LabelStore.create(tmp_path).close()
    assert LabelStore.open(tmp_path).images() == []


def test_other_programs_databases_are_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("CREATE TABLE t (a)")
    connection.commit()
    connection.close()
    for way in (LabelStore.create, LabelStore.open):
        with pytest.raises(LabelStoreError, match="is a database of another program; choose"):
            way(tmp_path)


@pytest.mark.parametrize("start", [b"this is no database, " * 300, None])
def test_a_damaged_file_is_said(store: LabelStore, image: ImageRecord, start: bytes | None) -> None:
    store.put_objects([accepted(image.image_id, square(0, 0))] * 50)
    store.close()
    path = store.folder / FILE_NAME
    content = path.read_bytes()
    path.write_bytes(start or content[:100] + bytes(len(content) - 100))
    with pytest.raises(LabelStoreError, match=r"is damaged or no label store .*; put back a copy"):
        LabelStore.open(store.folder).images()


def test_a_writer_that_never_ends_is_said(
    store: LabelStore, image: ImageRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(store.folder / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store._database._connection.execute("PRAGMA busy_timeout = 10")
    assert store.images() == [image], "readers do not wait"
    with pytest.raises(LabelStoreError, match=r"another program has been writing .*; wait"):
        store.set_complete(image.image_id)
    other.execute("ROLLBACK")
    other.close()
    store.set_complete(image.image_id)
