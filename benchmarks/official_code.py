"""The official segment_anything, to compare with, without torchvision.

Importing it needs three functions of torchvision, whose wheels do not fit a CPU build of PyTorch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image


def import_official() -> ModuleType:
    """Import PyPI's ``segment_anything``, with ``modeling`` as an attribute.

    Returns
    -------
    module
        Where torchvision does not import, small functions stand in for it; only while it is
        imported, for transformers would take them for the whole of torchvision.
    """
    stand_in: dict[str, ModuleType] = {}
    try:
        importlib.import_module("torchvision.ops.boxes")
    except (ImportError, RuntimeError):
        stand_in = _stand_in()
    sys.modules.update(stand_in)
    module = importlib.import_module("segment_anything")
    importlib.import_module("segment_anything.modeling")
    for name in stand_in:
        del sys.modules[name]
    return module


def _stand_in() -> dict[str, ModuleType]:
    """Make modules with what segment_anything imports of torchvision."""
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
    functional.to_pil_image = _to_pil_image  # type: ignore[attr-defined]
    boxes = modules["torchvision.ops.boxes"]
    boxes.batched_nms = _batched_nms  # type: ignore[attr-defined]
    boxes.box_area = _box_area  # type: ignore[attr-defined]
    return modules


def _to_pil_image(array: npt.ArrayLike) -> Image.Image:
    return Image.fromarray(np.asarray(array))


def _resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize as torchvision does with a Pillow picture."""
    return picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def _box_area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Keep the best of overlapping boxes of the same category."""
    left = scores.argsort(descending=True, stable=True)
    kept: list[int] = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        low = torch.maximum(boxes[best, :2], boxes[left, :2])
        high = torch.minimum(boxes[best, 2:], boxes[left, 2:])
        overlap = (high - low).clamp(min=0).prod(dim=1)
        union = _box_area(boxes[best][None]) + _box_area(boxes[left]) - overlap
        suppressed = (overlap / union > iou_threshold) & (idxs[left] == idxs[best])
        left = left[~suppressed]
    return torch.tensor(kept, dtype=torch.int64)
