"""Whether what the Label Studio backend needs is installed."""

from __future__ import annotations

import importlib.util

from sam_plugins.errors import MissingExtraError, how_to_install

_NEEDED = ("flask", "prometheus_client", "pydantic_settings")


def require_extra() -> None:
    """Say how to get what the backend needs.

    Raises
    ------
    MissingExtraError
        If something is missing.
    """
    for name in _NEEDED:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                f"the Label Studio backend needs {name}; {how_to_install('labelstudio')}"
            )
