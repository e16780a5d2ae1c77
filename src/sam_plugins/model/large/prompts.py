"""Prompts on pictures of any size: each is answered at the level that its object asks for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.candidates import chain_of
from sam_plugins.model.inference.checks import require_type
from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.predict import predict_masks
from sam_plugins.model.inference.prompts import PADDING
from sam_plugins.model.inference.types import ImageEmbedding, Prompts
from sam_plugins.model.large.embedding import TiledEmbedding
from sam_plugins.model.large.masks import LargeMask, LargePrediction, resampled, weighted_mean
from sam_plugins.model.large.zoom import Extent, View, Zoom

_LEAST_WEIGHT = 0.05
"""Windows that count for less are not asked."""


def predict_large(
    tiled: TiledEmbedding,
    prompts: Prompts,
    *,
    multimask: bool | None = None,
    earlier: LargePrediction | None = None,
    level: int | None = None,
    blend: bool = False,
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
    blend : bool
        Whether the logits of the up to four windows around an object are blended, so that answers
        do not jump where prompts move on to the next window; up to four times the work at first.
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
    ask = _Ask(tiled, prompts, before, multimask, chunk_size)
    answers: dict[int, LargeMask] = {}
    waiting = list(range(len(prompts)))
    while waiting:
        found = ask({index: views[index] for index in waiting})
        answers |= found
        waiting = []
        for index, one in found.items():
            reach = one.extent(one.best)
            if reach is None or one.view.level == zoom.top:
                continue
            if zoom.may_be_cut(one.view, reach) or zoom.is_too_large(one.view, reach):
                views[index] = zoom.view(extents[index].union(reach), one.view.level + 1)
                waiting.append(index)
    if blend:
        answers = _blended(zoom, ask, answers, extents)
    return LargePrediction(zoom.size_hw, tuple(answers[index] for index in range(len(prompts))))


@dataclass(frozen=True, eq=False)
class _Ask:
    """Answers the prompts of some objects, each in a window; those of one window together."""

    tiled: TiledEmbedding
    prompts: Prompts
    before: Sequence[LargeMask | None]
    multimask: bool
    chunk_size: int | None

    def __call__(self, views: Mapping[int, View]) -> dict[int, LargeMask]:
        """Return the masks of objects, by their indices."""
        together: defaultdict[View, list[int]] = defaultdict(list)
        for index, view in views.items():
            together[view].append(index)
        answers: dict[int, LargeMask] = {}
        for view, indices in sorted(together.items()):
            embedding = self.tiled.embedding(view)
            before = [self.before[index] for index in indices]
            asked = _in_window(self.prompts[indices], view, embedding, before)
            found = predict_masks(
                self.tiled.model,
                embedding,
                asked,
                multimask=self.multimask,
                chunk_size=self.chunk_size,
            )
            sizes = chain_of(embedding)
            for place, index in enumerate(indices):
                logits, guesses = found.low_res_logits[place], found.iou_predictions[place]
                answers[index] = LargeMask(view, logits, guesses, sizes)
        return answers


def _blended(
    zoom: Zoom, ask: _Ask, answers: Mapping[int, LargeMask], extents: Sequence[Extent]
) -> dict[int, LargeMask]:
    """Return answers that are weighted means over the windows around each object."""
    around: dict[int, list[tuple[float, View]]] = {}
    for index, one in answers.items():
        near = zoom.around(one.view, one.extent(one.best) or extents[index])
        around[index] = [pair for pair in near if pair[0] >= _LEAST_WEIGHT]
    seen: defaultdict[int, list[tuple[float, LargeMask]]] = defaultdict(list)
    for turn in range(max(map(len, around.values()), default=0)):
        views = {index: near[turn][1] for index, near in around.items() if turn < len(near)}
        for index, one in ask(views).items():
            seen[index].append((around[index][turn][0], one))
    return {index: weighted_mean(parts) for index, parts in seen.items()}


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
    cells, inner = embedding.low_res_hw, embedding.input_size_hw
    logits = [resampled(one, one.best, view, cells, inner) for one in before if one is not None]
    return Prompts(
        None if prompts.points_xy is None else prompts.points_xy - corner,
        prompts.point_labels,
        None if prompts.boxes_xyxy is None else prompts.boxes_xyxy - np.tile(corner, 2),
        np.stack(logits)[:, None] if logits else None,
        prompts.text_embeddings,
    )
