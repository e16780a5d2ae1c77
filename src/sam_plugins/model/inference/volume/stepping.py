"""From the mask of one slice to the mask of the next, and whether to believe it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.pooling import MaskDescriber, cover_of_mask, logits_of_mask
from sam_plugins.model.inference.predict import predict_masks
from sam_plugins.model.inference.prompts import POSITIVE
from sam_plugins.model.inference.types import ImageEmbedding, MaskPrediction, Prompts
from sam_plugins.model.inference.volume.options import PropagationOptions
from sam_plugins.model.inference.volume.shapes import (
    box_between,
    box_inside,
    deepest_point,
    leaning_overlap,
    moved_box,
    pieces_touching,
    window_iou,
    window_of,
)
from sam_plugins.model.inference.volume.values import Chain, Seed, SliceMask, Stop, StopReason

_SAME_OBJECT = 0.75
"""IoU above which the answer to a box is that to the click whose box it is."""

_LEAST_TRUST = 1e-3
ISLAND_SHARE = 0.1
"""Pieces of a mask smaller than this share of its largest one are dropped."""


@dataclass(eq=False)
class Walker:
    """One object on its way from a prompted slice; what a :class:`Chain` is made of.

    Parameters
    ----------
    seed : Seed
    anchor : SliceMask
        The object on the prompted slice; not empty.
    direction : int
        1 or -1.
    limit : int
        The first slice that is not to be visited.
    at_limit : StopReason
        Why it ends there.
    goal : SliceMask, optional
        The object on the slice at the limit, where it is known there: then doubts do not stop.
    look : ndarray, optional
        Descriptor of the object on the prompted slice.
    logits : ndarray of shape (1, h, w), float32, optional
        Low-resolution logits of the last step.
    echo : WindowMask, optional
        What the model answers on the prompted slice itself to the prompts of the next ones: a
        drawn mask or a clicked one may be of another style, which says nothing about the next.
    """

    seed: Seed
    anchor: SliceMask
    direction: int
    limit: int
    at_limit: StopReason
    goal: SliceMask | None = None
    look: npt.NDArray[np.float32] | None = None
    echo: WindowMask | None = None
    logits: npt.NDArray[np.float32] | None = None
    steps: list[SliceMask] = field(default_factory=list)
    stop: Stop | None = None

    @property
    def next_index(self) -> int:
        """The slice to visit now."""
        return self.seed.index + self.direction * (len(self.steps) + 1)

    @property
    def last(self) -> SliceMask:
        """The mask to go on from."""
        return self.steps[-1] if self.steps else self.anchor

    @property
    def before_last(self) -> SliceMask | None:
        """The mask before it; of the prompted slice its echo, of the same style."""
        if len(self.steps) > 1:
            return self.steps[-2]
        if not self.steps:
            return None
        if self.echo is not None and self.echo.mask.any():
            return replace(self.anchor, found=self.echo)
        return self.anchor

    def end_at_limit(self) -> None:
        """Stop where there is nothing more to visit."""
        if self.stop is None and (self.limit - self.next_index) * self.direction <= 0:
            self.stop = Stop(self.limit, self.at_limit)

    def done(self) -> Chain:
        """Return the way that was gone so far."""
        stop, steps = self.stop, tuple(self.steps)
        if stop is None:
            stop = Stop(self.seed.index + self.direction * (len(steps) + 1), StopReason.INTERRUPTED)
        return Chain(self.seed, self.anchor, self.direction, steps, stop)


def answer_seed(model: Model, embedding: ImageEmbedding, seed: Seed) -> tuple[SliceMask, int]:
    """Return the object on a prompted slice, and how many masks the model was asked for.

    A lone click, to which there are three answers and nobody there to choose, is answered by their
    mean: the most trusted of the three is more often a part of the object, or more than it. The box
    of the mean asks again, because boxes are what the next slices are asked with, and its answer
    counts where the two agree.
    """
    if seed.mask is not None:
        if seed.mask.shape != embedding.original_size_hw:
            raise ValueError(
                f"mask of object {seed.object_id} on slice {seed.index} must have shape "
                f"{embedding.original_size_hw}, got {seed.mask.shape}"
            )
        return SliceMask(seed.index, window_of(seed.mask), is_prompted=True), 0
    assert seed.prompts is not None
    answer = predict_masks(model, embedding, seed.prompts)
    trust = float(answer.iou_predictions.max())
    if not seed.prompts.is_ambiguous:
        return SliceMask(seed.index, window_of(answer.mask(0)), trust, is_prompted=True), 1
    found = _mean_mask(answer, seed.prompts)
    box = None
    if found.mask.any():
        box = box_inside(SliceMask(seed.index, found).box_xyxy, embedding.original_size_hw)
    if box is None:
        return SliceMask(seed.index, found, trust, is_prompted=True), 1
    prompts = Prompts(boxes_xyxy=box[None])
    again = predict_masks(model, embedding, prompts, multimask=False, fits_boxes=False)
    tighter = pieces_touching(window_of(again.mask(0)), found, min_share=ISLAND_SHARE)
    if window_iou(tighter, found) > _SAME_OBJECT:
        found, trust = tighter, float(again.iou_predictions[0, 0])
    return SliceMask(seed.index, found, trust, is_prompted=True), 2


def _mean_mask(answer: MaskPrediction, prompts: Prompts) -> WindowMask:
    """Return the piece under the click of the mean of three masks, or else the most trusted.

    Each counts by the square of its predicted IoU, and only by the side of its logits, hardly by
    their size: masks that are small and sure would outvote what the model trusts more.
    """
    trust = np.clip(answer.iou_predictions, _LEAST_TRUST, 1)[..., None, None] ** 2
    sides = np.tanh(answer.low_res_logits / 2)
    mean = replace(
        answer,
        low_res_logits=(trust * sides).sum(axis=1, keepdims=True) / trust.sum(),
        iou_predictions=answer.iou_predictions.max(axis=1, keepdims=True),
    )
    mask = mean.mask(0)
    if not mask.any():
        return window_of(answer.best().mask(0))
    assert prompts.points_xy is not None
    assert prompts.point_labels is not None
    x, y = prompts.points_xy[prompts.point_labels == POSITIVE][0].round().astype(int)
    click = (min(max(y, 0), mask.shape[0] - 1), min(max(x, 0), mask.shape[1] - 1))
    under = np.zeros_like(mask)
    under[click] = True
    return pieces_touching(window_of(mask), window_of(under), min_share=ISLAND_SHARE)


def take_step(
    model: Model,
    embedding: ImageEmbedding,
    walkers: Sequence[Walker],
    options: PropagationOptions,
    slice_distance: float,
    pixel_size: float,
) -> int:
    """Take all objects that wait for a slice onto it, or stop them.

    Parameters
    ----------
    model : Model
    embedding : ImageEmbedding
        Of the slice.
    walkers : sequence of Walker
        Changed in place: each has one more step, or a stop.
    options : PropagationOptions
    slice_distance, pixel_size : float
        Lengths of the voxel along the axis, and of a pixel of the slice.

    Returns
    -------
    int
        How many masks the model was asked for.
    """
    size_hw = embedding.original_size_hw
    asked, boxes, points = [], [], []
    for walker in walkers:
        box = _expected_box(walker, size_hw, options)
        if box is None:
            walker.stop = Stop(walker.next_index, StopReason.EMPTY)
            continue
        asked.append(walker)
        boxes.append(box)
        points.append(np.clip(deepest_point(walker.last.found), box[:2], box[2:]))
    if not asked:
        return 0
    logits = None
    if options.with_mask:
        logits = np.stack([_last_logits(walker, embedding) for walker in asked])
    answer = _ask(model, embedding, np.array(boxes), np.array(points), logits, options)
    compares = options.min_similarity > -1
    describer = MaskDescriber(embedding) if compares else None
    for place, walker in enumerate(asked):
        whole = answer.window_mask(place)
        found = pieces_touching(
            window_of(whole.mask, (whole.window[0].start, whole.window[1].start)),
            walker.last.found,
            min_share=ISLAND_SHARE,
        )
        step = SliceMask(
            walker.next_index,
            found,
            float(answer.iou_predictions[place, 0]),
            _overlap(walker, found),
            _similarity(describer, embedding, walker, found),
        )
        if options.with_mask:
            walker.logits = answer.low_res_logits[place]
        _go_or_stop(walker, step, options, slice_distance / pixel_size)
    return len(asked) * (2 if options.second_opinion else 1)


def _ask(
    model: Model,
    embedding: ImageEmbedding,
    boxes_xyxy: npt.NDArray[np.float64],
    points_xy: npt.NDArray[np.float64],
    logits: npt.NDArray[np.float32] | None,
    options: PropagationOptions,
) -> MaskPrediction:
    """Return one mask of each object: the answer to the box, or the mean of two opinions."""
    size = options.chunk_size
    prompts = Prompts(boxes_xyxy=boxes_xyxy, mask_logits=logits)
    first = predict_masks(
        model, embedding, prompts, multimask=False, fits_boxes=False, chunk_size=size
    )
    if not options.second_opinion:
        return first
    prompts = Prompts(points_xy=points_xy[:, None], boxes_xyxy=boxes_xyxy)
    second = predict_masks(model, embedding, prompts, multimask=True, chunk_size=size)
    mean = second.low_res_logits.mean(axis=1, keepdims=True)
    return replace(first, low_res_logits=(first.low_res_logits + mean) / 2)


def _last_logits(walker: Walker, embedding: ImageEmbedding) -> npt.NDArray[np.float32]:
    """Return the last mask as logits (1, h, w): the model's own where it has just answered."""
    if walker.logits is not None and walker.logits.shape[1:] == embedding.low_res_hw:
        return walker.logits
    return _logits_of(walker.last.found, embedding)


def _logits_of(found: WindowMask, embedding: ImageEmbedding) -> npt.NDArray[np.float32]:
    """Return a mask as low-resolution logits (1, h, w), as if the model had answered it."""
    return logits_of_mask(SliceMask(0, found).drawn(embedding.original_size_hw), embedding)[None]


def echo_of(
    model: Model, embedding: ImageEmbedding, anchor: SliceMask, options: PropagationOptions
) -> tuple[WindowMask, int]:
    """Return what the model answers about a mask on its own slice, and how often it was asked."""
    box = box_inside(anchor.box_xyxy, embedding.original_size_hw)
    if box is None:
        return anchor.found, 0
    point = np.clip(deepest_point(anchor.found), box[:2], box[2:])
    logits = _logits_of(anchor.found, embedding)[None] if options.with_mask else None
    answer = _ask(model, embedding, box[None], point[None], logits, options)
    found = pieces_touching(window_of(answer.mask(0)), anchor.found, min_share=ISLAND_SHARE)
    return found, 2 if options.second_opinion else 1


def describe(embedding: ImageEmbedding, found: WindowMask) -> npt.NDArray[np.float32]:
    """Return the descriptor of a mask that is not empty."""
    return _describe(MaskDescriber(embedding), embedding, found)


def _describe(
    describer: MaskDescriber, embedding: ImageEmbedding, found: WindowMask
) -> npt.NDArray[np.float32]:
    """Return the descriptor of a mask that is not empty."""
    drawn = SliceMask(0, found).drawn(embedding.original_size_hw)
    described: npt.NDArray[np.float32] = describer.describe([cover_of_mask(drawn, embedding)])[0]
    return described


def _similarity(
    describer: MaskDescriber | None, embedding: ImageEmbedding, walker: Walker, found: WindowMask
) -> float:
    """Return how much a mask looks like the object on the prompted slice, 1 where nobody asks."""
    if describer is None or walker.look is None or not found.mask.any():
        return 1.0
    return float(_describe(describer, embedding, found) @ walker.look)


def _expected_box(
    walker: Walker, size_hw: SizeHW, options: PropagationOptions
) -> npt.NDArray[np.float64] | None:
    """Return the box to ask with; on the way to another prompted slice it nears the box there."""
    before = walker.before_last
    box = moved_box(
        walker.last.box_xyxy,
        None if before is None else before.box_xyxy,
        shift=options.shift,
        growth=options.growth,
        limit=options.max_motion,
    )
    if walker.goal is not None:
        done = (walker.next_index - walker.seed.index) / (walker.limit - walker.seed.index)
        rounded = box_between(walker.anchor.box_xyxy, walker.goal.box_xyxy, done)
        box = (1 - done) * box + done * rounded
    outwards = np.array([-1.0, -1.0, 1.0, 1.0])
    sides = np.maximum(box[2:] - box[:2], 0)
    return box_inside(box + options.margin * np.tile(sides, 2) * outwards, size_hw)


def _overlap(walker: Walker, found: WindowMask) -> float:
    """Return the IoU with the slice before, or with the echo of the prompted one, if higher."""
    overlap = window_iou(found, walker.last.found)
    if walker.steps or walker.echo is None:
        return overlap
    return max(overlap, window_iou(found, walker.echo))


def least_overlap(area: int, steps_per_pixel: float, options: PropagationOptions) -> float:
    """Return the IoU with the slice before that an object of so many pixels must have.

    Parameters
    ----------
    area : int
        Pixels on the slice before.
    steps_per_pixel : float
        Slice distance over pixel size: more than 1 for thick slices, from one to the next of which
        an outline moves more.
    options : PropagationOptions

    Examples
    --------
    >>> options = PropagationOptions(min_overlap=0.6)
    >>> least_overlap(300, 1.0, options), round(least_overlap(300, 3.0, options), 2)
    (0.6, 0.36)
    """
    if not options.allow_steps or area == 0 or steps_per_pixel <= 1:
        return options.min_overlap
    usual = leaning_overlap(area, 1.0)
    share = leaning_overlap(area, steps_per_pixel) / usual if usual > 0 else 0.0
    return options.min_overlap * max(share, 0.5)


def _go_or_stop(
    walker: Walker, step: SliceMask, options: PropagationOptions, steps_per_pixel: float
) -> None:
    """Take the step, or stop before it for the first reason that holds."""
    before = walker.last.area
    area = step.area
    if area == 0:
        walker.stop = Stop(step.index, StopReason.EMPTY)
        return
    ratio = max(area / before, before / area)
    if not walker.steps and walker.echo is not None and walker.echo.mask.any():
        echoed = int(np.count_nonzero(walker.echo.mask))
        ratio = min(ratio, max(area / echoed, echoed / area))
    doubts = (
        (StopReason.OVERLAP, step.overlap, least_overlap(before, steps_per_pixel, options)),
        (StopReason.PREDICTED_IOU, step.predicted_iou, options.min_predicted_iou),
        (StopReason.AREA, -ratio, -options.max_area_ratio),
        (StopReason.AREA, -area / walker.anchor.area, -options.max_growth),
        (StopReason.APPEARANCE, step.similarity, options.min_similarity),
    )
    if walker.goal is None:
        for reason, value, least in doubts:
            if value < least:
                shown = -value if reason is StopReason.AREA else value
                walker.stop = Stop(step.index, reason, shown)
                return
    walker.steps.append(step)
    last = walker.steps[-options.patience :]
    doubtful = [one.confidence for one in last if one.confidence < options.min_confidence]
    if walker.goal is None and len(doubtful) == options.patience:
        del walker.steps[len(walker.steps) - options.patience + 1 :]
        mean = sum(doubtful) / len(doubtful)
        walker.stop = Stop(walker.next_index, StopReason.CONFIDENCE, mean)
        return
    walker.end_at_limit()
