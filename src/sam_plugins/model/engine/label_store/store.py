"""The label store: pictures, objects, how they came to be, and which pictures are held out.

One folder, which several programs may read and write at once::

    STORE/labels.sqlite     everything but pixels of pictures
    STORE/label-images/     label images as training takes them, made when asked for

A write is whole or not there, whatever happens to the program. SQLite's write-ahead log needs a
local disk: on a network folder, two machines must not write at once.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from sam_plugins.errors import LabelStoreError, OutputError
from sam_plugins.model.engine.label_store import rows
from sam_plugins.model.engine.label_store.content import (
    Content,
    file_sha256,
    image_id_of,
    read_content,
    read_unchanged,
    require_unchanged,
)
from sam_plugins.model.engine.label_store.database import Database
from sam_plugins.model.engine.label_store.grouping import GroupOf, by_name
from sam_plugins.model.engine.label_store.label_images import LabelImages, paint_objects
from sam_plugins.model.engine.label_store.splits import draw_splits
from sam_plugins.model.engine.label_store.types import (
    TRUSTED,
    ImageRecord,
    ImageSource,
    LabelledObject,
    PaintedObjects,
    Review,
    ReviewState,
    Split,
)
from sam_plugins.model.io.atomic import make_folder
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.io.rle import compress


class LabelStore:
    """Labels of many pictures on disk; see :meth:`create` and :meth:`open`.

    Threads of one process may share an instance, and processes may open the same folder.

    Parameters
    ----------
    folder : path-like
    read_only : bool
        Whether nothing may be written.

    Examples
    --------
    >>> import tempfile
    >>> with LabelStore.create(tempfile.mkdtemp()) as store:
    ...     store.images()
    []
    """

    def __init__(self, folder: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.folder = Path(folder).absolute()
        self._database = Database(self.folder, is_read_only=read_only)

    @classmethod
    def create(cls, folder: str | os.PathLike[str]) -> Self:
        """Make an empty store; the folder may exist.

        Raises
        ------
        LabelStoreError
            If there is one already, or the folder cannot be written.
        """
        store = cls(folder)
        try:
            make_folder(store.folder)
        except OutputError as error:
            raise LabelStoreError(str(error)) from error
        try:
            store._database.create()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, read_only: bool = False) -> Self:
        """Open a store.

        Parameters
        ----------
        folder : path-like
        read_only : bool
            For a store on a read-only disk, or to be sure.

        Raises
        ------
        LabelStoreError
            If there is none, it is damaged, or a newer version wrote it.
        """
        store = cls(folder, read_only=read_only)
        try:
            store._database.check()
        except BaseException:
            store.close()
            raise
        return store

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file; what was written is safe without it."""
        self._database.close()

    # ------------------------------------------------------------------------------ pictures

    def add_images(
        self,
        sources: Iterable[str | os.PathLike[str] | ImageSource],
        *,
        group_of: GroupOf | None = None,
    ) -> list[ImageRecord]:
        """Add pictures, all of them or, on an error, none.

        The same picture twice, also in another file format, is one record; a picture whose file was
        moved is found again under its new path.

        Parameters
        ----------
        sources : iterable of path-like or ImageSource
        group_of : callable, optional
            Returns the group of a path: pictures of one group are never divided between the splits.
            :func:`~.grouping.by_name` by default, which knows crops by what cutting programs add
            to a name; crops with other names have to be grouped by the caller. A source that
            names its group keeps it. Planes of one stack are always one group.

        Returns
        -------
        list of ImageRecord
            In the order of ``sources``, one for each.

        Raises
        ------
        UnreadableImageError, UnusableImageError
            If a picture cannot be read, or is a stack without a chosen plane.
        LabelStoreError
            If the store cannot be written.
        """
        found: list[tuple[ImageSource, Content | ImageRecord]] = []
        for source in sources:  # reading takes long: nobody waits for it
            one = _as_source(source)
            record = self._known(file_sha256(one.path), one.plane)
            found.append((one, record or read_content(one.path, one.plane)))
        choose = group_of or by_name
        with self._database.writing() as connection:
            ids = [self._add(connection, one, content, choose) for one, content in found]
            return [self._image(connection, image_id) for image_id in ids]

    def images(self, *, split: Split | str | None = None) -> list[ImageRecord]:
        """Return the pictures in the order in which they were added.

        Parameters
        ----------
        split : Split, optional
            Only those of one split.
        """
        chosen = None if split is None else Split(split)
        with self._database.reading() as connection:
            found = connection.execute(f"{rows.SELECT_IMAGES} ORDER BY rowid").fetchall()
        records = [rows.image_of(row, self.folder) for row in found]
        return [one for one in records if chosen is None or one.split == chosen]

    def image(self, image_id: str) -> ImageRecord:
        """Return one picture.

        Raises
        ------
        LabelStoreError
            If there is none of that id.
        """
        with self._database.reading() as connection:
            return self._image(connection, image_id)

    def read_image(self, image_id: str) -> NDArray[Any]:
        """Read the pixels of a picture.

        Returns
        -------
        ndarray of shape (H, W), (H, W, S) or (C, H, W)
            As in the file.

        Raises
        ------
        UnreadableImageError
            If the file is gone or damaged.
        LabelStoreError
            If the file has changed since it was added.
        """
        return read_unchanged(self.image(image_id))

    def set_complete(self, image_id: str, is_complete: bool = True) -> None:
        """Say whether every visible object of a picture is labelled.

        Raises
        ------
        LabelStoreError
            If there is no such picture, or the store cannot be written.
        """
        with self._database.writing() as connection:
            self._image(connection, image_id)
            connection.execute(
                "UPDATE images SET is_complete = ? WHERE image_id = ?", (is_complete, image_id)
            )

    def remove_image(self, image_id: str) -> None:
        """Forget a picture without objects; its file stays.

        Raises
        ------
        LabelStoreError
            If there is no such picture, or it has objects.
        """
        with self._database.writing() as connection:
            record = self._image(connection, image_id)
            count = connection.execute(
                "SELECT count(*) FROM objects WHERE image_id = ?", (image_id,)
            ).fetchone()[0]
            if count:
                raise LabelStoreError(
                    f"{record.name} has {count} objects in the store; delete them first"
                )
            connection.execute("DELETE FROM images WHERE image_id = ?", (image_id,))

    # ------------------------------------------------------------------------ groups, splits

    def set_group(self, image_ids: Iterable[str], group: str) -> None:
        """Put pictures together, so that no split divides them.

        Where some of them, or others of that group, are learned from, all of them are from now on:
        what was learned from must not be measured on.

        Raises
        ------
        LabelStoreError
            If there is no such picture, or the store cannot be written.
        ValueError
            If the group has no name.
        """
        if not group:
            raise ValueError("group must not be empty")
        with self._database.writing() as connection:
            for image_id in image_ids:
                self._image(connection, image_id)
                connection.execute(
                    "UPDATE images SET group_name = ? WHERE image_id = ?", (group, image_id)
                )
            splits = rows.splits_of(connection, group)
            if splits:
                rows.write_split(
                    connection, group, Split.TRAIN if Split.TRAIN in splits else splits[0]
                )

    def assign_splits(self, held_out_share: float = 0.25, seed: int = 0) -> dict[Split, int]:
        """Divide the pictures, group by group, into those to learn from and those to measure on.

        Pictures that have a split keep it, so call it again after more were added.

        Parameters
        ----------
        held_out_share : float
            Of the pictures, between 0 and 1; met as closely as whole groups allow.
        seed : int
            Of the draw.

        Returns
        -------
        dict of Split to int
            How many pictures each has now.

        Raises
        ------
        LabelStoreError
            If there is only one group, or the store cannot be written.
        ValueError
            If ``held_out_share`` is no share.
        """
        with self._database.writing() as connection:
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

    def set_split(self, group: str, split: Split | str | None) -> None:
        """Put a group on one side of the split by hand, or take it out (None).

        A group that was learned from should not be held out later; nothing here knows whether it
        was.

        Raises
        ------
        LabelStoreError
            If there is no such group, or the store cannot be written.
        """
        chosen = None if split is None else Split(split)
        with self._database.writing() as connection:
            if not connection.execute(
                "SELECT 1 FROM images WHERE group_name = ?", (group,)
            ).fetchone():
                raise LabelStoreError(
                    f"the label store {self.folder} has no group {group!r}; images() names them"
                )
            rows.write_split(connection, group, chosen)

    # ------------------------------------------------------------------------------- objects

    def put_objects(self, objects: Iterable[LabelledObject], *, replace_known: bool = True) -> int:
        """Store objects, all of them or, on an error, none.

        Each goes into the history of reviews, with its author, time and seconds.

        Parameters
        ----------
        objects : iterable of LabelledObject
        replace_known : bool
            Whether an object takes the place of the one with its id; otherwise that one stays.

        Returns
        -------
        int
            How many were stored.

        Raises
        ------
        LabelStoreError
            If a picture is not in the store, or the store cannot be written.
        ValueError
            If a mask is not of its picture's size.
        """
        checked = [replace(one, rle=compress(one.rle)) for one in objects]
        stored = 0
        with self._database.writing() as connection:
            sizes: dict[str, tuple[int, int]] = {}
            for one in checked:
                if one.image_id not in sizes:
                    sizes[one.image_id] = self._image(connection, one.image_id).size_hw
                if tuple(one.rle["size"]) != sizes[one.image_id]:
                    raise ValueError(
                        f"a mask must be of its picture's size {sizes[one.image_id]} (height, "
                        f"width), got {tuple(one.rle['size'])} for {one.image_id}"
                    )
                if replace_known or not rows.has_object(connection, one.object_id):
                    rows.put_object(connection, one)
                    stored += 1
        return stored

    def objects(
        self,
        image_id: str | None = None,
        *,
        reviews: Iterable[ReviewState | str] | None = None,
        crowds: bool = True,
    ) -> list[LabelledObject]:
        """Return objects in the order in which they were first stored.

        Parameters
        ----------
        image_id : str, optional
            Of one picture; of all by default.
        reviews : iterable of ReviewState, optional
            Only in these states.
        crowds : bool
            Whether regions of objects that nobody told apart are among them.

        Raises
        ------
        LabelStoreError
            If there is no such picture.
        """
        wanted = None if reviews is None else {ReviewState(one) for one in reviews}
        with self._database.reading() as connection:
            if image_id is not None:
                self._image(connection, image_id)
            found = rows.objects_of(connection, image_id)
        return [
            one
            for one in found
            if (wanted is None or one.review in wanted) and (crowds or not one.is_crowd)
        ]

    def has_object(self, object_id: str, image_id: str) -> bool:
        """Return whether a picture has an object of that id."""
        with self._database.reading() as connection:
            found = rows.object_of(connection, object_id)
        return found is not None and found.image_id == image_id

    def object(self, object_id: str) -> LabelledObject:
        """Return one object.

        Raises
        ------
        LabelStoreError
            If there is none of that id.
        """
        with self._database.reading() as connection:
            return self._object(connection, object_id)

    def set_review(
        self,
        object_id: str,
        review: ReviewState | str,
        *,
        author: str = "",
        seconds: float | None = None,
    ) -> None:
        """Say what a person thinks of an object.

        Parameters
        ----------
        object_id : str
        review : ReviewState
        author : str
            Who says so; becomes the object's author unless empty.
        seconds : float, optional
            Of that person's time, added to the object's.

        Raises
        ------
        LabelStoreError
            If there is no such object, or the store cannot be written.
        ValueError
            If ``seconds`` is negative.
        """
        with self._database.writing() as connection:
            before = self._object(connection, object_id)
            spent = before.seconds if seconds is None else (before.seconds or 0.0) + seconds
            after = replace(
                before,
                review=ReviewState(review),
                author=author or before.author,
                seconds=spent,
            )
            if seconds is not None and seconds < 0:
                raise ValueError(f"seconds must be 0 or more, got {seconds}")
            rows.update_review(connection, after)
            rows.add_review(
                connection,
                Review(object_id, after.review, author, datetime.now(UTC), seconds),
            )

    def history(self, object_id: str) -> list[Review]:
        """Return what was thought of an object, oldest first.

        Raises
        ------
        LabelStoreError
            If there is no such object.
        """
        with self._database.reading() as connection:
            self._object(connection, object_id)
            return rows.reviews_of(connection, object_id)

    def delete_object(self, object_id: str) -> None:
        """Delete an object and its history; to remember that it is none, reject it instead.

        Raises
        ------
        LabelStoreError
            If there is no such object, or the store cannot be written.
        """
        with self._database.writing() as connection:
            self._object(connection, object_id)
            connection.execute("DELETE FROM objects WHERE object_id = ?", (object_id,))

    # -------------------------------------------------------------------------- label images

    def paint(self, image_id: str) -> PaintedObjects:
        """Return the label image of accepted and corrected objects, and which label is which.

        Where masks overlap, the smaller object keeps the pixels. Objects that smaller ones cover
        wholly have no label; crowds have none either.

        Raises
        ------
        LabelStoreError
            If there is no such picture.
        """
        record = self.image(image_id)
        return paint_objects(record.size_hw, self._trusted(image_id))

    def label_image(self, image_id: str) -> NDArray[Any]:
        """Return the labels of :meth:`paint`, shape (H, W), int32, 0 is background."""
        return self.paint(image_id).labels

    def as_labelled_files(self, split: Split | str | None = None) -> list[LabelledFile]:
        """Return pictures with their labels as training and evaluation take them.

        Label images are written into the store's folder; each is named after its content, so that
        a training that runs meanwhile keeps what it began with. Pictures without a trusted object
        are left out, unless they are complete: there, nothing is background.

        Parameters
        ----------
        split : Split, optional
            Only of one split; of all pictures by default.

        Raises
        ------
        OutputError
            If a label image cannot be written.
        LabelStoreError
            If a picture has changed since it was added.
        """
        images = LabelImages(self.folder)
        files = []
        for record in self.images(split=split):
            objects = self._trusted(record.image_id)
            if objects or record.is_complete:
                require_unchanged(record)
                files.append(images.labelled_file(record, objects))
        return files

    # ------------------------------------------------------------------------------- private

    def _known(self, sha256: str, plane: int | None) -> ImageRecord | None:
        """Return the picture in a file, if it was added before."""
        with self._database.reading() as connection:
            row = connection.execute(
                f"{rows.SELECT_IMAGES} WHERE sha256 = ? AND plane IS ?", (sha256, plane)
            ).fetchone()
        return None if row is None else rows.image_of(row, self.folder)

    def _trusted(self, image_id: str) -> list[LabelledObject]:
        """Return what people stand by, crowds among it."""
        return self.objects(image_id, reviews=TRUSTED)

    def _image(self, connection: sqlite3.Connection, image_id: str) -> ImageRecord:
        """Return one picture within a transaction."""
        row = connection.execute(f"{rows.SELECT_IMAGES} WHERE image_id = ?", (image_id,)).fetchone()
        if row is None:
            raise LabelStoreError(
                f"the label store {self.folder} has no picture {image_id!r}; add it first"
            )
        return rows.image_of(row, self.folder)

    def _object(self, connection: sqlite3.Connection, object_id: str) -> LabelledObject:
        """Return one object within a transaction."""
        found = rows.object_of(connection, object_id)
        if found is None:
            raise LabelStoreError(
                f"the label store {self.folder} has no object {object_id!r}; it was deleted, or "
                "never stored"
            )
        return found

    def _add(
        self,
        connection: sqlite3.Connection,
        source: ImageSource,
        content: Content | ImageRecord,
        group_of: GroupOf,
    ) -> str:
        """Add one picture, or find it; return its id."""
        row = connection.execute(
            f"{rows.SELECT_IMAGES} WHERE pixels_sha256 = ?", (content.pixels_sha256,)
        ).fetchone()
        if row is not None:
            record = rows.image_of(row, self.folder)
            if record.sha256 == content.sha256 and not record.path.exists():
                connection.execute(
                    "UPDATE images SET path = ? WHERE image_id = ?",
                    (rows.stored_path(source.path, self.folder), record.image_id),
                )
            return record.image_id
        group = rows.group_of_stack(connection, content.sha256, source) or source.group
        group = group or str(group_of(source.path))
        splits = rows.splits_of(connection, group)
        image_id = image_id_of(content.sha256, source.plane)
        rows.insert_image(
            connection,
            ImageRecord(
                image_id=image_id,
                path=source.path,
                plane=source.plane,
                sha256=content.sha256,
                pixels_sha256=content.pixels_sha256,
                size_hw=content.size_hw,
                group=group,
                split=splits[0] if splits else None,
                is_complete=False,
                added_at=datetime.now(UTC),
            ),
            self.folder,
        )
        return image_id


def _as_source(source: str | os.PathLike[str] | ImageSource) -> ImageSource:
    """Return a source with an absolute path."""
    one = source if isinstance(source, ImageSource) else ImageSource(Path(source))
    return one._replace(path=Path(one.path).absolute())
