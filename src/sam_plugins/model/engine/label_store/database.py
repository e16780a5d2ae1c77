"""The file of the label store: opened, checked, written in transactions, errors in words."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from sam_plugins.errors import LabelStoreError

FILE_NAME = "labels.sqlite"

SCHEMA_VERSION = 1
"""Raised whenever the tables change."""

_APPLICATION_ID = 0x534C4142  # "SLAB"; tells our files from other people's databases
_BUSY_SECONDS = 60

_SCHEMA = """
CREATE TABLE images (
    image_id TEXT PRIMARY KEY,
    path TEXT NOT NULL,
    plane INTEGER,
    sha256 TEXT NOT NULL,
    pixels_sha256 TEXT NOT NULL UNIQUE,
    height INTEGER NOT NULL CHECK (height > 0),
    width INTEGER NOT NULL CHECK (width > 0),
    group_name TEXT NOT NULL,
    split TEXT CHECK (split IN ('train', 'held-out')),
    is_complete INTEGER NOT NULL DEFAULT 0 CHECK (is_complete IN (0, 1)),
    added_at TEXT NOT NULL
);
CREATE INDEX images_by_group ON images (group_name);
CREATE INDEX images_by_sha256 ON images (sha256);
CREATE TABLE objects (
    object_id TEXT PRIMARY KEY,
    image_id TEXT NOT NULL REFERENCES images (image_id),
    counts TEXT NOT NULL,
    class_name TEXT NOT NULL,
    author TEXT NOT NULL,
    created_at TEXT NOT NULL,
    seconds REAL CHECK (seconds >= 0),
    model_id TEXT,
    stage TEXT NOT NULL,
    review TEXT NOT NULL,
    score REAL,
    is_crowd INTEGER NOT NULL CHECK (is_crowd IN (0, 1)),
    extra TEXT NOT NULL
);
CREATE INDEX objects_by_image ON objects (image_id, review);
CREATE TABLE prompts (
    object_id TEXT NOT NULL REFERENCES objects (object_id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    numbers TEXT NOT NULL,
    is_positive INTEGER NOT NULL CHECK (is_positive IN (0, 1)),
    content TEXT NOT NULL,
    PRIMARY KEY (object_id, position)
) WITHOUT ROWID;
CREATE TABLE reviews (
    object_id TEXT NOT NULL REFERENCES objects (object_id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    review TEXT NOT NULL,
    author TEXT NOT NULL,
    reviewed_at TEXT NOT NULL,
    seconds REAL CHECK (seconds >= 0),
    PRIMARY KEY (object_id, position)
) WITHOUT ROWID;
"""


class Database:
    """The database of one label store; a connection for each process, shared by its threads.

    Parameters
    ----------
    folder : Path
        Of the store.
    is_read_only : bool
        Whether writing is refused; a store on a read-only disk opens only so.
    """

    def __init__(self, folder: Path, *, is_read_only: bool = False) -> None:
        self.path = folder / FILE_NAME
        self.is_read_only = is_read_only
        self._lock = threading.RLock()
        self._process = -1
        self._connection: sqlite3.Connection | None = None
        self._forsaken: list[sqlite3.Connection] = []

    def create(self) -> None:
        """Make the tables, whichever of several processes comes first.

        Raises
        ------
        LabelStoreError
            If there is a store already, or it cannot be written.
        """
        with self.writing(is_new=True) as connection:
            if _pragma(connection, "application_id") == _APPLICATION_ID:
                raise LabelStoreError(
                    f"{self.path.parent} holds a label store already; open it, or choose another "
                    "folder"
                )
            if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise _foreign(self.path)
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def check(self) -> None:
        """Refuse what is no label store, or one of a newer version.

        Raises
        ------
        LabelStoreError
            Which it is, and what to do.
        """
        if not self.path.is_file():
            raise LabelStoreError(
                f"there is no label store in {self.path.parent} (no {FILE_NAME}); create one, or "
                "name the folder that holds it"
            )
        with self.reading() as connection:
            if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise LabelStoreError(
                    f"the label store {self.path.parent} was never finished; create it again"
                )
            if _pragma(connection, "application_id") != _APPLICATION_ID:
                raise _foreign(self.path)
            version = _pragma(connection, "user_version")
        if version > SCHEMA_VERSION:
            raise LabelStoreError(
                f"{self.path} was written by a newer sam-plugins (its tables have version "
                f"{version}, this one knows {SCHEMA_VERSION}); upgrade sam-plugins: "
                "pip install -U sam-plugins"
            )

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read a state of the store that no writer changes meanwhile.

        Raises
        ------
        LabelStoreError
            If the file cannot be read.
        """
        with self._lock, self._in_words(), self._transaction("BEGIN") as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self, *, is_new: bool = False) -> Iterator[sqlite3.Connection]:
        """Write all of a block or nothing of it; other writers wait.

        Raises
        ------
        LabelStoreError
            If the file cannot be written; nothing has changed then.
        """
        if self.is_read_only:
            raise LabelStoreError(
                f"{self.path.parent} was opened for reading only; open it for writing"
            )
        with (
            self._lock,
            self._in_words(),
            self._transaction("BEGIN IMMEDIATE", is_new=is_new) as connection,
        ):
            yield connection

    def close(self) -> None:
        """Close the connection of this process; the next use opens a new one."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
                self._connection = None

    @contextlib.contextmanager
    def _transaction(self, begin: str, *, is_new: bool = False) -> Iterator[sqlite3.Connection]:
        """Run a block in a transaction, or as part of the one that is open in this thread."""
        connection = self._connected(is_new=is_new)
        if connection.in_transaction:
            yield connection
            return
        connection.execute(begin)
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            _roll_back(connection)

    def _connected(self, *, is_new: bool) -> sqlite3.Connection:
        """Return this process's connection: one that came with a fork must not even be closed."""
        if self._connection is not None and self._process != os.getpid():
            self._forsaken.append(self._connection)
            self._connection = None
        if self._connection is None:
            self._process = os.getpid()
            self._connection = self._connect(is_new=is_new)
        return self._connection

    def _connect(self, *, is_new: bool) -> sqlite3.Connection:
        """Open the file."""
        uri = f"file:{quote(self.path.absolute().as_posix())}"
        if self.is_read_only:
            return self._connect_for_reading(uri)
        connection = _open(f"{uri}?mode={'rwc' if is_new else 'rw'}")
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA journal_mode = WAL")
            # People's work: a power cut must not take back what was said to be stored.
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_for_reading(self, uri: str) -> sqlite3.Connection:
        """Open a file that may lie on a read-only disk, where SQLite cannot share it."""
        connection = _open(f"{uri}?mode=ro")
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError:
            connection.close()
            journal = self.path.with_name(f"{FILE_NAME}-wal")
            if journal.exists() and journal.stat().st_size:  # somebody writes
                raise
            return _open(f"{uri}?immutable=1")
        return connection

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        """Translate what SQLite raises."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise  # a mistake of the caller's, translated where it is known
        except sqlite3.DatabaseError as error:
            raise LabelStoreError(self._explained(error)) from error

    def _explained(self, error: sqlite3.DatabaseError) -> str:
        """Return what went wrong and what to do."""
        folder = self.path.parent
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extended part
        if code == sqlite3.SQLITE_FULL:
            return (
                f"cannot write to the label store {folder}: the disk is full; free some space and "
                "try again; what was stored before is safe"
            )
        if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
            return (
                f"cannot write to the label store {folder}: you may not write there, or the disk "
                "is read-only; open it for reading only (read_only=True), or copy it elsewhere"
            )
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return (
                f"another program has been writing to the label store {folder} for over "
                f"{_BUSY_SECONDS} s; wait until it is done"
            )
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return (
                f"{self.path} is damaged or no label store ({error}); put back a copy of it, or "
                "create a store in another folder and import your last export"
            )
        if code == sqlite3.SQLITE_CANTOPEN:
            return (
                f"cannot open {self.path}: the folder does not exist, or you may not write there; "
                "check the name, or open it for reading only (read_only=True)"
            )
        return (
            f"cannot use the label store {folder}: {error}; check the disk (its space, your quota, "
            "the network behind it) and try again"
        )


def _open(uri: str) -> sqlite3.Connection:
    """Open a connection that leaves transactions to us, and may go from thread to thread."""
    return sqlite3.connect(
        uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _roll_back(connection: sqlite3.Connection) -> None:
    """Take back what was not committed; SQLite may have done so itself."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return a number in the header of the file."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _foreign(path: Path) -> LabelStoreError:
    """Return the error for another program's database."""
    return LabelStoreError(
        f"{path} is a database of another program; choose another folder for the label store"
    )
