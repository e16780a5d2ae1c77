"""All training pictures in one file that can be carried to another machine.

A zip of WebP pictures and PNG labels with an index (WebP: a third smaller than JPEG at the same
quality, and every Pillow reads it). Pictures larger than the network ever sees are
reduced first. Only training splits are packed.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam_plugins.errors import DatasetError
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
from sam_plugins.model.weights.passport import DataSource

INDEX = "index.json"
QUALITY = 75
PHOTOGRAPH_QUALITY = 60
"""Photographs have many pixels and few objects: they bear more compression."""

MAX_BYTES = 55 * 2**20
"""What the training pictures of the shipped model may take, so that they can be carried."""

VOLUME_STEP = 3
UPRIGHT_MODALITIES = ("natural", "field_photo", "photo_street", "endoscopy")


def pack_folder(
    data_dir: Path,
    path: Path,
    *,
    preprocessing: Preprocessing = SHIPPED.preprocessing,
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

    Returns
    -------
    Path
        ``path``.

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
    index: dict[str, Any] = {"pictures": [], "sources": []}
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
            _source(data_dir, name, files, pictures, objects)
            for name, (pictures, objects) in counted.items()
        ]
        archive.writestr(INDEX, json.dumps(index), zipfile.ZIP_DEFLATED)
    return path


def pack_sources(path: Path) -> list[DataSource]:
    """Return what a packed file was made of, for the passport of a model.

    Raises
    ------
    DatasetError
        If the file is no packed data.
    """
    with _open(path) as archive:
        return [DataSource(**source) for source in _read_index(archive, path)["sources"]]


def is_pack_of(path: Path, data_dir: Path) -> bool:
    """Whether a packed file was made of the training splits of a folder as they are now.

    Raises
    ------
    DatasetError
        If the file is no packed data.
    """
    files = list_manifest_files(data_dir, split="train", volume_step=VOLUME_STEP)
    packed = {source.name: source.sha256 for source in pack_sources(path)}
    names = {file.set_name for file in files}
    # A set of which no picture has an object is in the folder, and not in the pack.
    now = {f"{name}/train": _digest(files, name) for name in names}
    return packed.items() <= now.items() and not any(
        _has_objects(files, name) for name in names if f"{name}/train" not in packed
    )


def load_pack(path: Path) -> list[TrainingPicture]:
    """Decode all pictures of a packed file into memory.

    Raises
    ------
    DatasetError
        If the file is no packed data.
    """
    with _open(path) as archive:
        return [_read_picture(archive, entry) for entry in _read_index(archive, path)["pictures"]]


def _open(path: Path) -> zipfile.ZipFile:
    """Open a packed file."""
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is no packed training data ({error}); pack it again") from error


def _read_index(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    """Return the table of contents."""
    try:
        index: dict[str, Any] = json.loads(archive.read(INDEX))
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{path} is no packed training data ({error}); pack it again") from error
    return index


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
    data_dir: Path, name: str, files: Iterable[LabelledFile], pictures: int, objects: int
) -> dict[str, Any]:
    """Describe one set."""
    manifest = json.loads((data_dir / name / MANIFEST_NAME).read_text(encoding="utf-8"))
    return {
        "name": f"{name}/train",
        "sha256": _digest(files, name),
        "pictures": pictures,
        "objects": objects,
        "licence": str(manifest.get("licence", "")),
    }


def _digest(files: Iterable[LabelledFile], name: str) -> str:
    """Return the digest of the bytes of all files of a set."""
    digest = hashlib.sha256()
    for file in files:
        if file.set_name == name:
            for path in (file.image_path, file.label_path):
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _has_objects(files: Iterable[LabelledFile], name: str) -> bool:
    """Whether any picture of a set has an object."""
    return any(bool(file.read().labels.any()) for file in files if file.set_name == name)
