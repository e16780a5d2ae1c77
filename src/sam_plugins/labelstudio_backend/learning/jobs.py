"""Trainings that were asked for, are running or are over; one of a project runs at a time."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from enum import StrEnum

from sam_plugins.labelstudio_backend.learning.database import Database, now


class JobState(StrEnum):
    """What became of a training."""

    WANTED = "wanted"
    RUNNING = "running"
    PROMOTED = "promoted"
    """It is better, and in use."""
    KEPT_OUT = "not better"
    WAITING = "too few labels"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class TrainingJob:
    """One training.

    Attributes
    ----------
    number : int
    project : str
    reason : str
        Why it was asked for.
    state : JobState
    folder : str
        Of its run; empty before it began.
    process : int
        Of the trainer, 0 before it began.
    starts : int
        How often a process was started for it.
    requested_at, started_at, ended_at : float or None
        Seconds since 1970; of several starts the last.
    message : str
        What came of it, for people.
    version : str
        What it became in the model store, or empty.
    """

    number: int
    project: str
    reason: str
    state: JobState
    folder: str
    process: int
    starts: int
    requested_at: float
    started_at: float | None
    ended_at: float | None
    message: str
    version: str


def request_training(connection: sqlite3.Connection, project: str, reason: str) -> None:
    """Ask for a training; several requests that wait are one."""
    connection.execute(
        "INSERT INTO trainings (project, reason, state, requested_at) SELECT ?, ?, ?, ? "
        "WHERE NOT EXISTS (SELECT 1 FROM trainings WHERE project = ? AND state = ?)",
        (project, reason, JobState.WANTED, now(), project, JobState.WANTED),
    )


class Jobs:
    """The trainings of all projects.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def request(self, project: str, reason: str) -> None:
        """Ask for a training."""
        with self._database.writing() as connection:
            request_training(connection, project, reason)

    def wanted(self) -> list[TrainingJob]:
        """Return what waits and whose project has no training running, the oldest first."""
        busy = {one.project for one in self.in_state(JobState.RUNNING)}
        return [one for one in self.in_state(JobState.WANTED) if one.project not in busy]

    def in_state(self, state: JobState) -> list[TrainingJob]:
        """Return the trainings of one state, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM trainings WHERE state = ? ORDER BY number", (state,)
            ).fetchall()
        return [_job(row) for row in rows]

    def of_project(self, project: str, *, limit: int = 20) -> list[TrainingJob]:
        """Return a project's trainings, the newest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM trainings WHERE project = ? ORDER BY number DESC LIMIT ?",
                (project, limit),
            ).fetchall()
        return [_job(row) for row in rows]

    def begin(self, number: int, folder: str) -> None:
        """Note that a training is about to be started, before it is."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE trainings SET state = ?, folder = ?, starts = starts + 1, process = 0, "
                "started_at = ? WHERE number = ?",
                (JobState.RUNNING, folder, now(), number),
            )
            connection.execute(
                "UPDATE projects SET annotations_since_training = 0 WHERE project = "
                "(SELECT project FROM trainings WHERE number = ?)",
                (number,),
            )

    def note_process(self, number: int, process: int) -> None:
        """Note the trainer's process."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE trainings SET process = ? WHERE number = ?", (process, number)
            )

    def end(self, number: int, state: JobState, message: str, version: str = "") -> None:
        """Note what became of a training."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE trainings SET state = ?, message = ?, version = ?, ended_at = ? "
                "WHERE number = ?",
                (state, message, version, now(), number),
            )


def _job(row: sqlite3.Row) -> TrainingJob:
    """Return the training of a row."""
    return TrainingJob(**{**dict(row), "state": JobState(row["state"])})
