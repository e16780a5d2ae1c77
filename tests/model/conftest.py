"""The official segment_anything, to compare with, without torchvision; small data sets on disk."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from tests.labelled_sets import write_sets


def _resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize as torchvision does with a Pillow picture."""
    return picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def _box_area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Keep the best of overlapping boxes of the same category."""
    order = scores.argsort(descending=True, stable=True).tolist()
    kept: list[int] = []
    for index in order:
        box = boxes[index]
        for other in kept:
            if idxs[other] != idxs[index]:
                continue
            low = torch.maximum(box[:2], boxes[other][:2])
            high = torch.minimum(box[2:], boxes[other][2:])
            overlap = (high - low).clamp(min=0).prod()
            union = _box_area(box[None])[0] + _box_area(boxes[other][None])[0] - overlap
            if overlap / union > iou_threshold:
                break
        else:
            kept.append(index)
    return torch.tensor(kept, dtype=torch.int64)


def _stand_in() -> dict[str, ModuleType]:
    """The three functions that segment_anything needs of torchvision."""
    names = (
        "torchvision",
        "torchvision.transforms",
        "torchvision.transforms.functional",
        "torchvision.ops",
        "torchvision.ops.boxes",
    )
    modules = {name: ModuleType(name) for name in names}
    functional = modules["torchvision.transforms.functional"]
    functional.resize = _resize  # type: ignore[attr-defined]
    functional.to_pil_image = lambda array: Image.fromarray(np.asarray(array))  # type: ignore[attr-defined]
    boxes = modules["torchvision.ops.boxes"]
    boxes.batched_nms = _batched_nms  # type: ignore[attr-defined]
    boxes.box_area = _box_area  # type: ignore[attr-defined]
    return modules


@pytest.fixture(scope="session")
def official() -> ModuleType:
    """PyPI's ``segment_anything``, with ``build_sam`` and ``modeling`` as attributes."""
    if importlib.util.find_spec("segment_anything") is None:
        pytest.skip("segment-anything is not installed: pip install segment-anything")
    try:
        importlib.import_module("torchvision.ops.boxes")
    except ImportError:
        sys.modules.update(_stand_in())
    module = importlib.import_module("segment_anything")
    importlib.import_module("segment_anything.modeling")
    return module


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Two sets: ``cells`` with one of everything, ``photos`` with incomplete annotation."""
    return write_sets(tmp_path / "data")
