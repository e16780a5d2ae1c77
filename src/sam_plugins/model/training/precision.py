"""Which precision a training computes in: bfloat16 where the device has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from sam_plugins.errors import TrainingError
from sam_plugins.model.training.choices import Precision
from sam_plugins.model.training.state import recorded_recipe

_OF_CPUS = ("avx512_bf16", "amx_bf16", "bf16")
"""What PyTorch calls bfloat16 arithmetic: of x86, its matrix unit, and ARM."""


def resolve_precision(
    precision: Precision, device: torch.device | str, *, state_path: Path | None = None
) -> Literal["bfloat16", "float32"]:
    """Return what ``"auto"`` means on a device: bfloat16 where that is not emulated.

    Parameters
    ----------
    precision : {"auto", "bfloat16", "float32"}
        What is named stays.
    device : device
    state_path : Path, optional
        Of a run that may have begun, with its ``config`` in the recipe: its precision stays, so
        that it goes on elsewhere as it began.

    Examples
    --------
    >>> resolve_precision("float32", "cpu")
    'float32'
    """
    if precision != "auto":
        return precision
    begun = None if state_path is None else _begun_in(state_path)
    if begun in {"bfloat16", "float32"}:
        return begun
    kind = torch.device(device).type
    if kind == "cuda":
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_it = kind == "cpu" and any(_abilities_of_cpu().get(name) for name in _OF_CPUS)
    return "bfloat16" if has_it else "float32"


def _abilities_of_cpu() -> dict[str, Any]:
    """Return what the processor can do, as far as this version of PyTorch tells."""
    if hasattr(torch.cpu, "get_capabilities"):
        return dict(torch.cpu.get_capabilities())
    older = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return {"avx512_bf16": bool(older is not None and older())}


def _begun_in(state_path: Path) -> object:
    """Return the precision of the run that a state is of, if there is one that can be read."""
    if not state_path.exists():
        return None
    try:
        return recorded_recipe(state_path).get("config", {}).get("precision")
    except TrainingError:  # what is damaged is told when it is gone on from
        return None
