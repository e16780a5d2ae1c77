"""What is wrong with a request, and what went wrong lately."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

_KEPT = 50


class PayloadError(ValueError):
    """A request is not what Label Studio sends: answered with 400 and the reason."""


@dataclass(frozen=True)
class Problem:
    """Something that went wrong while answering.

    Parameters
    ----------
    kind : str
        One word, for counting: ``image``, ``prompt``, ``config``, ``label_studio``, ``model``,
        ``internal``.
    message : str
        For people, with what to do.
    project, task : str
        Where it happened.
    time : str
        When, ISO 8601.
    """

    kind: str
    message: str
    project: str = ""
    task: str = ""
    time: str = ""


class Problems:
    """The last problems, for the status page: the editor of Label Studio shows none."""

    def __init__(self) -> None:
        self._last: deque[Problem] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    def add(self, kind: str, message: str, *, project: str = "", task: object = "") -> Problem:
        """Remember a problem and return it."""
        problem = Problem(
            kind, message, project, str(task), datetime.now(UTC).isoformat(timespec="seconds")
        )
        with self._lock:
            self._last.append(problem)
        return problem

    def documents(self) -> list[dict[str, Any]]:
        """Return the last problems, newest first."""
        with self._lock:
            return [asdict(one) for one in reversed(self._last)]
