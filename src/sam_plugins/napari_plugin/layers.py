"""The layers that we make, found by what they are and never by what they are called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.coordinates import NotInPlaneError, displayed_axes, place_of
from sam_plugins.napari_plugin.images import ImageSource
from sam_plugins.napari_plugin.label_arrays import empty_labels
from sam_plugins.napari_plugin.session.planes import LabelArray, Plane, Window

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

Role = Literal["objects", "automatic", "current", "points", "boxes"]

KEY = "sam_plugins"


def plain_viewer(viewer: ViewerModel) -> ViewerModel:
    """Return a viewer whose layers are always the same objects.

    Widgets that are opened from napari's menu get a viewer in a wrapper that wraps its layers anew
    whenever they are asked for, so that ``layer is layer`` does not hold.
    """
    plain: ViewerModel = getattr(viewer, "__wrapped__", viewer)
    return plain


def role_of(layer: Layer) -> str | None:
    """Return what a layer of ours is, None for others."""
    note = layer.metadata.get(KEY)
    return note.get("role") if isinstance(note, dict) else None


def set_role(layer: Layer, role: Role) -> None:
    """Note what a layer is; its name is free."""
    layer.metadata[KEY] = {**layer.metadata.get(KEY, {}), "role": role}


def bind(layer: Labels, image: Image) -> None:
    """Note whose labels these are; names are free, and a copy of the image is another one."""
    path = image.source.path
    note = {"id": str(image.unique_id), "source": None if path is None else str(path)}
    layer.metadata[KEY] = {**layer.metadata.get(KEY, {}), "image": note}


def note_channel_axis(image: Image, axis: int) -> None:
    """Note on an image which of its axes holds channels, for all widgets."""
    image.metadata[KEY] = {**image.metadata.get(KEY, {}), "channel_axis": axis}


def channel_axis_of(image: Image, chosen: int = -1) -> int | None:
    """Return the axis of the channels of an image, None for none.

    Parameters
    ----------
    image : Image
    chosen : int
        What people chose; with -1 it is what the layer says of itself.
    """
    note = image.metadata.get(KEY)
    axis = note.get("channel_axis", -1) if chosen < 0 and isinstance(note, dict) else chosen
    return axis if 0 <= axis < image.ndim and not image.rgb else None


def choose_image(viewer: ViewerModel) -> Image | None:
    """Return the image that a person means: the selected one, or the topmost one that is seen."""
    from napari.layers import Image

    active = viewer.layers.selection.active
    if isinstance(active, Image):
        return active
    images = [layer for layer in reversed(viewer.layers) if isinstance(layer, Image)]
    return next((image for image in images if image.visible), images[0] if images else None)


def source_of(image: Image, channel_axis: int | None = None) -> ImageSource:
    """Return the data of an image layer."""
    levels = list(image.data) if image.multiscale else [image.data]
    return ImageSource(levels, bool(image.rgb), channel_axis)


def placement(image: Image, channel_axis: int | None) -> dict[str, Any]:
    """Return the keywords that put a labels layer where an image is.

    A channel axis of length 1 is stretched over all channels, so that labels are seen with each.
    """
    kept = slice(1, None) if channel_axis == 0 else slice(None)
    scale, translate = np.array(image.scale), np.array(image.translate)
    if channel_axis is not None and channel_axis > 0:
        count = int(image.data.shape[channel_axis])
        translate[channel_axis] += scale[channel_axis] * (count - 1) / 2
        scale[channel_axis] *= count
    affine = np.asarray(image.affine.affine_matrix)
    rotate, shear = np.asarray(image.rotate), np.asarray(image.shear)
    if channel_axis == 0:
        affine = affine[1:, 1:]
        rotate = rotate[1:, 1:]
        shear = _shear_without_first_axis(shear, image.ndim)
    return {
        "scale": scale[kept],
        "translate": translate[kept],
        "rotate": rotate,
        "shear": shear,
        "affine": affine,
        "units": image.units[kept],
    }


def voxel_lengths(image: Image, channel_axis: int | None = None) -> list[float]:
    """Return how long a voxel is along each axis of the labels, in the world."""
    origin = np.asarray(image.data_to_world([0.0] * image.ndim))
    ends = [np.asarray(image.data_to_world(unit)) for unit in np.eye(image.ndim)]
    lengths = [float(np.linalg.norm(end - origin)) for end in ends]
    return lengths[1:] if channel_axis == 0 else lengths


def _shear_without_first_axis(shear: npt.NDArray[Any], ndim: int) -> npt.NDArray[Any]:
    """Return the upper triangle of a shear matrix without its first row."""
    if shear.ndim == 2:
        return shear[1:, 1:]
    return shear[ndim - 1 :]


def add_labels(
    viewer: ViewerModel,
    image: Image,
    role: Role,
    *,
    channel_axis: int | None = None,
    dtype: npt.DTypeLike = np.uint32,
    data: Any = None,  # noqa: ANN401
    below: Layer | None = None,
    **keywords: Any,  # noqa: ANN401
) -> Labels:
    """Add a labels layer of a role over an image, and leave the selection as it is.

    Without ``data`` it is empty. It comes on top, or below a layer where that is there.
    """
    from napari.layers import Labels

    if data is None:
        data = empty_labels(source_of(image, channel_axis).shape, dtype)
    layer = Labels(
        data,
        **placement(image, channel_axis),
        **keywords,
    )
    set_role(layer, role)
    bind(layer, image)
    add_unselected(viewer, layer, below)
    return layer


def add_unselected(viewer: ViewerModel, layer: Layer, below: Layer | None = None) -> None:
    """Add a layer and leave the selection as it is.

    Nobody hears that the layer was selected for a moment: to show its controls, and then those of
    the layer before again, takes the window longer than the layer itself.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Layer
    below : Layer, optional
        Which is above it, where that is there; by default it comes on top.
    """
    layers, selection = viewer.layers, viewer.layers.selection
    active, chosen = selection.active, set(selection)
    with selection.events.blocker_all():
        layers.insert(layers.index(below) if below in layers else len(layers), layer)
        selection.active = active
        selection.update(chosen)


class LayerCanvas:
    """The labels of a layer as a session writes to them; the window shows what has changed.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Labels
        Of one level, in an array that can be written to.

    Attributes
    ----------
    written : Plane or None
        What is being written just now.
    """

    def __init__(self, viewer: ViewerModel, layer: Labels) -> None:
        self.layer = layer
        self.written: Plane | None = None
        self._viewer = viewer
        self._blocks = 0
        self._is_stale = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(int(length) for length in self.layer.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Integer type of the labels."""
        dtype: np.dtype[Any] = np.dtype(self.layer.data.dtype)
        return dtype

    def read(self, plane: Plane, window: Window | None = None) -> LabelArray:
        """Return a copy of a plane, or of a window of it."""
        return np.array(plane.take(self.layer.data, window), order="C")

    def write(self, plane: Plane, window: Window, values: LabelArray) -> None:
        """Replace a window of a plane; of what is seen only the window is drawn again."""
        self.written = plane
        try:
            is_seen = self._is_seen(plane)
            if is_seen and isinstance(self.layer.data, np.ndarray):
                self._write_seen(plane, window, values)
            else:
                plane.put(self.layer.data, window, values)
                if is_seen or self._viewer.dims.ndisplay == 3:
                    self._is_stale = True
                    self._draw_again()
        finally:
            self.written = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Draw what is written within the block once, at its end."""
        self._blocks += 1
        try:
            yield
        finally:
            self._blocks -= 1
            self._draw_again()

    def _draw_again(self) -> None:
        """Draw the layer if something of it that is seen has changed, and no more is to come."""
        if self._is_stale and self._blocks == 0:
            self._is_stale = False
            self.layer.refresh()

    def _write_seen(self, plane: Plane, window: Window, values: LabelArray) -> None:
        """Write only pixels that change, the way that napari draws at once."""
        changed = self.read(plane, window) != values
        rows, columns = np.nonzero(changed)
        if not rows.size:
            return
        others = iter(plane.at)
        indices = []
        for axis in range(plane.ndim):
            if axis == plane.axes[0]:
                indices.append(rows + window.top)
            elif axis == plane.axes[1]:
                indices.append(columns + window.left)
            else:
                indices.append(np.full(rows.shape, next(others)))
        self.layer.data_setitem(tuple(indices), values[changed])

    def _is_seen(self, plane: Plane) -> bool:
        """Return whether the window shows this plane of the layer."""
        return self.layer.visible and plane == seen_plane(self._viewer, self.layer)


def seen_plane(viewer: ViewerModel, layer: Layer) -> Plane | None:
    """Return the plane of a layer that the window shows, None where it shows none."""
    dims = viewer.dims
    try:
        axes = displayed_axes(dims.displayed, dims.ndim, layer.ndim)
        position = layer.world_to_data(dims.point[-layer.ndim :])
        return place_of(position, axes, layer.data.shape[: layer.ndim]).plane
    except NotInPlaneError:
        return None
