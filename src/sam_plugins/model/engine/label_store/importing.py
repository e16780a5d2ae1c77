"""What all imports share: pictures are found and added, their objects stored, the rest is told."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sam_plugins.errors import DatasetError, ImageError
from sam_plugins.model.engine.label_store.grouping import GroupOf
from sam_plugins.model.engine.label_store.store import LabelStore
from sam_plugins.model.engine.label_store.types import (
    ImageRecord,
    ImageSource,
    LabelledObject,
    ReviewState,
    Split,
)

NO_SUCH_PICTURE = "no such picture"

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What a file of labels does not say.

    Parameters
    ----------
    group_of : callable, optional
        See :meth:`LabelStore.add_images`.
    author : str
        Of objects for which the file names none.
    review : ReviewState
        Of objects for which the file names none: accepted where people made them, proposed where
        a model did.
    is_complete : bool
        Whether every visible object of these pictures is labelled, where the file does not say so.
    split : Split, optional
        Of all these pictures, and of others in their groups.
    """

    group_of: GroupOf | None = None
    author: str = ""
    review: ReviewState = ReviewState.ACCEPTED
    is_complete: bool = False
    split: Split | None = None


class Skipped(NamedTuple):
    """What was not imported: where it stood, and why."""

    where: str
    reason: str


class Changed(NamedTuple):
    """A known object that is to be replaced, because it was changed elsewhere."""

    object: LabelledObject


@dataclass(frozen=True)
class ImportReport:
    """What an import came to.

    Attributes
    ----------
    image_ids : tuple of str
        Pictures of the import, new or known.
    added : int
        Objects stored.
    known : int
        Objects that were there already, and stay as they are.
    skipped : tuple of Skipped
    changed : int
        Known objects that were replaced by what people made of them elsewhere.
    """

    image_ids: tuple[str, ...]
    added: int
    known: int
    skipped: tuple[Skipped, ...] = ()
    changed: int = 0

    def __str__(self) -> str:
        """Say it in a line."""
        text = f"{len(self.image_ids)} pictures, {self.added} objects added"
        if self.known:
            text += f", {self.known} known already"
        if self.changed:
            text += f", {self.changed} changed"
        if self.skipped:
            more = len(self.skipped) - _SHOWN
            shown = "; ".join(f"{one.where}: {one.reason}" for one in self.skipped[:_SHOWN])
            text += f", {len(self.skipped)} skipped ({shown}{f'; {more} more' if more > 0 else ''})"
        return text


@dataclass(frozen=True)
class Incoming:
    """A picture that is to be imported.

    Attributes
    ----------
    where : str
        Where the file speaks of it, for people.
    source : ImageSource or None
        None where no file of it is found.
    size_hw : (int, int) or None
        What the file says; another size is refused.
    objects_of : callable
        Returns its objects, and what cannot be one, given the record of the picture.
    is_complete : bool
    split : Split or None
    unfound : str
        Why there is no ``source``.
    """

    where: str
    source: ImageSource | None
    size_hw: tuple[int, int] | None
    objects_of: Callable[[ImageRecord], Iterable[LabelledObject | Changed | Skipped]]
    is_complete: bool = False
    split: Split | None = None
    unfound: str = NO_SUCH_PICTURE


@dataclass
class _Tally:
    """A report in the making."""

    image_ids: list[str] = field(default_factory=list)
    added: int = 0
    known: int = 0
    changed: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def report(self) -> ImportReport:
        """Return it."""
        ids = tuple(dict.fromkeys(self.image_ids))
        return ImportReport(ids, self.added, self.known, tuple(self.skipped), self.changed)


def take_in(
    store: LabelStore, incoming: Iterable[Incoming], options: ImportOptions, path: Path | str
) -> ImportReport:
    """Add pictures and store their objects, picture by picture.

    An import that was stopped can be run again: objects that are there already stay as they are,
    with whatever people have made of them since.

    Parameters
    ----------
    store : LabelStore
    incoming : iterable of Incoming
    options : ImportOptions
    path : Path or str
        What is imported, for messages.

    Raises
    ------
    DatasetError
        If no picture is found.
    LabelStoreError
        If the store cannot be written.
    """
    tally = _Tally()
    for one in incoming:
        record = _added(store, one, options, tally)
        if record is None:
            continue
        try:
            made = list(one.objects_of(record))
        except (DatasetError, ImageError) as error:
            tally.skipped.append(Skipped(one.where, str(error)))
            continue
        tally.skipped += [other for other in made if isinstance(other, Skipped)]
        objects = [other for other in made if isinstance(other, LabelledObject)]
        changed = [other.object for other in made if isinstance(other, Changed)]
        stored = store.put_objects(objects, replace_known=False)
        tally.changed += store.put_objects(changed)
        tally.image_ids.append(record.image_id)
        tally.added += stored
        tally.known += len(objects) - stored
    if not tally.image_ids:
        reasons = "; ".join(f"{one.where}: {one.reason}" for one in tally.skipped[:_SHOWN])
        remedy = ""
        if any(one.reason == NO_SUCH_PICTURE for one in tally.skipped):
            remedy = "; give the folder that holds them as --images DIR (in Python, images_dir)"
        raise DatasetError(
            f"no picture of {path} could be imported ({reasons or 'it names none'}){remedy}"
        )
    return tally.report()


def picture_folder(named: str | os.PathLike[str] | None, usual: Path) -> Path:
    """Return the folder in which the pictures of a document are looked for.

    Raises
    ------
    DatasetError
        If one is named that is not there.
    """
    if named is None:
        return usual
    folder = Path(named)
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder}; name the one that holds the pictures")
    return folder


def object_id_of(image_id: str, rle: Mapping[str, Any], class_name: str) -> str:
    """Return the id of an imported object, which follows from what it is.

    The same file imported twice gives the same objects. ``rle`` is compressed.
    """
    told = json.dumps([image_id, rle["counts"], class_name])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def read_json(path: str | os.PathLike[str]) -> Any:  # noqa: ANN401
    """Read a JSON document.

    Raises
    ------
    DatasetError
        If it cannot be read or is no JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}; check the name") from error
    except ValueError as error:  # broken UTF-8 among it
        raise DatasetError(
            f"{path} is no JSON ({error}); it may be cut short, export it again"
        ) from error


def find_picture(name: str, folders: Sequence[Path]) -> Path | None:
    """Return the picture of a name that may begin with folders that are not here.

    The longest part of the name that is there counts: of ``old/b/a.png``, ``b/a.png`` goes before
    ``a.png``.
    """
    parts = Path(name.replace("\\", "/")).parts
    for begin in range(len(parts)):
        for folder in folders:
            path = folder.joinpath(*parts[begin:])
            if path.exists():
                return path
    return None


def explained(where: str, made: Iterator[LabelledObject]) -> LabelledObject | Skipped:
    """Return the next object, or why there is none: what a file says wrong is skipped, and told."""
    try:
        return next(made)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        return Skipped(where, reason)


def _added(
    store: LabelStore, one: Incoming, options: ImportOptions, tally: _Tally
) -> ImageRecord | None:
    """Add a picture, or tell why it cannot be."""
    if one.source is None:
        tally.skipped.append(Skipped(one.where, one.unfound))
        return None
    try:
        (record,) = store.add_images([one.source], group_of=options.group_of)
    except ImageError as error:
        tally.skipped.append(Skipped(one.where, str(error)))
        return None
    if one.size_hw is not None and record.size_hw != one.size_hw:
        reason = (
            f"its labels are for a picture of {one.size_hw} (height, width), got {record.size_hw} "
            f"of {one.source.path}; was it turned or scaled?"
        )
        tally.skipped.append(Skipped(one.where, reason))
        return None
    if (one.is_complete or options.is_complete) and not record.is_complete:
        store.set_complete(record.image_id)
    split = options.split or one.split
    if split is not None and split != record.split:
        _agree_on_split(store, record, split, is_order=options.split is not None)
    return record


def _agree_on_split(
    store: LabelStore, record: ImageRecord, split: Split, *, is_order: bool
) -> None:
    """Give a group its split, and never make something held out that may have been learned from."""
    if record.split is None or is_order or split == Split.TRAIN:
        store.set_split(record.group, split)
