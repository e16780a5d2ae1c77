"""Labelled pictures, one at a time, and data sets with a manifest.

Listing is cheap and reads no pixels; :meth:`LabelledSource.read` opens the files of one picture.
Folders of pictures and labels are listed by :mod:`~sam_plugins.model.io.folder_pairs`, sets in
COCO's format by :mod:`~sam_plugins.model.io.coco`.
"""

from __future__ import annotations

import difflib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sam_plugins.errors import DatasetError, UnreadableImageError
from sam_plugins.model.io.images import read_image
from sam_plugins.model.io.label_files import read_labels
from sam_plugins.model.io.rle import decode_mask

BoolArray = NDArray[np.bool_]

MANIFEST_NAME = "manifest.json"

PART_INSIDE = 0.95
"""Share of a part's pixels that lie within its whole: outlines that people drew touch."""

LARGEST_PART = 0.5
"""Area of a part, of its whole's: one mask in between must not count as both."""


class WholeMasks(Mapping[int, BoolArray]):
    """Whole masks of objects that others cover in part, decoded when asked for.

    Parameters
    ----------
    rles : mapping of int to mapping
        COCO RLE by object id.
    """

    def __init__(self, rles: Mapping[int, Mapping[str, Any]]) -> None:
        self._rles = rles

    def __getitem__(self, object_id: int) -> BoolArray:
        """Return the mask of shape (H, W)."""
        return decode_mask(self._rles[object_id])

    def __iter__(self) -> Iterator[int]:
        """Yield the ids."""
        return iter(self._rles)

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self._rles)


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """A picture with its ground truth.

    Attributes
    ----------
    id : str
        Name within its set; planes of a volume end in ``:z0012``.
    image : ndarray of shape (H, W), (H, W, S) or (C, H, W)
        As in the file, contrast untouched.
    labels : ndarray of shape (H, W), integer
        0 is background.
    ignore : ndarray of shape (H, W), bool, or None
        True where nothing should be scored.
    whole_masks : mapping of int to ndarray of shape (H, W), bool
        Whole masks of the objects that others cover in part; the other objects are as in
        ``labels``.
    complete : bool
        Whether every visible object carries a mask; if not, false positives must not be counted.
    set_name, split : str
        Where it comes from.
    categories : mapping of int to str
        What each object is, by label, where that is known.
    other_labels : tuple of ndarray of shape (H, W), integer
        What further annotators drew of the same picture.
    """

    id: str
    image: NDArray[Any]
    labels: NDArray[Any]
    ignore: BoolArray | None = None
    whole_masks: Mapping[int, BoolArray] = field(default_factory=lambda: MappingProxyType({}))
    complete: bool = True
    set_name: str = ""
    split: str = ""
    categories: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    other_labels: tuple[NDArray[Any], ...] = ()


class LabelledSource(Protocol):
    """A labelled picture that is not read yet, whatever it lies in."""

    @property
    def id(self) -> str:
        """Name within its set."""
        ...

    @property
    def set_name(self) -> str:
        """Name of the set."""
        ...

    @property
    def image_path(self) -> Path:
        """File of the picture."""
        ...

    @property
    def complete(self) -> bool:
        """Whether every visible object carries a mask."""
        ...

    def read(self) -> LabelledImage:
        """Read picture and ground truth; errors as in :meth:`LabelledFile.read`."""
        ...


@dataclass(frozen=True)
class LabelledFile:
    """Where a picture and its ground truth lie; nothing is read yet.

    Attributes
    ----------
    id, set_name, split, complete
        As in :class:`LabelledImage`.
    image_path, label_path : Path
        The picture and its label image.
    ignore_path : Path or None
        A picture that is not 0 where nothing should be scored.
    whole_rles : mapping of int to COCO RLE
        Whole masks of covered objects.
    plane : int or None
        Which plane of a volume; None for a plain picture.
    is_label_flat : bool
        Whether the label image of a plane holds that plane alone.
    categories : mapping of int to str
        What each object is, by label, where that is known.
    other_label_paths : tuple of Path
        Label images of further annotators.
    """

    id: str
    set_name: str
    split: str
    image_path: Path
    label_path: Path
    ignore_path: Path | None = None
    whole_rles: Mapping[int, Mapping[str, Any]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    complete: bool = True
    plane: int | None = None
    is_label_flat: bool = False
    categories: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    other_label_paths: tuple[Path, ...] = ()

    def read(self) -> LabelledImage:
        """Read picture, labels and ignored region.

        Raises
        ------
        UnreadableImageError
            If a file is missing or cannot be decoded.
        DatasetError
            If the labels are no numbers of objects, or sizes differ.
        """
        image = read_image(self.image_path, plane=self.plane)
        labels = self._read_labels(self.label_path)
        others = tuple(self._read_labels(path) for path in self.other_label_paths)
        ignore = None if self.ignore_path is None else read_labels(self.ignore_path) != 0
        # Channels may come first (C, H, W): the picture's size is where the labels' size is.
        if labels.shape not in {image.shape[:2], image.shape[-2:]}:
            raise DatasetError(
                f"picture and labels must have the same size, got {image.shape} in "
                f"{self.image_path} and {labels.shape} in {self.label_path}; export them again"
            )
        for path, other in zip(self.other_label_paths, others, strict=True):
            if other.shape != labels.shape:
                raise DatasetError(
                    f"the labels of all annotators must have the same size, got {labels.shape} in "
                    f"{self.label_path} and {other.shape} in {path}; export them again"
                )
        if ignore is not None and ignore.shape != labels.shape:
            raise DatasetError(
                f"labels and ignored region must have the same size, got {labels.shape} and "
                f"{ignore.shape} in {self.ignore_path}; export them again"
            )
        return LabelledImage(
            id=self.id,
            image=image,
            labels=labels,
            ignore=ignore,
            whole_masks=WholeMasks(self.whole_rles),
            complete=self.complete,
            set_name=self.set_name,
            split=self.split,
            categories=self.categories,
            other_labels=others,
        )

    def _read_labels(self, path: Path) -> NDArray[Any]:
        """Return one label image."""
        return read_labels(path, plane=None if self.is_label_flat else self.plane)


def read_each(files: Iterable[LabelledSource]) -> Iterator[LabelledImage]:
    """Read labelled pictures one after another, as they are asked for."""
    for file in files:
        yield file.read()


def list_sets(data_dir: str | os.PathLike[str]) -> list[str]:
    """Return the names of the data sets in a folder (each a folder with a ``manifest.json``).

    Raises
    ------
    DatasetError
        If there is none.
    """
    root = Path(data_dir)
    if not root.is_dir():
        raise DatasetError(f"there is no folder {root}; check the name")
    names = sorted(path.parent.name for path in root.glob(f"*/{MANIFEST_NAME}"))
    if not names and (root / MANIFEST_NAME).is_file():
        own = root.resolve()
        raise DatasetError(
            f"{root} is one data set; name the folder of sets, {own.parent}, and choose "
            f"sets={own.name}"
        )
    if not names:
        raise DatasetError(
            f"expected data sets SET/{MANIFEST_NAME} in {root}, found none; name the folder that "
            "holds the sets, or give a folder of pictures and one of labels"
        )
    return names


def list_manifest_files(
    data_dir: str | os.PathLike[str],
    sets: Iterable[str] | None = None,
    *,
    split: str = "val",
    volume_step: int | None = None,
) -> list[LabelledFile]:
    """List the labelled pictures of data sets with a manifest.

    Parameters
    ----------
    data_dir : path-like
        Folder of sets: ``SET/manifest.json`` names the files of each.
    sets : iterable of str, optional
        Which sets; all by default.
    split : str
        Such as ``"val"`` or ``"train"``. Sets without pictures in it are left out.
    volume_step : int, optional
        Take every so many planes of a volume as pictures of their own, beginning in the middle of
        the first step. By default volumes are left out.

    Returns
    -------
    list of LabelledFile
        Sorted as the sets are named and as their manifests list them.

    Raises
    ------
    DatasetError
        If a set is unknown, a manifest is damaged, or no picture is left.
    ValueError
        If ``volume_step`` is below 1.
    """
    if volume_step is not None and volume_step < 1:
        raise ValueError(f"volume_step must be 1 or more, got {volume_step}")
    known = list_sets(data_dir)
    wanted = known if sets is None else list(dict.fromkeys(sets))
    files: list[LabelledFile] = []
    splits: set[str] = set()
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or known
            raise DatasetError(f"no data set {name!r} in {data_dir}; there is {', '.join(near)}")
        found, others = _files_of_set(Path(data_dir) / name, split, volume_step)
        files += found
        splits |= others
    if not files:
        splits.discard(split)
        remedy = f"choose the split {' or '.join(sorted(splits))}, or " if splits else ""
        raise DatasetError(
            f"no labelled picture of the split {split!r} in the sets {', '.join(wanted)} of "
            f"{data_dir}; {remedy}choose other sets, or give volume_step to take planes of volumes"
        )
    return files


def _files_of_set(
    folder: Path, split: str, volume_step: int | None
) -> tuple[list[LabelledFile], set[str]]:
    """Return the labelled pictures of one set and split, and which splits have any."""
    manifest_path = folder / MANIFEST_NAME
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        files: list[LabelledFile] = []
        splits: set[str] = set()
        for entry in manifest["files"]:
            own = str(entry["split"])
            if entry.get("label") is None:
                continue
            if volume_step is not None or not _is_volume(entry["image_shape"]):
                splits.add(own)
            if own != split:
                continue
            file = _file_of_entry(folder, manifest, entry)
            if not _is_volume(entry["image_shape"]):
                files.append(file)
            elif volume_step is not None:
                files += _planes(file, int(entry["image_shape"][0]), volume_step)
    except OSError as error:
        raise UnreadableImageError(f"cannot read {manifest_path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{manifest_path} is no manifest that we can read "
            f"({type(error).__name__}: {error}); fetch the set again"
        ) from error
    return files, splits


def _file_of_entry(
    folder: Path, manifest: Mapping[str, Any], entry: Mapping[str, Any]
) -> LabelledFile:
    """Return the labelled picture that one entry of a manifest describes."""
    objects = entry.get("objects") or []
    return LabelledFile(
        id=str(entry["id"]),
        set_name=folder.name,
        split=str(entry["split"]),
        image_path=folder / entry["image"],
        label_path=folder / entry["label"],
        ignore_path=folder / entry["ignore"] if entry.get("ignore") else None,
        whole_rles={int(one["id"]): one["rle_full"] for one in objects if one.get("rle_full")},
        categories={int(one["id"]): str(one["category"]) for one in objects if one.get("category")},
        # The picture knows better than its set; without a word from either, trust no silence.
        complete=bool(entry.get("annotation_complete", manifest.get("annotation_complete", False))),
    )


def _is_volume(shape: list[int]) -> bool:
    """Return whether a shape is (Z, H, W) and not (H, W) or (H, W, colours)."""
    return len(shape) == 3 and shape[-1] not in {3, 4}


def _planes(file: LabelledFile, count: int, step: int) -> list[LabelledFile]:
    """Return every ``step``-th plane of a volume."""
    return [
        LabelledFile(
            id=f"{file.id}:z{plane:04d}",
            set_name=file.set_name,
            split=file.split,
            image_path=file.image_path,
            label_path=file.label_path,
            complete=file.complete,
            plane=plane,
        )
        for plane in range(min(step // 2, count - 1), count, step)
    ]


def split_off(
    files: Sequence[LabelledFile], share: float
) -> tuple[list[LabelledFile], list[LabelledFile]]:
    """Divide pictures into those to learn from and those that are only measured on.

    A picture's name decides, so that one that was learned from is not measured on later, when
    there are more pictures.

    Parameters
    ----------
    files : sequence of LabelledFile
        2 or more.
    share : float
        Of the second part, between 0 and 1, on average; each part has one picture at least.

    Raises
    ------
    DatasetError
        If there are fewer than two pictures.
    ValueError
        If ``share`` is no share.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    if len(files) < 2:
        raise DatasetError(
            "two labelled pictures are the least, one to learn from and one to measure on, got "
            f"{len(files)}; label more"
        )
    ranks = [zlib.crc32(file.id.encode()) / 2**32 for file in files]
    order = np.argsort(ranks)
    count = min(len(files) - 1, max(1, sum(rank < share for rank in ranks)))
    held_out = set(order[:count].tolist())
    return (
        [file for index, file in enumerate(files) if index not in held_out],
        [file for index, file in enumerate(files) if index in held_out],
    )
