"""Logs for machines: one JSON object a line, with the id of the request, without secrets."""

from __future__ import annotations

import contextvars
import json
import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
"""Of the request that is being answered."""

LOG = logging.getLogger("sam_plugins.labelstudio_backend")

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_SECRETS = (
    re.compile(r"(?i)\b(token|bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(
        r"(?i)([?&](?:key|sig|AWSAccessKeyId|GoogleAccessId|x-(?:amz|goog)-[a-z-]+)="
        r"|\b(?:token|access_token|api[_-]?key|password|secret|signature)=)[^&\s\"']+"
    ),
    re.compile(r"(?i)(\"(?:access_token|token|refresh|password|api_key)\"\s*:\s*\")[^\"]+"),
    re.compile(r"(://)[^/?#\s\"'<>]+(@)"),  # up to the last @, which a password may hold
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]+"),
)


def without_secrets(text: str, known: Iterable[str] = ()) -> str:
    """Return a text in which tokens, passwords and signatures are replaced.

    Examples
    --------
    >>> without_secrets("sent Authorization: Token 0123456789abcdef")
    'sent Authorization: Token ***'
    >>> without_secrets("http://me:mine@host/x?X-Amz-Signature=abc")
    'http://***@host/x?X-Amz-Signature=***'
    >>> without_secrets("http://me:a@b@host/x?AWSAccessKeyId=abc&X-Goog-Signature=def&size=3")
    'http://***@host/x?AWSAccessKeyId=***&X-Goog-Signature=***&size=3'
    >>> without_secrets("got api_key=0123456789 and https://host/a@b.png")
    'got api_key=*** and https://host/a@b.png'
    """
    for secret in known:
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    text = _SECRETS[0].sub(lambda match: f"{match[1]} ***", text)
    for pattern in _SECRETS[1:3]:
        text = pattern.sub(lambda match: f"{match[1]}***", text)
    text = _SECRETS[3].sub(lambda match: f"{match[1]}***{match[2]}", text)
    return _SECRETS[4].sub("***", text)


class LogFormatter(logging.Formatter):
    """Formats records as JSON or as text, secrets replaced.

    Parameters
    ----------
    is_json : bool
        Whether each line is a JSON object.
    secrets : iterable of str
        What must never appear.
    """

    def __init__(self, *, is_json: bool = True, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._is_json = is_json
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        fields = {key: value for key, value in record.__dict__.items() if key not in _STANDARD} | (
            {"request_id": request_id.get()} if request_id.get() else {}
        )
        if not self._is_json:
            told = " ".join(f"{key}={value}" for key, value in fields.items())
            return without_secrets(f"{super().format(record)} {told}".rstrip(), self._secrets)
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **fields,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return without_secrets(json.dumps(line, default=str), self._secrets)


def configure(*, is_json: bool, secrets: Iterable[str] = ()) -> None:
    """Send the log of the backend to standard error; called by who starts a server, not before."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter(is_json=is_json, secrets=secrets))
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
