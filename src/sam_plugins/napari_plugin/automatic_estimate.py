"""What automatic segmentation takes, said before it begins and while it runs; no Qt in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sam_plugins.durations import duration
from sam_plugins.napari_plugin.automatic import (
    Pace,
    PictureKind,
    picture_kind,
    tiles_expected,
)
from sam_plugins.napari_plugin.automatic_params import WHERE, FindParams
from sam_plugins.napari_plugin.current_model import AUTO_DEVICE
from sam_plugins.napari_plugin.paces import keep_pace, known_pace

if TYPE_CHECKING:
    from sam_plugins.napari_plugin.current_model import CurrentModel, Devices
    from sam_plugins.napari_plugin.images import ImageSource

_SECTION = "automatic pace"

# A tile is a picture for the model, too; only how many there are is less certain. What was looked
# at closer, perhaps in dozens of windows, tells of nothing else.
_ALIKE: dict[PictureKind, tuple[PictureKind, ...]] = {
    "whole": ("tiles",),
    "closer": ("whole", "tiles"),
    "tiles": ("whole",),
}


class RunEstimate:
    """Says how long a run takes, as far as earlier ones and its own first tile tell.

    Parameters
    ----------
    model : CurrentModel

    Attributes
    ----------
    devices : Devices or None
        What there is to compute on, once somebody has looked.
    """

    def __init__(self, model: CurrentModel) -> None:
        self._model = model
        self._measured: dict[str, float] = {}
        self._seconds_left: float | None = None
        self.devices: Devices | None = None

    def key(self, params: FindParams, kind: PictureKind) -> str | None:
        """Return what has a pace of its own: the model, where it computes, and how it is asked.

        None as long as it is not known where it computes.
        """
        device = self._device()
        if device is None:
            return None
        points = f" {params.points_per_side}" if params.prompts == "grid" else ""
        return f"{self._model.choice.name}, {device}, {params.prompts}{points}, {kind}"

    def note(self, pace: Pace) -> bool:
        """Note how far a run is, and return whether what is left reads otherwise now.

        It tells nothing of other runs: its pictures may be known already.
        """
        before, left = self._seconds_left, pace.seconds_left
        if left is None:
            return False
        self._seconds_left = left
        return before is None or duration(before) != duration(left)

    def end(self) -> None:
        """Note that nothing runs any more."""
        self._seconds_left = None

    def keep(self, pace: Pace, key: str | None) -> None:
        """Remember a complete run all of whose pictures were new to the model, for other days."""
        if key is not None and pace.seconds_per_picture is not None:
            self._measured[key] = pace.seconds_per_picture
            keep_pace(_SECTION, key, pace.seconds_per_picture)

    def text(self, source: ImageSource, params: FindParams) -> str:
        """Return what a run takes, in words.

        Parameters
        ----------
        source : ImageSource
        params : FindParams
        """
        from sam_plugins.model.inference.memory import available_bytes, in_units

        planes = int(np.prod(source.shape[:-2])) if params.where in WHERE[2:] else 1
        size_hw = source.shape[-2:]
        count = planes * tiles_expected(size_hw)
        free = available_bytes()
        device = self._device()
        text = f"{count} picture{'s' if count > 1 else ''} for the model"
        text += "; " if device is None else f", on {device}; "
        text += self._how_long(count, params, picture_kind(size_hw, params))
        text += f"; {in_units(int(np.prod(source.shape)) * 4)} for the labels"
        if free is not None:
            text += f" ({in_units(free)} of memory are free)"
        return text + "."

    def _how_long(self, count: int, params: FindParams, kind: PictureKind) -> str:
        """Say how long some pictures take, or what is left of them."""
        if self._seconds_left is not None:
            return f"about {duration(self._seconds_left)} left"
        text = self._expected(count, params, kind)
        if kind == "closer":
            text += "; where objects are small, up to ten times as long as with Look closer off"
        return text

    def _expected(self, count: int, params: FindParams, kind: PictureKind) -> str:
        """Say how long some pictures take, as far as earlier ones tell."""
        own, *others = (self.key(params, one) or "" for one in (kind, *_ALIKE[kind]))
        if own in self._measured:
            return f"about {duration(count * self._measured[own])}"
        earlier = [known_pace(_SECTION, own)]
        for other in others:
            earlier += [self._measured.get(other), known_pace(_SECTION, other)]
        known = next((one for one in earlier if one is not None), None)
        if known is None:
            return "how long, the first one will tell"
        return f"roughly {duration(count * known)}, as earlier runs tell"

    def _device(self) -> str | None:
        """Return where the model computes, None as long as nobody has looked."""
        device = self._model.choice.device
        if self.devices is not None:
            return self.devices.meant(device)
        return None if device == AUTO_DEVICE else device
