"""Label Studio's JSON: tasks with annotations of people and predictions of models.

The keys and units are those of Label Studio's documentation (Task Format, and the tags of its
labelling interface) and of what version 1.23 sends: places in percent of the picture, 0 at the left
or upper edge; rectangles turned clockwise about the corner ``x, y``, ellipses about their centre;
brush masks in an encoding of their own; one item for each region, or two with one id where shape
and label are two tags.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from sam_plugins.errors import DatasetError
from sam_plugins.model.engine.label_store.importing import (
    NO_SUCH_PICTURE,
    Changed,
    ImportOptions,
    ImportReport,
    Incoming,
    Skipped,
    explained,
    find_picture,
    picture_folder,
    read_json,
    take_in,
)
from sam_plugins.model.engine.label_store.label_studio_regions import LabelStudioNames
from sam_plugins.model.engine.label_store.portable import restored_object
from sam_plugins.model.engine.label_store.store import LabelStore
from sam_plugins.model.engine.label_store.types import (
    TRUSTED,
    ImageRecord,
    ImageSource,
    LabelledObject,
    ReviewState,
)
from sam_plugins.model.io.label_studio import ANSWERS, SHAPES, Region, mask_of, regions_of
from sam_plugins.model.io.rle import encode_mask

FindImage = Callable[[str], Path | None]
"""Returns the picture that a task names by its URL or path; None where there is none."""

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
_ORIGINS = {
    "prediction": ReviewState.ACCEPTED,
    "prediction-changed": ReviewState.CORRECTED,
}


def import_label_studio(
    store: LabelStore,
    path: str | os.PathLike[str],
    images_dir: str | os.PathLike[str] | None = None,
    options: ImportOptions | None = None,
    *,
    shapes: Sequence[str] = SHAPES,
    with_predictions: bool = False,
    names: LabelStudioNames | None = None,
    find_image: FindImage | None = None,
) -> ImportReport:
    """Import what was exported from Label Studio as JSON.

    Regions become masks. An annotation's seconds are shared among its regions. Cancelled
    annotations are left out.

    A region that is known here, because it was exported from this store or imported before, is
    accepted when it stands in an annotation, and corrected when it was changed there, unless it was
    changed here later.

    Parameters
    ----------
    store : LabelStore
    path : path-like
        The document: a list of tasks.
    images_dir : path-like, optional
        Where the pictures are; beside the document by default. A picture is found by the end of
        its URL, with or without the eight digits that uploading puts before its name.
    options : ImportOptions, optional
    shapes : sequence of str
        Which kinds of regions are objects, of ``"brush"``, ``"bitmask"``, ``"polygon"``,
        ``"rectangle"`` and ``"ellipse"``. Leave rectangles out where they were prompts.
    with_predictions : bool
        Whether predictions of models are taken, too, as proposed objects.
    names : LabelStudioNames, optional
        Only ``data_key`` matters here.
    find_image : callable, optional
        Finds a picture in another way.

    Returns
    -------
    ImportReport

    Raises
    ------
    DatasetError
        If the document is no list of tasks, or no picture is found.
    LabelStoreError
        If the store cannot be written.
    ValueError
        If there is no such shape.
    """
    path = Path(path)
    tasks = read_json(path)
    if not isinstance(tasks, list) or not all(
        isinstance(task, dict) and isinstance(task.get("data"), dict) for task in tasks
    ):
        raise DatasetError(
            f"{path} must be a list of tasks with 'data'; export the project as JSON (not JSON-MIN)"
        )
    find = find_image or _finder(picture_folder(images_dir, path.parent))
    return import_label_studio_tasks(
        store,
        tasks,
        find,
        options,
        shapes=shapes,
        with_predictions=with_predictions,
        names=names,
        source=str(path),
    )


def import_label_studio_tasks(
    store: LabelStore,
    tasks: Iterable[Mapping[str, Any]],
    find_image: FindImage,
    options: ImportOptions | None = None,
    *,
    shapes: Sequence[str] = SHAPES,
    with_predictions: bool = False,
    names: LabelStudioNames | None = None,
    source: str = "Label Studio",
) -> ImportReport:
    """Import tasks as Label Studio sends them; see :func:`import_label_studio`.

    Parameters
    ----------
    store : LabelStore
    tasks : iterable of mapping
    find_image : callable
    options, shapes, with_predictions, names
        As for :func:`import_label_studio`.
    source : str
        What to call the tasks in errors.

    Raises
    ------
    DatasetError
        If no picture is found.
    LabelStoreError
        If the store cannot be written.
    ValueError
        If there is no such shape.
    """
    unknown = set(shapes) - set(SHAPES)
    if unknown:
        raise ValueError(f"shapes must be some of {', '.join(SHAPES)}, got {sorted(unknown)}")
    options = options or ImportOptions()
    names = names or LabelStudioNames()
    reader = _Reader(store, options, tuple(shapes), with_predictions, names.to_name)
    incoming = (
        one
        for place, task in enumerate(tasks, start=1)
        for one in _pages(task, place, names.data_key, find_image, reader)
    )
    return take_in(store, incoming, options, source)


def stored_object_id(store: LabelStore, image_id: str, region_id: str) -> str:
    """Return the id that a region has in the store: its own where the object is from there."""
    if store.has_object(region_id, image_id):
        return region_id
    return hashlib.sha256(f"{image_id} {region_id}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class _Reader:
    """How regions become objects."""

    store: LabelStore
    options: ImportOptions
    shapes: tuple[str, ...]
    with_predictions: bool
    to_name: str

    def objects(
        self, task: Mapping[str, Any], page: int | None, record: ImageRecord
    ) -> Iterator[LabelledObject | Changed | Skipped]:
        """Return the objects of one picture of a task."""
        stored = {one.object_id: one for one in self.store.objects(record.image_id)}
        for annotation in task.get("annotations") or ():
            if annotation.get("was_cancelled"):
                continue
            drawn = self._drawn(annotation, page)
            yield from self._left_out(annotation, drawn)
            regions = [one for one in drawn if one.shape in self.shapes]
            for region in regions:
                made = explained(
                    _place(region, "annotation", annotation),
                    self._annotated(annotation, region, record, len(regions)),
                )
                known = stored.get(made.object_id) if isinstance(made, LabelledObject) else None
                if isinstance(made, Skipped) or known is None:
                    yield made
                else:
                    yield self._updated(known, made)
        for prediction in (task.get("predictions") or ()) if self.with_predictions else ():
            for region in self._drawn(prediction, page):
                if region.shape not in self.shapes:
                    continue
                yield explained(
                    _place(region, "prediction", prediction),
                    self._predicted(prediction, region, record),
                )

    def _drawn(self, source: Mapping[str, Any], page: int | None) -> list[Region]:
        """Return the regions of one picture; of several, those on the one that is named."""
        found = regions_of(source.get("result") or (), page)
        named = {str(one.item.get("to_name")) for one in found if one.shape}
        if len(named) < 2 or self.to_name not in named:
            return found
        return [one for one in found if str(one.item.get("to_name")) == self.to_name]

    def _left_out(self, source: Mapping[str, Any], drawn: Sequence[Region]) -> Iterator[Skipped]:
        """Yield regions of kinds that draw no mask; prompts and answers are no regions."""
        for region in drawn:
            kind = str(region.item.get("type", "")).removesuffix("labels")
            if not region.shape and kind and kind != "keypoint" and kind not in ANSWERS:
                yield Skipped(_place(region, "annotation", source), f"a {kind} is no mask")

    def _annotated(
        self, annotation: Mapping[str, Any], region: Region, record: ImageRecord, count: int
    ) -> Iterator[LabelledObject]:
        """Make the object that a person drew."""
        seconds = annotation.get("lead_time")
        yield self._made(
            region,
            record,
            review=_ORIGINS.get(region.origin, self.options.review),
            author=_author(annotation.get("completed_by")) or None,
            seconds=None if seconds is None else float(seconds) / count,
            created_at=_time(annotation.get("updated_at") or annotation.get("created_at")),
        )

    def _predicted(
        self, prediction: Mapping[str, Any], region: Region, record: ImageRecord
    ) -> Iterator[LabelledObject]:
        """Make the object that a model drew."""
        score = region.score if region.score is not None else prediction.get("score")
        yield self._made(
            region,
            record,
            review=ReviewState.PROPOSED,
            model_id=prediction.get("model_version") or None,
            score=score,
            created_at=_time(prediction.get("created_at")),
        )

    def _made(self, region: Region, record: ImageRecord, **fields: Any) -> LabelledObject:  # noqa: ANN401
        """Make an object, with an id that stays when the region is changed in Label Studio."""
        rle = encode_mask(mask_of(region, record.size_hw))
        made = restored_object(
            record.image_id, rle, region.class_name, None, self.options, **fields
        )
        return replace(made, object_id=stored_object_id(self.store, record.image_id, region.id))

    def _updated(self, known: LabelledObject, made: LabelledObject) -> LabelledObject | Changed:
        """Return what a person made of a known object, unless more was made of it here since."""
        if made.created_at <= self.store.history(known.object_id)[-1].reviewed_at:
            return made
        is_same = known.rle == made.rle and known.class_name == made.class_name
        if is_same and known.review in TRUSTED:
            return made
        return Changed(
            replace(
                known,
                rle=made.rle,
                class_name=made.class_name,
                author=made.author or known.author,
                seconds=made.seconds if made.seconds is not None else known.seconds,
                created_at=made.created_at,
                review=ReviewState.ACCEPTED if is_same else ReviewState.CORRECTED,
            )
        )


def _pages(
    task: Mapping[str, Any], place: int, key: str, find: FindImage, reader: _Reader
) -> Iterator[Incoming]:
    """Return the pictures of a task: one, or a list of pages.

    Tasks that never were in Label Studio, as those that we export, have no ids.
    """
    name = f"task {task['id']}" if task.get("id") is not None else f"task {place} of the list"
    named = task["data"].get(key)
    pages = [(None, named)] if not isinstance(named, list) else list(enumerate(named))
    for page, url in pages:
        picture = find(str(url)) if url else None
        yield Incoming(
            where=f"{name} ({url})" if url else name,
            source=None if picture is None else ImageSource(picture),
            size_hw=None,
            objects_of=functools.partial(reader.objects, task, page),
            unfound=NO_SUCH_PICTURE if url else _without(task["data"], key),
        )


def _without(data: Mapping[str, Any], key: str) -> str:
    """Say that a task has no picture where it is looked for, and what it has."""
    return f"no {key!r} in its data, which has {', '.join(map(repr, data)) or 'nothing'}"


def _place(region: Region, kind: str, source: Mapping[str, Any]) -> str:
    """Say which region is meant."""
    number = source.get("id")
    return f"region {region.id}" + ("" if number is None else f" of {kind} {number}")


def _author(completed_by: Any) -> str:  # noqa: ANN401
    """Return who annotated: an e-mail address where the export has it, or a number."""
    if isinstance(completed_by, Mapping):
        return str(completed_by.get("email") or completed_by.get("id") or "")
    return "" if completed_by is None else str(completed_by)


def _time(text: str | None) -> datetime:
    """Return a time, now where none is told; without a zone it is UTC."""
    if text is None:
        return datetime.now(UTC)
    time = datetime.fromisoformat(text)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _finder(folder: Path) -> FindImage:
    """Return what finds a picture in a folder by the end of its URL."""

    def find(url: str) -> Path | None:
        parts = urlsplit(url)
        name = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
        inside = [part for part in PurePosixPath(name).parts if part not in {"/", ".."}]
        if not inside:
            return None
        uploaded = [*inside[:-1], _UPLOADED.sub("", inside[-1])]
        for names in (inside, uploaded):
            found = find_picture("/".join(names), [folder])
            if found is not None and found.is_file():
                return found
        return None

    return find
