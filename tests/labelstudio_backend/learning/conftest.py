"""A backend's learning for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.labelstudio_backend.learning.helpers import learning_at

from sam_plugins.labelstudio_backend.learning.backend import BackendLearning


@pytest.fixture
def learning(tmp_path: Path) -> BackendLearning:
    return learning_at(tmp_path / "state")
