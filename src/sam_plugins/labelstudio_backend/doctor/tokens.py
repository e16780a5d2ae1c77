"""Whether Label Studio can be reached, and whether the token is one that works."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

from sam_plugins.errors import LabelStudioError
from sam_plugins.labelstudio_backend.client import LabelStudioClient
from sam_plugins.labelstudio_backend.doctor.findings import Finding, bad, good

_DAY = 86_400.0
_SOON_DAYS = 14
_PAGE = (
    "make a personal access token under Account & Settings, Personal Access Token (an earlier one "
    "has to be revoked first) and set SAM_PLUGINS_LS_API_KEY to it"
)


def examine_server(url: str) -> Iterator[Finding]:
    """Yield whether Label Studio answers at an address.

    Parameters
    ----------
    url : str
    """
    try:
        said = LabelStudioClient(url, "").get("/api/version")
    except LabelStudioError as error:
        yield bad(
            "Label Studio",
            str(error),
            "start it, or correct the address: open it in a browser on this machine",
        )
        return
    release = said.get("release") if isinstance(said, dict) else None
    if not release:
        yield bad("Label Studio", f"{url} answers, but not as Label Studio", "correct the address")
        return
    yield good("Label Studio", f"version {release} answers at {url}")


def examine_token(url: str, token: str) -> Iterator[Finding]:
    """Yield whether a token works, and for how long.

    Parameters
    ----------
    url, token : str
    """
    if not token:
        yield bad("token", "the backend has no token, so it cannot read uploaded pictures", _PAGE)
        return
    if token.startswith("eyJ") and token.count(".") < 2:
        yield bad(
            "token",
            "this is the beginning of a personal access token, as the account page shows it",
            "revoke it there, make a new one, and copy that from the window that opens",
        )
        return
    kind, expires = kind_of(token)
    if kind == "access":
        yield bad("token", "this is an access token, which lives five minutes", _PAGE)
        return
    if expires is not None and expires < time.time():
        day = time.strftime("%Y-%m-%d", time.gmtime(expires))
        yield bad("token", f"the personal access token expired on {day}", _PAGE)
        return
    client = LabelStudioClient(url, token)
    try:
        user = client.get("/api/current-user/whoami")
    except LabelStudioError as error:
        cure = _PAGE
        if error.status == 401 and "disabled" in str(error):
            cure += (
                "; or allow legacy tokens again: Organization, API Tokens Settings (they are off "
                "in new organisations, and Label Studio then sends the backend a useless one)"
            )
        yield bad("token", str(error), cure)
        return
    name = user.get("email") if isinstance(user, dict) else "?"
    text = f"the {kind} token of {name} works"
    if expires is not None and expires - time.time() < _SOON_DAYS * _DAY:
        days = max(0, round((expires - time.time()) / _DAY))
        yield bad("token", f"{text}, but only for {days} more days", _PAGE)
        return
    yield good("token", text)


def kind_of(token: str) -> tuple[str, float | None]:
    """Return the kind of a token and when it expires, in seconds since 1970.

    Returns
    -------
    str
        ``"legacy"``, ``"personal access"`` or ``"access"``.
    float or None
        None where it never does, or does not say so.

    Examples
    --------
    >>> kind_of("0123456789abcdef0123456789abcdef01234567")
    ('legacy', None)
    """
    parts = token.split(".")
    if len(parts) != 3:
        return "legacy", None
    try:
        text = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims: dict[str, Any] = json.loads(text)
        kind = {"refresh": "personal access", "access": "access"}.get(claims.get("token_type", ""))
        expires = claims.get("exp")
    except (ValueError, AttributeError):
        return "legacy", None
    return kind or "legacy", None if expires is None else float(expires)
