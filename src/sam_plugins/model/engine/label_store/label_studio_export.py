"""The store as tasks of Label Studio; see :mod:`.label_studio` for the format."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from sam_plugins.model.engine.label_store.exporting import (
    ExportOptions,
    chosen,
    class_names,
    write_json,
)
from sam_plugins.model.engine.label_store.label_studio_regions import LabelStudioNames, region_of
from sam_plugins.model.engine.label_store.store import LabelStore
from sam_plugins.model.engine.label_store.types import ImageRecord, LabelledObject, ReviewState


def export_label_studio(
    store: LabelStore,
    path: str | os.PathLike[str],
    options: ExportOptions | None = None,
    *,
    url_of: Callable[[ImageRecord], str] | None = None,
    names: LabelStudioNames | None = None,
) -> int:
    """Write tasks that Label Studio imports, every object as a brush mask.

    What people stand by becomes annotations, one for each author, and what is only proposed becomes
    predictions, one for each model. Crowds and planes of stacks are left out: Label Studio knows
    neither. Authors are not its users: annotations will belong to whoever imports them there.

    Parameters
    ----------
    store : LabelStore
    path : path-like
        The document to write.
    options : ExportOptions, optional
    url_of : callable, optional
        Returns how Label Studio finds a picture; by default as a file in local storage,
        ``/data/local-files/?d=NAME``, NAME being the path from the innermost folder that holds all
        pictures; that is to be the root of Label Studio's local files.
    names : LabelStudioNames, optional
        Names in the labelling interface; :func:`labelling_interface` writes one that fits.

    Returns
    -------
    int
        How many objects were written.

    Raises
    ------
    LabelStoreError
        If there is nothing to export.
    OutputError
        If the document cannot be written.
    """
    path, names = Path(path), names or LabelStudioNames()
    found = chosen(store, options or ExportOptions())
    give_url = url_of or _local_file([record.path for record, _ in found])
    tasks, count = [], 0
    for record, objects in found:
        known = [one for one in objects if not one.is_crowd]
        if record.plane is not None:
            continue
        proposed = [one for one in known if one.review == ReviewState.PROPOSED]
        judged = [one for one in known if one.review != ReviewState.PROPOSED]
        tasks.append(
            {
                "data": {names.data_key: give_url(record)},
                "annotations": [
                    _annotation(ours, record, names)
                    for _, ours in _by(judged, lambda one: one.author)
                ],
                "predictions": [
                    _prediction(ours, model_id, record, names)
                    for model_id, ours in _by(proposed, lambda one: one.model_id or "unknown")
                ],
            }
        )
        count += len(known)
    write_json(path, tasks)
    return count


def labelling_interface(store: LabelStore, names: LabelStudioNames | None = None) -> str:
    """Return a labelling interface with the classes of a store, to be pasted into a project.

    Parameters
    ----------
    store : LabelStore
    names : LabelStudioNames, optional
    """
    names = names or LabelStudioNames()
    labels = "".join(
        f"    <Label value={quoteattr(name)}/>\n" for name in class_names(store.objects())
    )
    to_name, from_name = quoteattr(names.to_name), quoteattr(names.from_name)
    return (
        f"<View>\n  <Image name={to_name} value={quoteattr('$' + names.data_key)}/>\n"
        f"  <BrushLabels name={from_name} toName={to_name}>\n{labels}  </BrushLabels>\n</View>\n"
    )


def _local_file(paths: Sequence[Path]) -> Callable[[ImageRecord], str]:
    """Return what names a picture as a file of local storage."""
    folders = {path.parent for path in paths}
    root = Path(os.path.commonpath(folders)) if len({one.anchor for one in folders}) == 1 else None

    def url_of(record: ImageRecord) -> str:
        inside = record.path.relative_to(root) if root is not None else Path(record.path.name)
        return f"/data/local-files/?d={quote(inside.as_posix())}"

    return url_of


def _by(
    objects: Sequence[LabelledObject], key: Callable[[LabelledObject], str]
) -> list[tuple[str, list[LabelledObject]]]:
    """Return objects by something that they share."""
    groups: dict[str, list[LabelledObject]] = defaultdict(list)
    for one in objects:
        groups[key(one)].append(one)
    return list(groups.items())


def _annotation(
    objects: Sequence[LabelledObject], record: ImageRecord, names: LabelStudioNames
) -> dict[str, Any]:
    """Return what one person stands by, or rejected."""
    seconds = [one.seconds for one in objects if one.seconds is not None]
    return {
        "result": [
            region_of(one, record, names) for one in objects if one.review != ReviewState.REJECTED
        ],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": max(one.created_at for one in objects).isoformat(),
        "lead_time": sum(seconds) if seconds else None,
    }


def _prediction(
    objects: Sequence[LabelledObject], model_id: str, record: ImageRecord, names: LabelStudioNames
) -> dict[str, Any]:
    """Return what one model proposes."""
    prediction: dict[str, Any] = {
        "model_version": model_id,
        "result": [region_of(one, record, names) for one in objects],
    }
    scores = [one.score for one in objects if one.score is not None]
    if scores:
        prediction["score"] = float(np.mean(scores))
    return prediction
