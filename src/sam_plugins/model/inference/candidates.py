"""Many point prompts decoded, and what deserves a second look kept for little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from sam_plugins.model.inference.coordinates import CELL, SizeHW, points_to_input
from sam_plugins.model.inference.full_size import CutLogits, SizeChain
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.postprocess import stability_scores
from sam_plugins.model.inference.predict import decode_prompts, usual_chunk_size
from sam_plugins.model.inference.suppression import PackedMasks
from sam_plugins.model.inference.types import ImageEmbedding, Prompts
from sam_plugins.model.io.windows import Window
from sam_plugins.model.networks.mask_decoder import MaskOutput

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all); an exception that it raises stops the work."""


@dataclass(frozen=True)
class MaskFilter:
    """Which masks are good enough.

    Parameters
    ----------
    min_predicted_iou : float
        Least IoU that the model expects; 0 for any.
    min_stability : float
        Least IoU of the mask at a higher and at a lower threshold; 0 for any.
    stability_offset : float
        How far those thresholds lie from the usual one, in logits.
    agreement_weight : float
        0 to 1: how much the instance maps have a say in a mask's score, beside the predicted IoU.
        Without maps it is 0.
    best_per_point : bool
        Whether only one of the masks of a point may stay.
    blend_temperature : float
        Score by which one mask of a point must exceed another to weigh e times as much in their
        mean, which stays in their place; 0 for the best one alone. Only with ``best_per_point``.
    """

    min_predicted_iou: float
    min_stability: float
    stability_offset: float = 1.0
    agreement_weight: float = 0.0
    best_per_point: bool = True
    blend_temperature: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("min_predicted_iou", "min_stability", "agreement_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("stability_offset", "blend_temperature"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Candidates:
    """Masks that passed the filter.

    Attributes
    ----------
    points : ndarray of shape (n,), int64
        Index of the point that each mask came from.
    scores, predicted_ious : ndarray of shape (n,), float32
    packed : PackedMasks
        Low-resolution masks, to compare.
    cuts : tuple of CutLogits
        Low-resolution logits, to draw.
    """

    points: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    predicted_ious: npt.NDArray[np.float32]
    packed: PackedMasks
    cuts: tuple[CutLogits, ...]

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.points)

    @classmethod
    def none(cls, valid_hw: SizeHW) -> Candidates:
        """Return no masks at all, of a picture with so many valid cells."""
        nothing = np.zeros(0, np.float32)
        packed = PackedMasks.pack(np.zeros((0, *valid_hw), bool))
        return cls(np.zeros(0, np.int64), nothing, nothing, packed, ())

    @classmethod
    def concatenate(cls, parts: list[Candidates]) -> Candidates:
        """Return the masks of several parts about the same points as one."""
        return cls(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.predicted_ious for part in parts]),
            PackedMasks.concatenate([part.packed for part in parts]),
            tuple(cut for part in parts for cut in part.cuts),
        )

    def choose(self, which: npt.NDArray[np.integer]) -> Candidates:
        """Return some of the masks, by their indices."""
        return Candidates(
            self.points[which],
            self.scores[which],
            self.predicted_ious[which],
            self.packed.choose(which),
            tuple(self.cuts[index] for index in which.tolist()),
        )


def decode_candidates(
    model: Model,
    embedding: ImageEmbedding,
    points_xy: npt.NDArray[np.float32],
    mask_filter: MaskFilter,
    *,
    boxes_xyxy: npt.NDArray[np.float32] | None = None,
    with_points: bool | None = None,
    regions: npt.NDArray[np.int32] | None = None,
    chunk_size: int | None = None,
    skip_found: bool = False,
    progress: Progress | None = None,
) -> Candidates:
    """Ask with every point and keep the masks that pass, before any of them is drawn.

    Parameters
    ----------
    model : Model
    embedding : ImageEmbedding
    points_xy : ndarray of shape (n, 2), float32
        One positive point per object, in pixels of the picture; n is 1 or more.
    mask_filter : MaskFilter
    boxes_xyxy : ndarray of shape (n, 4), float32, optional
        A box around each of the objects, which asks for it too: it has one answer, a point three.
    with_points : bool, optional
        Whether the points ask; by default where there are no boxes. Each object is then asked for
        twice: a point and a box in one prompt find less than either.
    regions : ndarray of shape (h, w), integer, optional
        Where the instance maps see the object of point ``i``: the cells ``i + 1``.
    chunk_size : int, optional
        As for :func:`~sam_plugins.model.inference.predict.predict_masks`.
    skip_found : bool
        Do not ask with points that lie in a mask which passed already. The points are then asked in
        a random order, the same every time, so that large objects are found early; objects within
        found ones are missed.
    progress : callable, optional
        Called after every few points.
    """
    weight = 0.0 if regions is None else mask_filter.agreement_weight
    sizes = chain_of(embedding)
    judge = _Judge(
        mask_filter,
        embedding.valid_cells_hw,
        sizes,
        _Regions(regions, len(points_xy)) if regions is not None and weight > 0 else None,
    )
    asking: list[Prompts] = []
    if with_points or boxes_xyxy is None:
        asking.append(Prompts.single_points(points_xy))
    if boxes_xyxy is not None:
        asking.append(Prompts(boxes_xyxy=boxes_xyxy))
    found = _Found(points_xy, embedding) if skip_found else None
    size = chunk_size or usual_chunk_size(model.device)
    parts = [Candidates.none(embedding.valid_cells_hw)]
    left = np.arange(len(points_xy)) if found is None else found.order
    while len(left):
        # Without skipping, all at once: what does not fit into memory is found out only once.
        step = len(left) if found is None else size
        asked, left = left[:step], left[step:]
        done = 0
        prompts = [one[asked] for one in asking]
        for output in _answers(model, embedding, prompts, mask_filter, chunk_size):
            parts.append(judge.passing(output, asked[done : done + len(output.logits)]))
            done += len(output.logits)
            if progress is not None:
                progress(len(points_xy) - len(left) - len(asked) + done, len(points_xy))
        if found is not None:
            found.add(parts[-1])
            left = found.still_open(left)
            if progress is not None and not len(left):
                progress(len(points_xy), len(points_xy))
    return Candidates.concatenate(parts)


def _answers(
    model: Model,
    embedding: ImageEmbedding,
    asking: Sequence[Prompts],
    mask_filter: MaskFilter,
    chunk_size: int | None,
) -> Iterator[MaskOutput]:
    """Answer some objects at a time: all masks of all the prompts that ask for them."""
    least = mask_filter.min_predicted_iou

    def answer(prompts: Prompts) -> Iterator[MaskOutput]:
        return decode_prompts(
            model,
            embedding,
            prompts,
            multimask=prompts.boxes_xyxy is None,
            fits_boxes=False,  # They are where the maps see something.
            chunk_size=chunk_size,
            min_predicted_iou=least,
        )

    if len(asking) == 1:
        yield from answer(asking[0])
        return
    size = chunk_size or usual_chunk_size(model.device)
    for start in range(0, len(asking[0]), size):
        outputs = [_joined(list(answer(one[start : start + size])), dim=0) for one in asking]
        yield _joined(outputs, dim=1)


def _joined(outputs: Sequence[MaskOutput], dim: int) -> MaskOutput:
    """Return the masks of several prompts (``dim`` 0), or several answers to each (1), as one."""
    if len(outputs) == 1:
        return outputs[0]
    return MaskOutput(*(torch.cat(parts, dim=dim) for parts in zip(*outputs, strict=True)))


def pixels_per_cell(embedding: ImageEmbedding) -> float:
    """Return how many pixels of the picture a low-resolution cell covers."""
    (height, width), (rows, columns) = embedding.original_size_hw, embedding.input_size_hw
    return CELL**2 * (height / rows) * (width / columns)


def chain_of(embedding: ImageEmbedding) -> SizeChain:
    """Return the sizes from the low-resolution masks of an embedding to its picture."""
    return SizeChain(
        embedding.low_res_hw,
        embedding.padded_size_hw,
        embedding.input_size_hw,
        embedding.original_size_hw,
    )


_ALIKE = 0.5
"""Least IoU of two masks that are of the same object."""


def _iou(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Return the IoU of two masks, 0 for empty ones."""
    shared, either = np.count_nonzero(first & second), np.count_nonzero(first | second)
    return shared / max(1, either)


class _Regions:
    """Where the instance maps see the object of each point."""

    def __init__(self, regions: npt.NDArray[np.int32], count: int) -> None:
        self._regions = regions
        self._windows: list[Window | None] = ndimage.find_objects(regions, count)
        self._areas = np.bincount(regions.ravel(), minlength=count + 1)[1:]

    def agreement(self, inside: npt.NDArray[np.bool_], point: int) -> float:
        """Return the IoU of a mask with the region of its point."""
        window = self._windows[point]
        if window is None:
            return 0.0
        area = np.count_nonzero(inside)
        shared = np.count_nonzero(inside[window] & (self._regions[window] == point + 1))
        return float(shared / (area + self._areas[point] - shared))


class _Found:
    """Where masks have been found, and which points do not lie there."""

    def __init__(self, points_xy: npt.NDArray[np.float32], embedding: ImageEmbedding) -> None:
        sizes = embedding.original_size_hw, embedding.input_size_hw
        rows, columns = embedding.valid_cells_hw
        cells = np.floor((points_to_input(points_xy, *sizes) + 0.5) / CELL).astype(np.int64)
        self._cells_xy = np.clip(cells, 0, [columns - 1, rows - 1])
        self._covered = np.zeros((rows, columns), bool)
        self.order = np.random.default_rng(0).permutation(len(points_xy))

    def add(self, masks: Candidates) -> None:
        """Remember some masks."""
        for index in range(len(masks)):
            window, inside = masks.packed.unpack(index)
            self._covered[window] |= inside

    def still_open(self, points: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return those of some points, by their indices, that lie in no mask."""
        x, y = self._cells_xy[points].T
        is_open: npt.NDArray[np.bool_] = ~self._covered[y, x]
        left: npt.NDArray[np.int64] = points[is_open]
        return left


class _Mask(NamedTuple):
    """A mask that passed."""

    point: int
    score: float
    predicted_iou: float
    logits: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Judge:
    """Decides which masks pass, on low-resolution logits without their padding."""

    mask_filter: MaskFilter
    valid_hw: SizeHW
    sizes: SizeChain
    regions: _Regions | None

    def passing(self, output: MaskOutput, points: npt.NDArray[np.int64]) -> Candidates:
        """Return the masks of some points, by their indices, that pass the filter."""
        predicted = output.iou_predictions.float().cpu().numpy()
        masks: list[_Mask] = []
        for index, point in enumerate(points.tolist()):
            promising = np.flatnonzero(predicted[index] >= self.mask_filter.min_predicted_iou)
            # Only these masks leave the device; NumPy counts several times as fast.
            answers = [
                (output.logits[index, which].float().cpu().numpy(), float(predicted[index, which]))
                for which in promising.tolist()
            ]
            if self.mask_filter.best_per_point and self.mask_filter.blend_temperature > 0:
                answers = self._blended(answers, point)
            scored = [self._scored(logits, expected, point) for logits, expected in answers]
            passed = [mask for mask in scored if mask is not None]
            if self.mask_filter.best_per_point and passed:
                passed = [max(passed, key=lambda mask: mask.score)]
            masks += passed
        inside = np.zeros((len(masks), *self.valid_hw), bool)
        for index, mask in enumerate(masks):
            inside[index] = self._valid(mask.logits) > 0
        return Candidates(
            np.array([mask.point for mask in masks], np.int64),
            np.array([mask.score for mask in masks], np.float32),
            np.array([mask.predicted_iou for mask in masks], np.float32),
            PackedMasks.pack(inside),
            tuple(self.sizes.cut(mask.logits) for mask in masks),
        )

    def _blended(
        self, answers: list[tuple[npt.NDArray[np.float32], float]], point: int
    ) -> list[tuple[npt.NDArray[np.float32], float]]:
        """Return the mean of logits and predicted IoUs of one point, the better weighing more."""
        if len(answers) < 2:
            return answers
        inside = [self._valid(logits) > 0 for logits, _ in answers]
        scores = np.array(
            [
                self._score(mask, expected, point)
                for mask, (_, expected) in zip(inside, answers, strict=True)
            ]
        )
        best = int(scores.argmax())
        is_alike = np.array([_iou(mask, inside[best]) >= _ALIKE for mask in inside])
        is_alike[best] = True  # though it may be empty
        # Another reading of the point is no vote on the edge.
        weights = np.exp((scores - scores.max()) / self.mask_filter.blend_temperature) * is_alike
        weights /= weights.sum()
        mean = np.zeros_like(answers[0][0])
        for weight, (logits, _) in zip(weights.astype(np.float32), answers, strict=True):
            mean += weight * logits
        return [(mean, float(weights @ [expected for _, expected in answers]))]

    def _scored(
        self, logits: npt.NDArray[np.float32], predicted_iou: float, point: int
    ) -> _Mask | None:
        """Return a mask with its score, None if it is empty or hangs on the threshold."""
        valid, offset = self._valid(logits), self.mask_filter.stability_offset
        inside = valid > 0
        if not inside.any():
            return None
        if self.mask_filter.min_stability > 0:
            inner, outer = (int(np.count_nonzero(valid > limit)) for limit in (offset, -offset))
            if stability_scores(inner, outer) < self.mask_filter.min_stability:
                return None
        score = self._score(inside, predicted_iou, point)
        return _Mask(point, score, predicted_iou, logits)

    def _score(self, inside: npt.NDArray[np.bool_], predicted_iou: float, point: int) -> float:
        """Return how good a mask is: what the model expects, and what the instance maps say."""
        if self.regions is None:
            return predicted_iou
        weight = self.mask_filter.agreement_weight
        agreement = self.regions.agreement(inside, point)
        return (1 - weight) * predicted_iou + weight * agreement

    def _valid(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return logits without the padding."""
        return logits[: self.valid_hw[0], : self.valid_hw[1]]
