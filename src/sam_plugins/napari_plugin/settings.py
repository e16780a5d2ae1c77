"""Settings of the widgets, kept from one session to the next in one JSON file.

It lies beside the model store. A file that is damaged, or values that no longer fit, are no reason
to disturb anybody: the defaults take their place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from sam_plugins.errors import OutputError
from sam_plugins.model.io.atomic import make_folder, write_bytes
from sam_plugins.model.weights.paths import store_directory

T = TypeVar("T")


def settings_path() -> Path:
    """Return the file of the settings; it may not exist yet."""
    return store_directory().parent / "napari-settings.json"


def read_settings(section: str, default: T) -> T:
    """Return what was kept of a widget's settings.

    Parameters
    ----------
    section : str
        Name of the widget.
    default : dataclass instance
        Gives the names, the types and what was not kept.
    """
    kept = _read().get(section, {})
    values: dict[str, Any] = {}
    for field in dataclasses.fields(default):  # type: ignore[arg-type]
        usual = getattr(default, field.name)
        value = kept.get(field.name, usual) if isinstance(kept, dict) else usual
        if isinstance(usual, float) and type(value) is int:
            value = float(value)
        values[field.name] = value if type(value) is type(usual) else usual
    try:
        return dataclasses.replace(default, **values)  # type: ignore[type-var]
    except ValueError:
        return default


def keep_settings(section: str, settings: object) -> None:
    """Keep a widget's settings; a disk that cannot be written keeps none."""
    document = _read()
    document[section] = dataclasses.asdict(settings)  # type: ignore[call-overload]
    path = settings_path()
    with contextlib.suppress(OutputError, OSError):
        make_folder(path.parent)
        write_bytes(path, json.dumps(document, indent=1).encode())


def _read() -> dict[str, Any]:
    """Return all settings, none from a file that makes no sense."""
    try:
        document = json.loads(settings_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
