"""Everything that a training run needs to go on exactly: one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sam_plugins.errors import OutputError, TrainingError
from sam_plugins.model.io.atomic import atomic_path
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.optimizers import make_optimizer
from sam_plugins.model.training.run_recipe import Recipe

_METADATA_KEY = "sam_plugins_training"

Network = TypeVar("Network", bound=nn.Module)


@dataclass
class TrainingState(Generic[Network]):
    """A network in training.

    Attributes
    ----------
    model : nn.Module
        Weights as the optimiser moves them.
    average : dict of str to Tensor
        Exponential average of the state dict, which is what a run yields.
    optimizer : AdamW
        Or :class:`~.optimizers.Muon`.
    step : int
        Steps done.
    """

    model: Network
    average: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    step: int = 0

    @classmethod
    def fresh(cls, model: Network, config: TrainingConfig) -> TrainingState[Network]:
        """Start at step 0 with the weights as they are."""
        average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        return TrainingState(model, average, make_optimizer(model, config))

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Move the average towards the weights; buffers are copied."""
        floats, targets = [], []
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                floats.append(self.average[name])
                targets.append(value)
            else:
                self.average[name].copy_(value)
        torch._foreach_lerp_(floats, targets, 1 - decay)

    def save(self, path: Path, recipe: Recipe) -> None:
        """Write the state, complete or not at all.

        Parameters
        ----------
        path : Path
        recipe : Recipe
            Of the run, kept beside the tensors.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{name}.{key}"] = value
        # Copies in plain layout: safetensors refuses shared memory and channels-last strides.
        plain = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format)
                 for k, v in tensors.items()}  # fmt: skip
        document = json.dumps({"step": self.step, "recipe": recipe.to_dict()}, sort_keys=True)
        with atomic_path(path) as temporary:
            try:
                safetensors.torch.save_file(plain, temporary, {_METADATA_KEY: document})
            except safetensors.SafetensorError as error:
                raise OutputError(
                    f"cannot write {path}: {error}; free some space or choose another folder"
                ) from error

    def load(self, path: Path, recipe: Recipe) -> None:
        """Go on from a file that :meth:`save` wrote.

        Parameters
        ----------
        path : Path
        recipe : Recipe
            Of this run.

        Raises
        ------
        TrainingError
            If the file is no state of a run, or one with another recipe: going on would be a third
            run that nobody asked for.
        """
        document, tensors = _read(path)
        different = recipe.differences(document["recipe"])
        if different:
            raise TrainingError(
                f"{path} belongs to a run with another recipe (different: "
                f"{', '.join(different)}); use the same one or another state folder"
            )
        with torch.no_grad():
            self.model.load_state_dict(_under("model.", tensors))
            for name, value in _under("average.", tensors).items():
                self.average[name].copy_(value)
            for name, parameter in self.model.named_parameters():
                moments = _under(f"optimizer.{name}.", tensors)
                if not moments:
                    continue
                self.optimizer.state[parameter] = {
                    key: value if key == "step" else torch.empty_like(parameter).copy_(value)
                    for key, value in moments.items()
                }
        self.step = document["step"]


def recorded_recipe(path: Path) -> dict[str, Any]:
    """Return the recipe of the run that a state is of, without its tensors.

    Raises
    ------
    TrainingError
        If there is no such file, or it is no state of a run.
    """
    document, _ = _read(path, with_tensors=False)
    recipe: dict[str, Any] = document["recipe"]
    return recipe


def _read(path: Path, *, with_tensors: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a state file."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            names = file.keys() if with_tensors else ()
            tensors = {name: file.get_tensor(name) for name in names}
        document: dict[str, Any] = json.loads(metadata[_METADATA_KEY])
        if not {"recipe", "step"} <= document.keys():
            raise ValueError("it was written by an older version")
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(
            f"{path} is not the state of a training run ({error}); remove it to start again"
        ) from error
    return document, tensors


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start so, without the prefix."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
