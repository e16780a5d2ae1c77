"""How Label Studio names a project to a backend, and how our folders and models are called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_KEY = re.compile(r"\d{1,18}(?:\.\d{1,18})?")


def key_of(project: Any) -> str | None:  # noqa: ANN401
    """Return the key of a project, ``"ID.CREATED"``, or None where nothing tells it.

    ``/setup`` and ``/predict`` name a project so. Webhooks send the project itself: its id and the
    time when it was made, in seconds since 1970, give the same key.

    Examples
    --------
    >>> key_of({"id": 1, "created_at": "2026-11-22T10:09:14.371Z"}), key_of("1.1795342154")
    ('1.1795342154', '1.1795342154')
    >>> key_of({"id": 1}), key_of("../1") is None
    ('1', True)
    """
    if isinstance(project, Mapping):
        number, created = project.get("id"), project.get("created_at")
        if not isinstance(number, int) or isinstance(number, bool):
            return None
        seconds = _seconds(created)
        text = str(number) if seconds is None else f"{number}.{seconds}"
    else:
        text = str(project)
    return text if _KEY.fullmatch(text) else None


def project_id_of(key: str) -> int:
    """Return Label Studio's number of a project.

    Examples
    --------
    >>> project_id_of("12.1795342154")
    12
    """
    return int(key.partition(".")[0])


def model_name_of(key: str) -> str:
    """Return the name that a project's models have in the model store.

    Examples
    --------
    >>> model_name_of("12.1795342154")
    'label-studio-12.1795342154'
    """
    return f"label-studio-{key}"


def _seconds(created: Any) -> int | None:  # noqa: ANN401
    """Return a time as whole seconds since 1970."""
    if isinstance(created, datetime):
        time = created
    else:
        try:
            time = datetime.fromisoformat(str(created))
        except ValueError:
            return None
    time = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return int(time.timestamp())
