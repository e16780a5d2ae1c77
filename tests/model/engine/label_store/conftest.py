"""A store with one picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.model.engine.label_store.helpers import write_picture

from sam_plugins.model.engine.label_store import ImageRecord, LabelStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LabelStore]:
    """An empty store."""
    with LabelStore.create(tmp_path / "project" / "store") as store:
        yield store


@pytest.fixture
def image(store: LabelStore, tmp_path: Path) -> ImageRecord:
    """A picture in it."""
    return store.add_images([write_picture(tmp_path / "project" / "a.png")])[0]
