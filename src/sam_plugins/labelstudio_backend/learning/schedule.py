"""When a training begins by itself: after so many annotations, or at a time of day."""

from __future__ import annotations

from datetime import datetime, timedelta

from sam_plugins.labelstudio_backend.learning.database import Database
from sam_plugins.labelstudio_backend.learning.jobs import JobState, request_training


def request_due(
    database: Database, moment: datetime, *, train_every: int = 0, train_at: str = ""
) -> list[str]:
    """Ask for the trainings whose time has come; return their projects.

    Parameters
    ----------
    database : Database
    moment : datetime
        Now, with a time zone: the one in which ``train_at`` is meant.
    train_every : int
        Annotations since the last training; 0 for never.
    train_at : str
        Such as ``"02:30"``; empty for never. Only projects with new annotations are trained.
    """
    due = []
    with database.writing() as connection:
        rows = connection.execute(
            "SELECT project, annotations_since_training AS new, scheduled_at FROM projects "
            "WHERE NOT EXISTS (SELECT 1 FROM trainings WHERE trainings.project = projects.project "
            "AND state IN (?, ?))",
            (JobState.WANTED, JobState.RUNNING),
        ).fetchall()
        for row in rows:
            reason = ""
            if train_every and row["new"] >= train_every:
                reason = f"{row['new']} new annotations"
            elif train_at:
                slot = last_slot(moment, train_at).timestamp()
                if row["scheduled_at"] < slot:
                    connection.execute(
                        "UPDATE projects SET scheduled_at = ? WHERE project = ?",
                        (moment.timestamp(), row["project"]),
                    )
                    # A project that was never looked at waits for its first time of day.
                    if row["scheduled_at"] and row["new"]:
                        reason = f"it is past {train_at}, with {row['new']} new annotations"
            if reason:
                request_training(connection, row["project"], reason)
                due.append(row["project"])
    return due


def last_slot(moment: datetime, train_at: str) -> datetime:
    """Return when it was that time of day last.

    Examples
    --------
    >>> str(last_slot(datetime(2026, 5, 2, 1, 0), "02:30"))
    '2026-05-01 02:30:00'
    """
    hour, minute = map(int, train_at.split(":"))
    slot = moment.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return slot if slot <= moment else slot - timedelta(days=1)
