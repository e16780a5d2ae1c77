"""Which pixels of a file the model sees: the options, what they do, and what cannot be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli.console import complain
from sam_plugins.cli.failures import SMALLER_COPY
from sam_plugins.errors import SamPluginsError, UnusableImageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sam_plugins.model.io.images import OpenImage


@dataclass(frozen=True)
class View:
    """Which pixels of a file the model sees, and how."""

    channels: dict[str, int | str] | list[int | str] | None = None
    limits: Sequence[tuple[float, float]] | None = None
    plane: int | dict[str, int] | None = None
    level: int = 0
    axes: str | None = None

    def chosen(self) -> dict[str, Any]:
        """Return what differs from the defaults, for the table."""
        return {key: value for key, value in vars(self).items() if value != getattr(View(), key)}


def read_rgb(path: Path, view: View) -> npt.NDArray[np.uint8]:
    """Return what the model sees of a file.

    Raises
    ------
    ImageError
        If the file cannot be read, or the view does not fit it.
    """
    from sam_plugins.model.inference.rgb import channel_indices, to_rgb
    from sam_plugins.model.io.images import open_image

    with open_image(path, level=view.level, axes=view.axes) as image:
        require_plane(image, view)
        picture = image.plane(view.plane)
    limits = view.limits
    try:
        channels = (
            picture.default_channels
            if view.channels is None
            else channel_indices(view.channels, picture.channel_names)
        )
        rgb = to_rgb(
            picture.pixels,
            channels,
            limits[0] if limits is not None and len(limits) == 1 else limits,
            channel_axis=picture.channel_axis,
        )
    except ValueError as error:
        raise UnusableImageError(f"{path}: {error}") from error
    if limits is not None and _is_plain(rgb):
        _warn_of_limits(path, picture.pixels)
    return rgb


def smaller(path: Path, view: View) -> str:
    """Say how a file could be segmented with less memory."""
    from sam_plugins.model.io.images import open_image

    coarser = view.level + 1
    try:
        with open_image(path, level=coarser, axes=view.axes):
            return f"take a coarser level of its pyramid with --level {coarser}"
    except SamPluginsError:
        return SMALLER_COPY


def require_plane(image: OpenImage, view: View) -> None:
    """Refuse a stack of which no plane was chosen, and ``--plane`` for what is none.

    Raises
    ------
    UnusableImageError
    """
    planes = {axis: length for axis, length in image.stack_axes.items() if length > 1}
    if planes and view.plane is None:
        named = ", ".join(f"{axis} ({length} planes)" for axis, length in planes.items())
        raise UnusableImageError(
            f"{image.path} is a stack along {named}; choose one plane with --plane "
            f"{','.join(f'{axis}=0' for axis in planes)}, or take every slice with --stack"
        )
    if view.plane is not None and not image.stack_axes:
        raise UnusableImageError(
            f"{image.path} is a single picture and no stack: leave out --plane"
        )


def _warn_of_limits(path: Path, pixels: npt.NDArray[Any]) -> None:
    """Say what there is to see, where the limits leave nothing of it."""
    import numpy as np

    finite = pixels[np.isfinite(pixels)]
    low, high = finite.min(), finite.max()
    if low < high:
        complain(
            f"warning: {path}: every pixel looks the same with these --limits, for its values go "
            f"from {low:g} to {high:g}"
        )


def _is_plain(rgb: npt.NDArray[np.uint8]) -> bool:
    """Return whether all pixels have one colour."""
    return bool((rgb == rgb[:1, :1]).all())
