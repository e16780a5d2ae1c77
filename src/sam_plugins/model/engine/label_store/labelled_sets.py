"""Folders of pictures and label images, and data sets with a manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sam_plugins.model.engine.label_store.exporting import (
    ExportOptions,
    chosen,
    copy_picture,
    names_of,
)
from sam_plugins.model.engine.label_store.importing import (
    ImportOptions,
    ImportReport,
    Incoming,
    take_in,
)
from sam_plugins.model.engine.label_store.label_images import crowd_mask, paint_objects
from sam_plugins.model.engine.label_store.portable import restored_object
from sam_plugins.model.engine.label_store.store import LabelStore
from sam_plugins.model.engine.label_store.types import (
    ImageRecord,
    ImageSource,
    LabelledObject,
    Split,
)
from sam_plugins.model.io.atomic import make_folder
from sam_plugins.model.io.folder_pairs import list_folder_pair
from sam_plugins.model.io.label_files import warn_of_mask
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.io.labels import describe_objects, write_labels
from sam_plugins.model.io.rle import encode_mask

_IGNORED = "ignored"
_SPLITS = {"train": Split.TRAIN, "val": Split.HELD_OUT, "held-out": Split.HELD_OUT}


def import_folder_pair(
    store: LabelStore,
    images_dir: str | os.PathLike[str],
    labels_dir: str | os.PathLike[str],
    options: ImportOptions | None = None,
    *,
    ignore_dir: str | os.PathLike[str] | None = None,
    class_name: str = "object",
) -> ImportReport:
    """Import label images (0 is background, each object has a number) of the pictures' names.

    Parameters
    ----------
    store : LabelStore
    images_dir, labels_dir : path-like
        See :func:`~sam_plugins.model.io.folder_pairs.list_folder_pair`.
    options : ImportOptions, optional
    ignore_dir : path-like, optional
        Pictures of the same names that are not 0 where nothing is known; not all need one.
    class_name : str
        Of all objects.

    Returns
    -------
    ImportReport

    Raises
    ------
    DatasetError
        If a folder is missing, a picture has no labels, or no labels can be read.
    LabelStoreError
        If the store cannot be written.
    """
    files = list_folder_pair(images_dir, labels_dir, complete=False)
    if ignore_dir is not None:
        ignored = {path.stem: path for path in Path(ignore_dir).iterdir()}
        files = [replace(file, ignore_path=ignored.get(file.id)) for file in files]
    return import_labelled_files(store, files, options, class_name=class_name)


def import_labelled_files(
    store: LabelStore,
    files: Sequence[LabelledFile],
    options: ImportOptions | None = None,
    *,
    class_name: str = "object",
    group_of_file: Callable[[LabelledFile], str] | None = None,
) -> ImportReport:
    """Import labelled pictures of any kind that evaluation and training read.

    Whole masks of covered objects are taken where there are any; ignored regions become crowds. The
    split ``"train"`` is learned from, ``"val"`` is held out.

    Parameters
    ----------
    store : LabelStore
    files : sequence of LabelledFile
    options : ImportOptions, optional
    class_name : str
        Of all objects.
    group_of_file : callable, optional
        Returns the group of a picture, where the name of its file does not tell it.

    Returns
    -------
    ImportReport

    Raises
    ------
    DatasetError
        If there are no files, or the labels of one cannot be used.
    UnreadableImageError
        If the labels of a picture cannot be read.
    LabelStoreError
        If the store cannot be written.
    """
    options = options or ImportOptions()

    def incoming(file: LabelledFile) -> Incoming:
        group = None if group_of_file is None else group_of_file(file)
        return Incoming(
            where=file.id,
            source=ImageSource(file.image_path, file.plane, group),
            size_hw=None,
            objects_of=lambda record: _objects(file, record, options, class_name),
            is_complete=file.complete,
            split=_SPLITS.get(file.split),
        )

    where = files[0].image_path.parent if files else store.folder
    return take_in(store, map(incoming, files), options, where)


def export_folder_pair(
    store: LabelStore,
    folder: str | os.PathLike[str],
    options: ExportOptions | None = None,
) -> int:
    """Write pictures into ``images``, and label images of the same names into ``labels``.

    Crowds stand in ``ignore``, as pictures that are not 0 there. A label image holds one object per
    pixel: of two masks that overlap, the smaller one keeps the pixels. COCO keeps both.

    Parameters
    ----------
    store : LabelStore
    folder : path-like
    options : ExportOptions, optional

    Returns
    -------
    int
        How many objects are visible in the label images.

    Raises
    ------
    LabelStoreError
        If there is nothing to export, or a picture has changed.
    OutputError
        If something cannot be written.
    """
    folder = Path(folder)
    found = chosen(store, options or ExportOptions())
    names = names_of([record for record, _ in found])
    make_folder(folder / "labels")
    count = 0
    for record, objects in found:
        name = names[record.image_id]
        copy_picture(store, record, folder / "images", name)
        labels, shown = paint_objects(record.size_hw, objects)
        write_labels(folder / "labels" / f"{name}.tif", labels)
        count += len(shown)
        ignored = crowd_mask(record.size_hw, objects) & (labels == 0)
        if ignored.any():
            make_folder(folder / "ignore")
            write_labels(folder / "ignore" / f"{name}.tif", ignored.astype("uint16"))
    return count


def _objects(
    file: LabelledFile, record: ImageRecord, options: ImportOptions, class_name: str
) -> Iterator[LabelledObject]:
    """Return the objects of a picture."""
    read = file.read()
    warn_of_mask(read.labels, file.id)
    for described in describe_objects(read.labels):
        rle = file.whole_rles.get(described["label"], described["segmentation"])
        yield restored_object(record.image_id, rle, class_name, None, options)
    if read.ignore is not None and read.ignore.any():
        rle = encode_mask(read.ignore)
        yield restored_object(record.image_id, rle, _IGNORED, None, options, is_crowd=True)
