"""Every object of a picture without a user: points found or laid out, asked with, put together."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from sam_plugins.errors import UnsuitableModelError
from sam_plugins.model.inference.candidates import (
    Candidates,
    Progress,
    chain_of,
    decode_candidates,
)
from sam_plugins.model.inference.checks import require_type
from sam_plugins.model.inference.coordinates import CELL, boxes_to_original, points_to_original
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.grid import grid_points
from sam_plugins.model.inference.label_image import paint_labels
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.memory import memory_limits, require_memory
from sam_plugins.model.inference.predict import check_model
from sam_plugins.model.inference.seeds import (
    InstanceProbabilities,
    SeedOptions,
    find_seeds,
    seed_regions,
)
from sam_plugins.model.inference.segment_options import (
    Mode,
    SegmentOptions,
    check_mode,
    usual_options,
)
from sam_plugins.model.inference.suppression import suppress
from sam_plugins.model.inference.types import ImageEmbedding, Segmentation
from sam_plugins.model.io.windows import Window


def segment_embedding(
    model: Model,
    embedding: ImageEmbedding,
    *,
    mode: Mode | str = "auto",
    options: SegmentOptions | None = None,
    within: Window | None = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Segment every object of a picture that is encoded already; see :func:`~sam_plugins.segment`.

    ``within`` is as for :func:`propose`.
    """
    check_mode(mode)
    check_options(options)
    check_model(model, embedding)
    chosen = options or usual_options(model, mode)
    height, width = embedding.original_size_hw
    require_label_image(height, width)
    with segmenting_memory(embedding, mode):
        proposals = propose(
            model, embedding, mode=mode, options=chosen, within=within, progress=progress
        )
        if not len(proposals.points_xy):
            report(progress, 1, 1)
        return put_together(proposals, embedding, chosen, progress=progress).segmentation


@dataclass(frozen=True, eq=False)
class Proposals:
    """Masks that might be objects, duplicates among them, before any is drawn.

    Attributes
    ----------
    points_xy : ndarray of shape (n, 2), float32
        The points that were asked with, in pixels of the picture.
    found : Candidates
        Their masks.
    """

    points_xy: npt.NDArray[np.float32]
    found: Candidates

    def choose(self, which: npt.NDArray[np.integer], scores: npt.NDArray[np.floating]) -> Proposals:
        """Return some of the masks, with other scores."""
        chosen = replace(self.found.choose(which), scores=scores.astype(np.float32))
        return replace(self, found=chosen)


class PutTogether(NamedTuple):
    """Objects of a label image, and the proposed masks that they were.

    Label ``i + 1`` came from mask ``sources[i]``.
    """

    segmentation: Segmentation
    sources: npt.NDArray[np.int64]


def propose(
    model: Model,
    embedding: ImageEmbedding,
    *,
    mode: Mode | str,
    options: SegmentOptions,
    within: Window | None = None,
    progress: Progress | None = None,
) -> Proposals:
    """Return the masks among which automatic segmentation chooses.

    Parameters
    ----------
    model, embedding, mode, progress
        As for :func:`~sam_plugins.segment`.
    options : SegmentOptions
        Says how points are found and which masks pass.
    within : (slice, slice), optional
        Rows and columns of the picture: what the instance maps see wholly outside is not asked for.
        A grid has no maps, and asks everywhere.

    Raises
    ------
    UnsuitableModelError
        If the model has no instance decoder and ``mode`` is "auto".
    ValueError
        If ``mode`` is unknown.
    """
    check_mode(mode)
    boxes_xyxy = regions = None
    if embedding.is_blank:  # networks see things in the dark
        if mode == "auto":
            require_instance_decoder(model)
        none = np.zeros((0, 2), np.float32)
        return Proposals(none, Candidates.none(embedding.valid_cells_hw))
    if mode == "auto":
        points_xy, regions = _points_of_maps(model, embedding, options.seeds)
        if within is not None:
            points_xy, regions = _those_within(within, points_xy, regions, embedding)
        if options.asks_with != "point":
            boxes_xyxy = _boxes_of_regions(regions, points_xy, embedding)
    else:
        points_xy = grid_points(embedding.original_size_hw, options.points_per_side)
    if not len(points_xy):
        return Proposals(points_xy, Candidates.none(embedding.valid_cells_hw))
    found = decode_candidates(
        model,
        embedding,
        points_xy,
        options.masks,
        boxes_xyxy=boxes_xyxy,
        with_points=options.asks_with != "box",
        regions=regions,
        chunk_size=options.chunk_size,
        skip_found=options.skip_found and mode == "grid",
        progress=progress,
    )
    return Proposals(points_xy, found)


def segmenting_memory(
    embedding: ImageEmbedding, mode: str
) -> contextlib.AbstractContextManager[None]:
    """Say, should memory run out within the block, that a picture was being segmented."""
    height, width = embedding.original_size_hw
    fewer = "" if mode == "auto" else ", or ask with fewer points (options.points_per_side)"
    return memory_limits(
        f"segmenting a picture of {height} x {width} pixels",
        lambda: f"crop the picture or reduce it{fewer}",
    )


def require_instance_decoder(model: Model) -> None:
    """Refuse a model that cannot say by itself where objects are.

    Raises
    ------
    UnsuitableModelError
        With the remedy.
    """
    if not model.has_instance_decoder:
        raise UnsuitableModelError(
            f'mode "auto" needs a model with an instance decoder, which {model.model_id} has not; '
            'use mode="grid" with it, or the model "default"'
        )


@torch.inference_mode()
def instance_maps(model: Model, embedding: ImageEmbedding) -> InstanceProbabilities:
    """Return what the instance decoder sees of a picture, without the padding.

    Raises
    ------
    UnsuitableModelError
        If the model has no instance decoder.
    ValueError
        If the embedding is another model's.
    TypeError
        If the model or the embedding is something else.
    """
    check_model(model, embedding)
    require_instance_decoder(model)
    features = embedding.to(model.device, model.dtype).image_features
    rows, columns = embedding.valid_cells_hw
    return InstanceProbabilities(
        *(
            logits[0, 0, :rows, :columns].float().sigmoid().cpu().numpy()
            for logits in model.network.instances(features)
        )
    )


def object_regions(
    model: Model, embedding: ImageEmbedding, options: SeedOptions | None = None
) -> npt.NDArray[np.int32]:
    """Return where the instance maps alone see objects: coarse, and without asking for any mask.

    Parameters
    ----------
    model : Model
    embedding : ImageEmbedding
    options : SeedOptions, optional

    Returns
    -------
    ndarray of shape (h, w), int32
        A label image in cells of the maps; 0 is background.

    Raises
    ------
    UnsuitableModelError, ValueError, TypeError
        As for :func:`instance_maps`.
    """
    if embedding.is_blank:
        return np.zeros(embedding.valid_cells_hw, np.int32)
    with segmenting_memory(embedding, "auto"):
        return _points_of_maps(model, embedding, options or SeedOptions())[1]


def check_options(options: SegmentOptions | None) -> None:
    """Refuse options that are none."""
    if options is not None:
        require_type(
            "options", options, SegmentOptions, "change a value of AUTO or GRID with replace()"
        )


def require_label_image(height: int, width: int) -> None:
    """Refuse a picture whose label image cannot fit."""
    each = np.dtype(np.int32).itemsize

    def remedy(free: int) -> str:
        side = math.isqrt(free // each)
        return f"one of {side} x {side} would fit: crop the picture or reduce it"

    require_memory(height * width * each, f"a label image of {height} x {width} pixels", remedy)


def _points_of_maps(
    model: Model, embedding: ImageEmbedding, options: SeedOptions
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Return where the instance maps see objects, in pixels of the picture, and their regions."""
    maps = instance_maps(model, embedding)
    seeds = find_seeds(maps, options)
    height, width = embedding.original_size_hw
    moved = points_to_original(seeds.points_xy, embedding.original_size_hw, embedding.input_size_hw)
    inside = np.clip(moved, 0, np.array([width - 1, height - 1], np.float32))
    return inside, seed_regions(maps, seeds, options)


def _those_within(
    window: Window,
    points_xy: npt.NDArray[np.float32],
    regions: npt.NDArray[np.int32],
    embedding: ImageEmbedding,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Return the points whose regions reach into a part of the picture, and these regions."""
    rows, columns = (
        slice(
            math.floor(part.start * length / original / CELL),
            math.ceil(part.stop * length / original / CELL),
        )
        for part, length, original in zip(
            window, embedding.input_size_hw, embedding.original_size_hw, strict=True
        )
    )
    kept = np.unique(regions[rows, columns])
    kept = kept[kept > 0]
    numbers = np.zeros(len(points_xy) + 1, np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return points_xy[kept - 1], numbers[regions]


def _boxes_of_regions(
    regions: npt.NDArray[np.int32], points_xy: npt.NDArray[np.float32], embedding: ImageEmbedding
) -> npt.NDArray[np.float32]:
    """Return the box of each point's region in pixels of the picture, around the point too."""
    boxes: npt.NDArray[np.float64] = np.zeros((len(points_xy), 4))
    for index, window in enumerate(ndimage.find_objects(regions, max_label=len(points_xy))):
        if window is not None:
            rows, columns = window
            boxes[index] = columns.start, rows.start, columns.stop, rows.stop
    boxes = boxes * CELL - [0, 0, 1, 1]  # Centres of the outermost pixels.
    sizes = embedding.original_size_hw, embedding.input_size_hw
    boxes_xyxy = boxes_to_original(boxes, *sizes)
    boxes_xyxy[:, :2] = np.minimum(boxes_xyxy[:, :2], points_xy - 0.5)
    boxes_xyxy[:, 2:] = np.maximum(boxes_xyxy[:, 2:], points_xy + 0.5)
    height, width = embedding.original_size_hw
    return np.clip(boxes_xyxy, -0.5, np.array([width, height] * 2, np.float32) - 0.5)


def put_together(
    proposals: Proposals,
    embedding: ImageEmbedding,
    options: SegmentOptions,
    *,
    progress: Progress | None = None,
) -> PutTogether:
    """Drop duplicates and paint the rest into one label image, the best object first.

    Parameters
    ----------
    proposals : Proposals
        Of this picture.
    embedding : ImageEmbedding
    options : SegmentOptions
        Says what a duplicate is, who owns an overlap, and what a plausible object is.
    progress : callable, optional
        May stop the work.
    """
    found, points_xy = proposals.found, proposals.points_xy
    kept = suppress(
        found.packed,
        found.scores,
        max_iou=options.max_iou,
        max_containment=options.max_containment,
    )
    order = kept
    if options.overlap == "smaller":
        order = kept[np.argsort(found.packed.areas[kept], kind="stable")]
    sizes = chain_of(embedding)

    def draw_all() -> Iterator[WindowMask]:
        for index in order:
            report(progress, len(points_xy), len(points_xy))
            yield sizes.draw_cut(found.cuts[index])

    painted = paint_labels(draw_all(), embedding.original_size_hw, options.labels)
    sources = order[painted.sources]
    best_first = np.argsort(-found.scores[sources], kind="stable")
    numbers = np.zeros(len(sources) + 1, np.int32)
    numbers[best_first + 1] = np.arange(1, len(sources) + 1)
    for row in painted.labels:  # in place: a huge picture is not held twice
        row[:] = numbers[row]
    sources = sources[best_first]
    segmentation = Segmentation(
        labels=painted.labels,
        scores=np.clip(found.scores[sources], 0, 1),
        points_xy=points_xy[found.points[sources]],
    )
    return PutTogether(segmentation, sources)


def report(progress: Progress | None, done: int, total: int) -> None:
    """Tell how far the work is."""
    if progress is not None:
        progress(done, total)
