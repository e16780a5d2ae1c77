"""All that decides what a training run computes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sam_plugins.model.networks.config import SamConfig
from sam_plugins.model.training.batches import Batches, BatchOptions
from sam_plugins.model.training.config import TrainingConfig


@dataclass(frozen=True)
class TrainingRecipe:
    """The network, the training, and the data: a run goes on only with the same.

    Parameters
    ----------
    network : SamConfig
    training : TrainingConfig
    batches : BatchOptions
    data_digest : str
        Of all training pictures.
    """

    network: SamConfig
    training: TrainingConfig
    batches: BatchOptions
    data_digest: str

    @classmethod
    def of(cls, network: SamConfig, training: TrainingConfig, maker: Batches) -> TrainingRecipe:
        """Collect the parts of a run."""
        return cls(network, training, maker.options, maker.data_digest)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they are after a round trip through JSON."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Name the values that differ from another recipe's :meth:`to_dict`.

        What an older version did not know yet counts as the value that means the same: its default.

        Examples
        --------
        >>> recipe = TrainingRecipe(SamConfig(), TrainingConfig(), BatchOptions(), "digest")
        >>> recipe.differences(TrainingRecipe(SamConfig(), TrainingConfig(seed=1), BatchOptions(),
        ...     "another").to_dict())
        ['data_digest', 'training.seed']
        """
        usual = TrainingRecipe(self.network, TrainingConfig(), BatchOptions(), "").to_dict()
        return _differences(self.to_dict(), _filled(other, usual), "")


def _filled(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return training and batches with the defaults of what is missing in them."""
    filled = dict(values)
    for part in ("training", "batches"):
        own = dict(values.get(part, {}))
        for key, default in usual[part].items():
            if isinstance(default, dict) and key != "set_shares" and isinstance(own.get(key), dict):
                own[key] = {**default, **own[key]}
            else:
                own.setdefault(key, default)
        filled[part] = own
    return filled


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str) -> list[str]:
    """Walk two nested mappings."""
    names: list[str] = []
    for key in sorted(one.keys() | other.keys()):
        here, there = one.get(key), other.get(key)
        if isinstance(here, dict) and isinstance(there, dict):
            names += _differences(here, there, f"{prefix}{key}.")
        elif here != there:
            names.append(prefix + key)
    return names
