"""Two small data sets on disk, for tests of what reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from sam_plugins.model.io.rle import encode_mask

SIZE_HW = (48, 64)


def discs(seed: int = 0) -> np.ndarray:
    """Three discs that do not touch."""
    rows, columns = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    labels = np.zeros(SIZE_HW, np.uint16)
    for index, (y, x) in enumerate([(12, 12), (34, 20), (22, 46)]):
        labels[np.hypot(rows - y - seed, columns - x) < 7 + index] = index + 1
    return labels


def picture_of(labels: np.ndarray) -> np.ndarray:
    """Bright objects on dark ground."""
    return np.where(labels > 0, 200, 20).astype(np.uint8)


def write_sets(root: Path) -> Path:
    """Write ``cells`` with one of everything, and ``photos`` with incomplete annotation."""
    for name in ("cells", "photos"):
        for split in ("train", "val"):
            for kind in ("images", "labels", "ignore"):
                (root / name / split / kind).mkdir(parents=True)
    cells = [_add(root / "cells", "val", "a", discs()), _add(root / "cells", "val", "b", discs(2))]
    ignore = np.zeros(SIZE_HW, np.uint8)
    ignore[:, 40:] = 1
    Image.fromarray(ignore).save(root / "cells/val/ignore/b.png")
    cells[1]["ignore"] = "val/ignore/b.png"
    cells.append(_add(root / "cells", "train", "t", discs(1)))
    cells.append(_add_volume(root / "cells"))
    _write(root / "cells", {"annotation_complete": True, "files": cells})

    labels = discs()
    whole = np.zeros(SIZE_HW, bool)
    whole[28:44, 10:34] = True
    entry = _add(root / "photos", "val", "p", labels)
    entry["objects"] = [{"id": 1}, {"id": 2, "rle_full": encode_mask(whole)}, {"id": 3}]
    full = _add(root / "photos", "val", "q", labels) | {"annotation_complete": True}
    unlabelled = {"id": "u", "split": "val", "image": "val/images/p.png", "image_shape": SIZE_HW}
    _write(root / "photos", {"annotation_complete": False, "files": [entry, full, unlabelled]})
    return root


def _add(folder: Path, split: str, name: str, labels: np.ndarray) -> dict[str, Any]:
    """Write a picture with its labels; return its entry."""
    entry = {
        "id": name,
        "split": split,
        "image": f"{split}/images/{name}.png",
        "label": f"{split}/labels/{name}.png",
        "image_shape": list(labels.shape),
    }
    Image.fromarray(picture_of(labels)).save(folder / entry["image"])
    Image.fromarray(labels).save(folder / entry["label"])
    return entry


def _add_volume(folder: Path) -> dict[str, Any]:
    """Write a volume whose planes hold their own number as label."""
    labels = np.zeros((10, *SIZE_HW), np.uint16)
    labels[:, 4:20, 4:20] = np.arange(1, 11)[:, None, None]
    for kind, array in (("images", picture_of(labels)), ("labels", labels)):
        path = folder / "val" / kind / "v.tif"
        tifffile.imwrite(path, array, photometric="minisblack", metadata={"axes": "ZYX"})
    return {
        "id": "v",
        "split": "val",
        "image": "val/images/v.tif",
        "label": "val/labels/v.tif",
        "image_shape": list(labels.shape),
    }


def _write(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest of a set."""
    (folder / "manifest.json").write_text(json.dumps({"name": folder.name} | manifest))
