"""What labels of ours say about themselves, by which a finished run and another are told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MARK = "sam_plugins"
"""Name of the attribute."""


def mark_of(path: Path) -> dict[str, Any] | None:
    """Return the mark of a folder of labels, None for anything that is not ours.

    Parameters
    ----------
    path : Path
        Folder of an OME-Zarr (NGFF 0.4).
    """
    try:
        attributes = json.loads((path / ".zattrs").read_bytes())
    except (OSError, ValueError):
        return None
    mark = attributes.get(MARK) if isinstance(attributes, dict) else None
    return mark if isinstance(mark, dict) else None
