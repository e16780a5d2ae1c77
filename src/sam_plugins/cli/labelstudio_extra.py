"""Whether what the Label Studio backend needs is installed, and how it is set."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from sam_plugins.errors import MissingExtraError, how_to_install

if TYPE_CHECKING:
    from sam_plugins.labelstudio_backend.settings import Settings

_NEEDED = ("flask", "orjson", "prometheus_client", "pydantic_settings")


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
    from pydantic_settings import SettingsError

    from sam_plugins.labelstudio_backend.settings import Settings, wrong_value

    try:
        settings = Settings()
    except ValidationError as error:
        name, reason = wrong_value(error)
        raise ValueError(f"SAM_PLUGINS_LS_{name.replace('.', '_').upper()} {reason}") from error
    except SettingsError as error:  # the one that is written as JSON
        raise ValueError(
            'SAM_PLUGINS_LS_URL_MAP must be JSON, such as {"http://localhost:8080": '
            '"http://studio:8080"}'
        ) from error
    if url is None:
        return settings
    try:
        return Settings(**{**settings.model_dump(), "url": url})
    except ValidationError as error:
        raise ValueError(f"the address of Label Studio {wrong_value(error)[1]}") from error
