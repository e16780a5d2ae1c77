"""The groups of a label store within a transaction: each is wholly on one side of the split."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from sam_plugins.errors import LabelStoreError
from sam_plugins.model.engine.label_store import rows
from sam_plugins.model.engine.label_store.splits import draw_splits
from sam_plugins.model.engine.label_store.stored_images import image_of
from sam_plugins.model.engine.label_store.types import Split


def put_together(
    connection: sqlite3.Connection, folder: Path, image_ids: Iterable[str], group: str
) -> None:
    """Put pictures into one group; where some of it is learned from, all of it is.

    Parameters
    ----------
    connection : Connection
    folder : Path
        Of the store.
    image_ids : iterable of str
    group : str

    Raises
    ------
    LabelStoreError
        If there is no such picture.
    """
    for image_id in image_ids:
        image_of(connection, folder, image_id)
        connection.execute("UPDATE images SET group_name = ? WHERE image_id = ?", (group, image_id))
    splits = rows.splits_of(connection, group)
    if splits:
        rows.write_split(connection, group, Split.TRAIN if Split.TRAIN in splits else splits[0])


def assign_splits(
    connection: sqlite3.Connection, held_out_share: float, seed: int
) -> dict[Split, int]:
    """Draw a split for each group without one; return how many pictures each split has now.

    Raises
    ------
    LabelStoreError
        If there is only one group.
    ValueError
        If ``held_out_share`` is no share.
    """
    sizes: dict[str, int] = {}
    drawn: dict[str, Split] = {}
    found = connection.execute(
        "SELECT group_name, count(*), max(split) FROM images GROUP BY group_name "
        "ORDER BY group_name"
    )
    for group, count, split in found.fetchall():
        sizes[group] = count
        if split is not None:
            drawn[group] = Split(split)
    drawn |= draw_splits(sizes, drawn, held_out_share, seed)
    for group, chosen in drawn.items():
        rows.write_split(connection, group, chosen)
    return {
        split: sum(sizes[group] for group, chosen in drawn.items() if chosen == split)
        for split in Split
    }


def set_split(
    connection: sqlite3.Connection, folder: Path, group: str, split: Split | None
) -> None:
    """Put a group on one side, or on none.

    Raises
    ------
    LabelStoreError
        If there is no such group.
    """
    if not connection.execute("SELECT 1 FROM images WHERE group_name = ?", (group,)).fetchone():
        raise LabelStoreError(
            f"the label store {folder} has no group {group!r}; images() names them"
        )
    rows.write_split(connection, group, split)
