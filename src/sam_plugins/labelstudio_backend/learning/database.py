"""The database of the backend's learning: one file, written by several processes at once."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from sam_plugins.errors import LearningError, OutputError
from sam_plugins.model.io.atomic import make_folder

FILE_NAME = "learning.sqlite"
SCHEMA_VERSION = 2

_APPLICATION_ID = 0x534C4C53  # "SLLS"; tells our files from other people's databases
_BUSY_SECONDS = 30

_SCHEMA = """
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at REAL NOT NULL,
    payload TEXT NOT NULL
) STRICT;
CREATE TABLE refused_events (
    number INTEGER PRIMARY KEY,
    received_at REAL NOT NULL,
    payload TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE TABLE projects (
    project TEXT PRIMARY KEY,
    title TEXT NOT NULL DEFAULT '',
    label_config TEXT NOT NULL DEFAULT '',
    annotations_since_training INTEGER NOT NULL DEFAULT 0,
    reconciled_at REAL NOT NULL DEFAULT 0,
    reconcile_error TEXT NOT NULL DEFAULT '',
    scheduled_at REAL NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE tasks (
    project TEXT NOT NULL,
    task INTEGER NOT NULL,
    data TEXT,
    is_deleted INTEGER NOT NULL DEFAULT 0,
    seen_at REAL NOT NULL,
    changes INTEGER NOT NULL DEFAULT 1,
    stored_changes INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    retry_at REAL NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (project, task)
) STRICT, WITHOUT ROWID;
CREATE TABLE annotations (
    project TEXT NOT NULL,
    annotation INTEGER NOT NULL,
    task INTEGER NOT NULL,
    updated_at REAL NOT NULL,
    seen_at REAL NOT NULL,
    is_deleted INTEGER NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (project, annotation)
) STRICT;
CREATE INDEX annotations_by_task ON annotations (project, task);
CREATE TABLE objects (
    project TEXT NOT NULL,
    task INTEGER NOT NULL,
    object_id TEXT NOT NULL,
    is_born_here INTEGER NOT NULL,
    PRIMARY KEY (project, task, object_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE left_out (
    project TEXT NOT NULL,
    task INTEGER NOT NULL,
    reason TEXT NOT NULL,
    regions INTEGER NOT NULL,
    PRIMARY KEY (project, task, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE trainings (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL,
    reason TEXT NOT NULL,
    state TEXT NOT NULL,
    folder TEXT NOT NULL DEFAULT '',
    process INTEGER NOT NULL DEFAULT 0,
    starts INTEGER NOT NULL DEFAULT 0,
    requested_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL,
    message TEXT NOT NULL DEFAULT '',
    version TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX trainings_by_project ON trainings (project, state);
"""


class Database:
    """The file; made where it is missing.

    Parameters
    ----------
    folder : Path
        Of the backend's state; made where it is missing.

    Raises
    ------
    LearningError
        If it cannot be made or used.
    """

    def __init__(self, folder: Path) -> None:
        try:
            make_folder(folder)
        except OutputError as error:
            raise LearningError(str(error)) from error
        self.path = folder.absolute() / FILE_NAME
        with self.writing() as connection:
            if not _pragma(connection, "application_id"):
                if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                    raise self._foreign()
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif _pragma(connection, "application_id") != _APPLICATION_ID:
                raise self._foreign()
            elif (version := _pragma(connection, "user_version")) > SCHEMA_VERSION:
                raise LearningError(
                    f"{self.path} was written by a newer sam-plugins (its tables have version "
                    f"{version}, this one knows {SCHEMA_VERSION}); upgrade sam-plugins: "
                    "pip install -U sam-plugins"
                )
            elif version < SCHEMA_VERSION:
                _upgrade(connection)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Write all of a block or nothing of it; other writers wait.

        Raises
        ------
        LearningError
            If the file cannot be written; nothing has changed then.
        """
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read one state of the file.

        Raises
        ------
        LearningError
            If it cannot be read.
        """
        with self._connected() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Open a connection for one block; what SQLite raises is put into words."""
        try:
            with contextlib.closing(
                sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                # Safe from kill -9; what a power cut takes back, the next reconcile brings again.
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.row_factory = sqlite3.Row
                yield connection
        except sqlite3.DatabaseError as error:
            raise LearningError(
                f"cannot use {self.path}: {error}; check that the disk has space and that you may "
                "write there. Label Studio keeps all annotations: they are fetched again when this "
                "is mended"
            ) from error

    def _foreign(self) -> LearningError:
        """Return the error for another program's database."""
        return LearningError(
            f"{self.path} is a database of another program; choose another folder for the state"
        )


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring the tables of version 1 up to date, and read every task anew: more is told of them."""
    (made,) = (one for one in _SCHEMA.split(";") if "CREATE TABLE left_out" in one)
    connection.execute(made)
    connection.execute("UPDATE tasks SET changes = changes + 1")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def now() -> float:
    """Return the time in seconds since 1970, by this machine's clock."""
    return time.time()


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return a number in the header of the file."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
