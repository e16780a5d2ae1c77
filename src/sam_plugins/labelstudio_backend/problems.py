"""What is wrong with a request, and what went wrong lately."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

_KEPT = 50
_MOST_STANDING = 200


class PayloadError(ValueError):
    """A request is not what Label Studio sends: answered with 400 and the reason."""


@dataclass(frozen=True)
class Problem:
    """Something that went wrong while answering.

    Parameters
    ----------
    kind : str
        One word, for counting: ``image``, ``prompt``, ``request``, ``config``, ``label_studio``,
        ``model``, ``disk``, ``internal``.
    message : str
        For people, with what to do.
    project, task : str
        Where it happened.
    time : str
        When, ISO 8601; the last time, of what goes on.
    since : str
        Since when it goes on; empty where it happened once.
    """

    kind: str
    message: str
    project: str = ""
    task: str = ""
    time: str = ""
    since: str = ""


class Problems:
    """What goes on and what happened lately, for the status page: Label Studio's editor shows none.

    What happened while Label Studio was down or refused the token, and because of it, is no problem
    any more once it answers again.
    """

    def __init__(self) -> None:
        self._last: deque[tuple[Problem, float]] = deque(maxlen=_KEPT)
        self._standing: dict[str, Problem] = {}
        self._lock = threading.Lock()

    def add(
        self,
        kind: str,
        message: str,
        *,
        project: str = "",
        task: object = "",
        is_of_server: bool = False,
    ) -> Problem:
        """Remember what happened once, and return it.

        Parameters
        ----------
        kind, message, project, task
            See :class:`Problem`.
        is_of_server : bool
            Whether it may have happened because Label Studio was down or refused the token: if it
            was at that moment, this is forgotten when Label Studio is back.
        """
        problem = Problem(kind, message, project, str(task), _now())
        with self._lock:
            self._last.append((problem, time.monotonic() if is_of_server else math.inf))
        return problem

    def stand(self, name: str, kind: str, message: str, *, project: str = "") -> bool:
        """Remember what goes on until :meth:`end`, and return whether it is new.

        Parameters
        ----------
        name : str
            By which it is ended; again, it stands since the first time, with the last message.
        kind, message, project
            See :class:`Problem`.
        """
        moment = _now()
        with self._lock:
            known = self._standing.get(name)
            since = moment if known is None else known.since
            self._standing[name] = Problem(kind, message, project, "", moment, since)
            while len(self._standing) > _MOST_STANDING:
                del self._standing[next(iter(self._standing))]
        return known is None

    def end(self, name: str) -> bool:
        """Forget what went on; return whether it did."""
        with self._lock:
            return self._standing.pop(name, None) is not None

    def forget_of_server(self, since: float, until: float) -> None:
        """Forget what an outage of Label Studio explains.

        Parameters
        ----------
        since, until : float
            Between which moments of ``time.monotonic()`` it was down or refused the token.
        """
        with self._lock:
            kept = [(one, at) for one, at in self._last if not since <= at < until]
            self._last = deque(kept, maxlen=_KEPT)

    def documents(self) -> list[dict[str, Any]]:
        """Return what goes on, then the last that happened, newest first."""
        with self._lock:
            standing = sorted(self._standing.values(), key=lambda one: one.since)
            last = [one for one, _ in reversed(self._last)]
        return [asdict(one) for one in (*standing, *last)]


def _now() -> str:
    """Return the time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
