"""Prompts on pictures of any size: each is answered at the level that its object asks for."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.model.inference.candidates import chain_of
from sam_plugins.model.inference.checks import require_type
from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.full_size import SizeChain, WindowMask
from sam_plugins.model.inference.predict import predict_masks
from sam_plugins.model.inference.prompts import PADDING
from sam_plugins.model.inference.types import ImageEmbedding, Prompts
from sam_plugins.model.large.embedding import TiledEmbedding
from sam_plugins.model.large.zoom import Extent, View

FloatArray = npt.NDArray[np.float32]

_CELL = 4  # input pixels along a cell of the low-resolution masks
_OUTSIDE = -10.0
"""Logit of what an earlier answer did not see."""


@dataclass(frozen=True, eq=False)
class LargeMask:
    """The C masks of one object, in the window of the picture that answered.

    Parameters
    ----------
    view : View
        The window and its level.
    logits : ndarray of shape (C, h, w), float32
        Low-resolution logits.
    iou_predictions : ndarray of shape (C,), float32
    sizes : SizeChain
        From the logits to the window.
    """

    view: View
    logits: FloatArray
    iou_predictions: FloatArray
    sizes: SizeChain

    @property
    def best(self) -> int:
        """The mask that the model trusts most."""
        return int(self.iou_predictions.argmax())

    def extent(self, which: int) -> Extent | None:
        """Return the box around a mask in pixels of the picture, None for an empty one."""
        inside = self.logits[which] > 0
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if not rows.size:
            return None
        (down, across), view = self.cell_hw, self.view
        return Extent(
            view.left + float(columns[0]) * across,
            view.top + float(rows[0]) * down,
            min(view.left + float(columns[-1] + 1) * across, view.right),
            min(view.top + float(rows[-1] + 1) * down, view.bottom),
        )

    @property
    def cell_hw(self) -> tuple[float, float]:
        """Pixels of the picture along a cell, down and across."""
        return cell_of(self.sizes.original_size_hw, self.sizes.input_size_hw)


@dataclass(frozen=True, eq=False)
class LargePrediction:
    """C masks for each of N objects of a picture of any size.

    Parameters
    ----------
    size_hw : (int, int)
        Of the picture.
    objects : tuple of LargeMask
        In the order of the prompts.
    """

    size_hw: SizeHW
    objects: tuple[LargeMask, ...]

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.objects)

    @property
    def iou_predictions(self) -> FloatArray:
        """The IoU that the model expects of each mask, (N, C), about 0 to 1."""
        return np.stack([one.iou_predictions for one in self.objects])

    @property
    def levels(self) -> tuple[int, ...]:
        """The level at which each object was answered; 0 is the picture's own resolution."""
        return tuple(one.view.level for one in self.objects)

    def window_mask(self, index: int, which: int | None = None) -> WindowMask:
        """Return one mask of one object within the part of the picture that it can reach.

        Parameters
        ----------
        index : int
            The object.
        which : int, optional
            The mask; the one that the model trusts most by default.

        Returns
        -------
        WindowMask
            Rows and columns of the picture, and the mask there; nothing is elsewhere.
        """
        one = self.objects[index]
        (rows, columns), mask = one.sizes.draw(one.logits[one.best if which is None else which])
        top, left = one.view.top, one.view.left
        return WindowMask(
            (
                slice(rows.start + top, rows.stop + top),
                slice(columns.start + left, columns.stop + left),
            ),
            mask,
        )


def predict_large(
    tiled: TiledEmbedding,
    prompts: Prompts,
    *,
    multimask: bool | None = None,
    earlier: LargePrediction | None = None,
    level: int | None = None,
    chunk_size: int | None = None,
) -> LargePrediction:
    """Answer the prompts of any number of objects of a picture of any size.

    All prompts of an object are asked in one window, at the finest level at which it holds them. A
    mask that reaches an edge of the window is asked for anew at a coarser level, until none does.

    Parameters
    ----------
    tiled : TiledEmbedding
        The picture.
    prompts : Prompts
        For N objects, in pixels of the picture; without ``mask_logits``.
    multimask : bool, optional
        As for :func:`~sam_plugins.predict_masks`.
    earlier : LargePrediction, optional
        An answer about the same N objects, whose best masks the prompts correct.
    level : int, optional
        Finer levels are not taken: the one at which a person looks at the picture, say.
    chunk_size : int, optional
        As for :func:`~sam_plugins.predict_masks`.

    Returns
    -------
    LargePrediction
        Of N objects, 3 masks each or 1.

    Raises
    ------
    ValueError
        If a prompt lies outside the picture, does not fit the model, or comes with ``mask_logits``;
        or if ``earlier`` is of another number of objects or another picture.
    TypeError
        If an argument is of another type.
    MemoryLimitError
        If memory runs out.
    """
    _check(tiled, prompts, earlier)
    if multimask is None:
        multimask = prompts.is_ambiguous and earlier is None
    zoom = tiled.zoom
    before = [None] * len(prompts) if earlier is None else list(earlier.objects)
    extents = [_extent(one, zoom.size_hw, was) for one, was in zip(prompts, before, strict=True)]
    views = [zoom.view(extent, level or 0) for extent in extents]
    answers: dict[int, LargeMask] = {}
    waiting = list(range(len(prompts)))
    while waiting:
        together: defaultdict[View, list[int]] = defaultdict(list)
        for index in waiting:
            together[views[index]].append(index)
        waiting = []
        for view, indices in sorted(together.items()):
            embedding = tiled.embedding(view)
            asked = _in_window(prompts[indices], view, embedding, [before[i] for i in indices])
            found = predict_masks(
                tiled.model, embedding, asked, multimask=multimask, chunk_size=chunk_size
            )
            for place, index in enumerate(indices):
                answers[index] = LargeMask(
                    view,
                    found.low_res_logits[place],
                    found.iou_predictions[place],
                    chain_of(embedding),
                )
                reach = answers[index].extent(answers[index].best)
                if reach is None or view.level == zoom.top:
                    continue
                if zoom.may_be_cut(view, reach) or zoom.is_too_large(view, reach):
                    views[index] = zoom.view(extents[index].union(reach), view.level + 1)
                    waiting.append(index)
    return LargePrediction(zoom.size_hw, tuple(answers[index] for index in range(len(prompts))))


def cell_of(original_size_hw: SizeHW, input_size_hw: SizeHW) -> tuple[float, float]:
    """Return the pixels of a picture along a low-resolution cell, down and across."""
    down, across = (
        _CELL * original / inner
        for original, inner in zip(original_size_hw, input_size_hw, strict=True)
    )
    return down, across


def _check(tiled: TiledEmbedding, prompts: Prompts, earlier: LargePrediction | None) -> None:
    """Refuse what does not fit together."""
    require_type("tiled", tiled, TiledEmbedding, "make it with TiledEmbedding(model, image)")
    require_type(
        "prompts", prompts, Prompts, "make them with Prompts(...) or Prompts.for_object(...)"
    )
    prompts.check_inside(tiled.zoom.size_hw)
    if prompts.mask_logits is not None:
        raise ValueError(
            "prompts must come without mask_logits, which lie in one window: pass the whole answer "
            "as earlier"
        )
    if prompts.points_xy is None and prompts.boxes_xyxy is None:
        raise ValueError("prompts must have points or boxes, which say where the object is")
    if earlier is not None and (
        len(earlier) != len(prompts) or earlier.size_hw != tiled.zoom.size_hw
    ):
        raise ValueError(
            f"earlier must be of the same {len(prompts)} objects and picture of "
            f"{tiled.zoom.size_hw}, got {len(earlier)} objects and {earlier.size_hw}"
        )


def _extent(prompts: Prompts, size_hw: SizeHW, before: LargeMask | None) -> Extent:
    """Return the part of the picture that the prompts of one object, or its mask, lie in."""
    corners: list[npt.NDArray[np.floating]] = []
    if prompts.points_xy is not None and prompts.point_labels is not None:
        corners += list(prompts.points_xy[prompts.point_labels != PADDING])
    if prompts.boxes_xyxy is not None:
        corners += [prompts.boxes_xyxy[0, :2], prompts.boxes_xyxy[0, 2:]]
    height, width = size_hw
    places = np.clip(np.array(corners, np.float64).reshape(-1, 2), 0, (width - 1, height - 1))
    known = None if before is None else before.extent(before.best)
    if not len(places):
        return known or Extent(0, 0, width, height)
    extent = Extent(*places.min(axis=0).tolist(), *places.max(axis=0).tolist())
    return extent if known is None else extent.union(known)


def _in_window(
    prompts: Prompts, view: View, embedding: ImageEmbedding, before: list[LargeMask | None]
) -> Prompts:
    """Return prompts in pixels of a window, with the earlier masks as the window shows them."""
    corner = np.array([view.left, view.top], np.float32)
    logits = [_seen_in(view, embedding, one) for one in before if one is not None]
    return Prompts(
        None if prompts.points_xy is None else prompts.points_xy - corner,
        prompts.point_labels,
        None if prompts.boxes_xyxy is None else prompts.boxes_xyxy - np.tile(corner, 2),
        np.stack(logits)[:, None] if logits else None,
        prompts.text_embeddings,
    )


def _seen_in(view: View, embedding: ImageEmbedding, before: LargeMask) -> FloatArray:
    """Return the best mask of an earlier answer as low-resolution logits of another window."""
    logits: FloatArray = before.logits[before.best]
    if before.view == view and logits.shape == embedding.low_res_hw:
        return logits
    cells = cell_of(view.size_hw, embedding.input_size_hw)
    corner, there = (view.top, view.left), (before.view.top, before.view.left)
    places = [
        (start + (np.arange(number) + 0.5) * cell - origin) / cell_before - 0.5
        for start, number, cell, origin, cell_before in zip(
            corner, embedding.low_res_hw, cells, there, before.cell_hw, strict=True
        )
    ]
    seen = ndimage.map_coordinates(
        logits, np.meshgrid(*places, indexing="ij"), order=1, cval=_OUTSIDE
    )
    return np.asarray(seen, np.float32)
