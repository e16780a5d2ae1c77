"""Average the weights of models that were trained from one another, into a new model file.

Usage: ``python scripts/average_models.py A.safetensors B.safetensors -o mean.safetensors``, with
``--parts 3 1`` for three parts of A and one of B.

Such a mean keeps more of what the trainings had in common (Wortsman et al. 2022): a training that
goes on from it forgets less of the kinds of pictures that it does not see.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.loading import LoadedCheckpoint, load_checkpoint
from sam_plugins.model.weights.passport import Passport


def average(models: Sequence[LoadedCheckpoint], parts: Sequence[float]) -> dict[str, Tensor]:
    """Return the mean weights; tensors of whole numbers are those of the first model.

    Raises
    ------
    ValueError
        If the architectures differ, or the parts are not one for each model with a positive sum.
    """
    if len(parts) != len(models) or min(parts) < 0 or sum(parts) <= 0:
        raise ValueError(
            f"parts must be 0 or more, one for each of {len(models)} models, got {parts}"
        )
    first = models[0]
    for other in models[1:]:
        if other.config != first.config:
            raise ValueError(f"{other.model_id} has another architecture than {first.model_id}")
    shares = [part / sum(parts) for part in parts]

    def mean(name: str, value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        total = torch.zeros_like(value, dtype=torch.float64)
        for share, model in zip(shares, models, strict=True):
            total += share * model.state_dict[name]
        return total.to(value.dtype)

    return {name: mean(name, value) for name, value in first.state_dict.items()}


def passport_of(models: Sequence[LoadedCheckpoint], parts: Sequence[float]) -> Passport:
    """Return the first model's passport without its figures, and what the mean is made of."""
    first = models[0].passport
    if first is None:
        raise ValueError(f"{models[0].name} has no passport")
    made_of: Mapping[str, float] = {
        model.model_id: part for model, part in zip(models, parts, strict=True)
    }
    return replace(
        first,
        metrics={},
        parent=models[0].model_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        extra={"mean_of": made_of},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Average and write; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", help="files or names")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--parts", type=float, nargs="+", help="of each model (one each)")
    options = parser.parse_args(arguments)
    models = [load_checkpoint(one) for one in options.models]
    parts = options.parts or [1.0] * len(models)
    save_model_file(options.output, average(models, parts), passport_of(models, parts))
    print(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
