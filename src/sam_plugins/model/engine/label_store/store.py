"""The label store: pictures, objects, how they came to be, and which pictures are held out.

One folder, which several programs may read and write at once::

    STORE/labels.sqlite     everything but pixels of pictures
    STORE/label-images/     label images as training takes them, made when asked for

A write is whole or not there, whatever happens to the program. SQLite's write-ahead log needs a
local disk: on a network folder, two machines must not write at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from sam_plugins.errors import LabelStoreError, OutputError
from sam_plugins.model.engine.label_store import rows
from sam_plugins.model.engine.label_store.content import (
    Content,
    file_sha256,
    read_content,
    read_unchanged,
    require_unchanged,
)
from sam_plugins.model.engine.label_store.database import Database
from sam_plugins.model.engine.label_store.group_splits import (
    assign_splits,
    put_together,
    set_split,
)
from sam_plugins.model.engine.label_store.grouping import GroupOf, by_name
from sam_plugins.model.engine.label_store.label_images import LabelImages, paint_objects
from sam_plugins.model.engine.label_store.stored_images import (
    add_image,
    as_source,
    image_in_file,
    image_of,
    images_of,
    remove_image,
    write_complete,
)
from sam_plugins.model.engine.label_store.stored_objects import (
    delete_object,
    history_of,
    object_of,
    put_objects,
    review_object,
)
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
        read = [self._content_of(one) for one in map(as_source, sources)]  # nobody waits for it
        choose = group_of or by_name
        with self._database.writing() as connection:
            ids = [add_image(connection, self.folder, *one, choose) for one in read]
            return [image_of(connection, self.folder, image_id) for image_id in ids]

    def images(self, *, split: Split | str | None = None) -> list[ImageRecord]:
        """Return the pictures in the order in which they were added.

        Parameters
        ----------
        split : Split, optional
            Only those of one split.
        """
        chosen = None if split is None else Split(split)
        with self._database.reading() as connection:
            return images_of(connection, self.folder, chosen)

    def image(self, image_id: str) -> ImageRecord:
        """Return one picture.

        Raises
        ------
        LabelStoreError
            If there is none of that id.
        """
        with self._database.reading() as connection:
            return image_of(connection, self.folder, image_id)

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
            write_complete(connection, self.folder, image_id, is_complete)

    def remove_image(self, image_id: str) -> None:
        """Forget a picture without objects; its file stays.

        Raises
        ------
        LabelStoreError
            If there is no such picture, or it has objects.
        """
        with self._database.writing() as connection:
            remove_image(connection, self.folder, image_id)

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
            put_together(connection, self.folder, image_ids, group)

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
            return assign_splits(connection, held_out_share, seed)

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
            set_split(connection, self.folder, group, chosen)

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
        small = [replace(one, rle=compress(one.rle)) for one in objects]
        with self._database.writing() as connection:
            return put_objects(connection, self.folder, small, replace_known=replace_known)

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
                image_of(connection, self.folder, image_id)
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
            return object_of(connection, self.folder, object_id)

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
            review_object(connection, self.folder, object_id, review, author, seconds)

    def history(self, object_id: str) -> list[Review]:
        """Return what was thought of an object, oldest first.

        Raises
        ------
        LabelStoreError
            If there is no such object.
        """
        with self._database.reading() as connection:
            return history_of(connection, self.folder, object_id)

    def delete_object(self, object_id: str) -> None:
        """Delete an object and its history; to remember that it is none, reject it instead.

        Raises
        ------
        LabelStoreError
            If there is no such object, or the store cannot be written.
        """
        with self._database.writing() as connection:
            delete_object(connection, self.folder, object_id)

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

    def _content_of(self, source: ImageSource) -> tuple[ImageSource, Content | ImageRecord]:
        """Return a source and what its file holds: read only where it was not added before."""
        sha256 = file_sha256(source.path)
        with self._database.reading() as connection:
            known = image_in_file(connection, self.folder, sha256, source.plane)
        return source, known or read_content(source.path, source.plane)

    def _trusted(self, image_id: str) -> list[LabelledObject]:
        """Return what people stand by, crowds among it."""
        return self.objects(image_id, reviews=TRUSTED)
