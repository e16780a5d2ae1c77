"""From Label Studio's tasks to the label store: what was added, changed and taken away there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sam_plugins.errors import DatasetError, LabelStoreError, SamPluginsError
from sam_plugins.labelstudio_backend.learning.cleaning import (
    Interface,
    chosen_annotation,
    without_prompts,
)
from sam_plugins.labelstudio_backend.learning.mirror import ChangedTask
from sam_plugins.labelstudio_backend.learning.pictures import Pictures
from sam_plugins.model.engine.label_store import LabelStore, ReviewState
from sam_plugins.model.engine.label_store.importing import ImportOptions
from sam_plugins.model.engine.label_store.label_studio import (
    import_label_studio_tasks,
    stored_object_id,
)
from sam_plugins.model.engine.label_store.label_studio_regions import LabelStudioNames
from sam_plugins.model.io.label_studio import regions_of


@dataclass(frozen=True)
class StoredTask:
    """What a task's labels became.

    Attributes
    ----------
    objects : mapping of str to bool
        Its objects in the label store, and whether they were made elsewhere, in napari for example.
    note : str
        What could not be taken, for people; empty where all could.
    """

    objects: Mapping[str, bool] = field(default_factory=dict)
    note: str = ""


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
        return StoredTask()
    if task.data is None:
        raise DatasetError(
            f"the data of task {task.task} were not told by any event; a reconcile fetches them"
        )
    interface = Interface.of(task.label_config)
    result = without_prompts(annotation.get("result") or [], interface)
    named = (authors or Authors()).named(annotation)
    document = {
        "id": task.task,
        "data": dict(task.data),
        "annotations": [{**named, "result": result}],
    }
    report = import_label_studio_tasks(
        store,
        [document],
        pictures.find,
        ImportOptions(is_complete=is_complete, group_of=pictures.group_of),
        shapes=interface.shapes,
        names=LabelStudioNames(data_key=interface.data_key),
        source=f"task {task.task}",
    )
    objects = dict(_objects(store, task, result, interface, pictures))
    gone = {one: is_born_here for one, is_born_here in known.items() if one not in objects}
    _take_away(store, gone, is_rejected=True)
    skipped = "; ".join(f"{one.where}: {one.reason}" for one in report.skipped[:5])
    return StoredTask(objects, skipped)


def _objects(
    store: LabelStore,
    task: ChangedTask,
    result: Sequence[Mapping[str, Any]],
    interface: Interface,
    pictures: Pictures,
) -> Iterator[tuple[str, bool]]:
    """Return the ids that a task's regions have in the store, and which were not made by them."""
    for page, image_id in _pages(store, task, interface, pictures):
        for region in regions_of(result, page):
            if region.shape in interface.shapes:
                object_id = stored_object_id(store, image_id, region.id)
                if store.has_object(object_id, image_id):
                    yield object_id, object_id == region.id


def _pages(
    store: LabelStore, task: ChangedTask, interface: Interface, pictures: Pictures
) -> Iterator[tuple[int | None, str]]:
    """Return the pages of a task, and the ids of their pictures in the store."""
    named = (task.data or {}).get(interface.data_key)
    pages = [(None, named)] if not isinstance(named, list) else list(enumerate(named))
    for page, url in pages:
        if url:
            path = pictures.find(str(url))
            (record,) = store.add_images([path], group_of=pictures.group_of)
            yield page, record.image_id


def _set_incomplete(store: LabelStore, task: ChangedTask, pictures: Pictures) -> None:
    """Say that nobody says any more what is background in a task's pictures."""
    with contextlib.suppress(SamPluginsError):  # A picture that is gone is not learned from.
        for _, image_id in _pages(store, task, Interface.of(task.label_config), pictures):
            store.set_complete(image_id, is_complete=False)


def _take_away(store: LabelStore, objects: Mapping[str, bool], *, is_rejected: bool) -> None:
    """Delete objects that Label Studio made; those of others are rejected, or stay."""
    for object_id, is_born_here in sorted(objects.items()):
        with contextlib.suppress(LabelStoreError):  # It was deleted elsewhere.
            if not is_born_here:
                store.delete_object(object_id)
            elif is_rejected:
                store.set_review(object_id, ReviewState.REJECTED)
