"""Folders of pictures and of their labels, which belong together by their names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sam_plugins.errors import DatasetError
from sam_plugins.model.io.images import IMAGE_SUFFIXES
from sam_plugins.model.io.labelled import LabelledFile

_ROLES = ("_labels", "_label", "_masks", "_mask")


def list_folder_pair(
    images_dir: str | os.PathLike[str],
    labels_dir: str | os.PathLike[str],
    *,
    ignore_dir: str | os.PathLike[str] | None = None,
    others: Iterable[str | os.PathLike[str]] = (),
    complete: bool = True,
) -> list[LabelledFile]:
    """List the pictures of one folder with the labels of the same name in another.

    Parameters
    ----------
    images_dir, labels_dir : path-like
        Files belong together when their names are equal up to the ending; the name of a label file
        may also end in ``_labels``, ``_label``, ``_masks`` or ``_mask``.
    ignore_dir : path-like, optional
        Pictures of the same names that are not 0 where the truth is not known; not every picture
        needs one.
    others : iterable of path-like
        Folders of further annotators' labels, who need not have drawn every picture.
    complete : bool
        Whether every visible object carries a mask.

    Returns
    -------
    list of LabelledFile
        Sorted by name; the set is named after the folder of pictures.

    Raises
    ------
    DatasetError
        If a folder is missing or holds nothing, both are one, a picture has no labels, or two files
        have one name.
    """
    images, labels = _by_name(Path(images_dir)), _by_name(Path(labels_dir))
    if Path(images_dir).samefile(labels_dir):  # every grey level would be an object
        raise DatasetError(
            f"pictures and labels must lie in two folders, got {images_dir} for both; name the "
            "folder of the label images"
        )
    pairs = {name: _labels_of(name, labels) for name in images}
    missing = [images[name].name for name, found in pairs.items() if found is None]
    if missing:
        raise DatasetError(
            f"expected labels of the same name in {labels_dir} for each picture in {images_dir}; "
            f"none for {', '.join(missing[:5])}{' and others' if len(missing) > 5 else ''}; "
            "add them or move the pictures away"
        )
    ignored = {} if ignore_dir is None else _by_name(Path(ignore_dir))
    foreign = sorted(ignored.keys() - images.keys())
    if foreign:
        raise DatasetError(
            f"expected a picture in {images_dir} for each ignored region in {ignore_dir}; none for "
            f"{', '.join(foreign[:5])}; rename or remove them"
        )
    further = [_by_name(Path(folder)) for folder in others]
    return [
        LabelledFile(
            id=name,
            set_name=Path(images_dir).resolve().name,
            split="",
            image_path=images[name],
            label_path=found,
            ignore_path=ignored.get(name),
            complete=complete,
            other_label_paths=tuple(
                drawn for own in further if (drawn := _labels_of(name, own)) is not None
            ),
        )
        for name, found in pairs.items()
        if found is not None
    ]


def _by_name(folder: Path) -> dict[str, Path]:
    """Return the pictures of a folder by their names without ending, sorted."""
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is no such folder"
        raise DatasetError(f"{folder} must be a folder of pictures; {what}")
    found = sorted(
        path
        for path in folder.iterdir()
        # macOS leaves ._NAME.png beside NAME.png on foreign disks
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if not found:
        raise DatasetError(
            f"no picture in {folder}; expected files that end in {', '.join(IMAGE_SUFFIXES)}"
        )
    by_name: dict[str, Path] = {}
    for path in found:
        name = path.stem.removesuffix(".ome")
        other = by_name.setdefault(name, path)
        if other != path:
            raise DatasetError(
                f"{other.name} and {path.name} in {folder} have the same name up to the ending, by "
                "which pictures and labels belong together; rename or remove one"
            )
    return by_name


def _labels_of(name: str, labels: dict[str, Path]) -> Path | None:
    """Return the labels of a picture: of its very name, or with a word that says what they are."""
    return next((labels[one] for role in ("", *_ROLES) if (one := name + role) in labels), None)
