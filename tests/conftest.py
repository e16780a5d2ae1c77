"""Fixtures for every test: the data sets, and walls around the user's files and the network."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

import sam_plugins  # noqa: F401  before torch, as users import it: threads that wait give way

# Processes that test at once share the cores: more threads would only wait for each other. Read by
# OpenMP when torch is imported.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    _workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _workers)))

REPOSITORY = Path(__file__).resolve().parents[1]
"""Root of the checkout."""

_LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of data sets with ground truth, from the environment or beside the checkout."""
    named = os.environ.get("SAM_PLUGINS_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (folder / "dsb2018" / "manifest.json").is_file():
        pytest.skip(
            f"no data sets at {folder}; set SAM_PLUGINS_TEST_DATA to the folder "
            "that holds dsb2018/manifest.json"
        )
    return folder


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests out of the user's weights and cache."""
    monkeypatch.setenv("SAM_PLUGINS_HOME", str(tmp_path / "sam-plugins-home"))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and not str(address[0]).startswith(
            _LOOPBACK
        ):
            pytest.fail(f"a test tried to reach {address[0]}; tests run offline")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests, with the reason, where there is no GPU."""
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if not needing:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needing:
            item.add_marker(
                pytest.mark.skip(reason="torch.cuda.is_available() is False on this machine")
            )
