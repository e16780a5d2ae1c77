"""The picture of a folder that is in the viewer, and its objects as they were last kept."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.belonging import labels_of
from sam_plugins.napari_plugin.layers import (
    add_labels,
    channel_axis_of,
    note_channel_axis,
    source_of,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from sam_plugins.napari_plugin.folder import LoadedPicture, PictureFolder


class OpenPicture:
    """A picture of a folder as layers of a viewer.

    Parameters
    ----------
    viewer : ViewerModel
    pictures : PictureFolder
    index : int
        Which of them.
    loaded : LoadedPicture
        What was read of it.
    """

    def __init__(
        self, viewer: ViewerModel, pictures: PictureFolder, index: int, loaded: LoadedPicture
    ) -> None:
        self.index = index
        self._viewer = viewer
        self._pictures = pictures
        self._keeping = threading.Lock()
        layer = loaded.layer
        self.image: Image = viewer.add_image(
            layer.pixels, rgb=layer.is_rgb, name=pictures.paths[index].stem
        )
        if layer.channel_axis is not None:
            note_channel_axis(self.image, layer.channel_axis)
        labels = add_labels(
            viewer,
            self.image,
            "objects",
            channel_axis=layer.channel_axis,
            data=loaded.labels,
            name=f"{self.image.name} objects",
        )
        self._kept = _copy(labels.data)
        viewer.layers.selection.active = self.image

    @property
    def objects(self) -> Any:  # noqa: ANN401
        """The layer of its objects, None where somebody removed it or the picture."""
        if self.image not in self._viewer.layers:
            return None
        return labels_of(self._viewer, "objects", self.image, channel_axis_of(self.image))

    @property
    def labels(self) -> Any:  # noqa: ANN401
        """The array of its objects, None where the layer is gone."""
        layer = self.objects
        return None if layer is None else layer.data

    def keep(self, labels: Any) -> bool:  # noqa: ANN401
        """Write labels where they have changed, and return whether they had; from any thread.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        if not isinstance(labels, np.ndarray):  # written as people work, or gone
            return False
        with self._keeping:
            if self._kept is not None and np.array_equal(labels, self._kept):
                return False
            copied = labels.copy()
            self._pictures.write_labels(self.index, copied)
            self._kept = copied
            return True

    def show_middle(self) -> None:
        """Put the sliders of its stack in the middle, and show all of a plane."""
        shape = source_of(self.image, channel_axis_of(self.image)).shape
        dims = self._viewer.dims
        for axis in range(dims.ndim - len(shape), dims.ndim - 2):
            dims.set_current_step(axis, (int(dims.nsteps[axis]) - 1) // 2)
        self._viewer.reset_view()

    def remove(self) -> None:
        """Take its layers out of the viewer."""
        objects = self.objects
        if objects is not None:
            self._viewer.layers.remove(objects)
        if self.image in self._viewer.layers:
            self._viewer.layers.remove(self.image)


def _copy(labels: Any) -> npt.NDArray[Any] | None:  # noqa: ANN401
    """Return what labels are now, None for those that lie in a file."""
    return labels.copy() if isinstance(labels, np.ndarray) else None
