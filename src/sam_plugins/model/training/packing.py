"""All training pictures in one file that can be carried to another machine.

A zip of WebP pictures and PNG labels with an index (WebP: a third smaller than JPEG at the same
quality, and every Pillow reads it). Pictures larger than the network ever sees are
reduced first. Only training splits are packed.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam_plugins.errors import DatasetError, UnreadableImageError
from sam_plugins.model.io.atomic import atomic_path
from sam_plugins.model.io.labelled import (
    MANIFEST_NAME,
    LabelledFile,
    LabelledImage,
    list_manifest_files,
)
from sam_plugins.model.io.rle import decode_mask, encode_mask
from sam_plugins.model.networks.config import SHIPPED, Preprocessing
from sam_plugins.model.training.pictures import TrainingPicture, picture_of
from sam_plugins.model.weights.hashing import file_digests
from sam_plugins.model.weights.passport import DataSource

INDEX = "index.json"
FORMAT = 2
"""Of a packed file. The digests of the first format saw pictures and labels alone."""

QUALITY = 75
PHOTOGRAPH_QUALITY = 60
"""Photographs have many pixels and few objects: they bear more compression."""

MAX_BYTES = 55 * 2**20
"""What the training pictures of the shipped model may take, so that they can be carried."""

_DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,  # such as a bit that says that a member is encrypted
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged zip, its JSON, pictures and masks may raise."""

VOLUME_STEP = 3
UPRIGHT_MODALITIES = ("natural", "field_photo", "photo_street", "endoscopy")


def pack_folder(
    data_dir: Path,
    path: Path,
    *,
    preprocessing: Preprocessing = SHIPPED.preprocessing,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Pack the training splits of a folder of data sets.

    Parameters
    ----------
    data_dir : Path
        Folder of sets, each with a manifest.
    path : Path
        The file to write, complete or not at all.
    preprocessing : Preprocessing
        Decides at which scale the network will see each picture.
    max_bytes : int
        A larger file is written as well, with a warning.

    Returns
    -------
    Path
        ``path``.

    Warns
    -----
    UserWarning
        If the file is larger than ``max_bytes``.

    Raises
    ------
    DatasetError
        If a manifest is damaged or there is nothing to train on.
    UnreadableImageError
        If a picture cannot be read.
    OutputError
        If the file cannot be written.
    """
    files = list_manifest_files(data_dir, split="train", volume_step=VOLUME_STEP)
    upright = _upright_pictures(data_dir)
    index: dict[str, Any] = {"format": FORMAT, "made": _made(preprocessing), "pictures": []}
    counted: dict[str, list[int]] = {}
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        for number, file in enumerate(files):
            image = file.read()
            objects = int(np.count_nonzero(np.bincount(image.labels.ravel())[1:]))
            if objects == 0:
                continue
            is_upright = (file.set_name, file.id) in upright
            entry = _add_picture(archive, f"{number:05d}", image, preprocessing, is_upright)
            index["pictures"].append(entry)
            so_far = counted.setdefault(file.set_name, [0, 0])
            so_far[0] += 1
            so_far[1] += objects
        index["sources"] = [
            asdict(_source(data_dir, name, files, upright, pictures=pictures, objects=objects))
            for name, (pictures, objects) in counted.items()
        ]
        archive.writestr(INDEX, json.dumps(index), zipfile.ZIP_DEFLATED)
    _warn_of_size(path, max_bytes)
    return path


def _warn_of_size(path: Path, max_bytes: int) -> None:
    """Warn where a file is too large to be carried to another machine."""
    size = path.stat().st_size
    if size > max_bytes:
        warnings.warn(
            f"{path} takes {size:,} bytes, and the limit of what can be carried is {max_bytes:,}: "
            "leave out sets, or take a lower quality",
            stacklevel=3,
        )


def pack_sources(path: Path) -> list[DataSource]:
    """Return what a packed file was made of, for the passport of a model.

    Raises
    ------
    DatasetError
        If the file is no packed data, or was packed by another version.
    """
    with _open(path) as archive:
        return _sources(_read_index(archive, path), path)


def is_pack_of(
    path: Path, data_dir: Path, *, preprocessing: Preprocessing = SHIPPED.preprocessing
) -> bool:
    """Whether a packed file is what packing the training splits of a folder would make now.

    All that teaches is compared: pictures, labels, ignored regions, and what the manifests say of
    them. A file that another version of the package packed is not, whatever it was made of.

    Parameters
    ----------
    path : Path
        The packed file.
    data_dir : Path
        Folder of sets, each with a manifest.
    preprocessing : Preprocessing
        As for :func:`pack_folder`.

    Raises
    ------
    DatasetError
        If the file is no packed data, or a manifest is damaged.
    UnreadableImageError
        If a file that a manifest names cannot be read.
    """
    with _open(path) as archive:
        index = _read_index(archive, path, any_format=True)
    if index.get("format") != FORMAT or index.get("made") != _made(preprocessing):
        return False
    files = list_manifest_files(data_dir, split="train", volume_step=VOLUME_STEP)
    upright = _upright_pictures(data_dir)
    names = {file.set_name for file in files}
    packed = {one.name: (one.sha256, one.licence) for one in _sources(index, path)}
    # A set of which no picture has an object is in the folder, and not in the pack.
    described = [_source(data_dir, name, files, upright) for name in names]
    now = {one.name: (one.sha256, one.licence) for one in described}
    return packed.items() <= now.items() and not any(
        _has_objects(files, name) for name in names if f"{name}/train" not in packed
    )


def load_pack(path: Path) -> list[TrainingPicture]:
    """Decode all pictures of a packed file into memory.

    Raises
    ------
    DatasetError
        If the file is no packed data, is damaged, or was packed by another version.
    """
    with _open(path) as archive:
        index = _read_index(archive, path)
        try:
            return [_read_picture(archive, entry) for entry in index["pictures"]]
        except _DAMAGE as error:
            raise _damaged(path, error) from error


def _open(path: Path) -> zipfile.ZipFile:
    """Open a packed file."""
    try:
        return zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DatasetError:
    """Return the error for a file that cannot be read to its end."""
    reason = f"{type(error).__name__}: {error}"
    return DatasetError(
        f"{path} is no packed training data ({reason}); remove it, then pack it again"
    )


def _read_index(
    archive: zipfile.ZipFile, path: Path, *, any_format: bool = False
) -> dict[str, Any]:
    """Return the table of contents."""
    try:
        index: dict[str, Any] = json.loads(archive.read(INDEX))
        found = index.get("format", 1)
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    if found != FORMAT and not any_format:
        raise DatasetError(
            f"{path} was packed by another version of sam-plugins (format {found}, this one reads "
            f"{FORMAT}), whose digests do not tell all that it teaches; pack it again"
        )
    return index


def _sources(index: Mapping[str, Any], path: Path) -> list[DataSource]:
    """Return the sets that the table of contents tells of."""
    try:
        return [DataSource(**source) for source in index["sources"]]
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _made(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return what decides how pictures are packed, as it is after a round trip through JSON."""
    values = {
        "preprocessing": asdict(preprocessing),
        "qualities": [QUALITY, PHOTOGRAPH_QUALITY],
    }
    made: dict[str, Any] = json.loads(json.dumps(values))
    return made


def _add_picture(
    archive: zipfile.ZipFile,
    name: str,
    image: LabelledImage,
    preprocessing: Preprocessing,
    is_upright: bool,
) -> dict[str, Any]:
    """Write one picture and its labels; return its entry."""
    picture = picture_of(image, preprocessing, is_upright=is_upright)
    quality = PHOTOGRAPH_QUALITY if is_upright else QUALITY
    archive.writestr(f"{name}.webp", _webp(picture.rgb, quality))
    archive.writestr(f"{name}.png", _png(picture.labels))
    entry: dict[str, Any] = {
        "set": picture.set_name,
        "id": picture.id,
        "name": name,
        "complete": picture.complete,
        "upright": picture.is_upright,
        "scale": picture.network_scale,
        "whole": {str(key): rle for key, rle in picture.whole_rles.items()},
    }
    if picture.ignore is not None:
        entry["ignore"] = encode_mask(picture.ignore)
    return entry


def _read_picture(archive: zipfile.ZipFile, entry: Mapping[str, Any]) -> TrainingPicture:
    """Decode one picture."""
    name = entry["name"]
    with Image.open(io.BytesIO(archive.read(f"{name}.webp"))) as picture:
        rgb = np.array(picture.convert("RGB"))
    with Image.open(io.BytesIO(archive.read(f"{name}.png"))) as picture:
        labels = np.array(picture).astype(np.uint16)
    return TrainingPicture(
        set_name=entry["set"],
        id=entry["id"],
        rgb=rgb,
        labels=labels,
        ignore=decode_mask(entry["ignore"]) if "ignore" in entry else None,
        whole_rles={int(key): rle for key, rle in entry["whole"].items()},
        complete=entry["complete"],
        is_upright=entry["upright"],
        network_scale=entry["scale"],
    )


def _webp(rgb: NDArray[np.uint8], quality: int) -> bytes:
    """Compress a picture."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def _png(labels: NDArray[np.uint16]) -> bytes:
    """Compress a label image."""
    narrow = labels.astype(np.uint8) if labels.max(initial=0) < 256 else labels
    buffer = io.BytesIO()
    Image.fromarray(narrow).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _upright_pictures(data_dir: Path) -> set[tuple[str, str]]:
    """Return set and id of the pictures in which up and down mean something."""
    found = set()
    for path in sorted(data_dir.glob(f"*/{MANIFEST_NAME}")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for entry in manifest["files"]:
            modality = entry.get("modality") or manifest.get("modality") or "natural"
            if str(modality).startswith(UPRIGHT_MODALITIES):
                found.add((path.parent.name, str(entry["id"])))
    return found


def _source(
    data_dir: Path,
    name: str,
    files: Iterable[LabelledFile],
    upright: set[tuple[str, str]],
    *,
    pictures: int = 0,
    objects: int = 0,
) -> DataSource:
    """Describe one set."""
    manifest = json.loads((data_dir / name / MANIFEST_NAME).read_text(encoding="utf-8"))
    own = [file for file in files if file.set_name == name]
    return DataSource(
        name=f"{name}/train",
        sha256=_digest(own, upright),
        pictures=pictures,
        objects=objects,
        licence=str(manifest.get("licence", "")),
    )


def _digest(files: Iterable[LabelledFile], upright: set[tuple[str, str]]) -> str:
    """Return the digest of all files of a set, and of what its manifest says of them."""
    digest = hashlib.sha256()
    known: dict[Path, str] = {}  # The planes of a volume lie in one file.
    for file in files:
        paths = (file.image_path, file.label_path, file.ignore_path)
        for path in paths:
            if path is not None and path not in known:
                known[path] = _file_digest(path)
        said = {
            "id": file.id,
            "plane": file.plane,
            "files": [None if path is None else known[path] for path in paths],
            "complete": file.complete,
            "upright": (file.set_name, file.id) in upright,
            "whole": {str(key): rle for key, rle in sorted(file.whole_rles.items())},
        }
        digest.update(json.dumps(said, sort_keys=True).encode())
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    """Return the digest of a file."""
    try:
        return file_digests(path, ["sha256"])["sha256"]
    except OSError as error:
        raise UnreadableImageError(f"cannot read {path}: {error.strerror}") from error


def _has_objects(files: Iterable[LabelledFile], name: str) -> bool:
    """Whether any picture of a set has an object."""
    return any(bool(file.read().labels.any()) for file in files if file.set_name == name)
