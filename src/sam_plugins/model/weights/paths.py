"""Where files live on this machine: the one place that reads our environment variables.

``SAM_PLUGINS_HOME``
    Folder of everything that can be fetched or computed again (weights, embeddings). Default: the
    user's cache folder as the operating system defines it. Where it is set it holds the sessions of
    napari, too, which are otherwise under the user's data folder: nothing can compute them again.
``SAM_PLUGINS_STORE``
    Folder of the models that people trained, which nothing can fetch again. Default: ``store``
    under ``SAM_PLUGINS_HOME`` where that is set, otherwise under the user's data folder.
``SAM_PLUGINS_OFFLINE``
    ``1``, ``true``, ``yes`` or ``on``: never open a connection.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

HOME_VARIABLE = "SAM_PLUGINS_HOME"
STORE_VARIABLE = "SAM_PLUGINS_STORE"
OFFLINE_VARIABLE = "SAM_PLUGINS_OFFLINE"

_YES = ("1", "true", "yes", "on")


def home_directory() -> Path:
    """Return the folder of weights and caches; it may not exist yet.

    Returns
    -------
    Path
        ``SAM_PLUGINS_HOME`` with ``~`` expanded where it is set and not empty, otherwise the user's
        cache folder for this package. Read anew at each call, so that a changed variable counts.
    """
    chosen = os.environ.get(HOME_VARIABLE, "").strip()
    if chosen:
        return Path(chosen).expanduser()
    return platformdirs.user_cache_path("sam-plugins", appauthor=False)


def models_directory() -> Path:
    """Return the folder of downloaded weights; it may not exist yet."""
    return home_directory() / "models"


def embeddings_directory() -> Path:
    """Return the folder of cached image embeddings; it may not exist yet."""
    return home_directory() / "embeddings"


def proposals_directory() -> Path:
    """Return the folder of masks among which thresholds choose; it may not exist yet."""
    return home_directory() / "proposals"


def store_directory() -> Path:
    """Return the folder of the models that people trained; it may not exist yet."""
    chosen = os.environ.get(STORE_VARIABLE, "").strip()
    if chosen:
        return Path(chosen).expanduser()
    if os.environ.get(HOME_VARIABLE, "").strip():
        return home_directory() / "store"
    return platformdirs.user_data_path("sam-plugins", appauthor=False) / "store"


def runs_directory() -> Path:
    """Return the folder of training runs, beside the model store; it may not exist yet."""
    return store_directory().parent / "runs"


def sessions_directories() -> tuple[Path, ...]:
    """Return the folders of saved sessions of napari, which may not exist yet.

    Returns
    -------
    tuple of Path
        Where they are written comes first; then where earlier versions wrote them.
    """
    earlier = home_directory() / "sessions"
    if os.environ.get(HOME_VARIABLE, "").strip():
        return (earlier,)
    return (platformdirs.user_data_path("sam-plugins", appauthor=False) / "sessions", earlier)


def is_offline() -> bool:
    """Return whether ``SAM_PLUGINS_OFFLINE`` forbids connections."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() in _YES
