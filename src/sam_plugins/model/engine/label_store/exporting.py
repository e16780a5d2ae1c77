"""What all exports share: which pictures and objects, under which names, and copies of pictures."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

from sam_plugins.errors import LabelStoreError
from sam_plugins.model.engine.label_store.store import LabelStore
from sam_plugins.model.engine.label_store.types import (
    TRUSTED,
    BoolArray,
    ImageRecord,
    LabelledObject,
    ReviewState,
    Split,
)
from sam_plugins.model.io.atomic import atomic_path, make_folder, write_bytes
from sam_plugins.model.io.windows import tight_window


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Which part of a store is exported.

    Parameters
    ----------
    reviews : tuple of ReviewState
        Objects in these states; what people stand by, by default.
    split : Split, optional
        Only pictures of one split.
    with_empty : bool
        Also pictures without such an object. Complete ones are always exported.
    """

    reviews: tuple[ReviewState, ...] = TRUSTED
    split: Split | None = None
    with_empty: bool = False


def chosen(
    store: LabelStore, options: ExportOptions
) -> list[tuple[ImageRecord, list[LabelledObject]]]:
    """Return the pictures to export, each with its objects.

    Raises
    ------
    LabelStoreError
        If there is nothing to export.
    """
    found = []
    for record in store.images(split=options.split):
        objects = store.objects(record.image_id, reviews=options.reviews)
        if objects or record.is_complete or options.with_empty:
            found.append((record, objects))
    if not found:
        raise LabelStoreError(
            f"the label store {store.folder} has nothing to export: no picture with an object that "
            f"is {' or '.join(options.reviews)}; label and accept some, or export other states"
        )
    return found


def names_of(records: Sequence[ImageRecord]) -> dict[str, str]:
    """Return a name without ending for each picture, by its id, no two alike on any system."""
    stems = {
        one.image_id: one.path.stem + ("" if one.plane is None else f"_z{one.plane:04d}")
        for one in records
    }
    counts = Counter(stem.casefold() for stem in stems.values())
    return {
        image_id: stem if counts[stem.casefold()] == 1 else f"{stem}-{image_id}"
        for image_id, stem in stems.items()
    }


def copy_picture(store: LabelStore, record: ImageRecord, folder: Path, name: str) -> Path:
    """Copy a picture into a folder: the file itself, or the plane of a stack as TIFF.

    Raises
    ------
    OutputError
        If it cannot be written.
    UnreadableImageError
        If it cannot be read.
    LabelStoreError
        If it has changed since it was added.
    """
    make_folder(folder)
    pixels = store.read_image(record.image_id)
    if record.plane is None and record.path.is_file():
        target = folder / f"{name}{record.path.suffix.lower()}"
        with atomic_path(target) as temporary:
            shutil.copyfile(record.path, temporary)
        return target
    target = folder / f"{name}.tif"
    is_colour = pixels.ndim == 3 and pixels.shape[:2] == record.size_hw
    with atomic_path(target) as temporary:
        tifffile.imwrite(
            temporary,
            pixels,
            photometric="rgb" if is_colour else "minisblack",
            compression="zlib",
            metadata={"axes": "YXS" if is_colour else "CYX"[-pixels.ndim :]},
        )
    return target


def file_name_of(path: Path, folder: Path) -> str:
    """Return how a document in a folder names a picture: from there, or wholly."""
    path, folder = path.absolute(), folder.absolute()
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    return path.as_posix()


def write_json(path: str | os.PathLike[str], document: Any) -> None:  # noqa: ANN401
    """Write a JSON document, complete or not at all; its folder is made where there is none.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    make_folder(Path(path).parent)
    write_bytes(path, json.dumps(document, allow_nan=False, ensure_ascii=False).encode())


def box_xywh(mask: BoolArray) -> list[int]:
    """Return the box of a mask from edge to edge, as COCO has it; zeros of an empty one.

    Examples
    --------
    >>> import numpy as np
    >>> box_xywh(np.array([[0, 0, 0], [0, 1, 1]], bool))
    [1, 1, 2, 1]
    """
    inside = tight_window(mask)
    if inside is None:
        return [0, 0, 0, 0]
    rows, columns = inside
    return [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]


def class_names(objects: Iterable[LabelledObject]) -> list[str]:
    """Return the classes that occur, sorted."""
    return sorted({one.class_name for one in objects})
