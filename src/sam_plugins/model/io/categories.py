"""What the objects of a data set are called, from its manifest."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sam_plugins.errors import DatasetError
from sam_plugins.model.io.labelled import MANIFEST_NAME


def read_categories(data_dir: str | os.PathLike[str], set_name: str) -> dict[str, dict[int, str]]:
    """Return the category of every object of a set.

    Parameters
    ----------
    data_dir : path-like
        Folder of sets.
    set_name : str

    Returns
    -------
    dict of str to dict of int to str
        By the id of the picture and the id of the object; pictures without categories are left
        out.

    Raises
    ------
    DatasetError
        If there is no manifest, it is damaged, or no object of the set has a category.
    """
    path = Path(data_dir) / set_name / MANIFEST_NAME
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        found = {
            str(entry["id"]): {
                int(one["id"]): str(one["category"])
                for one in entry.get("objects", [])
                if one.get("category")
            }
            for entry in manifest["files"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is no manifest that can be read ({error!r})") from error
    named = {picture: objects for picture, objects in found.items() if objects}
    if not named:
        raise DatasetError(
            f"no object of {set_name} has a category; choose a set whose manifest says what its "
            "objects are"
        )
    return named
