"""The pictures of a label store within a transaction: added once, whatever their file is called."""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from sam_plugins.errors import LabelStoreError
from sam_plugins.model.engine.label_store import rows
from sam_plugins.model.engine.label_store.content import Content, image_id_of
from sam_plugins.model.engine.label_store.grouping import GroupOf
from sam_plugins.model.engine.label_store.types import ImageRecord, ImageSource, Split


def as_source(source: str | os.PathLike[str] | ImageSource) -> ImageSource:
    """Return a source with an absolute path."""
    one = source if isinstance(source, ImageSource) else ImageSource(Path(source))
    return one._replace(path=Path(one.path).absolute())


def add_image(
    connection: sqlite3.Connection,
    folder: Path,
    source: ImageSource,
    content: Content | ImageRecord,
    group_of: GroupOf,
) -> str:
    """Add a picture, or find it by its pixels, also where its file was moved; return its id.

    Parameters
    ----------
    connection : Connection
    folder : Path
        Of the store.
    source : ImageSource
        With an absolute path.
    content : Content or ImageRecord
        What its file holds.
    group_of : callable
        Returns the group of a path, where neither a plane of the same file nor the source has one.
    """
    row = connection.execute(
        f"{rows.SELECT_IMAGES} WHERE pixels_sha256 = ?", (content.pixels_sha256,)
    ).fetchone()
    if row is not None:
        record = rows.image_of(row, folder)
        if record.sha256 == content.sha256 and not record.path.exists():
            connection.execute(
                "UPDATE images SET path = ? WHERE image_id = ?",
                (rows.stored_path(source.path, folder), record.image_id),
            )
        return record.image_id
    group = rows.group_of_stack(connection, content.sha256, source) or source.group
    group = group or str(group_of(source.path))
    splits = rows.splits_of(connection, group)
    record = ImageRecord(
        image_id=image_id_of(content.sha256, source.plane),
        path=source.path,
        plane=source.plane,
        sha256=content.sha256,
        pixels_sha256=content.pixels_sha256,
        size_hw=content.size_hw,
        group=group,
        split=splits[0] if splits else None,
        is_complete=False,
        added_at=datetime.now(UTC),
    )
    rows.insert_image(connection, record, folder)
    return record.image_id


def images_of(
    connection: sqlite3.Connection, folder: Path, split: Split | None = None
) -> list[ImageRecord]:
    """Return the pictures, or those of one split, in the order in which they were added."""
    found = connection.execute(f"{rows.SELECT_IMAGES} ORDER BY rowid").fetchall()
    records = [rows.image_of(row, folder) for row in found]
    return [one for one in records if split is None or one.split == split]


def image_of(connection: sqlite3.Connection, folder: Path, image_id: str) -> ImageRecord:
    """Return one picture.

    Raises
    ------
    LabelStoreError
        If there is none of that id.
    """
    row = connection.execute(f"{rows.SELECT_IMAGES} WHERE image_id = ?", (image_id,)).fetchone()
    if row is None:
        raise LabelStoreError(f"the label store {folder} has no picture {image_id!r}; add it first")
    return rows.image_of(row, folder)


def image_in_file(
    connection: sqlite3.Connection, folder: Path, sha256: str, plane: int | None
) -> ImageRecord | None:
    """Return the picture in a file, if it was added before."""
    row = connection.execute(
        f"{rows.SELECT_IMAGES} WHERE sha256 = ? AND plane IS ?", (sha256, plane)
    ).fetchone()
    return None if row is None else rows.image_of(row, folder)


def write_complete(
    connection: sqlite3.Connection, folder: Path, image_id: str, is_complete: bool
) -> None:
    """Write whether every visible object of a picture is labelled.

    Raises
    ------
    LabelStoreError
        If there is no such picture.
    """
    image_of(connection, folder, image_id)
    connection.execute(
        "UPDATE images SET is_complete = ? WHERE image_id = ?", (is_complete, image_id)
    )


def remove_image(connection: sqlite3.Connection, folder: Path, image_id: str) -> None:
    """Forget a picture without objects.

    Raises
    ------
    LabelStoreError
        If there is no such picture, or it has objects.
    """
    record = image_of(connection, folder, image_id)
    count = connection.execute(
        "SELECT count(*) FROM objects WHERE image_id = ?", (image_id,)
    ).fetchone()[0]
    if count:
        raise LabelStoreError(f"{record.name} has {count} objects in the store; delete them first")
    connection.execute("DELETE FROM images WHERE image_id = ?", (image_id,))
