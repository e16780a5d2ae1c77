"""The model that all widgets work with: chosen in one of them, changed in all."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psygnal import Signal

from sam_plugins.napari_plugin.quick_imports import without_collections
from sam_plugins.napari_plugin.settings import keep_settings, read_settings

if TYPE_CHECKING:
    from qtpy.QtCore import QObject

    from sam_plugins.model.inference.loading import Model

AUTO_DEVICE = "auto"


@dataclass(frozen=True)
class ModelChoice:
    """Which model, and where it computes.

    Parameters
    ----------
    name : str
        Of a published or a stored model, or a file.
    device : str
        ``"auto"`` for the first CUDA GPU, or the CPU where there is none.
    """

    name: str = "default"
    device: str = AUTO_DEVICE


class CurrentModel:
    """A model that people choose and widgets share; it is loaded when it is first asked.

    Signals come from the thread that chose.
    """

    changed = Signal(ModelChoice)

    def __init__(self, choice: ModelChoice | None = None) -> None:
        self._choice = choice or ModelChoice()
        self._lock = threading.Lock()
        self._loaded: tuple[object, Model] | None = None

    @property
    def choice(self) -> ModelChoice:
        """What was chosen last."""
        return self._choice

    def choose(self, choice: ModelChoice) -> None:
        """Work with another model, or elsewhere."""
        if choice != self._choice:
            self._choice = choice
            keep_settings("model", choice)
            self.changed.emit(choice)

    def refresh(self) -> None:
        """Look again which weights the name stands for, after a promotion or a rollback."""
        self.changed.emit(self._choice)

    def load(self) -> Model:
        """Return the model; from the thread of a job, for it may take seconds.

        Raises
        ------
        WeightsError, DeviceError, MemoryLimitError
            As from :func:`~sam_plugins.load_model`.
        """
        with without_collections():
            from sam_plugins.model.inference.loading import load_model
            from sam_plugins.model.weights.loading import resolve
        from sam_plugins.napari_plugin.jobs import cancel_inside_networks

        cancel_inside_networks()
        choice = self._choice
        with self._lock:  # two widgets that ask at once load it once
            path = resolve(choice.name, show_progress=False).path
            known = (path, path.stat().st_mtime_ns, choice.device)
            if self._loaded is None or self._loaded[0] != known:
                self._loaded = None  # not both in memory
                device = None if choice.device == AUTO_DEVICE else choice.device
                # By its name: a published model is checked against its digest.
                self._loaded = known, load_model(choice.name, device=device, show_progress=False)
            return self._loaded[1]


@functools.cache
def current_model() -> CurrentModel:
    """Return the model of this program, as it was chosen last time."""
    return CurrentModel(read_settings("model", ModelChoice()))


@dataclass(frozen=True)
class Devices:
    """What there is to compute on.

    Parameters
    ----------
    names : tuple of str
        What can be chosen, ``"auto"`` first.
    auto : str
        What ``"auto"`` stands for.
    """

    names: tuple[str, ...]
    auto: str

    def meant(self, device: str) -> str:
        """Return the device that a choice stands for."""
        return self.auto if device == AUTO_DEVICE else device


@functools.cache
def find_devices() -> Devices:
    """Return the devices of this machine; from the thread of a job, for PyTorch takes seconds."""
    with without_collections():
        import torch

        from sam_plugins.model.inference.loading import checked_device

    names = [AUTO_DEVICE, "cpu"]
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        names += ["cuda"] if count == 1 else [f"cuda:{index}" for index in range(count)]
    if torch.backends.mps.is_available():
        names.append("mps")
    return Devices(tuple(names), str(checked_device(None)))


def when_devices_are_known(take: Callable[[Devices], None], owner: QObject) -> None:
    """Look what there is to compute on, in a job, and tell it on the GUI thread.

    Parameters
    ----------
    take : callable
    owner : QObject
        Nobody is told where it is gone by then.
    """
    from sam_plugins.napari_plugin.jobs import JobProgress, start_job

    def look(*, progress: JobProgress) -> Devices:
        progress.check()
        return find_devices()

    start_job(look, title="Looking for graphics cards", owner=owner, on_result=take, is_shown=False)
