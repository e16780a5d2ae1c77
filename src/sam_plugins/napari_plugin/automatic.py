"""Automatic segmentation in two steps: masks, which are slow, and which of them count, at once.

Nothing here knows a window: it runs in the thread of a job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.coordinates import REGION_SIDE, WHOLE_SIDE
from sam_plugins.napari_plugin.images import Contrast
from sam_plugins.napari_plugin.params import (
    CHANNEL_AXIS_CONTROL,
    CHANNELS_CONTROL,
    CONTRAST_CONTROL,
)
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.session.values import Sight

if TYPE_CHECKING:
    from sam_plugins.model.inference.automatic import Proposals, SegmentOptions
    from sam_plugins.model.inference.cache import EmbeddingCache
    from sam_plugins.model.inference.coordinates import SizeHW
    from sam_plugins.model.inference.loading import Model
    from sam_plugins.model.inference.types import ImageEmbedding
    from sam_plugins.napari_plugin.jobs import JobProgress

HALO = 128
"""Pixels that neighbouring tiles share on each side: larger objects may be cut there."""

WHERE = ("this slice", "selected shapes", "all slices", "all slices, linked")


@dataclass(frozen=True)
class FindParams:
    """How masks are found; a change of these asks the model again.

    Parameters
    ----------
    where : str
        One of :data:`WHERE`.
    prompts : {"instance decoder", "grid"}
    points_per_side : int
        Of the grid.
    contrast : {"robust", "layer"}
        Where black and white come from for the model.
    channel_axis : int
        Axis of the channels in the image, -1 for what the layer says of itself.
    channels : str
        Which channels the model sees, see :func:`~sam_plugins.napari_plugin.params.parse_channels`.

    """

    where: str = field(
        default=WHERE[0],
        metadata={
            "label": "Segment",
            "choices": list(WHERE),
            "tooltip": "The slice that you see, what lies in the selected shapes of a Shapes "
            "layer, the stack slice by slice, or the stack with objects that go through the "
            "slices, for which the thresholds count when it begins",
        },
    )
    prompts: str = field(
        default="instance decoder",
        metadata={
            "label": "Prompts",
            "choices": ["instance decoder", "grid"],
            "tooltip": "The model's own idea of where objects are, or a regular grid of points: "
            "slower, and works with every model",
        },
    )
    points_per_side: int = field(
        default=32,
        metadata={
            "label": "Grid points",
            "min": 4,
            "max": 128,
            "tooltip": "Points of the grid along the longer side; more find smaller objects",
        },
    )
    contrast: Contrast = field(default="robust", metadata=CONTRAST_CONTROL)
    channel_axis: int = field(default=-1, metadata=CHANNEL_AXIS_CONTROL)
    channels: str = field(default="", metadata=CHANNELS_CONTROL)

    @property
    def lasting(self) -> FindParams:
        """What is worth keeping for other images and other days."""
        return replace(self, channel_axis=-1, channels="")


@dataclass(frozen=True)
class KeepParams:
    """Which masks count; a change of these asks nobody.

    Parameters
    ----------
    min_quality : float
        Least score, 0 to 1.
    min_area, max_area : int
        Pixels; 0 for any.
    max_overlap : float
        Masks with a larger IoU with a better one are duplicates.
    """

    min_quality: float = field(
        default=0.2,
        metadata={
            "label": "Least quality",
            "widget_type": "FloatSlider",
            "min": 0.0,
            "max": 1.0,
            "step": 0.01,
            "tooltip": "Objects about which the model is less sure are left out, at once",
        },
    )
    min_area: int = field(
        default=10,
        metadata={
            "label": "Least area",
            "min": 0,
            "max": 10_000_000,
            "tooltip": "Smaller objects are left out, in pixels",
        },
    )
    max_area: int = field(
        default=0,
        metadata={
            "label": "Largest area",
            "min": 0,
            "max": 1_000_000_000,
            "tooltip": "Larger objects are left out, in pixels; 0 leaves out none",
        },
    )
    max_overlap: float = field(
        default=0.5,
        metadata={
            "label": "Most overlap",
            "widget_type": "FloatSlider",
            "min": 0.05,
            "max": 1.0,
            "step": 0.05,
            "tooltip": "Of two masks that share more than this (IoU), the better one stays",
        },
    )


@dataclass(frozen=True)
class LinkParams:
    """How objects of neighbouring slices become objects of a stack.

    Parameters
    ----------
    min_iou : float
        Least overlap with the slice before.
    max_gap : int
        So many slices may miss an object.
    min_slices, min_voxels : int
        Smaller objects are left out.
    """

    min_iou: float = field(
        default=0.3,
        metadata={
            "label": "Least overlap",
            "widget_type": "FloatSlider",
            "min": 0.05,
            "max": 1.0,
            "step": 0.05,
            "tooltip": "Objects of neighbouring slices that overlap less (IoU) are not the same; "
            "thick slices are allowed for, by the scale of the layer",
        },
    )
    max_gap: int = field(
        default=1,
        metadata={
            "label": "Missing slices",
            "min": 0,
            "max": 10,
            "tooltip": "So many slices in a row may miss an object; they are filled in",
        },
    )
    min_slices: int = field(
        default=3,
        metadata={
            "label": "Least slices",
            "min": 1,
            "max": 100_000,
            "tooltip": "Objects on fewer slices are left out",
        },
    )
    min_voxels: int = field(
        default=60,
        metadata={
            "label": "Least voxels",
            "min": 1,
            "max": 1_000_000_000,
            "tooltip": "Smaller objects are left out",
        },
    )


@dataclass(frozen=True)
class _Sizes:
    """What drawing needs of an embedding, without the features."""

    original_size_hw: SizeHW
    input_size_hw: SizeHW
    padded_size_hw: SizeHW
    low_res_hw: SizeHW


@dataclass(frozen=True, eq=False)
class Found:
    """The masks of one tile of a plane, to choose from.

    Attributes
    ----------
    sight : Sight
        Where, and what the model saw.
    core : Window
        The part of the plane whose objects count; the rest belongs to the neighbours.
    """

    sight: Sight
    core: Window
    proposals: Proposals
    sizes: _Sizes
    options: SegmentOptions


def usual_quality(prompts: str) -> float:
    """Return the least quality that suits a kind of prompts."""
    from sam_plugins.model.inference.automatic import AUTO, GRID

    return (GRID if prompts == "grid" else AUTO).masks.min_predicted_iou


def tiles(region: Window) -> Iterator[tuple[Window, Window]]:
    """Yield what the model is shown of a region, and whose objects count.

    Examples
    --------
    >>> list(tiles(Window(0, 0, 500, 700)))
    [(Window(top=0, left=0, bottom=500, right=700), Window(top=0, left=0, bottom=500, right=700))]
    >>> len(list(tiles(Window(0, 0, 3000, 2000))))
    6
    """
    if max(region.shape) <= WHOLE_SIDE:
        yield region, region
        return
    rows = np.linspace(region.top, region.bottom, _count(region.shape[0]) + 1).astype(int)
    columns = np.linspace(region.left, region.right, _count(region.shape[1]) + 1).astype(int)
    for top, bottom in zip(rows[:-1].tolist(), rows[1:].tolist(), strict=True):
        for left, right in zip(columns[:-1].tolist(), columns[1:].tolist(), strict=True):
            core = Window(top, left, bottom, right)
            shown = Window(
                max(region.top, top - HALO),
                max(region.left, left - HALO),
                min(region.bottom, bottom + HALO),
                min(region.right, right + HALO),
            )
            yield shown, core


def _count(length: int) -> int:
    """Return how many tiles a length takes."""
    return max(1, -(-length // REGION_SIDE))


def find_all(
    load: Callable[[], Model],
    show: Callable[[Sight], npt.NDArray[np.uint8]],
    sights: Sequence[tuple[Sight, Window]],
    params: FindParams,
    *,
    cache: EmbeddingCache,
    progress: JobProgress,
) -> None:
    """Find the masks of all tiles, and hand over each tile's as a :class:`Found`.

    Parameters
    ----------
    load : callable
        Returns the model.
    show : callable
        Returns the picture of a sight.
    sights : sequence of (Sight, Window)
        Tiles, and the part of each whose objects count.
    params : FindParams
    cache : EmbeddingCache
    progress : JobProgress
    """
    from sam_plugins.model.inference.automatic import AUTO, GRID, propose, require_instance_decoder
    from sam_plugins.model.inference.cache import embedding_key
    from sam_plugins.model.inference.predict import encode_rgb

    progress(0, len(sights) * 100)
    model = load()
    mode = "grid" if params.prompts == "grid" else "auto"
    if mode == "auto":
        require_instance_decoder(model)
    options = replace(GRID if mode == "grid" else AUTO, points_per_side=params.points_per_side)
    for index, (sight, core) in enumerate(sights):
        progress(100 * index, 100 * len(sights))
        rgb = show(sight)
        embedding = cache.get_or_compute(
            embedding_key(rgb, model.preprocessing, model.model_id),
            lambda rgb=rgb: encode_rgb(model, rgb),  # type: ignore[misc]
            device=model.device,
        )

        def tell(done: int, total: int, index: int = index) -> None:
            share = done / total if total else 1.0
            progress(round(100 * (index + share)), 100 * len(sights))

        found = propose(model, embedding, mode=mode, options=options, progress=tell)
        sizes = _Sizes(
            embedding.original_size_hw,
            embedding.input_size_hw,
            embedding.padded_size_hw,
            embedding.low_res_hw,
        )
        progress.hand_over(Found(sight, core, found, sizes, options))
    progress(100 * len(sights), 100 * len(sights))


def paint(found: Found, params: KeepParams) -> npt.NDArray[np.int32]:
    """Return the objects of a tile that count, in pixels of the region that was shown.

    Returns
    -------
    ndarray of shape (H, W), int32
        1 is the best object.
    """
    from sam_plugins.model.inference.automatic import put_together

    candidates = found.proposals.found
    good = np.flatnonzero(candidates.scores >= params.min_quality)
    proposals = found.proposals.choose(good, candidates.scores[good])
    height, width = found.sight.region.shape
    # Where a large region is shown reduced, a pixel of the picture stands for several.
    shrinking = (found.sizes.original_size_hw[0] * found.sizes.original_size_hw[1]) / (
        height * width
    )
    least = max(1, round(params.min_area * shrinking))
    options = replace(
        found.options,
        max_iou=params.max_overlap,
        labels=replace(found.options.labels, min_area=least),
    )
    # Drawing asks an embedding for its sizes alone.
    sizes = cast("ImageEmbedding", found.sizes)
    result = put_together(proposals, sizes, options).segmentation
    labels = result.labels
    kept = _within(found, result.points_xy)
    if params.max_area:
        areas = np.bincount(labels.ravel(), minlength=len(result) + 1)[1:]
        kept &= areas <= params.max_area * shrinking
    numbers = np.zeros(len(result) + 1, np.int32)
    numbers[1:][kept] = np.arange(1, np.count_nonzero(kept) + 1)
    labels = numbers[labels]
    if labels.shape != (height, width):
        rows = np.arange(height) * labels.shape[0] // height
        columns = np.arange(width) * labels.shape[1] // width
        labels = labels[rows[:, None], columns]
    return labels


def _within(found: Found, points_xy: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which objects belong to the core of a tile."""
    region, core = found.sight.region, found.core
    height, width = found.sizes.original_size_hw
    x = region.left + (points_xy[:, 0] + 0.5) * region.shape[1] / width
    y = region.top + (points_xy[:, 1] + 0.5) * region.shape[0] / height
    inside: npt.NDArray[np.bool_] = (
        (x >= core.left) & (x < core.right) & (y >= core.top) & (y < core.bottom)
    )
    return inside


def paint_into(
    array: Any,  # noqa: ANN401
    plane: Plane,
    region: Window,
    labels: npt.NDArray[np.int32],
    first: int,
    taken: npt.NDArray[np.bool_] | None = None,
) -> int:
    """Write objects into a plane of an array where nothing is yet; return the next free number."""
    there = plane.take(array, region)
    free = there == 0
    if taken is not None:
        free &= ~taken
    seen = np.unique(labels[free & (labels > 0)])
    numbers = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    numbers[seen] = np.arange(first, first + len(seen))
    values = np.where(free, numbers[labels], there).astype(there.dtype)
    plane.put(array, region, values)
    return first + len(seen)
