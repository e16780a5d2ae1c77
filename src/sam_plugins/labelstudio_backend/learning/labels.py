"""From Label Studio's tasks to the label store: what was added, changed and taken away there."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sam_plugins.errors import DatasetError, LabelStoreError, SamPluginsError
from sam_plugins.labelstudio_backend.label_config import LEARNED, ImageTag
from sam_plugins.labelstudio_backend.learning.cleaning import (
    chosen_annotation,
    count_others,
    count_regions,
    read_interface,
    sort_items,
)
from sam_plugins.labelstudio_backend.learning.mirror import ChangedTask
from sam_plugins.labelstudio_backend.learning.pictures import Pictures
from sam_plugins.model.engine.label_store import LabelStore, ReviewState
from sam_plugins.model.engine.label_store.importing import ImportOptions, Skipped
from sam_plugins.model.engine.label_store.label_studio import (
    import_label_studio_tasks,
    stored_object_id,
)
from sam_plugins.model.engine.label_store.label_studio_regions import LabelStudioNames
from sam_plugins.model.io.label_studio import page_of, regions_of


@dataclass(frozen=True)
class StoredTask:
    """What a task's labels became.

    Attributes
    ----------
    objects : mapping of str to bool
        Its objects in the label store, and whether they were made elsewhere, in napari for example.
    note : str
        What could not be read, for people; empty where all could.
    left_out : mapping of str to int
        Why regions are no objects, and how many.
    """

    objects: Mapping[str, bool] = field(default_factory=dict)
    note: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Authors:
    """Who annotated: e-mail addresses by Label Studio's numbers, as far as they are known."""

    emails: Mapping[int, str] = field(default_factory=dict)

    def named(self, annotation: Mapping[str, Any]) -> dict[str, Any]:
        """Return an annotation with its author's e-mail address."""
        number = annotation.get("completed_by")
        if isinstance(number, int) and number in self.emails:
            return {**annotation, "completed_by": {"id": number, "email": self.emails[number]}}
        return dict(annotation)


def store_task(
    store: LabelStore,
    task: ChangedTask,
    known: Mapping[str, bool],
    pictures: Pictures,
    *,
    is_complete: bool = False,
    authors: Authors | None = None,
) -> StoredTask:
    """Make the label store hold what a task's annotation says now; the same again changes nothing.

    Objects that were made elsewhere, in napari for example, and only corrected in Label Studio, are
    rejected when their region is deleted, and stay when the whole annotation is.

    Parameters
    ----------
    store : LabelStore
    task : ChangedTask
    known : mapping of str to bool
        The task's objects as of before, see :class:`StoredTask`.
    pictures : Pictures
    is_complete : bool
        Whether people label every visible object.
    authors : Authors, optional

    Raises
    ------
    DatasetError
        If the labelling interface or the task makes no sense, or the picture cannot be had.
    LabelStoreError
        If the store cannot be written.
    """
    annotation = None if task.is_deleted else chosen_annotation(task.annotations)
    if annotation is None:
        _take_away(store, known, is_rejected=False)
        if is_complete:
            _set_incomplete(store, task, pictures)
        return StoredTask(left_out=_in_no_annotation(task))
    if task.data is None:
        raise DatasetError(
            f"the data of task {task.task} were not told by any event; a reconcile fetches them"
        )
    interface = read_interface(task.label_config, task.data)
    found = sort_items(annotation.get("result") or [], interface)
    left_out = Counter(found.left_out)
    left_out += count_others(task.annotations, annotation, interface)
    named = (authors or Authors()).named(annotation)
    total = sum(map(count_regions, found.by_image.values()))
    objects: dict[str, bool] = {}
    notes: list[str] = []
    for image in interface.images:
        items = found.by_image.get(image.name, [])
        count = count_regions(items)
        if not image.named_in(task.data):
            left_out.update({f"the task has no picture {image.key!r}": count} if count else {})
            continue
        skipped = _import(
            store, task, image, _part_of(named, items, count, total), pictures, is_complete
        )
        notes += [f"{one.where}: {one.reason}" for one in skipped]
        left_out.update(one.reason for one in skipped)
        left_out.update(_on_no_page(task, image, items))
        objects |= dict(_objects(store, task, items, image, pictures))
    gone = {one: is_born_here for one, is_born_here in known.items() if one not in objects}
    _take_away(store, gone, is_rejected=True)
    return StoredTask(objects, "; ".join(notes[:5]), left_out)


def _import(
    store: LabelStore,
    task: ChangedTask,
    image: ImageTag,
    annotation: Mapping[str, Any],
    pictures: Pictures,
    is_complete: bool,
) -> Sequence[Skipped]:
    """Store the objects of one picture of a task, or of its pages; return what is none."""
    report = import_label_studio_tasks(
        store,
        [
            {
                "id": task.task,
                "data": {image.key: image.named_in(task.data or {})},
                "annotations": [annotation],
            }
        ],
        pictures.find,
        ImportOptions(is_complete=is_complete, group_of=pictures.group_of),
        shapes=LEARNED,
        names=LabelStudioNames(data_key=image.key, to_name=image.name),
        source=f"task {task.task}",
    )
    return report.skipped


def _part_of(
    annotation: Mapping[str, Any], items: Sequence[Mapping[str, Any]], count: int, total: int
) -> dict[str, Any]:
    """Return what an annotation says of one of the task's pictures, with its part of the time."""
    seconds = _seconds(annotation.get("lead_time"))
    part = seconds * count / total if seconds is not None and total else seconds
    return {**annotation, "result": items, "lead_time": part}


def _seconds(told: Any) -> float | None:  # noqa: ANN401
    """Return a number of seconds; None where none is told, or what is told makes no sense."""
    try:
        seconds = float(told)
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < math.inf else None


def _in_no_annotation(task: ChangedTask) -> Mapping[str, int]:
    """Return what stands in skipped annotations only."""
    with contextlib.suppress(DatasetError):  # Told as soon as an annotation counts.
        interface = read_interface(task.label_config, task.data or {})
        return count_others(task.annotations, None, interface)
    return {}


def _on_no_page(
    task: ChangedTask, image: ImageTag, items: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """Count regions of pages that a task does not have."""
    named = image.named_in(task.data or {})
    if not isinstance(named, list):
        return {}
    beyond = [one for one in items if not 0 <= page_of(one) < len(named)]
    count = count_regions(beyond)
    return {"the task has no such page": count} if count else {}


def _objects(
    store: LabelStore,
    task: ChangedTask,
    items: Sequence[Mapping[str, Any]],
    image: ImageTag,
    pictures: Pictures,
) -> Iterator[tuple[str, bool]]:
    """Return the ids of a picture's regions in the store, and which were not made by them."""
    for page, image_id in _pages(store, task, image, pictures):
        for region in regions_of(items, page):
            if region.shape in LEARNED:
                object_id = stored_object_id(store, image_id, region.id)
                if store.has_object(object_id, image_id):
                    yield object_id, object_id == region.id


def _pages(
    store: LabelStore, task: ChangedTask, image: ImageTag, pictures: Pictures
) -> Iterator[tuple[int | None, str]]:
    """Return the pages of a picture, and their ids in the store."""
    named = image.named_in(task.data or {})
    pages = [(None, named)] if not isinstance(named, list) else list(enumerate(named))
    for page, url in pages:
        if url:
            path = pictures.find(str(url))
            (record,) = store.add_images([path], group_of=pictures.group_of)
            yield page, record.image_id


def _set_incomplete(store: LabelStore, task: ChangedTask, pictures: Pictures) -> None:
    """Say that nobody says any more what is background in a task's pictures."""
    with contextlib.suppress(SamPluginsError):  # A picture that is gone is not learned from.
        for image in read_interface(task.label_config, task.data or {}).images:
            for _, image_id in _pages(store, task, image, pictures):
                store.set_complete(image_id, is_complete=False)


def _take_away(store: LabelStore, objects: Mapping[str, bool], *, is_rejected: bool) -> None:
    """Delete objects that Label Studio made; those of others are rejected, or stay."""
    for object_id, is_born_here in sorted(objects.items()):
        with contextlib.suppress(LabelStoreError):  # It was deleted elsewhere.
            if not is_born_here:
                store.delete_object(object_id)
            elif is_rejected:
                store.set_review(object_id, ReviewState.REJECTED)
