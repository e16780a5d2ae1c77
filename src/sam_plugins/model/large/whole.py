"""Every object of a picture in memory: as a whole, or in windows where that shows more of it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.automatic import (
    check_options,
    object_regions,
    report,
    require_instance_decoder,
    require_label_image,
    segment_embedding,
)
from sam_plugins.model.inference.candidates import Progress
from sam_plugins.model.inference.checks import require_type
from sam_plugins.model.inference.coordinates import CELL, SizeHW
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.memory import memory_limits
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.preprocess import check_rgb
from sam_plugins.model.inference.reduction import (
    is_reduced,
    is_reduced_strip,
    needs_tiles,
    shows_small_objects,
    warn_reduced,
)
from sam_plugins.model.inference.rgb import Channels, Limits, to_rgb
from sam_plugins.model.inference.segment_options import (
    Mode,
    SegmentOptions,
    check_mode,
    usual_options,
)
from sam_plugins.model.inference.types import ImageEmbedding, Segmentation
from sam_plugins.model.io.arrays import SliceableArray
from sam_plugins.model.large.assemble import join_tiles, paint_joined
from sam_plugins.model.large.closer import closer_plan, is_narrow, may_look_closer
from sam_plugins.model.large.farther import look_from_farther, shows_large_objects
from sam_plugins.model.large.join import JoinOptions
from sam_plugins.model.large.plan import Tile, TilePlan, within
from sam_plugins.model.large.sizing import Encode
from sam_plugins.model.large.tiles import TileResult

_LARGE_CELLS = 144
"""Cells of the whole picture from which on an object is large: 12 a side."""

_SURE_OF_LARGE = 0.8
_SHARE_SEEN = 0.5
"""Of an object of the whole picture, weighed by both scores, that objects of windows cover."""

_STEPS_OF_A_WINDOW = 100


def segment(
    image: npt.ArrayLike | SliceableArray,
    model: Model | str | os.PathLike[str] = "default",
    *,
    mode: Mode | str = "auto",
    channels: Channels | None = None,
    limits: Limits | Sequence[Limits] | None = None,
    channel_axis: int | None = None,
    options: SegmentOptions | None = None,
    looks_closer: bool = True,
    looks_farther: bool = True,
    progress: Progress | None = None,
) -> Segmentation:
    """Segment every object of a picture.

    Parameters
    ----------
    image : array_like of shape (H, W), (H, W, C) or (C, H, W)
        Any numbers; see :func:`~sam_plugins.to_rgb`. Files are read with
        :func:`~sam_plugins.read_image`.
    model : Model, str or path
        A loaded model, or what :func:`~sam_plugins.load_model` takes; load it once when there are
        several pictures.
    mode : {"auto", "grid"}
        Where points come from: the model's own instance decoder, or a regular grid, which is slower
        and asks nothing of the model.
    channels : int, sequence or array of int, or mapping of colour name to int, optional
        Which channels to show, such as ``{"red": 0, "cyan": 3}``; needed for more than four.
    limits : (float, float) or sequence of (float, float), optional
        Values shown as black and as white; by default robust percentiles of the whole picture.
    channel_axis : int, optional
        Axis of the channels; guessed by default.
    options : SegmentOptions, optional
        :func:`usual_options` by default: :data:`AUTO`; :data:`GRID`, or for models with an instance
        decoder :data:`OWN_GRID`.
    looks_closer : bool
        Whether a picture that the model would see reduced is looked at in windows that show its
        objects larger, with mode "auto": more objects and finer outlines in two to ten times the
        time; minutes for tens of millions of pixels. One of large objects is looked at as a whole
        in any case.
    looks_farther : bool
        Whether a picture of large objects is looked at once more from farther, with mode "auto",
        and what is found then stands where the model is as sure of it: see
        :mod:`~sam_plugins.model.large.farther`. It takes up to twice as long there.
    progress : callable, optional
        Called often, with the steps done and the steps in all. An exception that it raises stops
        the work.

    Returns
    -------
    Segmentation
        The best object has label 1.

    Warns
    -----
    ReducedImageWarning
        If the picture is much longer than the model's input, or reduced so that its objects become
        too small, and is looked at as a whole: :func:`~sam_plugins.segment_large` segments it at
        its own resolution in either mode.

    Raises
    ------
    UnusableImageError
        If the array is no picture.
    UnsuitableModelError
        If the model has no instance decoder and ``mode`` is "auto".
    UnknownModelError, WeightsError
        If the model cannot be had.
    MemoryLimitError
        If memory runs out.
    ValueError
        If ``mode`` is unknown, or ``channels``, ``limits`` or ``channel_axis`` do not fit the
        picture.
    TypeError
        If ``image`` is the name of a file, ``channels`` holds no indices, or ``model`` or
        ``options`` are of another type.
    """
    check_mode(mode)
    check_options(options)
    require_type(
        "looks_closer", looks_closer, bool, "it says whether pictures may be looked at in windows"
    )
    require_type(
        "looks_farther", looks_farther, bool, "it says whether pictures may be looked at once more"
    )
    if not isinstance(model, Model | str | os.PathLike):
        raise TypeError(
            "model must be a loaded model, a name or a path, and come after the picture, "
            f"got {type(model).__name__}"
        )
    loaded = model if isinstance(model, Model) else load_model(model)
    if mode == "auto":
        require_instance_decoder(loaded)  # before the picture is looked at
    return segment_rgb(
        loaded,
        to_rgb(image, channels, limits, channel_axis=channel_axis),
        mode=mode,
        options=options,
        looks_closer=looks_closer,
        looks_farther=looks_farther,
        progress=progress,
        stacklevel=3,
    )


def segment_rgb(
    model: Model,
    rgb: npt.NDArray[np.uint8],
    *,
    mode: Mode | str = "auto",
    options: SegmentOptions | None = None,
    looks_closer: bool = True,
    looks_farther: bool = True,
    encode: Encode | None = None,
    progress: Progress | None = None,
    stacklevel: int | None = 2,
) -> Segmentation:
    """Segment every object of what the model sees of a picture.

    What it returns, warns of and raises is as for :func:`segment`.

    Parameters
    ----------
    model, mode, options, looks_closer, looks_farther, progress
        As for :func:`segment`.
    rgb : ndarray of shape (H, W, 3), uint8
        From :func:`~sam_plugins.to_rgb`; no contrast is set.
    encode : callable, optional
        Returns the embedding of the picture or of a window, from a cache say.
    stacklevel : int, optional
        Of warnings, as in :func:`warnings.warn`; None where nobody could follow them.
    """
    check_mode(mode)
    check_options(options)
    check_rgb(rgb)
    chosen = options or usual_options(model, mode)
    encoded = encoding_once(rgb, encode or partial(encode_rgb, model))
    report(progress, 0, 1)
    if mode == "auto":
        require_instance_decoder(model)
    if mode == "auto" and looks_closer:
        plan = closer_plan(model, rgb, chosen, partial(_watched, encoded, progress))
        if plan is not None:
            if is_narrow((rgb.shape[0], rgb.shape[1]), model.preprocessing):
                return segment_windows(model, rgb, plan, chosen, encoded, progress)
            watch = partial(_watched_work, progress)
            whole = segment_embedding(model, encoded(rgb), options=chosen, progress=watch)
            found = segment_windows(model, rgb, plan, chosen, encoded, progress)
            return with_large_objects(found, whole, encoded(rgb).input_size_hw)
    embedding = encoded(rgb)
    may_be_large = (
        mode == "auto" and looks_farther and shows_large_objects(model, embedding, chosen)
    )
    tell = partial(_tell, progress, 0, 2) if may_be_large else progress
    found = (
        segment_embedding(model, embedding, mode=mode, options=chosen, progress=tell)
        if stacklevel is None
        else _segment_whole(
            model, embedding, mode=mode, options=chosen, progress=tell, stacklevel=stacklevel + 1
        )
    )
    if may_be_large:
        tell = partial(_tell, progress, 1, 2)
        _, found = look_from_farther(model, rgb, embedding, found, chosen, progress=tell)
        tell(1, 1)
    return found


def may_look_again(model: Model, embedding: ImageEmbedding) -> bool:
    """Return whether more of a picture may be looked at than its embedding, to find its objects.

    Parameters
    ----------
    model : Model
    embedding : ImageEmbedding
        Of the whole picture.
    """
    return may_look_closer(model, embedding.original_size_hw) or shows_large_objects(
        model, embedding
    )


def encoding_once(
    rgb: npt.NDArray[np.uint8], encode: Encode, embedding: ImageEmbedding | None = None
) -> Encode:
    """Return what encodes a whole picture once, and its windows as often as it is asked.

    Parameters
    ----------
    rgb : ndarray of shape (H, W, 3), uint8
        The whole picture, which is told by being this array and not by its content.
    encode : callable
        Returns the embedding of the picture or of a window.
    embedding : ImageEmbedding, optional
        Of the whole picture, where that is encoded already.
    """
    whole = [] if embedding is None else [embedding]

    def encoded(pixels: npt.NDArray[np.uint8]) -> ImageEmbedding:
        if pixels is not rgb:
            return encode(pixels)
        if not whole:
            whole.append(encode(rgb))
        return whole[0]

    return encoded


def _watched(
    encode: Encode, progress: Progress | None, pixels: npt.NDArray[np.uint8]
) -> ImageEmbedding:
    """Encode unless that is to stop."""
    report(progress, 0, 1)
    return encode(pixels)


def _watched_work(progress: Progress | None, _done: int, _total: int) -> None:
    """Tell of work that counts for nothing, which may be to stop."""
    report(progress, 0, 1)


def with_large_objects(
    found: Segmentation, whole: Segmentation, input_size_hw: SizeHW
) -> Segmentation:
    """Add large objects that the whole picture shows, and windows only crumbs of.

    Parameters
    ----------
    found : Segmentation
        The objects of all windows, joined.
    whole : Segmentation
        The objects of the whole picture, in the same pixels.
    input_size_hw : (int, int)
        At which the model saw it.

    Returns
    -------
    Segmentation
        Crumbs that lie within an object that is added are left out.
    """
    pixels_of_cell = CELL**2 * math.prod(found.labels.shape) / math.prod(input_size_hw)
    sizes = np.bincount(whole.labels.ravel(), minlength=len(whole) + 1)[1:]
    is_large = sizes >= _LARGE_CELLS * pixels_of_cell
    sure = np.append(np.float32(0), found.scores)
    labels = found.labels.copy()
    added: list[int] = []
    areas = np.bincount(labels.ravel(), minlength=len(found) + 1)
    for index in np.flatnonzero(is_large & (whole.scores >= _SURE_OF_LARGE)):
        inside = whole.labels == index + 1
        under = found.labels[inside]
        if sure[under].sum() >= _SHARE_SEEN * whole.scores[index] * sizes[index]:
            continue
        within = np.bincount(under, minlength=len(areas))
        crumbs = np.flatnonzero(2 * within > areas)
        labels[np.isin(labels, crumbs[crumbs > 0])] = 0
        labels[inside & (labels == 0)] = len(found) + len(added) + 1
        added.append(int(index))
    if not added:
        return found
    scores = np.concatenate([found.scores, whole.scores[added]])
    points_xy = np.concatenate([found.points_xy, whole.points_xy[added]])
    areas = np.bincount(labels.ravel(), minlength=len(scores) + 1)
    visible = np.flatnonzero(areas[1:])
    order = visible[np.argsort(-scores[visible], kind="stable")]
    numbers = np.zeros(len(areas), np.int32)
    numbers[order + 1] = np.arange(1, len(order) + 1)
    return Segmentation(numbers[labels], scores[order], points_xy[order])


def _segment_whole(
    model: Model,
    embedding: ImageEmbedding,
    *,
    mode: Mode | str,
    options: SegmentOptions,
    progress: Progress | None,
    stacklevel: int,
) -> Segmentation:
    """Segment a picture as a whole; warn where the model sees objects too small.

    Models with an instance decoder tell before the slow part, and of objects that are not found.
    """
    size_hw, seen = embedding.original_size_hw, model.preprocessing
    is_lossy = needs_tiles(size_hw, seen) or is_reduced_strip(size_hw, seen)
    tells_later = not is_lossy and is_reduced(size_hw, seen)
    if tells_later and model.has_instance_decoder:
        tells_later = False
        is_lossy = shows_small_objects(object_regions(model, embedding), CELL**2)
    if is_lossy:
        warn_reduced(size_hw, seen, stacklevel=stacklevel)
    found = segment_embedding(model, embedding, mode=mode, options=options, progress=progress)
    pixel_area = math.prod(embedding.input_size_hw) / math.prod(size_hw)
    if tells_later and shows_small_objects(found.labels, pixel_area):
        warn_reduced(size_hw, seen, stacklevel=stacklevel)
    return found


def segment_windows(
    model: Model,
    rgb: npt.NDArray[np.uint8],
    plan: TilePlan,
    options: SegmentOptions,
    encode: Encode,
    progress: Progress | None = None,
) -> Segmentation:
    """Segment the windows of a plan one after the other, and join their objects.

    Parameters
    ----------
    model : Model
        With an instance decoder.
    rgb : ndarray of shape (H, W, 3), uint8
        What the model sees of the whole picture.
    plan : TilePlan
    options : SegmentOptions
    encode : callable
        Returns the embedding of a window.
    progress : callable, optional
        As for :func:`segment`.

    Raises
    ------
    ImageError
        If a label image cannot hold the picture.
    MemoryLimitError
        If memory runs out.
    """
    require_label_image(*plan.size_hw)
    height, width = plan.size_hw
    with memory_limits(
        f"segmenting a picture of {height} x {width} pixels in windows",
        lambda: "write its labels to a file instead, with segment_large",
    ):
        results: list[TileResult] = []
        for tile in plan:
            tell = partial(_tell, progress, tile.index, len(plan))
            tell(0, 1)
            found = segment_embedding(
                model,
                encode(np.ascontiguousarray(rgb[tile.window])),
                options=options,
                within=within(plan.near(tile), tile.window),
                progress=tell,
            )
            results.append(_placed(found, tile))
        joined = _joined(plan, results, options)
    steps = _STEPS_OF_A_WINDOW * len(plan)
    report(progress, steps, steps)
    return joined


def _joined(plan: TilePlan, results: list[TileResult], options: SegmentOptions) -> Segmentation:
    """Join the objects of all windows, and number those that are visible, the best one first."""
    join = JoinOptions(options.max_iou, options.max_containment)
    numbering = join_tiles(plan, results.__getitem__, join)
    labels = np.zeros(plan.size_hw, np.int32)
    areas = np.zeros(len(numbering.joined.scores) + 1, np.int64)
    for tile in plan:
        core = paint_joined(plan, results.__getitem__, tile.index, numbering, options.overlap)
        labels[tile.core] = core
        areas += np.bincount(core.ravel(), minlength=len(areas))
    scores = numbering.joined.scores
    visible = np.flatnonzero(areas[1:])
    order = visible[np.argsort(-scores[visible], kind="stable")]
    numbers = np.zeros(len(areas), np.int32)
    numbers[order + 1] = np.arange(1, len(order) + 1)
    for tile in plan:
        labels[tile.core] = numbers[labels[tile.core]]
    return Segmentation(labels, scores[order], numbering.points_xy[order])


def _tell(progress: Progress | None, index: int, windows: int, done: int, total: int) -> None:
    """Tell how far the work on one of some windows is."""
    share = index + (done / total if total else 1.0)
    report(progress, round(_STEPS_OF_A_WINDOW * share), _STEPS_OF_A_WINDOW * windows)


def _placed(found: Segmentation, tile: Tile) -> TileResult:
    """Return the objects of a window with points in pixels of the picture."""
    rows, columns = tile.window
    corner = np.array([columns.start, rows.start], np.float32)
    smallest = np.promote_types(np.uint16, np.min_scalar_type(len(found)))
    return TileResult(found.labels.astype(smallest), found.scores, found.points_xy + corner)
