"""A small data set on disk, and a model that knows the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from sam_plugins.model.evaluation.readers import LabelledImage
from sam_plugins.model.evaluation.single_point import LowResMasks
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


@pytest.fixture
def labels() -> np.ndarray:
    """Three discs, 48 x 64 pixels."""
    return discs()


@pytest.fixture
def image_of() -> Callable[..., LabelledImage]:
    """Make a labelled picture, bright on dark, without files."""

    def make(labels: np.ndarray, **more: Any) -> LabelledImage:
        return LabelledImage(id="x", image=picture_of(labels), labels=labels, set_name="s", **more)

    return make


@pytest.fixture
def truth_model() -> type[TruthModel]:
    """Make models that know the answers."""
    return TruthModel


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Two sets: ``cells`` with one of everything, ``photos`` with incomplete annotation."""
    root = tmp_path / "data"
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


@dataclass(frozen=True)
class TruthEmbedding:
    """Sizes as SAM would have them at a long side of 128, and the picture itself."""

    image: np.ndarray
    original_size_hw: tuple[int, int] = SIZE_HW
    input_size_hw: tuple[int, int] = (96, 128)
    padded_size_hw: tuple[int, int] = (128, 128)


class TruthModel:
    """Answers with the bright blob under the prompt: bad, exact and huge mask, in this order.

    ``confidence`` are the predicted IoU of the three masks.
    """

    def __init__(self, confidence: tuple[float, float, float] = (0.3, 0.9, 0.5)) -> None:
        self.confidence = confidence
        self.encoded = 0
        self.chunks: list[int] = []

    def encode(self, image: np.ndarray) -> TruthEmbedding:
        """Count and pass on."""
        assert torch.is_inference_mode_enabled()
        self.encoded += 1
        return TruthEmbedding(image)

    def predict_points(self, embedding: TruthEmbedding, points_xy: np.ndarray) -> LowResMasks:
        """Return three masks for each point."""
        self.chunks.append(len(points_xy))
        exact = torch.stack([self._blob(embedding, int(x), int(y)) for x, y in points_xy])
        logits = torch.stack([torch.full_like(exact, -5.0), exact, torch.full_like(exact, 5.0)], 1)
        return LowResMasks(logits, torch.tensor([self.confidence] * len(points_xy)))

    def predict_boxes(self, embedding: TruthEmbedding, boxes_xyxy: np.ndarray) -> LowResMasks:
        """Return one mask for each box."""
        centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
        exact = torch.stack([self._blob(embedding, int(x), int(y)) for x, y in centres])
        return LowResMasks(exact[:, None], torch.full((len(boxes_xyxy), 1), 0.75))

    def _blob(self, embedding: TruthEmbedding, x: int, y: int) -> torch.Tensor:
        """Return logits at twice the picture's resolution, padded to a square."""
        from scipy import ndimage

        pieces, _ = ndimage.label(embedding.image > 100)
        signed = np.where((pieces == pieces[y, x]) & (pieces > 0), 1.0, -1.0)
        doubled = np.kron(signed, np.ones((2, 2)))
        logits = np.full((128, 128), -1.0, np.float32)
        logits[: doubled.shape[0], : doubled.shape[1]] = doubled
        return torch.from_numpy(logits)
