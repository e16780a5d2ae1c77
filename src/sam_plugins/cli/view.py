"""Which pixels of a file the model sees: the options, what they do, and what cannot be right."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli.console import complain, counted
from sam_plugins.cli.failures import SMALLER_COPY
from sam_plugins.errors import SamPluginsError, UnusableImageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sam_plugins.model.io.images import OpenImage

_SHOWN_UNASKED = 3
"""Of more channels somebody has to choose."""


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

    def of_file(self, path: Path) -> View:
        """Return the view with the axes of a file that channels were chosen of.

        A file may not say that an axis is that of channels. Who chooses channels says so, where no
        other axis can be meant and their numbers exist.

        Raises
        ------
        ImageError
            If the file cannot be read.
        """
        if self.channels is None or self.axes is not None or self.plane is not None:
            return self
        from sam_plugins.model.io.images import ImageWarning, open_image

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImageWarning)  # it is said when the picture is read
            with open_image(path, level=self.level) as image:
                axes, lengths = image.axes_with_channels(), image.stack_axes.values()
        values = self.channels.values() if isinstance(self.channels, dict) else self.channels
        count = max(lengths, default=0)
        if axes is None or not all(isinstance(one, int) and one < count for one in values):
            return self
        return replace(self, axes=axes)


def read_rgb(path: Path, view: View) -> npt.NDArray[np.uint8]:
    """Return what the model sees of a file.

    Raises
    ------
    ImageError
        If the file cannot be read, or the view does not fit it.
    """
    from sam_plugins.model.inference.rgb import channel_indices, to_rgb
    from sam_plugins.model.io.images import open_image

    view = view.of_file(path)
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
    _warn_of_gaps(path, picture.pixels, channels, picture.channel_axis)
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
        channels = image.axes_with_channels()
        is_plain = not {"C", "S"} & set(image.axes)
        if channels is None and view.channels is not None and is_plain and len(planes) == 1:
            channels = image.axes.replace(next(iter(planes)), "C")
        say_so = f"; if these are channels, say so with --axes {channels}" if channels else ""
        if channels and view.channels is None and max(planes.values()) > _SHOWN_UNASKED:
            say_so = "; if these are channels, say which to show, such as --channels red=0,green=2"
        raise UnusableImageError(
            f"{image.path} is a stack along {named}; choose one plane with --plane "
            f"{','.join(f'{axis}=0' for axis in planes)}, or take every slice with --stack{say_so}"
        )
    if view.plane is not None and not image.stack_axes:
        raise UnusableImageError(
            f"{image.path} is a single picture and no stack: leave out --plane"
        )


def _warn_of_gaps(
    path: Path,
    pixels: npt.NDArray[Any],
    channels: dict[str, int] | Sequence[int] | None,
    channel_axis: int | None,
) -> None:
    """Say how many pixels are no numbers: what they are seen as may look like objects."""
    import numpy as np

    if pixels.dtype.kind != "f":
        return
    if channels is not None and channel_axis is not None:
        shown = list(channels.values() if isinstance(channels, dict) else channels)
        pixels = pixels.take(shown, axis=channel_axis)
    is_gap = ~np.isfinite(pixels)
    if channel_axis is not None:
        is_gap = is_gap.any(axis=channel_axis)
    if count := int(np.count_nonzero(is_gap)):
        verb = "is" if count == 1 else "are"
        complain(
            f"warning: {path}: {counted(count, 'pixel')} {verb} not finite and seen as black "
            "(infinity as white); the edges of such areas can look like objects"
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
