"""What runs in a worker: one task, with what the process keeps, and its checks."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from sam_plugins.model.cluster.outcome import Function, Kept, Outcome, attempt, portable
from sam_plugins.model.cluster.shared import SharedFiles

_ATTRIBUTE = "_sam_plugins_kept"
_THREADS_VARIABLE = "OMP_NUM_THREADS"


def kept_by_worker() -> Kept:
    """Return what this worker keeps, for as long as it lives: models are loaded once."""
    from distributed import get_worker

    worker = get_worker()
    # Of two threads that come here at once, both get the same.
    kept: Kept = vars(worker).setdefault(_ATTRIBUTE, Kept())
    return kept


def perform(
    shared: SharedFiles,
    function: Function[Any, Any],
    index: int,
    item: Any,  # noqa: ANN401
) -> Outcome[None, Any]:
    """Run one task in a worker; the item stays here, the way back is for small values."""
    kept = kept_by_worker()
    kept.get("threads", limit_threads)
    outcome = attempt(lambda kept, item: _checked(shared, function, kept, item), kept, index, item)
    error = None if outcome.error is None else portable(outcome.error)
    return dataclasses.replace(outcome, item=None, error=error)


def _checked(shared: SharedFiles, function: Function[Any, Any], kept: Kept, item: Any) -> Any:  # noqa: ANN401
    """Run a task in a worker that sees what it must."""
    kept.get(("checked", shared.token), shared.require)
    return function(kept, item)


def limit_threads() -> int:
    """Hold PyTorch to one thread for each task, unless the environment said how many.

    Dask counts a task as one core. Its nannies say so by ``OMP_NUM_THREADS``; a worker without a
    nanny would take all cores for each of its tasks.
    """
    if not os.environ.get(_THREADS_VARIABLE):
        import torch

        torch.set_num_threads(1)
        return 1
    return int(os.environ[_THREADS_VARIABLE].split(",")[0])


def check(shared: SharedFiles) -> str:
    """Return what is wrong with this worker; empty where nothing is."""
    try:
        shared.require()
    except Exception as error:  # noqa: BLE001  # said by whoever asked
        return str(error)
    return ""
