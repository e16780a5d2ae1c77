"""Every object of a picture in memory: as a whole, or in windows where that shows more of it.

What the model sees of a picture longer than its input is reduced, and small objects are lost. In
windows they are seen as they are, or enlarged to the size that the model knows. Where objects are
large, windows divide them, and the whole picture is better: what the instance maps see of it
decides.

Measured with version 7 of the shipped model on train pictures of more than 1,024 pixels with small
objects, mSA as a whole and in windows: bubbles in a column (1200 x 460) 0.29, 0.07 and 0.15 to
0.45, 0.32 and 0.44; islets in tissue (1600 x 1199) 0.74 to 0.79; neurons (1200 x 600) 0.50 to 0.52.
Pictures that the model does not see reduced are another matter: enlarged further, some came out
better by 0.1 and others worse by as much, and nothing told which.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.automatic import (
    check_options,
    report,
    require_instance_decoder,
    require_label_image,
    segment_embedding,
    segment_watched,
)
from sam_plugins.model.inference.candidates import Progress
from sam_plugins.model.inference.checks import require_type
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.preprocess import check_rgb
from sam_plugins.model.inference.reduction import is_reduced, needs_tiles
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
from sam_plugins.model.large.join import JoinOptions
from sam_plugins.model.large.plan import Tile, TilePlan, within
from sam_plugins.model.large.sizing import HALO_SHARE, glanced_windows, model_glance
from sam_plugins.model.large.tiles import TileResult

Encode = Callable[[npt.NDArray[np.uint8]], ImageEmbedding]
"""From what the model sees of a picture or a window, (h, w, 3) uint8, to its embedding."""

USUAL_SIDE = 20.0
"""Side in cells, the root of the area, to which windows enlarge usual objects."""

LEAST_ENLARGEMENT = 1.3
"""What windows would enlarge by less is looked at as a whole: objects larger than 16 cells came out
worse in windows."""

_SOME, _ENOUGH = 10, 100  # objects: a few say nothing of a picture
_SPECK = 4.0  # side in cells
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
    closer: bool = True,
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
    closer : bool
        Whether a picture that the model would see reduced is looked at in windows that show its
        objects larger, with mode "auto": more objects and finer outlines for more time. One of
        large objects is looked at as a whole in any case.
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
    require_type("closer", closer, bool, "it says whether pictures may be looked at in windows")
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
        closer=closer,
        progress=progress,
        stacklevel=3,
    )


def segment_rgb(
    model: Model,
    rgb: npt.NDArray[np.uint8],
    *,
    mode: Mode | str = "auto",
    options: SegmentOptions | None = None,
    closer: bool = True,
    encode: Encode | None = None,
    progress: Progress | None = None,
    stacklevel: int = 2,
) -> Segmentation:
    """Segment every object of what the model sees of a picture.

    What it returns, warns of and raises is as for :func:`segment`.

    Parameters
    ----------
    model, mode, options, closer, progress
        As for :func:`segment`.
    rgb : ndarray of shape (H, W, 3), uint8
        From :func:`~sam_plugins.to_rgb`; no contrast is set.
    encode : callable, optional
        Returns the embedding of the picture or of a window, from a cache say.
    stacklevel : int
        Of warnings, as in :func:`warnings.warn`.
    """
    check_mode(mode)
    check_options(options)
    check_rgb(rgb)
    chosen = options or usual_options(model, mode)
    encoded = _once(rgb, encode or partial(encode_rgb, model))
    report(progress, 0, 1)
    if mode == "auto":
        require_instance_decoder(model)
    if mode == "auto" and closer:
        plan = closer_plan(model, rgb, chosen, encoded)
        if plan is not None:
            return _segment_windows(model, rgb, plan, chosen, encoded, progress)
    return segment_watched(
        model,
        encoded(rgb),
        mode=mode,
        options=chosen,
        progress=progress,
        stacklevel=stacklevel + 1,
    )


def _once(rgb: npt.NDArray[np.uint8], encode: Encode) -> Encode:
    """Return what encodes a whole picture once, and its windows as often as it is asked."""
    whole: list[ImageEmbedding] = []

    def encoded(pixels: npt.NDArray[np.uint8]) -> ImageEmbedding:
        if pixels is not rgb:
            return encode(pixels)
        if not whole:
            whole.append(encode(rgb))
        return whole[0]

    return encoded


def closer_plan(
    model: Model,
    rgb: npt.NDArray[np.uint8],
    options: SegmentOptions | None = None,
    encode: Encode | None = None,
) -> TilePlan | None:
    """Return the windows in which a reduced picture of small objects is better looked at.

    What its instance maps see of the whole picture tells how large these are. Where that is next to
    nothing, or specks, they are looked for in a window or a few that are not reduced.

    Parameters
    ----------
    model : Model
        With an instance decoder.
    rgb : ndarray of shape (H, W, 3), uint8
        The whole picture.
    options : SegmentOptions, optional
        Of which the seeds count.
    encode : callable, optional
        Returns the embedding of the picture or of a window, from a cache say.

    Returns
    -------
    TilePlan or None
        None where the model does not see the picture reduced, where its objects are as large as the
        model knows them, or where there are few.
    """
    seen, size_hw = model.preprocessing, (int(rgb.shape[0]), int(rgb.shape[1]))
    if not is_reduced(size_hw, seen):
        return None
    look = model_glance(model, "auto", options or usual_options(model, "auto"), encode)
    longest = max(size_hw)
    whole_scale = seen.max_long_side / longest
    areas = _areas(look(rgb)) / whole_scale**2
    if len(areas) < _SOME or math.sqrt(np.median(areas)) < _SPECK / whole_scale:
        areas = np.zeros(0)
        for window in glanced_windows(size_hw, seen.max_long_side):
            areas = np.append(areas, _areas(look(np.ascontiguousarray(rgb[window]))))
            if len(areas) >= _ENOUGH:
                break
    if len(areas) < _SOME:
        return None
    wanted = min(USUAL_SIDE / _usual_side(areas), seen.max_enlargement)
    least = seen.max_long_side // (2 if needs_tiles(size_hw, seen) else 4)
    tile = max(math.ceil(seen.min_long_side / wanted), least)
    if wanted < LEAST_ENLARGEMENT * whole_scale or tile >= longest:
        return None
    return TilePlan(size_hw, tile, tile // HALO_SHARE)


def _areas(regions: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return the areas in cells of what the instance maps see."""
    areas = np.bincount(regions.ravel())[1:]
    return areas[areas > 0].astype(np.float64)


def _usual_side(areas: npt.NDArray[np.float64]) -> float:
    """Return the side of the objects that hold half of the area: specks hold next to nothing.

    Examples
    --------
    >>> _usual_side(np.array([1.0, 1.0, 1.0, 1.0, 16.0]))
    4.0
    """
    rising = np.sort(areas)
    middle = np.searchsorted(rising.cumsum(), rising.sum() / 2)
    return math.sqrt(rising[middle])


def _segment_windows(
    model: Model,
    rgb: npt.NDArray[np.uint8],
    plan: TilePlan,
    options: SegmentOptions,
    encode: Encode,
    progress: Progress | None,
) -> Segmentation:
    """Segment the windows of a plan one after the other, and join their objects."""
    require_label_image(*plan.size_hw)
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
    numbering = join_tiles(plan, results.__getitem__, _join_options(options))
    labels = np.zeros(plan.size_hw, np.int32)
    for tile in plan:
        labels[tile.core] = paint_joined(plan, results.__getitem__, tile.index, numbering)
    steps = _STEPS_OF_A_WINDOW * len(plan)
    report(progress, steps, steps)
    return _best_first(Segmentation(labels, numbering.joined.scores, numbering.points_xy))


def _join_options(options: SegmentOptions) -> JoinOptions:
    """Return how objects of windows are told to be one, as masks within a picture are."""
    return JoinOptions(options.max_iou, options.max_containment)


def _tell(progress: Progress | None, index: int, windows: int, done: int, total: int) -> None:
    """Tell how far the work on one of some windows is."""
    share = index + (done / total if total else 1.0)
    report(progress, round(_STEPS_OF_A_WINDOW * share), _STEPS_OF_A_WINDOW * windows)


def _placed(found: Segmentation, tile: Tile) -> TileResult:
    """Return the objects of a window with points in pixels of the picture."""
    rows, columns = tile.window
    corner = np.array([columns.start, rows.start], np.float32)
    return TileResult(found.labels.astype(np.uint32), found.scores, found.points_xy + corner)


def _best_first(found: Segmentation) -> Segmentation:
    """Renumber the objects that are visible, the best one first."""
    visible = np.flatnonzero(np.bincount(found.labels.ravel(), minlength=len(found) + 1)[1:])
    order = visible[np.argsort(-found.scores[visible], kind="stable")]
    numbers = np.zeros(len(found) + 1, np.int32)
    numbers[order + 1] = np.arange(1, len(order) + 1)
    return replace(
        found,
        labels=numbers[found.labels],
        scores=found.scores[order],
        points_xy=found.points_xy[order],
    )
