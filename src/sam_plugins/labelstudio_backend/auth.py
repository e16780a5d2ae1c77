"""Who may ask: basic authentication, compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hmac

from sam_plugins.labelstudio_backend.settings import Settings


def is_allowed(header: str | None, settings: Settings) -> bool:
    """Return whether an ``Authorization`` header may pass.

    Parameters
    ----------
    header : str or None
        As it came.
    settings : Settings
        With user and password; where both are empty everybody may.
    """
    if not settings.asks_password:
        return True
    scheme, _, encoded = (header or "").partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        given = b""
    wanted = f"{settings.user}:{settings.password.get_secret_value()}".encode()
    is_basic = scheme.lower() == "basic"
    return hmac.compare_digest(given, wanted) and is_basic


def is_secret(given: str, settings: Settings) -> bool:
    """Return whether the end of a webhook's address is the secret one."""
    wanted = settings.webhook_secret.get_secret_value()
    return bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())
