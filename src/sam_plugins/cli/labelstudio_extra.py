"""Whether what the Label Studio backend needs is installed, and how it is set."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from sam_plugins.errors import MissingExtraError, how_to_install

if TYPE_CHECKING:
    from pydantic import ValidationError

    from sam_plugins.labelstudio_backend.settings import Settings

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


def read_settings(url: str | None = None) -> Settings:
    """Read the settings from the environment.

    Parameters
    ----------
    url : str, optional
        Of Label Studio, in place of the one that is set.

    Raises
    ------
    MissingExtraError
        If the backend is not installed.
    ValueError
        If one is wrong: which, and what is expected.
    """
    require_extra()
    from pydantic import ValidationError

    from sam_plugins.labelstudio_backend.settings import Settings

    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "SAM_PLUGINS_LS_" + "_".join(map(str, first["loc"])).upper()
        raise ValueError(f"{name} {_reason(error)}") from error
    if url is None:
        return settings
    try:
        return Settings(**{**settings.model_dump(), "url": url})
    except ValidationError as error:
        raise ValueError(f"the address of Label Studio {_reason(error)}") from error


def _reason(error: ValidationError) -> str:
    """Return what is wrong with the first value."""
    return error.errors()[0]["msg"].removeprefix("Value error, ")
