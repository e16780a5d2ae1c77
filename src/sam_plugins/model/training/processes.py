"""Several processes that train one model: each takes a part of every batch, the sum is the whole.

Every process makes the same batches and draws the same prompts, for all objects, but encodes and
answers only its own pictures. Losses are divided by the size of the whole batch, so that sums over
processes, of losses and of gradients, are what one process would have computed. Nothing but sums
travels: gradients once a step, and the answered masks where a correction depends on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import Tensor, nn

from sam_plugins.errors import MissingExtraError, TrainingError, how_to_install

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")


class Processes(Protocol):
    """What training asks of the processes it runs in."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def rank(self) -> int:
        """Number of this one; 0 writes files and measures."""

    @property
    def device(self) -> torch.device | None:
        """Where this one computes; None leaves it open."""

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""

    def tell(self, value: T) -> T:
        """Return what the first process has; all wait for it."""


@dataclass(frozen=True)
class OneProcess:
    """Training as usual; nothing to wait for."""

    count: int = 1
    rank: int = 0
    device: torch.device | None = None

    def total(self, values: Tensor) -> Tensor:
        """Return the tensor itself."""
        return values

    def tell(self, value: T) -> T:
        """Return the value."""
        return value


@dataclass(frozen=True)
class FabricProcesses:
    """Processes that Lightning Fabric started.

    Parameters
    ----------
    fabric : Fabric
        Launched.
    """

    fabric: Fabric

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.fabric.world_size)

    @property
    def rank(self) -> int:
        """Number of this one."""
        return int(self.fabric.global_rank)

    @property
    def device(self) -> torch.device | None:
        """The device that Fabric gave to this one."""
        return self.fabric.device

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        summed = self.fabric.all_reduce(values, reduce_op="sum")
        assert isinstance(summed, Tensor)
        return summed

    def tell(self, value: T) -> T:
        """Return what the first process has; all wait for it."""
        told: T = self.fabric.broadcast(value, src=0)
        return told


def launch_fabric(device: torch.device, count: int) -> FabricProcesses:
    """Start Lightning Fabric: this process goes on as number 0, the others run the same command.

    Parameters
    ----------
    device : device
        Its kind is the accelerator; on a CPU, processes speak through gloo, on CUDA through NCCL.
    count : int
        Processes in all, one for each device.

    Raises
    ------
    MissingExtraError
        If Lightning Fabric is not installed.
    TrainingError
        If it cannot start so many.
    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.utilities.exceptions import MisconfigurationException
    except ImportError as error:
        raise MissingExtraError(
            f"training in {count} processes needs Lightning Fabric, which is not installed; "
            f"{how_to_install('train')}, or train in one process"
        ) from error
    try:
        # Weights and losses are float32; the forward pass has its own autocast.
        fabric = Fabric(accelerator=device.type, devices=count, strategy="ddp", precision="32-true")
        fabric.launch()
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise TrainingError(
            f"cannot start {count} processes on {device.type}: {error}; use fewer devices"
        ) from error
    return FabricProcesses(fabric)


def own_part(total: int, processes: Processes) -> range:
    """Return which of so many things are this process's, as equal as can be and in order.

    Examples
    --------
    >>> [own_part(5, OneProcess(2, rank)) for rank in (0, 1)]
    [range(0, 3), range(3, 5)]
    """
    size, rest = divmod(total, processes.count)
    start = processes.rank * size + min(processes.rank, rest)
    return range(start, start + size + (processes.rank < rest))


def sum_gradients(parameters: Sequence[nn.Parameter], processes: Processes) -> None:
    """Replace the gradient of every parameter by its sum over all processes.

    A parameter without gradient anywhere keeps none: the optimiser must not move it.
    """
    if processes.count == 1:
        return
    learning = [one for one in parameters if one.requires_grad]
    has_gradient = torch.tensor(
        [float(one.grad is not None) for one in learning], device=learning[0].device
    )
    has_gradient = processes.total(has_gradient)
    parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in learning]
    flat = processes.total(torch.cat([part.flatten() for part in parts]))
    sums = flat.split([one.numel() for one in learning])
    for one, own, wanted in zip(learning, sums, has_gradient.tolist(), strict=True):
        one.grad = own.view_as(one).clone() if wanted else None
