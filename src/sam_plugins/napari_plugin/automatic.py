"""Automatic segmentation in two steps: masks, which are slow, and which of them count, at once.

A part of a plane that is much larger than the model's input is looked at tile by tile, and so is a
reduced one of small objects; objects are joined across the borders, as on the command line. The
masks of each tile are kept on the disk, under a digest of what the model saw: memory is bounded,
and what was cancelled or killed goes on where it was. Nothing here knows a window: it runs in the
thread of a job.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.automatic_params import FindParams, KeepParams
from sam_plugins.napari_plugin.coordinates import REGION_SIDE, WHOLE_SIDE
from sam_plugins.napari_plugin.found_masks import FoundMasks
from sam_plugins.napari_plugin.images import ImageSource
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.session.values import Sight
from sam_plugins.napari_plugin.shown import (
    BLACK_AND_WHITE,
    COLOURS,
    ShownPixels,
    show_model,
)

if TYPE_CHECKING:
    from sam_plugins.model.inference.cache import EmbeddingCache
    from sam_plugins.model.inference.loading import Model
    from sam_plugins.model.inference.segment_options import SegmentOptions
    from sam_plugins.model.inference.types import ImageEmbedding
    from sam_plugins.model.large.job import TileJob
    from sam_plugins.model.large.plan import TilePlan
    from sam_plugins.napari_plugin.jobs import JobProgress


_STEPS_OF_A_TILE = 100
_SHARE_THAT_TELLS = 0.25
"""Of the first tile: encoding it takes a part of its time, and counts for too much before."""


@dataclass(frozen=True, eq=False)
class Painted:
    """Objects of a part of a plane, to be shown.

    Attributes
    ----------
    ground : Ground
    window : Window
        Pixels of the plane.
    labels : ndarray of the window's shape, int64
        Numbered from 1 in all that was painted; or in this window, where it is not joined yet.
    count : int
        Objects so far.
    is_joined : bool
        Whether the numbers are those of all that was painted.
    """

    ground: Ground
    window: Window
    labels: npt.NDArray[np.int64]
    count: int
    is_joined: bool = True


@dataclass(frozen=True, eq=False)
class Ground:
    """A part of a plane in which objects are looked for, and the tiles it is cut into.

    Attributes
    ----------
    sight : Sight
        All of it.
    job : TileJob
        Its plan, how objects are told, and where the results of tiles are drawn to.
    masks : dict of int to Path
        The files of the masks of the tiles that are done.
    """

    sight: Sight
    job: TileJob
    masks: dict[int, Path] = field(default_factory=dict)

    @property
    def plane(self) -> Plane:
        """Where it lies."""
        return self.sight.plane

    @property
    def region(self) -> Window:
        """Pixels of the plane."""
        return self.sight.region

    def cores(self) -> Iterator[Window]:
        """Yield the windows that divide it, in pixels of the plane."""
        for tile in self.job.plan:
            yield self.window(tile.core)

    def window(self, part: tuple[slice, slice]) -> Window:
        """Return a part of it in pixels of the plane."""
        rows, columns = part
        top, left = self.region.top, self.region.left
        return Window(top + rows.start, left + columns.start, top + rows.stop, left + columns.stop)

    def drawn_with(self, params: KeepParams) -> TileJob:
        """Return the job whose tiles hold the objects that count."""
        options = replace(
            self.job.options,
            max_iou=params.max_overlap,
            labels=replace(self.job.options.labels, min_area=max(1, params.min_area)),
        )
        name = f"{params.min_quality}-{params.min_area}-{params.max_overlap}"
        return replace(
            self.job,
            options=options,
            join=replace(self.job.join, max_iou=params.max_overlap),
            folder=self.job.folder / name,
        )


def tiles_expected(size_hw: Sequence[int]) -> int:
    """Return about how many pictures a plane is for the model, which says more once it is loaded.

    One that is looked at closer counts as one: its objects tell how many windows it is.

    Examples
    --------
    >>> tiles_expected((2048, 300)), tiles_expected((6000, 6000))
    (1, 64)
    """
    if max(size_hw) <= WHOLE_SIDE:
        return 1
    core = REGION_SIDE - 2 * (REGION_SIDE // 8)
    return math.prod(-(-length // core) for length in size_hw)


PictureKind = Literal["whole", "closer", "tiles"]
"""What pictures are for the model, each with a pace of its own: seen as they are, in windows where
their objects are small, or by tiles."""


def picture_kind(size_hw: Sequence[int], params: FindParams) -> PictureKind:
    """Return what a part of a plane is for the model, as far as its size and the controls tell.

    Examples
    --------
    >>> [picture_kind((300, width), FindParams()) for width in (1024, 1025, 6000)]
    ['whole', 'closer', 'tiles']
    """
    if max(size_hw) > WHOLE_SIDE:
        return "tiles"
    return "closer" if params.may_look_closer and max(size_hw) > REGION_SIDE else "whole"


class Pace:
    """How fast objects are found, from the first tile on: what comes before is done once.

    Parameters
    ----------
    pictures : int
        In all, as :func:`tiles_expected` has it. There may be more, where objects are small.
    clock : callable, optional
        Returns seconds.

    Attributes
    ----------
    seconds_left : float or None
        None until a part of the first tile is done.
    seconds_per_picture : float or None
        Of those expected.
    """

    def __init__(self, pictures: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds_left: float | None = None
        self.seconds_per_picture: float | None = None
        self._pictures = pictures
        self._clock = clock
        self._started = clock()

    def note(self, done: int, total: int) -> None:
        """Note steps of :func:`find_all` that are done, of all; it begins where all are unknown."""
        if total <= 0:
            self._started = self._clock()
        elif done >= _SHARE_THAT_TELLS * _STEPS_OF_A_TILE:
            per_step = (self._clock() - self._started) / done
            self.seconds_left = per_step * (total - done)
            self.seconds_per_picture = per_step * total / self._pictures


def find_all(
    load: Callable[[], Model],
    source: ImageSource,
    sights: Sequence[Sight],
    params: FindParams,
    keep: Callable[[], KeepParams],
    *,
    cache: EmbeddingCache,
    masks: FoundMasks,
    progress: JobProgress,
) -> bool:
    """Find the masks of all tiles, and hand over the objects of each as :class:`Painted`.

    Parameters
    ----------
    load : callable
        Returns the model.
    source : ImageSource
    sights : sequence of Sight
        Each a part of a plane.
    params : FindParams
    keep : callable
        Returns which masks count just now.
    cache : EmbeddingCache
    masks : FoundMasks
        Where they are kept; tiles that are there already are not asked about again.
    progress : JobProgress

    Returns
    -------
    bool
        Whether all tiles were new, and nothing of them was known already: then the time that it
        took tells of other pictures.
    """
    from sam_plugins.model.inference.automatic import require_instance_decoder
    from sam_plugins.model.inference.segment_options import usual_options

    progress(0, 0)
    masks.sweep()
    model = load()
    mode = "grid" if params.prompts == "grid" else "auto"
    if mode == "auto":
        require_instance_decoder(model)
    options = replace(usual_options(model, mode), points_per_side=params.points_per_side)
    look = _Looking(
        model, mode, options, cache, masks, progress.check, looks_closer=params.may_look_closer
    )
    plan: TilePlan | None = None
    seeing = look
    are_new = True
    progress(0, 0)
    for number, sight in enumerate(sights):
        if plan is None or plan.size_hw != sight.region.shape:
            middle = _middle(sights, sight.region.shape)
            plan = look.plan(source, middle)
            seeing = look.seeing_best(source, middle) if len(plan) == 1 else look
            if number == 0 and len(sights) * len(plan) > 1:
                progress(0, 0)  # a single picture is encoded by now: that is a part of finding
        ground = seeing.ground(sight, plan, masks.drawn / str(number))
        for index in range(len(plan)):
            tell = _share_of(progress, number * len(plan) + index, len(sights) * len(plan))
            tell(0, 1)
            are_new &= seeing.find(source, ground, index, tell)
            progress.hand_over(_first_sight(masks, ground, index, keep()))
    steps = _STEPS_OF_A_TILE * len(sights) * (0 if plan is None else len(plan))
    progress(steps, steps)
    return are_new


def _middle(sights: Sequence[Sight], size_hw: tuple[int, int]) -> Sight:
    """Return the one of a size in the middle of a stack: the first slices are often empty."""
    alike = [sight for sight in sights if sight.region.shape == size_hw]
    places = np.array([sight.plane.at for sight in alike], float)
    return alike[int(np.abs(places - places.mean(axis=0)).sum(axis=1).argmin())]


def _share_of(progress: JobProgress, done: int, total: int) -> Callable[[int, int], None]:
    """Return a progress within one of some equal steps, of each of which some can be told."""

    def tell(within: int, of: int) -> None:
        share = within / of if of else 1.0
        progress(round(_STEPS_OF_A_TILE * (done + share)), _STEPS_OF_A_TILE * total)

    return tell


@dataclass(frozen=True)
class _Looking:
    """How a model is asked for the masks of a window."""

    model: Model
    mode: str
    options: SegmentOptions
    cache: EmbeddingCache
    masks: FoundMasks
    check: Callable[[], None]  # raises where it is to stop
    looks_closer: bool
    encoded_now: set[str] = field(default_factory=set)  # keys: in this run, to find or to plan

    def plan(self, source: ImageSource, sight: Sight) -> TilePlan:
        """Return the tiles of a part of a plane: one, unless more show its objects better."""
        from sam_plugins.model.inference.reduction import needs_tiles
        from sam_plugins.model.large.plan import TilePlan
        from sam_plugins.model.large.sizing import model_glance, tile_size

        size_hw = sight.region.shape
        if not needs_tiles(size_hw, self.model.preprocessing):
            return self._closer_plan(source, sight) or TilePlan(size_hw, max(size_hw), 0)
        longest = self.model.preprocessing.max_long_side
        look = model_glance(self.model, self.mode, self.options, self._encoded)
        with shown_source(source, sight).open() as picture:
            size = tile_size(picture, longest, look)
        return TilePlan(size_hw, size.tile, size.halo)

    def _closer_plan(self, source: ImageSource, sight: Sight) -> TilePlan | None:
        """Return the windows that show small objects larger; None where there is no need."""
        from sam_plugins.model.inference.reduction import is_reduced
        from sam_plugins.model.large.closer import closer_plan

        if not (self.looks_closer and is_reduced(sight.region.shape, self.model.preprocessing)):
            return None
        # All pixels, also where a smaller level of a pyramid is what the whole is found in.
        pixels = ShownPixels(source, replace(sight, level=0))
        rows, columns = (slice(0, length) for length in pixels.shape[:2])
        return closer_plan(self.model, pixels[rows, columns], self.options, self._encoded)

    def seeing_best(self, source: ImageSource, sight: Sight) -> _Looking:
        """Return how a part of a plane that is seen as a whole is seen best: from farther maybe."""
        from sam_plugins.model.inference.automatic import segment_embedding
        from sam_plugins.model.large.farther import look_from_farther, shows_large_objects

        if self.mode != "auto":
            return self
        rgb = show_model(source, sight)
        embedding = self._encoded(rgb)
        if not shows_large_objects(self.model, embedding, self.options):
            return self

        def watch(_done: int, _total: int) -> None:
            self.check()

        found = segment_embedding(self.model, embedding, options=self.options, progress=watch)
        best, _ = look_from_farther(self.model, rgb, embedding, found, self.options, progress=watch)
        return replace(self, model=best)

    def ground(self, sight: Sight, plan: TilePlan, folder: Path) -> Ground:
        """Return a part of a plane of which nothing is known yet."""
        from sam_plugins.model.large.job import TileJob
        from sam_plugins.model.large.join import JoinOptions
        from sam_plugins.model.large.sources import ArraySource

        return Ground(
            sight,
            TileJob(
                source=ArraySource(np.zeros((1, 1), np.uint8)),
                plan=plan,
                contrast=(0.0, 255.0),
                model_id=self.model.model_id,
                mode=self.mode,
                options=self.options,
                folder=folder,
                join=JoinOptions(self.options.max_iou, self.options.max_containment),
            ),
        )

    def find(
        self, source: ImageSource, ground: Ground, index: int, tell: Callable[[int, int], None]
    ) -> bool:
        """Find the masks of a tile, unless they are known; return whether nothing of it was."""
        from sam_plugins.model.inference.automatic import propose
        from sam_plugins.model.large.plan import within
        from sam_plugins.model.large.proposals import DrawnSizes, WindowProposals

        plan = ground.job.plan
        tile = plan[index]
        rows, columns = asked = within(plan.near(tile), tile.window)
        window = ground.window(tile.window)
        sight = replace(ground.sight, region=window, level=source.level_for(ground.plane, window))
        rgb = show_model(source, sight)
        key = self._key(rgb)
        height, width = window.shape
        name = (
            f"{key}-{self.mode}-{self.options.points_per_side}-{height}x{width}"
            f"-{rows.start}_{rows.stop}-{columns.start}_{columns.stop}.npz"
        )
        path = self.masks.find(name)
        is_new = path is None and (key in self.encoded_now or not self.cache.holds(key))
        if path is None:
            # Masks are drawn in pixels of the plane, also where it is shown reduced.
            embedding = replace(self._encoded(rgb), original_size_hw=window.shape)
            found = propose(
                self.model,
                embedding,
                mode=self.mode,
                options=self.options,
                within=asked,
                progress=tell,
            )
            path = self.masks.keep(name, WindowProposals(found, DrawnSizes.of(embedding)))
        ground.masks[index] = path
        return is_new

    def _key(self, rgb: npt.NDArray[np.uint8]) -> str:
        """Return a digest of what the model sees."""
        from sam_plugins.model.inference.cache import embedding_key

        return embedding_key(rgb, self.model.preprocessing, self.model.model_id)

    def _encoded(self, rgb: npt.NDArray[np.uint8]) -> ImageEmbedding:
        """Return the embedding of a window."""
        from sam_plugins.model.inference.predict import encode_rgb

        self.check()
        key = self._key(rgb)

        def encode() -> ImageEmbedding:
            self.encoded_now.add(key)
            return encode_rgb(self.model, rgb)

        return self.cache.get_or_compute(key, encode, device=self.model.device)


def shown_source(source: ImageSource, sight: Sight) -> Any:  # noqa: ANN401
    """Return a part of a plane as the model is shown it, for what reads pictures by windows."""
    from sam_plugins.model.large.sources import ArraySource

    return ArraySource(ShownPixels(source, replace(sight, level=0)), COLOURS, BLACK_AND_WHITE, 2)


def _first_sight(masks: FoundMasks, ground: Ground, index: int, params: KeepParams) -> Painted:
    """Return the objects of a tile within its core, before its neighbours are known."""
    from sam_plugins.model.large.plan import within

    tile = ground.job.plan[index]
    labels = masks.draw(ground, index, params).labels[within(tile.core, tile.window)]
    numbers, compact = np.unique(np.append(labels.ravel(), 0), return_inverse=True)
    labels = compact[:-1].reshape(labels.shape).astype(np.int64)
    return Painted(ground, ground.window(tile.core), labels, len(numbers) - 1, is_joined=False)


def choose_again(
    masks: FoundMasks, grounds: Sequence[Ground], params: KeepParams, *, progress: JobProgress
) -> int:
    """Choose among the masks of all tiles that are done, join, and hand over :class:`Painted`.

    Returns
    -------
    int
        The number of objects.
    """
    from sam_plugins.model.large.assemble import number_objects, paint_core
    from sam_plugins.model.large.tiles import keep_tile

    count = 0
    for done, ground in enumerate(grounds):
        job = ground.drawn_with(params)
        job.make_folders()
        tiles = list(ground.masks)  # others may be done meanwhile
        for index in tiles:
            progress(done, len(grounds))
            if not job.is_done(index):
                keep_tile(job, index, masks.draw(ground, index, params))
        numbering = number_objects(job)
        is_kept = np.ones(len(numbering.joined.scores) + 1, bool)
        is_kept[0] = False
        if params.max_area:
            areas = np.zeros(len(is_kept), np.int64)
            for index in range(len(job.plan)):
                progress(done, len(grounds))
                core = paint_core(job, index, numbering)
                areas += np.bincount(core.ravel(), minlength=len(areas))
            is_kept &= areas <= params.max_area
        numbers = np.zeros(len(is_kept), np.int64)
        for index in range(len(job.plan)):
            progress(done, len(grounds))
            core = paint_core(job, index, numbering)
            seen = np.unique(core[is_kept[core]])
            fresh = seen[numbers[seen] == 0]
            numbers[fresh] = count + 1 + np.arange(len(fresh))
            count += len(fresh)
            window = ground.window(job.plan[index].core)
            progress.hand_over(Painted(ground, window, numbers[core], count))
    return count
