"""A real cluster of two processes, for all tests of this folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package")
def scheduler_address() -> Iterator[str]:
    """Where the scheduler of two workers is."""
    distributed = pytest.importorskip("distributed", reason="the scale extra is not installed")
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )
    yield cluster.scheduler_address
    cluster.close()
