"""The pictures, models and folders that the pages speak of, small, made where a page names them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import skimage.data
import tifffile
import torch
import zarr
from PIL import Image
from tests.labelled_sets import discs, picture_of
from tests.model.inference.tiny_clip import write_tiny_clip
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model

from sam_plugins.model.engine.label_store import LabelledObject, ReviewState, Split
from sam_plugins.model.engine.project.project import Project, ProjectSettings
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport

CORNER = np.s_[:110, :130]


def coins() -> npt.NDArray[np.uint8]:
    """Four coins of scikit-image's picture."""
    picture: npt.NDArray[np.uint8] = skimage.data.coins()[CORNER]
    return picture


def sixteen_bits() -> npt.NDArray[np.uint16]:
    """Coins in the range of a camera."""
    return coins().astype(np.uint16) * 16


def _picture(path: Path) -> None:
    Image.fromarray(coins()).save(path)


def _photo(path: Path) -> None:
    Image.fromarray(skimage.data.astronaut()[:120, 150:300]).save(path)


def _planes(path: Path) -> None:
    stack = np.stack([sixteen_bits()[:50, :60]] * 6)
    tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "ZYX"})


def _embryo(path: Path) -> None:
    """A bright ball in 22 slices."""
    z, y, x = np.ogrid[:22, :50, :60]
    ball = ((z - 18) * 3) ** 2 + (y - 25) ** 2 + (x - 40) ** 2 < 10**2
    tifffile.imwrite(path, np.where(ball, 200, 30).astype(np.uint8), photometric="minisblack")


def _ome_zarr(path: Path, axes: str, data: npt.NDArray[Any]) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for level in range(2):
        part = data[..., :: 2**level, :: 2**level]
        group.create_array(str(level), shape=part.shape, dtype=part.dtype)[...] = part
    datasets = [{"path": "0"}, {"path": "1"}]
    described = {"version": "0.4", "axes": [{"name": a} for a in axes], "datasets": datasets}
    channels = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    group.attrs.update({"multiscales": [described], "omero": channels})


def _slide(path: Path) -> None:
    _ome_zarr(path, "yx", sixteen_bits())


def _channels(path: Path) -> None:
    _ome_zarr(path, "czyx", np.broadcast_to(sixteen_bits(), (2, 4, *coins().shape)))


def _stack(path: Path) -> None:
    _ome_zarr(path, "zyx", np.stack([coins()] * 3))


def _pictures(folder: Path) -> None:
    folder.mkdir()
    for seed in range(6):
        Image.fromarray(picture_of(discs(seed))).save(folder / f"{'abcdef'[seed]}.tif")


def _labels(folder: Path) -> None:
    folder.mkdir()
    for seed in range(6):
        Image.fromarray(discs(seed)).save(folder / f"{'abcdef'[seed]}.tif")


def _checkpoint(path: Path) -> None:
    """A small network under the names of the official weights."""
    path.parent.mkdir(exist_ok=True)
    torch.save(make_model(TINY_VIT, "tiny").network.state_dict(), path)


def _clip(folder: Path) -> None:
    write_tiny_clip(folder)


def _photos_with_names(folder: Path) -> None:
    """A data set with a manifest whose objects have categories."""
    folder = folder / "coco_open"
    for kind in ("images", "labels"):
        (folder / "train" / kind).mkdir(parents=True)
    paths = {"image": "train/images/a.png", "label": "train/labels/a.png"}
    Image.fromarray(picture_of(discs())).save(folder / paths["image"])
    Image.fromarray(discs()).save(folder / paths["label"])
    objects = [{"id": number, "category": "disc"} for number in (1, 2, 3)]
    file = {"id": "a", "split": "train", **paths, "image_shape": discs().shape, "objects": objects}
    manifest = {"name": folder.name, "annotation_complete": True, "files": [file]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _project(folder: Path) -> None:
    """A project in which people have labelled all pictures but one."""
    pictures = folder.with_name("pictures-of-the-project")
    _pictures(pictures)
    with Project.create(folder, ProjectSettings(name="nuclei")) as project:
        records = project.labels.add_images(sorted(pictures.iterdir()))
        project.divide()
        unseen = project.untouched(Split.TRAIN)[0]
        for seed, record in enumerate(records):
            if record.image_id == unseen.image_id:
                continue
            masks = [discs(seed) == number for number in (1, 2, 3)]
            done = [
                LabelledObject.of_mask(record.image_id, mask, review=ReviewState.ACCEPTED)
                for mask in masks
            ]
            project.labels.put_objects(done)
            project.labels.set_complete(record.image_id)


FILES: dict[str, Callable[[Path], None]] = {
    "cells.tif": _picture,
    "photo.jpg": _photo,
    "cells.ome.tif": _planes,
    "8_cell_stage.tif": _embryo,
    "cells.ome.zarr": _channels,
    "slide.ome.zarr": _slide,
    "stack.ome.zarr": _stack,
    "plates": _pictures,
    "my-project": _pictures,
    "pictures": _pictures,
    "labels": _labels,
    "nuclei-project": _project,
    "sam_vit_b_01ec64.pth": _checkpoint,
    "weights/sam_vit_h_4b8939.pth": _checkpoint,
    "models/clip-vit-base-patch32": _clip,
    "data": _photos_with_names,
}
"""What is made where the blocks of a page have its name in them."""

TAKEN_FOR_GRANTED: dict[str, dict[str, Callable[[], Any]]] = {
    "docs/how-to/find-similar.md": {
        "image": coins,
        "another_image": lambda: skimage.data.coins()[70:180, :130],
        "masks": lambda: _discs_at((31, 37)),
    },
    "docs/how-to/images.md": {
        "image": sixteen_bits,
        "stack": lambda: np.stack([sixteen_bits()] * 3),
    },
    "docs/how-to/large-images.md": {
        "image": lambda: zarr.zeros(shape=(16384, 16384), chunks=(1024, 1024), dtype="u1"),
    },
    "docs/how-to/text-prompts.md": {"image": lambda: skimage.data.astronaut()[:120, 150:300]},
    "docs/how-to/volumes.md": {"drawn": lambda: _discs_at((25, 40), (50, 60))[0]},
    "docs/reference/python.md": {"image": coins, "model": lambda: load_model("default")},
}
"""Names that the text of a page introduces, and not its blocks."""


def _discs_at(
    centre: tuple[int, int], size_hw: tuple[int, int] = coins().shape
) -> npt.NDArray[np.bool_]:
    """Return the mask of a disc, of shape (1, H, W)."""
    rows, columns = np.ogrid[: size_hw[0], : size_hw[1]]
    return (np.hypot(rows - centre[0], columns - centre[1]) < 12)[None]


def make_world(text: str) -> None:
    """Make the files that a text names, in the current folder."""
    for name, make in FILES.items():
        if re.search(rf'"{re.escape(name)}[/"]', text):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            make(Path(name))


def small_model(path: Path) -> Path:
    """Write a network that has the shipped one's architecture, small."""
    passport = Passport("tiny", TINY_PYRAMID, version="1", licence="CC0")
    return save_model_file(path, make_model(TINY_PYRAMID, "tiny").network.state_dict(), passport)
