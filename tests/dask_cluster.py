"""A real Dask cluster of two processes for tests."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import pytest

from sam_plugins.model.cluster.opening import environment_kept


@contextlib.contextmanager
def two_workers() -> Iterator[str]:
    """Start a scheduler with two workers; give its address."""
    distributed = pytest.importorskip("distributed", reason="the scale extra is not installed")
    with (
        environment_kept(),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster.scheduler_address
