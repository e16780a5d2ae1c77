"""Small models to ask, and pictures to ask about."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.model.inference.label_reader import LabelReader
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model

from sam_plugins.model.inference.loading import Model


@pytest.fixture(scope="session")
def tiny_model() -> Model:
    return make_model(TINY_PYRAMID, "tiny")


@pytest.fixture(scope="session")
def tiny_vit_model() -> Model:
    return make_model(TINY_VIT, "tiny-vit")


@pytest.fixture(params=["pyramid", "vit"])
def any_model(request: pytest.FixtureRequest) -> Model:
    name = "tiny_model" if request.param == "pyramid" else "tiny_vit_model"
    model: Model = request.getfixturevalue(name)
    return model


@pytest.fixture
def reader() -> LabelReader:
    """A network whose answers are known."""
    return LabelReader()


@pytest.fixture
def picture() -> npt.NDArray[np.uint8]:
    """A picture of noise, 60 rows by 90 columns."""
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.fixture
def photograph() -> npt.NDArray[np.uint8]:
    """Colours of the whole range, 31 rows by 47 columns."""
    return np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)


def ramp(dtype: npt.DTypeLike, low: float = 0, high: float = 255, size: int = 64) -> Any:
    """Return a square picture that rises evenly, row by row."""
    values = np.linspace(low, high, size * size).reshape(size, size)
    return values.astype(dtype)
