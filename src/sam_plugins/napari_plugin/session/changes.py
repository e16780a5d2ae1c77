"""What happened to pixels of a label array, small enough to keep for ever, and its undoing."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import LabelArray, LabelCanvas, Plane, Window


@dataclass(frozen=True)
class _Values:
    """Labels of some pixels: one for all of them, or each of them, compressed."""

    dtype: str
    one: int | None
    each: bytes = b""

    @classmethod
    def of(cls, values: LabelArray) -> _Values:
        """Keep some labels."""
        name = values.dtype.str
        if values.size and (values == values[0]).all():
            return cls(name, int(values[0]))
        return cls(name, None, zlib.compress(values.tobytes(), 1))

    def get(self, count: int) -> npt.NDArray[Any]:
        """Return the labels of so many pixels."""
        if self.one is not None:
            return np.full(count, self.one, np.dtype(self.dtype))
        return np.frombuffer(zlib.decompress(self.each), np.dtype(self.dtype))


@dataclass(frozen=True)
class LabelChange:
    """Pixels of one plane that got other labels.

    A pixel that somebody has painted since is left alone when the change is undone or done again.

    Parameters
    ----------
    plane : Plane
    where : MaskCrop
        The pixels that changed.
    before, after : labels of these pixels, row after row
    """

    plane: Plane
    where: MaskCrop
    before: _Values
    after: _Values

    @classmethod
    def between(
        cls, plane: Plane, window: Window, before: LabelArray, after: LabelArray
    ) -> LabelChange | None:
        """Return the difference of two label images of a window; None where there is none."""
        changed = before != after
        where = MaskCrop.of(changed, (window.top, window.left))
        if where.is_empty:
            return None
        return cls(plane, where, _Values.of(before[changed]), _Values.of(after[changed]))

    @property
    def window(self) -> Window:
        """The part of the plane that changed."""
        return self.where.window

    @property
    def nbytes(self) -> int:
        """Bytes that it takes to remember."""
        return len(self.where.bits) + len(self.before.each) + len(self.after.each)

    def redo(self, canvas: LabelCanvas) -> None:
        """Write the labels of afterwards."""
        self._swap(canvas, self.before, self.after)

    def undo(self, canvas: LabelCanvas) -> None:
        """Write the labels of before."""
        self._swap(canvas, self.after, self.before)

    def _swap(self, canvas: LabelCanvas, old: _Values, new: _Values) -> None:
        """Replace old labels by new ones where the old ones are still there."""
        labels = canvas.read(self.plane, self.window)
        mask = self.where.mask
        there = labels[mask]
        labels[mask] = np.where(there == old.get(there.size), new.get(there.size), there)
        canvas.write(self.plane, self.window, labels)
