"""What of an image the window shows, which pixel lies where, and what the model is shown of it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import UnusableImageError
from sam_plugins.napari_plugin.coordinates import (
    NotInPlaneError,
    Place,
    displayed_axes,
    is_inside,
    place_of,
)
from sam_plugins.napari_plugin.images import look_at
from sam_plugins.napari_plugin.layers import channel_axis_of, source_of
from sam_plugins.napari_plugin.params import ViewParams, parse_channels
from sam_plugins.napari_plugin.regions import choose_region, extent_of, wider_region
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.session.values import (
    Draft,
    MaskPrompt,
    PointPrompt,
    Prompt,
    Sight,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

Position = Sequence[float]


class Viewpoint:
    """An image in a viewer: from positions in the world to planes, pixels and sights.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image
    params : ViewParams
        Channels and contrast; may be replaced, but for the channel axis.
    """

    def __init__(self, viewer: ViewerModel, image: Image, params: ViewParams) -> None:
        self.viewer = viewer
        self.image = image
        self.params = params
        self.channel_axis = channel_axis_of(image, params.channel_axis)
        self.source = source_of(image, self.channel_axis)

    def renew(self) -> bool:
        """Look at the data that the layer has now; return whether labels still fit on them."""
        if channel_axis_of(self.image, self.params.channel_axis) != self.channel_axis:
            return False
        try:
            source = source_of(self.image, self.channel_axis)
        except UnusableImageError:
            return False
        if source.shape != self.source.shape:
            return False
        self.source = source
        return True

    def place(self, position: Position) -> Place:
        """Return the pixel at a position, which may lie beside the picture.

        Raises
        ------
        NotInPlaneError
            If the plane lies beside the image, or the window shows no plane.
        """
        dims = self.viewer.dims
        axes = displayed_axes(dims.displayed, dims.ndim, self.image.ndim)
        data = list(self.image.world_to_data(position)[-self.image.ndim :])
        axis = self.channel_axis
        if axis is not None and axis in axes:
            raise NotInPlaneError(
                f"axis {axis} holds channels and cannot be seen as rows or columns; roll the axes"
            )
        if axis == 0:
            axes, data = (axes[0] - 1, axes[1] - 1), data[1:]
        elif axis is not None:
            data[axis] = 0
        return place_of(data, axes, self.source.shape)

    def place_inside(self, position: Position) -> Place | None:
        """Return which pixel of the image lies at a position; None beside the image."""
        try:
            found = self.place(position)
        except NotInPlaneError:
            return None
        return found if is_inside(found.x, found.y, self.size_hw(found.plane)) else None

    def position(self, plane: Plane, x: float, y: float) -> tuple[float, ...]:
        """Return where in the world a pixel of a plane lies, for the viewer's axes."""
        others = iter(plane.at)
        chosen = {plane.axes[0]: y, plane.axes[1]: x}
        data = [chosen[a] if a in chosen else next(others) for a in range(plane.ndim)]
        if self.channel_axis is not None:
            point = self.image.world_to_data(self.viewer.dims.point)[-self.image.ndim :]
            data[self.channel_axis : self.channel_axis + (self.channel_axis > 0)] = [
                float(point[self.channel_axis])
            ]
        world = tuple(float(value) for value in self.image.data_to_world(data))
        before = tuple(float(value) for value in self.viewer.dims.point)
        return before[: len(before) - len(world)] + world

    def size_hw(self, plane: Plane) -> tuple[int, int]:
        """Return rows and columns of a plane."""
        return plane.size_hw(self.source.shape)

    def sight(self, found: Place, known: Sight | None = None) -> Sight:
        """Return what the model is shown for a place.

        Parameters
        ----------
        found : Place
        known : Sight, optional
            What it is shown already; it stays where the place is in it.
        """
        point = PointPrompt(found.x, found.y)
        if known is not None and known.plane == found.plane and _holds(known.region, [point]):
            return known
        return self.sight_of(found.plane, [point])

    def sight_of(
        self, plane: Plane, prompts: Sequence[Prompt], about: Draft | None = None
    ) -> Sight:
        """Return what the model is shown for prompts: a part of the plane that holds all of them.

        Parameters
        ----------
        plane : Plane
        prompts : sequence of Prompt
        about : Draft, optional
            The object of this plane that they are about: what was said and answered before is
            shown, too.
        """
        size_hw = self.size_hw(plane)
        if about is None:
            seen = self._seen_side()
            return self.look_at(plane, choose_region(size_hw, extent_of(prompts), seen_side=seen))
        if _holds(about.sight.region, prompts):
            return about.sight
        mask = [] if about.mask is None or about.mask.is_empty else [MaskPrompt(about.mask)]
        said = extent_of([*about.prompts, *mask, *prompts])
        return self._moved(about.sight, choose_region(size_hw, said, least=about.sight.region))

    def wider(self, sight: Sight, prompts: Sequence[Prompt], reach: Window) -> Sight | None:
        """Return what the model is shown where a mask may go on beyond it; from any thread.

        Parameters
        ----------
        sight : Sight
            What it was shown.
        prompts : sequence of Prompt
        reach : Window
            Around the mask.

        Returns
        -------
        Sight or None
            None where it was shown all of the object.
        """
        size_hw = self.size_hw(sight.plane)
        region = wider_region(size_hw, sight.region, extent_of(prompts), reach)
        return None if region is None else self._moved(sight, region)

    def _moved(self, sight: Sight, region: Window) -> Sight:
        """Return the same sight of another region."""
        return replace(sight, region=region, level=self.source.level_for(sight.plane, region))

    def look_at(self, plane: Plane, region: Window) -> Sight:
        """Return what the model is shown of a region, in the chosen contrast and channels."""
        limits = self.image.contrast_limits
        return look_at(
            self.source,
            plane,
            region,
            contrast=self.params.contrast,
            layer_limits=None if limits is None else [(limits[0], limits[1])],
            channels=parse_channels(self.params.channels),
        )

    def centre(self) -> Place | None:
        """Return the pixel in the middle of what is seen of the image."""
        try:
            plane = self.place(self.viewer.dims.point).plane
        except NotInPlaneError:
            return None
        low, high = self._seen_corners()
        axes = [axis + (1 if self.channel_axis == 0 else 0) for axis in plane.axes]
        y, x = ((low + high)[axes] / 2).tolist()
        height, width = self.size_hw(plane)
        return Place(plane, min(max(x, 0), width - 1), min(max(y, 0), height - 1))

    def plane(self) -> Plane:
        """Return the plane that people look at; in 3D display the one where the sliders stand."""
        if self.viewer.dims.ndisplay == 2:
            with contextlib.suppress(NotInPlaneError):
                return self.place(self.viewer.dims.point).plane
        data = list(self.image.world_to_data(self.viewer.dims.point)[-self.image.ndim :])
        axis, shape = self.channel_axis, self.source.shape
        if axis == 0:
            data = data[1:]
        rows, columns = [one for one in range(len(shape)) if axis in (None, 0) or one != axis][-2:]
        at = tuple(
            int(np.clip(round(float(value)), 0, length - 1))
            for one, (value, length) in enumerate(zip(data, shape, strict=True))
            if one not in (rows, columns)
        )
        return Plane((rows, columns), at)

    def pixels(self, position: Position) -> npt.NDArray[np.float64]:
        """Return where a position of the world lies on the axes of the labels."""
        data = np.asarray(self.image.world_to_data(position)[-self.image.ndim :], float)
        return data[1:] if self.channel_axis == 0 else data

    def _seen_corners(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the first and the last pixel that are seen of the image, on each axis."""
        corners = np.asarray(self.image.corner_pixels, float)
        if self.image.multiscale:
            corners *= np.asarray(self.image.downsample_factors)[self.image.data_level]
        return corners[0], corners[1]

    def _seen_side(self) -> float:
        """Return how many pixels of the image the longer side of the window shows."""
        low, high = self._seen_corners()
        dims = self.viewer.dims
        axes = [axis - (dims.ndim - self.image.ndim) for axis in dims.displayed]
        return float((high - low)[[axis for axis in axes if axis >= 0]].max(initial=0))


def _holds(region: Window, prompts: Sequence[Prompt]) -> bool:
    """Return whether all prompts lie in a region."""
    said = extent_of(prompts)
    is_in_rows = region.top <= said.y0 + 0.5 and said.y1 + 0.5 <= region.bottom
    return is_in_rows and region.left <= said.x0 + 0.5 and said.x1 + 0.5 <= region.right
