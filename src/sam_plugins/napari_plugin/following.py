"""Following the drafts of a session through a stack, off the GUI thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from sam_plugins.napari_plugin.asking import Asker
from sam_plugins.napari_plugin.follow_estimate import keep_follow_pace
from sam_plugins.napari_plugin.follow_params import FollowParams
from sam_plugins.napari_plugin.fusing import fused, require_fusible
from sam_plugins.napari_plugin.jobs import Job, JobProgress, JobState, start_job
from sam_plugins.napari_plugin.session.followed import Followed, drafts_of, object_keys
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import Plane
from sam_plugins.napari_plugin.session.values import Draft, State
from sam_plugins.napari_plugin.stack import (
    Anchors,
    NoStackError,
    Stack,
    followed_from,
    lone_click,
    seed_of,
)

if TYPE_CHECKING:
    from qtpy.QtCore import QObject

    from sam_plugins.model.inference.volume import (
        Propagation,
        PropagationOptions,
        PropagationRun,
        Seed,
        SliceMask,
    )

Shown = list[tuple[int, Plane, MaskCrop]]
_MS_BETWEEN_PAINTINGS, _MS_BETWEEN_PAINTINGS_3D = 50, 1000  # in 3D all of a layer is drawn again


@dataclass(eq=False)
class _Run:
    """One propagation: what it was asked for, and what it has so far."""

    stack: Stack
    seeds: list[Seed]
    anchors: dict[int, Anchors]
    options: PropagationOptions
    index_range: tuple[int, int]
    generation: int
    known: Propagation | None
    fuses: bool = False
    work: PropagationRun | None = None

    def continues(self, other: _Run) -> bool:
        """Return whether what another one found still holds."""
        return (self.stack.key, self.options, self.index_range, self.generation) == (
            other.stack.key,
            other.options,
            other.index_range,
            other.generation,
        )


@dataclass(eq=False)
class Follower:
    """Follows objects, shows them on the way, and hands over what was found, also when cancelled.

    Parameters
    ----------
    asker : Asker
        Knows the model.
    show : callable
        Shows slices of objects that are still being followed.
    take : callable
        Takes what was found.
    on_change : callable
        Told when it begins, gets on or ends.
    owner : QObject, optional
        Jobs end with it.
    is_3d : callable
        Whether the window shows a volume, which takes long to draw.
    """

    asker: Asker
    show: Callable[[Shown], None]
    take: Callable[[list[Followed]], None]
    on_change: Callable[[], None]
    owner: QObject | None = None
    is_3d: Callable[[], bool] = lambda: False
    job: Job | None = None
    _last: _Run | None = None
    _seeds: dict[tuple[int, int], tuple[object, Seed]] = field(default_factory=dict)
    _waiting: Shown = field(default_factory=list)
    _timer: QTimer = field(default_factory=QTimer)

    def __post_init__(self) -> None:
        """Paint now and then, not with each slice."""
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._paint)

    @property
    def is_running(self) -> bool:
        """Whether objects are being followed; until what was found is taken, also if cancelled."""
        return self.job is not None and self.job.state is JobState.RUNNING

    def start(self, state: State, stack: Stack, params: FollowParams) -> Job:
        """Follow all objects that were prompted in a stack; what is known of them is kept.

        Raises
        ------
        NoStackError
            If objects are being followed already, there are none, or a prompted slice lies beyond
            those to which the work is confined.
        """
        if self.is_running:
            raise NoStackError("objects are being followed; wait, or stop that first")
        run = self._prepared(state, stack, params)
        last = self._last
        if last is not None and last.work is not None and run.continues(last):
            run.known = last.work.result()
        self._last = run
        self._waiting.clear()
        self.job = start_job(
            _follow,
            self.asker,
            run,
            title="Following objects",
            owner=self.owner,
            on_partial=self._on_slice,
            on_progress=lambda done, total: self.on_change(),  # noqa: ARG005
            on_result=lambda found: self._on_result(run, found),
            on_cancelled=lambda: self._take_part(run),
            on_finished=self._on_finished,
        )
        self.on_change()
        return self.job

    def cancel(self) -> None:
        """Stop at once; the slices that are done stay."""
        if self.job is not None:
            self.job.cancel()

    def close(self) -> None:
        """Stop, and tell nobody."""
        with contextlib.suppress(RuntimeError):  # Qt has destroyed it with the program
            self._timer.stop()
        self._waiting.clear()
        if self.job is not None:
            self.job.abandon()
            self.job = None

    def _prepared(self, state: State, stack: Stack, params: FollowParams) -> _Run:
        """Return what is to be done."""
        length = stack.shape[0]
        index_range = (params.first, length if params.last < 0 else min(params.last + 1, length))
        seeds, anchors = [], {}
        for key in object_keys(state):
            drafts = [d for d in drafts_of(state, key) if stack.holds(d.sight)]
            if any(draft.answer is None for draft in drafts):
                raise NoStackError("the model is still at work on the last prompt; try again")
            for draft in drafts:
                index = draft.sight.plane.index_on(stack.axis)
                if not index_range[0] <= index < index_range[1]:
                    raise NoStackError(
                        f"slice {index}, on which the object was prompted, must lie within the "
                        f"first and the last slice to follow it to, got {index_range[0]} to "
                        f"{index_range[1] - 1}; change these"
                    )
                seeds.append(self._seed(draft, stack, key, index))
            if drafts:
                anchors[key] = tuple((draft.key, draft.turns) for draft in drafts)
        if not seeds:
            raise NoStackError("there is no object to follow; click on one first")
        if params.fuses:
            require_fusible(stack)
        return _Run(
            stack,
            seeds,
            anchors,
            params.options(),
            index_range,
            self.asker.generation,
            None,
            params.fuses,
        )

    def _seed(self, draft: Draft, stack: Stack, key: int, index: int) -> Seed:
        """Return the seed of a draft: the same one as before if nothing else was said."""
        said = (stack.key, lone_click(draft) or draft.mask)
        known = self._seeds.get((key, index))
        if known is None or known[0] != said:
            known = self._seeds[key, index] = (said, seed_of(draft, stack, key))
        return known[1]

    def _on_slice(self, shown: Shown) -> None:
        """Note slices that were found."""
        self._waiting += shown
        if not self._timer.isActive():
            self._timer.start(_MS_BETWEEN_PAINTINGS_3D if self.is_3d() else _MS_BETWEEN_PAINTINGS)

    def _paint(self) -> None:
        """Show what was found since the last time."""
        waiting, self._waiting = self._waiting, []
        if waiting and self.is_running:
            self.show(waiting)

    def _on_result(self, run: _Run, found: list[Followed]) -> None:
        """Hand over what was found; how long it took tells how long it will take again."""
        if self.job is not None and run.known is None and not run.fuses:
            keep_follow_pace(self.job.seconds_so_far, self.job.steps[0])
        self.take(found)

    def _take_part(self, run: _Run) -> None:
        """Hand over as much as there is."""
        if run.work is not None:
            self.take(followed_from(run.work.result(), run.stack, run.anchors))

    def _on_finished(self) -> None:
        """Show no more than what the session has."""
        self._waiting.clear()
        self.show([])
        self.on_change()


def _follow(asker: Asker, run: _Run, *, progress: JobProgress) -> list[Followed]:
    """Follow objects, in the thread of a job, and hand over each slice."""
    from sam_plugins.model.inference.volume import PropagationRun

    answerer = asker.answerer()
    progress.check()
    stack = run.stack

    def tell(number: int, found: SliceMask) -> None:
        progress.hand_over([(number, stack.plane_at(found.index), stack.crop(found))])

    run.work = PropagationRun(
        stack.embeddings(answerer),
        run.seeds,
        options=run.options,
        index_range=run.index_range,
        known=run.known,
        progress=progress,
        on_slice=tell,
    )
    run.work.go()
    found = run.work.result()
    if run.fuses:
        anchors, options = run.anchors, run.options
        return fused(stack, answerer, found, anchors, options, run.index_range, progress=progress)
    return followed_from(found, stack, run.anchors)
