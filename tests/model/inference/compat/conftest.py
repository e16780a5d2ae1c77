"""The same small model twice, theirs and ours, and pictures."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
import torch
from tests.model.inference.compat.small_sam import small_official

from sam_plugins import SamPredictor, sam_model_registry
from sam_plugins.model.inference.compat import SamModel


@pytest.fixture(scope="session")
def theirs(official: ModuleType) -> Any:
    """The small official model."""
    return small_official(official)


@pytest.fixture(scope="session")
def checkpoint(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its weights, saved as the official ones are."""
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(theirs.state_dict(), path)
    return path


@pytest.fixture
def ours(checkpoint: Path) -> SamModel:
    """Our model with these weights."""
    return sam_model_registry["default"](checkpoint=str(checkpoint))


@pytest.fixture(scope="session")
def landscape() -> npt.NDArray[np.uint8]:
    """A photograph, wider than high."""
    picture: npt.NDArray[np.uint8] = skimage.data.astronaut()[:200, 100:390]
    return picture


@pytest.fixture(scope="session")
def portrait() -> npt.NDArray[np.uint8]:
    """A photograph, higher than wide, larger than the input."""
    picture: npt.NDArray[np.uint8] = skimage.data.coffee()[:400, 150:390]
    return picture


@pytest.fixture
def inputs(ours: SamModel, landscape: npt.NDArray[np.uint8]) -> dict[str, torch.Tensor]:
    """What an ONNX model is given: a click, with its padding point."""
    predictor = SamPredictor(ours)
    predictor.set_image(landscape)
    return {
        "image_embeddings": predictor.get_image_embedding(),
        "point_coords": torch.tensor([[[40.0, 90.0], [0, 0]]]),
        "point_labels": torch.tensor([[1.0, -1.0]]),
        "mask_input": torch.zeros(1, 1, 64, 64),
        "has_mask_input": torch.zeros(1),
        "orig_im_size": torch.tensor([200.0, 290.0]),
    }
