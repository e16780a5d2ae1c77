"""The three files of a picture: their names, who wrote them, and how they are written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.errors import OutputError
from sam_plugins.model.io.atomic import output_error
from sam_plugins.model.io.together import files_together, taking_turns
from sam_plugins.model.large.mark import mark_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sam_plugins.cli.core import Found

RESULT_ENDINGS = {"labels": "_labels.tif", "overlay": "_overlay.png", "objects": "_objects.json"}
LARGE_ENDING = "_labels.zarr"
REQUEST = "request"
"""In a table: digest of the file, the model and the options that decided the result."""

_DIGESTS = "digests"


@dataclass(frozen=True)
class Job:
    """One image and where its results go.

    Parameters
    ----------
    image : Path
        File or folder of the image.
    name : str
        Beginning of the names of its results.
    folder : Path
        Folder of the results.
    overwrite : bool
        Whether results are replaced even where somebody changed them.
    resume : bool
        Whether a picture is passed over whose results are complete and of the same request.
    """

    image: Path
    name: str
    folder: Path
    overwrite: bool = False
    resume: bool = False

    @property
    def results(self) -> dict[str, Path]:
        """Files of the results by kind."""
        return {kind: self.folder / f"{self.name}{end}" for kind, end in RESULT_ENDINGS.items()}

    def refuse_to_overwrite(self) -> None:
        """Refuse to replace anything but results of ours that nobody has changed.

        Raises
        ------
        OutputError
            If a file exists that may hold somebody's work, or the names cannot be.
        """
        if self.overwrite:
            return
        try:
            with taking_turns(self.folder):
                changed = _changed(self.results)
        except OSError as error:
            raise output_error(self.results["labels"], error) from error
        if changed is not None:
            raise OutputError(
                f"{changed} exists and was changed since it was written, or is not ours; "
                "pass --overwrite to replace it, or another folder with -o"
            )

    def count_if_done(self, request: str) -> int | None:
        """Return how many objects there are where all is done; None where it is not.

        Parameters
        ----------
        request : str
            Digest of all that decides the result: the table holds that of its own.
        """
        with taking_turns(self.folder):
            if not all(path.is_file() for path in self.results.values()):
                return None
            table = _read_table(self.results["objects"])
            if table is None or table.get(REQUEST) != request or _changed(self.results):
                return None
        objects = table.get("objects")
        return len(objects) if isinstance(objects, list) else None


def is_own_result(path: Path) -> bool:
    """Return whether a file is a result of ours: a table beside it says so.

    Folders and ``*.tif`` name the label images of an earlier run, too.
    """
    if path.name.endswith(LARGE_ENDING) and mark_of(path) is not None:
        return True
    ending = next((end for end in RESULT_ENDINGS.values() if path.name.endswith(end)), None)
    if ending is None:
        return False
    name = path.name.removesuffix(ending)
    return _read_table(path.with_name(f"{name}{RESULT_ENDINGS['objects']}")) is not None


def write_results(
    job: Job, rgb: npt.NDArray[np.uint8], found: Found, described: Mapping[str, Any]
) -> int:
    """Write the results, all of them or none.

    Parameters
    ----------
    job : Job
        Where to.
    rgb : ndarray of shape (H, W, 3), uint8
        What the model saw, to draw the objects on.
    found : Found
        The objects.
    described : mapping
        Where they come from, for the table.

    Returns
    -------
    int
        How many objects there are.

    Raises
    ------
    OutputError
        If a file cannot be written, or somebody changed one while the model worked.
    """
    from sam_plugins.model.inference.overlay import draw_overlay
    from sam_plugins.model.io.labels import (
        describe_objects,
        write_labels,
        write_objects,
        write_picture,
    )

    objects = describe_objects(found.labels, found.scores, found.points_xy)
    overlay = draw_overlay(rgb, found.labels)
    height, width = found.labels.shape
    job.refuse_to_overwrite()
    # the table first: where the others are, it says whose they are
    kinds = ("objects", "overlay", "labels")
    with files_together([job.results[kind] for kind in kinds]) as paths:
        staged = dict(zip(kinds, paths, strict=True))
        write_labels(staged["labels"], found.labels)
        write_picture(staged["overlay"], overlay)
        digests = {kind: _file_digest(staged[kind]) for kind in ("labels", "overlay")}
        digests["objects"] = _table_digest(
            {**described, "size_hw": [height, width], "objects": objects}
        )
        source = {**described, _DIGESTS: digests}
        write_objects(staged["objects"], objects, size_hw=(height, width), source=source)
    return len(objects)


def _changed(results: Mapping[str, Path]) -> Path | None:
    """Return a file that is not as we wrote it; one that is missing can be made anew.

    A machine that stopped while results got their names can have left a table alone.
    """
    existing = {kind: path for kind, path in results.items() if path.exists()}
    table = _read_table(results["objects"])
    for kind, path in existing.items():
        if table is None or _digest(kind, path, table) != table[_DIGESTS].get(kind):
            return path
    return None


def _read_table(path: Path) -> dict[str, Any] | None:
    """Return a table of ours, with the digests of what was written; None for anything else."""
    try:
        table = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    is_ours = isinstance(table, dict) and isinstance(table.get(_DIGESTS), dict)
    return table if is_ours else None


def _digest(kind: str, path: Path, table: Mapping[str, Any]) -> str | None:
    """Return the digest of a result as it is now; None where it cannot be read."""
    try:
        return _table_digest(table) if kind == "objects" else _file_digest(path)
    except OSError:
        return None


def _file_digest(path: Path) -> str:
    """Return a digest by which a changed file is noticed."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _table_digest(table: Mapping[str, Any]) -> str:
    """Return a digest of all that a table says but the digests, however it is laid out."""
    values = {key: value for key, value in table.items() if key != _DIGESTS}
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
