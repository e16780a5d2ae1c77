"""What a project remembers beside its labels: settings, jobs, signals, what is done, rounds."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import platform
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sam_plugins.errors import ProjectError
from sam_plugins.model.engine.selection import Signals

FILE_NAME = "project.sqlite"
SCHEMA_VERSION = 1

_APPLICATION_ID = 0x53454E47  # "SENG"; tells our files from other people's databases
_BUSY_SECONDS = 60

_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY,
    command TEXT NOT NULL,
    author TEXT NOT NULL,
    host TEXT NOT NULL,
    process INTEGER NOT NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    outcome TEXT
) STRICT;
CREATE TABLE signals (
    image_id TEXT NOT NULL,
    model_id TEXT NOT NULL,
    disagreement REAL NOT NULL,
    expected_error REAL NOT NULL,
    prompts INTEGER NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY (image_id, model_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE automatic (
    image_id TEXT NOT NULL,
    work TEXT NOT NULL,
    model_id TEXT NOT NULL,
    objects INTEGER NOT NULL,
    seconds REAL NOT NULL,
    done_at TEXT NOT NULL,
    PRIMARY KEY (image_id, work)
) STRICT, WITHOUT ROWID;
CREATE TABLE rounds (
    number INTEGER PRIMARY KEY,
    trained_at TEXT NOT NULL,
    parent_id TEXT NOT NULL,
    version TEXT,
    pictures INTEGER NOT NULL,
    objects INTEGER NOT NULL,
    seconds REAL NOT NULL,
    details TEXT NOT NULL
) STRICT;
"""


@dataclass(frozen=True)
class Job:
    """A job that is or was at work on a project.

    Attributes
    ----------
    number : int
    command : str
    author, host : str
        Who runs it, and on which machine.
    process : int
        Its id there.
    started_at : str
        ISO 8601 time in UTC.
    ended_at, outcome : str or None
        None while it runs, or if it was killed.
    """

    number: int
    command: str
    author: str
    host: str
    process: int
    started_at: str
    ended_at: str | None
    outcome: str | None

    def __str__(self) -> str:
        """Say who it is."""
        since = self.started_at[:19].replace("T", " ")
        return (
            f"{self.command!r} by {self.author} on {self.host} (process {self.process}), "
            f"since {since} UTC"
        )


@dataclass(frozen=True)
class TrainingRound:
    """One training of a project.

    Attributes
    ----------
    number : int
        Counted from 1.
    trained_at : str
        ISO 8601 time in UTC.
    parent_id : str
        Id of the weights that it started from.
    version : str or None
        What it became in the model store; None where nothing was better.
    pictures, objects : int
        What was learned from.
    seconds : float
    details : mapping
        Figures on the held-out pictures, for JSON.
    """

    number: int
    trained_at: str
    parent_id: str
    version: str | None
    pictures: int
    objects: int
    seconds: float
    details: Mapping[str, Any]


class ProjectState:
    """The database of a project; every call opens it for itself.

    Parameters
    ----------
    folder : Path
        Of the project.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME

    def create(self, settings: Mapping[str, Any]) -> None:
        """Make the tables.

        Raises
        ------
        ProjectError
            If there is a project already, or it cannot be written.
        """
        if self.path.exists():
            raise ProjectError(
                f"{self.path.parent} holds a project already; go on with it, or choose another "
                "folder"
            )
        with self._connected(is_new=True) as connection:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.executemany(
                "INSERT INTO settings VALUES (?, ?)",
                [(name, json.dumps(value)) for name, value in settings.items()],
            )
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def settings(self) -> dict[str, Any]:
        """Return what was settled when the project was made.

        Raises
        ------
        ProjectError
            If there is no project, it is damaged, or a newer version wrote it.
        """
        if not self.path.is_file():
            raise ProjectError(
                f"{self.path.parent} holds no project of the data engine (no {FILE_NAME}); make "
                "one with `sam-plugins engine init`, or name the folder that holds it"
            )
        with self._connected() as connection:
            if _pragma(connection, "application_id") != _APPLICATION_ID:
                raise ProjectError(
                    f"{self.path} is another program's database; choose another folder"
                )
            version = _pragma(connection, "user_version")
            if version > SCHEMA_VERSION:
                raise ProjectError(
                    f"{self.path} was written by a newer sam-plugins (its tables have version "
                    f"{version}, this one knows {SCHEMA_VERSION}); upgrade sam-plugins"
                )
            rows = connection.execute("SELECT name, value FROM settings").fetchall()
        return {name: json.loads(value) for name, value in rows}

    # ---------------------------------------------------------------------------------- jobs

    def begin_job(self, command: str) -> int:
        """Write down that a job begins, and that those which never ended were killed."""
        with self._connected() as connection:
            connection.execute(
                "UPDATE jobs SET ended_at = ?, outcome = 'killed' WHERE ended_at IS NULL", (now(),)
            )
            values = (command, user_name(), platform.node() or "unknown", os.getpid(), now())
            cursor = connection.execute(
                "INSERT INTO jobs (command, author, host, process, started_at) "
                "VALUES (?, ?, ?, ?, ?)",
                values,
            )
            return int(cursor.lastrowid or 0)

    def end_job(self, number: int, outcome: str) -> None:
        """Write down how a job ended."""
        with self._connected() as connection:
            connection.execute(
                "UPDATE jobs SET ended_at = ?, outcome = ? WHERE number = ?",
                (now(), outcome, number),
            )

    def last_job(self) -> Job | None:
        """Return the job that began last."""
        with self._connected() as connection:
            row = connection.execute("SELECT * FROM jobs ORDER BY number DESC LIMIT 1").fetchone()
        return None if row is None else Job(*row)

    # ------------------------------------------------------------------------------- signals

    def put_signals(self, signals: Signals, model_id: str) -> None:
        """Remember what a model says about a picture."""
        vector = np.asarray(signals.vector, "<f4").tobytes()
        values = (signals.disagreement, signals.expected_error, signals.prompts, vector)
        with self._connected() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO signals VALUES (?, ?, ?, ?, ?, ?)",
                (signals.image_id, model_id, *values),
            )

    def signals(self, model_id: str) -> dict[str, Signals]:
        """Return what a model said, by picture."""
        with self._connected() as connection:
            rows = connection.execute(
                "SELECT image_id, disagreement, expected_error, vector, prompts FROM signals "
                "WHERE model_id = ?",
                (model_id,),
            ).fetchall()
        return {
            row[0]: Signals(row[0], row[1], row[2], np.frombuffer(row[3], "<f4"), row[4])
            for row in rows
        }

    # ----------------------------------------------------------------------------- automatic

    def put_automatic(
        self, image_id: str, work: str, model_id: str, objects: int, seconds: float
    ) -> None:
        """Remember that a picture was segmented automatically."""
        with self._connected() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO automatic VALUES (?, ?, ?, ?, ?, ?)",
                (image_id, work, model_id, objects, seconds, now()),
            )

    def automatic(self, work: str | None = None) -> dict[str, tuple[int, float, str]]:
        """Return by picture how many objects were found, the seconds it took, and when.

        Parameters
        ----------
        work : str, optional
            Digest of model and options; by default whatever was done last.
        """
        with self._connected() as connection:
            rows = connection.execute(
                "SELECT image_id, objects, seconds, done_at FROM automatic "
                "WHERE ? IS NULL OR work = ? ORDER BY done_at",
                (work, work),
            ).fetchall()
        return {row[0]: (row[1], row[2], row[3]) for row in rows}

    # -------------------------------------------------------------------------------- rounds

    def put_round(
        self,
        parent_id: str,
        version: str | None,
        *,
        pictures: int,
        objects: int,
        seconds: float,
        details: Mapping[str, Any],
    ) -> int:
        """Remember a training; return its number."""
        values = (now(), parent_id, version, pictures, objects, seconds, json.dumps(details))
        with self._connected() as connection:
            cursor = connection.execute(
                "INSERT INTO rounds (trained_at, parent_id, version, pictures, objects, seconds, "
                "details) VALUES (?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            return int(cursor.lastrowid or 0)

    def rounds(self) -> list[TrainingRound]:
        """Return all trainings, oldest first."""
        with self._connected() as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute("SELECT * FROM rounds ORDER BY number").fetchall()
        return [
            TrainingRound(**{**dict(row), "details": json.loads(row["details"])}) for row in rows
        ]

    @contextlib.contextmanager
    def _connected(self, *, is_new: bool = False) -> Iterator[sqlite3.Connection]:
        """Run a block in a transaction of its own; what SQLite raises is put into words."""
        mode = "rwc" if is_new else "rw"
        try:
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_BUSY_SECONDS
            )
            with contextlib.closing(connection), connection:
                connection.execute("PRAGMA journal_mode = WAL")
                yield connection
        except sqlite3.DatabaseError as error:
            raise ProjectError(
                f"cannot use {self.path}: {error}; check that the disk has space and that you may "
                "write there, or put back a copy of the file"
            ) from error


def now() -> str:
    """Return the time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def user_name() -> str:
    """Return the name of who runs the program, as the system knows it."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container without names
        return "unknown"


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return a number in the header of the file."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
