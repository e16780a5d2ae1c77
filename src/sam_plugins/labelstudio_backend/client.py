"""Label Studio's API, as far as the backend asks it: two kinds of tokens, time limits, one host.

A personal access token is a JWT that is good for nothing but a refresh: every five minutes it is
exchanged for an access token, which goes out as ``Bearer``. The legacy token goes out as ``Token``.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from sam_plugins.errors import LabelStudioError
from sam_plugins.labelstudio_backend.logs import without_secrets

_SECONDS = 15.0
_SAFETY_SECONDS = 30.0
_REFUSED = 401
_PAGE = 100


class LabelStudioClient:
    """One Label Studio server, asked with one token; safe with threads.

    Parameters
    ----------
    url : str
        Where it is.
    token : str
        Legacy token or personal access token.
    seconds : float
        Limit of each request.
    """

    def __init__(self, url: str, token: str, *, seconds: float = _SECONDS) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._seconds = seconds
        self._access = ""
        self._access_until = 0.0
        self._lock = threading.Lock()

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        return origin_of(self.url)

    def headers(self) -> dict[str, str]:
        """Return the header that authenticates a request to this server; none without a token.

        Raises
        ------
        LabelStudioError
            If a personal access token cannot be exchanged.
        """
        if not self._token:
            return {}
        if not is_personal_token(self._token):
            return {"Authorization": f"Token {self._token}"}
        with self._lock:
            if time.monotonic() >= self._access_until:
                self._refresh()
            return {"Authorization": f"Bearer {self._access}"}

    def forget_access(self) -> None:
        """Exchange the personal access token again next time: the access token was refused."""
        with self._lock:
            self._access_until = 0.0

    def get(self, path: str, **parameters: Any) -> Any:  # noqa: ANN401
        """Return what a GET answers; errors as for :meth:`call`."""
        return self.call("GET", path, parameters=parameters)

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,  # noqa: ANN401
        parameters: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Send a request and return the JSON that is answered.

        Parameters
        ----------
        method, path : str
            Such as ``"POST", "/api/predictions/"``.
        body : JSON, optional
        parameters : mapping, optional
            Behind the question mark.

        Raises
        ------
        LabelStudioError
            If there is no answer, or one that is no success; says what to do.
        """
        response = self._sent(method, path, body, parameters)
        if response.status_code == _REFUSED and is_personal_token(self._token):
            self.forget_access()
            response = self._sent(method, path, body, parameters)
        if not response.ok:
            raise self.refusal(response.status_code, f"{method} {path}", response.text[:200])
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError as error:
            raise LabelStudioError(
                f"{self.url} answered {method} {path} with something that is no JSON; is it the "
                "address of Label Studio?",
                response.status_code,
            ) from error

    def projects(self) -> Iterator[dict[str, Any]]:
        """Return the projects that the token's user sees, page by page.

        Yields
        ------
        project : dict

        Raises
        ------
        LabelStudioError
            As for :meth:`call`.
        """
        page = 0
        while True:
            page += 1
            answer = self.get("/api/projects/", page=page, page_size=_PAGE)
            yield from answer["results"]
            if not answer["next"]:  # a page after the last one would be a 404
                return

    def tasks(
        self, project: int, query: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[Mapping[str, Any], int]]:
        """Return the tasks of a project without what was drawn, page by page.

        Parameters
        ----------
        project : int
            Its number.
        query : mapping, optional
            Filters and order, as the data manager sends them; all tasks by default. What the
            filters name is told of each task.

        Yields
        ------
        task : mapping
        total : int
            How many there are.

        Raises
        ------
        LabelStudioError
            As for :meth:`call`.
        """
        filters = {} if query is None else {"query": json.dumps(query)}
        page = seen = 0
        while True:
            page += 1
            answer: Mapping[str, Any] = self.get(
                "/api/tasks/",
                project=project,
                page=page,
                page_size=_PAGE,
                fields="task_only",
                **filters,
            )
            found, total = answer["tasks"], int(answer["total"])
            for one in found:
                yield one, total
            seen += len(found)
            if not found or seen >= total:
                return

    def refusal(self, status: int, what: str, answer: str = "") -> LabelStudioError:
        """Return the error of an answer that is no success, with the cure."""
        cure = ""
        if status == _REFUSED and not self._token:
            cure = (
                "; no token is known: set SAM_PLUGINS_LS_API_KEY to one from Label Studio's "
                "account page"
            )
        elif status == _REFUSED and is_personal_token(self._token):
            cure = (
                "; the personal access token was revoked or is of another server: make a new one "
                "on the account page and set SAM_PLUGINS_LS_API_KEY"
            )
        elif status == _REFUSED:
            cure = (
                f"; {_why_refused(answer)}: make a personal access token on the account page and "
                "set SAM_PLUGINS_LS_API_KEY to it"
            )
        elif status == 403:
            cure = "; the token's user may not see this project: add it to the project's workspace"
        detail = f" ({without_secrets(' '.join(answer.split()))})" if answer and not cure else ""
        return LabelStudioError(f"Label Studio answered {status} to {what}{detail}{cure}", status)

    def _sent(
        self,
        method: str,
        path: str,
        body: Any,  # noqa: ANN401
        parameters: Mapping[str, Any] | None,
    ) -> requests.Response:
        """Send a request once."""
        try:
            return requests.request(
                method,
                f"{self.url}{path}",
                json=body,
                params=parameters,
                headers=self.headers(),
                timeout=self._seconds,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise LabelStudioError(_unreachable(self.url, error)) from error

    def _refresh(self) -> None:
        """Exchange the personal access token; the lock is held."""
        try:
            response = requests.post(
                f"{self.url}/api/token/refresh/",
                json={"refresh": self._token},
                timeout=self._seconds,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise LabelStudioError(_unreachable(self.url, error)) from error
        if not response.ok:
            raise self.refusal(response.status_code, "the exchange of the personal access token")
        try:
            access = str(response.json()["access"])
        except (ValueError, KeyError, TypeError) as error:
            raise LabelStudioError(
                f"{self.url} exchanged the token for something else; is it Label Studio?"
            ) from error
        lifetime = float(_claims(access).get("exp", 0)) - float(_claims(access).get("iat", 0))
        usable = max(10.0, (lifetime or 300.0) - _SAFETY_SECONDS)
        self._access, self._access_until = access, time.monotonic() + usable


def is_personal_token(token: str) -> bool:
    """Return whether a token is a personal access token: a JWT for refreshing.

    Examples
    --------
    >>> is_personal_token("0123456789abcdef0123456789abcdef01234567")
    False
    """
    return _claims(token).get("token_type") == "refresh"


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an address.

    Examples
    --------
    >>> origin_of("http://Label-Studio:8080/data/x.png")
    ('http', 'label-studio', 8080)
    >>> origin_of("https://host/x")
    ('https', 'host', 443)
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    return parts.scheme.lower(), (parts.hostname or "").lower().rstrip("."), port


def _claims(token: str) -> Mapping[str, Any]:
    """Return what a JWT says; nothing of what is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, UnicodeError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _unreachable(url: str, error: Exception) -> str:
    """Return that a server cannot be reached, and what to do."""
    reason = "took too long" if isinstance(error, requests.Timeout) else type(error).__name__
    return (
        f"Label Studio at {without_secrets(url)} cannot be reached ({reason}); set "
        "SAM_PLUGINS_LS_URL to where it is as seen from this backend; within a container that is "
        "not localhost"
    )


def _why_refused(answer: str) -> str:
    """Return why a legacy token is refused, by what Label Studio says."""
    if "has been disabled" in answer:
        return "legacy tokens are disabled in the organisation"
    if "Invalid token" in answer:
        return "it knows no such token"
    return "the token is wrong, or legacy tokens are disabled in the organisation"
