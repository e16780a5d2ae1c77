"""Fixtures of the tests with a real Label Studio."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.labelstudio_backend.server import LabelStudio, running


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """A real server, shared by tests that use projects of their own."""
    with running(tmp_path_factory.mktemp("label-studio") / "data") as server:
        yield server
