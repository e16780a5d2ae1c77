"""The objects of a label store within a transaction: checked against their pictures, reviewed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sam_plugins.errors import LabelStoreError
from sam_plugins.model.engine.label_store import rows
from sam_plugins.model.engine.label_store.stored_images import image_of
from sam_plugins.model.engine.label_store.types import LabelledObject, Review, ReviewState


def put_objects(
    connection: sqlite3.Connection,
    folder: Path,
    objects: Iterable[LabelledObject],
    *,
    replace_known: bool,
) -> int:
    """Write objects whose masks are compressed; return how many were written.

    Parameters
    ----------
    connection : Connection
    folder : Path
        Of the store.
    objects : iterable of LabelledObject
    replace_known : bool
        Whether an object takes the place of the one with its id; otherwise that one stays.

    Raises
    ------
    LabelStoreError
        If a picture is not in the store.
    ValueError
        If a mask is not of its picture's size.
    """
    stored = 0
    sizes: dict[str, tuple[int, int]] = {}
    for one in objects:
        if one.image_id not in sizes:
            sizes[one.image_id] = image_of(connection, folder, one.image_id).size_hw
        if tuple(one.rle["size"]) != sizes[one.image_id]:
            raise ValueError(
                f"a mask must be of its picture's size {sizes[one.image_id]} (height, "
                f"width), got {tuple(one.rle['size'])} for {one.image_id}"
            )
        if replace_known or not rows.has_object(connection, one.object_id):
            rows.put_object(connection, one)
            stored += 1
    return stored


def object_of(connection: sqlite3.Connection, folder: Path, object_id: str) -> LabelledObject:
    """Return one object.

    Raises
    ------
    LabelStoreError
        If there is none of that id.
    """
    found = rows.object_of(connection, object_id)
    if found is None:
        raise LabelStoreError(
            f"the label store {folder} has no object {object_id!r}; it was deleted, or never stored"
        )
    return found


def review_object(
    connection: sqlite3.Connection,
    folder: Path,
    object_id: str,
    review: ReviewState | str,
    author: str,
    seconds: float | None,
) -> None:
    """Write what a person thinks of an object: to it, and at the end of its history.

    Parameters
    ----------
    connection : Connection
    folder : Path
        Of the store.
    object_id : str
    review : ReviewState
    author : str
        Becomes the object's unless empty.
    seconds : float or None
        Of that person's time, added to the object's.

    Raises
    ------
    LabelStoreError
        If there is no such object.
    ValueError
        If ``seconds`` is negative.
    """
    before = object_of(connection, folder, object_id)
    spent = before.seconds if seconds is None else (before.seconds or 0.0) + seconds
    after = replace(
        before, review=ReviewState(review), author=author or before.author, seconds=spent
    )
    if seconds is not None and seconds < 0:
        raise ValueError(f"seconds must be 0 or more, got {seconds}")
    rows.update_review(connection, after)
    rows.add_review(connection, Review(object_id, after.review, author, datetime.now(UTC), seconds))


def history_of(connection: sqlite3.Connection, folder: Path, object_id: str) -> list[Review]:
    """Return what was thought of an object, oldest first.

    Raises
    ------
    LabelStoreError
        If there is no such object.
    """
    object_of(connection, folder, object_id)
    return rows.reviews_of(connection, object_id)


def delete_object(connection: sqlite3.Connection, folder: Path, object_id: str) -> None:
    """Delete an object, and with it its prompts and its history.

    Raises
    ------
    LabelStoreError
        If there is no such object.
    """
    object_of(connection, folder, object_id)
    connection.execute("DELETE FROM objects WHERE object_id = ?", (object_id,))
