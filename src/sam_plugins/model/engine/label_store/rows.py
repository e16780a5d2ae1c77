"""Between rows of the tables and records."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sam_plugins.model.engine.label_store.types import (
    ImageRecord,
    ImageSource,
    LabelledObject,
    PromptEvent,
    PromptKind,
    Review,
    ReviewState,
    Split,
    Stage,
)

SELECT_IMAGES = (
    "SELECT image_id, path, plane, sha256, pixels_sha256, height, width, group_name, split, "
    "is_complete, added_at FROM images"
)
_SELECT_OBJECTS = (
    "SELECT object_id, objects.image_id, height, width, counts, class_name, author, created_at, "
    "seconds, model_id, stage, review, score, is_crowd, extra FROM objects "
    "JOIN images ON images.image_id = objects.image_id"
)
_SELECT_PROMPTS = (
    "SELECT prompts.object_id, kind, numbers, is_positive, content FROM prompts "
    "JOIN objects ON objects.object_id = prompts.object_id"
)


def stored_path(path: Path, folder: Path) -> str:
    """Return a path as it is stored: from the store's folder where both may be moved together."""
    if path.is_relative_to(folder.parent):
        return Path(os.path.relpath(path, folder)).as_posix()
    return path.as_posix()


def image_of(row: tuple[Any, ...], folder: Path) -> ImageRecord:
    """Return the picture of a row."""
    image_id, path, plane, sha256, pixels, height, width, group, split, is_complete, added = row
    return ImageRecord(
        image_id=image_id,
        path=Path(os.path.normpath(folder / path)),
        plane=plane,
        sha256=sha256,
        pixels_sha256=pixels,
        size_hw=(height, width),
        group=group,
        split=None if split is None else Split(split),
        is_complete=bool(is_complete),
        added_at=datetime.fromisoformat(added),
    )


def insert_image(connection: sqlite3.Connection, record: ImageRecord, folder: Path) -> None:
    """Write the row of a new picture."""
    connection.execute(
        "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.image_id,
            stored_path(record.path, folder),
            record.plane,
            record.sha256,
            record.pixels_sha256,
            *record.size_hw,
            record.group,
            record.split,
            record.is_complete,
            record.added_at.isoformat(),
        ),
    )


def group_of_stack(connection: sqlite3.Connection, sha256: str, source: ImageSource) -> str | None:
    """Return the group of another plane of the same file."""
    if source.plane is None:
        return None
    row = connection.execute(
        "SELECT group_name FROM images WHERE sha256 = ? LIMIT 1", (sha256,)
    ).fetchone()
    return None if row is None else str(row[0])


def splits_of(connection: sqlite3.Connection, group: str) -> Sequence[Split]:
    """Return the splits that pictures of a group have."""
    found = connection.execute(
        "SELECT DISTINCT split FROM images WHERE group_name = ? AND split IS NOT NULL", (group,)
    )
    return [Split(row[0]) for row in found.fetchall()]


def write_split(connection: sqlite3.Connection, group: str, split: Split | None) -> None:
    """Give all pictures of a group one split."""
    connection.execute("UPDATE images SET split = ? WHERE group_name = ?", (split, group))


def objects_of(connection: sqlite3.Connection, image_id: str | None) -> list[LabelledObject]:
    """Return the objects of a picture, or of all."""
    where, values = ("", ()) if image_id is None else (" WHERE objects.image_id = ?", (image_id,))
    return _objects(connection, where, values)


def object_of(connection: sqlite3.Connection, object_id: str) -> LabelledObject | None:
    """Return one object, if it is there."""
    found = _objects(connection, " WHERE objects.object_id = ?", (object_id,))
    return found[0] if found else None


def has_object(connection: sqlite3.Connection, object_id: str) -> bool:
    """Return whether an object of that id is there."""
    found = connection.execute("SELECT 1 FROM objects WHERE object_id = ?", (object_id,))
    return found.fetchone() is not None


def reviews_of(connection: sqlite3.Connection, object_id: str) -> list[Review]:
    """Return the history of an object."""
    found = connection.execute(
        "SELECT object_id, review, author, reviewed_at, seconds FROM reviews WHERE object_id = ? "
        "ORDER BY position",
        (object_id,),
    )
    return [
        Review(one, ReviewState(review), author, datetime.fromisoformat(at), seconds)
        for one, review, author, at, seconds in found.fetchall()
    ]


def put_object(connection: sqlite3.Connection, one: LabelledObject) -> None:
    """Write an object, its prompts, and an entry of its history."""
    connection.execute(
        "INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (object_id) DO UPDATE SET image_id = excluded.image_id, "
        "counts = excluded.counts, class_name = excluded.class_name, author = excluded.author, "
        "created_at = excluded.created_at, seconds = excluded.seconds, "
        "model_id = excluded.model_id, stage = excluded.stage, review = excluded.review, "
        "score = excluded.score, is_crowd = excluded.is_crowd, extra = excluded.extra",
        (
            one.object_id,
            one.image_id,
            one.rle["counts"],
            one.class_name,
            one.author,
            _written(one.created_at),
            one.seconds,
            one.model_id,
            one.stage,
            one.review,
            one.score,
            one.is_crowd,
            json.dumps(dict(one.extra), allow_nan=False),
        ),
    )
    connection.execute("DELETE FROM prompts WHERE object_id = ?", (one.object_id,))
    connection.executemany(
        "INSERT INTO prompts VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                one.object_id,
                position,
                prompt.kind,
                json.dumps(prompt.values),
                prompt.is_positive,
                prompt.text if prompt.rle is None else json.dumps(dict(prompt.rle)),
            )
            for position, prompt in enumerate(one.prompts)
        ],
    )
    add_review(
        connection, Review(one.object_id, one.review, one.author, one.created_at, one.seconds)
    )


def update_review(connection: sqlite3.Connection, one: LabelledObject) -> None:
    """Write what a review changes of an object."""
    connection.execute(
        "UPDATE objects SET review = ?, author = ?, seconds = ? WHERE object_id = ?",
        (one.review, one.author, one.seconds, one.object_id),
    )


def add_review(connection: sqlite3.Connection, review: Review) -> None:
    """Write an entry at the end of an object's history."""
    connection.execute(
        "INSERT INTO reviews SELECT ?, coalesce(max(position) + 1, 0), ?, ?, ?, ? FROM reviews "
        "WHERE object_id = ?",
        (
            review.object_id,
            review.review,
            review.author,
            _written(review.reviewed_at),
            review.seconds,
            review.object_id,
        ),
    )


def _objects(
    connection: sqlite3.Connection, where: str, values: tuple[str, ...]
) -> list[LabelledObject]:
    """Return objects with their prompts."""
    prompts: dict[str, list[PromptEvent]] = defaultdict(list)
    order = " ORDER BY prompts.object_id, position"
    for object_id, *rest in connection.execute(_SELECT_PROMPTS + where + order, values).fetchall():
        prompts[object_id].append(_prompt(*rest))
    found = connection.execute(_SELECT_OBJECTS + where + " ORDER BY objects.rowid", values)
    return [_object(row, tuple(prompts[row[0]])) for row in found.fetchall()]


def _object(row: tuple[Any, ...], prompts: tuple[PromptEvent, ...]) -> LabelledObject:
    """Return the object of a row."""
    (object_id, image_id, height, width, counts, class_name, author, created_at) = row[:8]
    (seconds, model_id, stage, review, score, is_crowd, extra) = row[8:]
    return LabelledObject(
        image_id=image_id,
        rle={"size": [height, width], "counts": counts},
        object_id=object_id,
        class_name=class_name,
        prompts=prompts,
        author=author,
        created_at=datetime.fromisoformat(created_at),
        seconds=seconds,
        model_id=model_id,
        stage=Stage(stage),
        review=ReviewState(review),
        score=score,
        is_crowd=bool(is_crowd),
        extra=json.loads(extra),
    )


def _prompt(kind: str, numbers: str, is_positive: int, content: str) -> PromptEvent:
    """Return the prompt of a row."""
    is_mask = kind == PromptKind.MASK
    return PromptEvent(
        kind=PromptKind(kind),
        values=tuple(json.loads(numbers)),
        is_positive=bool(is_positive),
        text="" if is_mask else content,
        rle=json.loads(content) if is_mask else None,
    )


def _written(time: datetime) -> str:
    """Return a time as it is stored."""
    return time.astimezone(UTC).isoformat()
