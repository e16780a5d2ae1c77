"""A real cluster of two processes, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.dask_cluster import two_workers


@pytest.fixture(scope="package")
def scheduler_address() -> Iterator[str]:
    """Where the scheduler of two workers is."""
    with two_workers() as address:
        yield address
