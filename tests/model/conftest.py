"""The official segment_anything, to compare with, without torchvision; small data sets on disk."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from benchmarks.official_code import import_official
from tests.labelled_sets import write_sets


@pytest.fixture(scope="session")
def official() -> ModuleType:
    """PyPI's ``segment_anything``, with ``build_sam`` and ``modeling`` as attributes."""
    if importlib.util.find_spec("segment_anything") is None:
        pytest.skip("segment-anything is not installed: pip install segment-anything")
    return import_official()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Two sets: ``cells`` with one of everything, ``photos`` with incomplete annotation."""
    return write_sets(tmp_path / "data")
