"""Pictures segmented one by one, by whatever was asked for, and what came of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins import __version__
from sam_plugins.cli import divided, scheduler, stacks, tiles
from sam_plugins.cli.console import complain, counted, mention, step_progress
from sam_plugins.cli.done import Done
from sam_plugins.cli.failures import Failures
from sam_plugins.cli.requests import request_of
from sam_plugins.cli.results import REQUEST
from sam_plugins.cli.view import View, read_rgb, smaller
from sam_plugins.errors import ClusterError

if TYPE_CHECKING:
    from sam_plugins.cli.core import Core, Found, PromptChoice, Running
    from sam_plugins.cli.results import Job
    from sam_plugins.cli.search import Search
    from sam_plugins.cli.stacks import StackChoice
    from sam_plugins.model.cluster.outcome import Kept, Runner

_DOUBTFUL_SCORE = 0.5
"""Of 160 clicks on the ground of complete pictures 127 answer with less, of 149 good masks (IoU
above 0.7) 5: one point each, the first pictures of the val splits of six sets, version 7 of the
shipped model."""


@dataclass
class Summary:
    """What was done, for people and for ``--json``."""

    model_id: str = ""
    failures: Failures = field(default_factory=Failures)
    _results: dict[int, dict[str, Any]] = field(default_factory=dict)

    def keep(self, index: int, result: dict[str, Any]) -> None:
        """Add what came of the job at a place, in any order."""
        self._results[index] = result

    @property
    def results(self) -> list[dict[str, Any]]:
        """What was done, in the order of the jobs; sorted when asked."""
        return [self._results[index] for index in sorted(self._results)]

    def document(self) -> dict[str, Any]:
        """Return the values for ``--json``, finished or not."""
        return {"model": self.model_id, "results": self.results, "failed": self.failures.entries}


@dataclass(frozen=True)
class Order:
    """What is wanted of every picture; goes to workers as it is.

    Parameters
    ----------
    model : str
        By name or file.
    running : Running
        Where, how exactly and by what the model is run.
    mode : str
        One of :data:`MODES`.
    prompts : PromptChoice
    view : View
    wanted : Search, optional
    choice : TileChoice
        Whether large pictures are segmented by tiles; by default none is.
    stack : StackChoice, optional
        That the pictures are stacks, whose objects go through their slices.
    """

    model: str
    running: Running
    mode: str
    prompts: PromptChoice
    view: View
    wanted: Search | None = None
    choice: tiles.TileChoice = tiles.NO_TILES
    stack: StackChoice | None = None

    def wants_tiles(self, image: Path, core: Core) -> bool:
        """Return whether a picture is looked at in parts; reads no pixel of it.

        Raises
        ------
        ImageError
            If it cannot be read.
        """
        return not self.wanted and self.choice.wants_tiles(image, self.view, core)

    def elsewhere(self) -> Order:
        """Return the order with names that mean the same in another folder."""
        wanted = None if self.wanted is None else self.wanted.elsewhere(scheduler.absolute)
        return replace(self, model=scheduler.absolute(self.model), wanted=wanted)


def segment_jobs(jobs: Sequence[Job], order: Order, summary: Summary, runner: Runner) -> None:
    """Segment images; a failure is reported and the rest go on.

    Parameters
    ----------
    jobs : sequence of Job
        At least one.
    order : Order
    summary : Summary
        Takes results, in the order of the jobs, and failures.
    runner : Runner
        Where.

    Raises
    ------
    SamPluginsError
        If the model cannot be had, or the folder of the results not be written to.
    """
    writable_folder(jobs)  # before the model is loaded and works for nothing
    there = order.elsewhere() if runner.is_distributed else order
    summary.model_id = runner.call(partial(_model_id, there))
    named = jobs
    if runner.is_distributed:
        named = [scheduler.with_absolute_paths(job) for job in jobs]
    large: list[int] = []

    def keep(index: int, done: Done) -> None:
        job = jobs[index]
        result = _result(job, done)
        summary.keep(index, result)
        where = result["files"]["labels"]
        how = "of an earlier run" if done.is_passed_over else f"in {done.seconds:.1f} s"
        mention(f"{job.image}: {counted(done.count, 'object')} {how} -> {where}")

    leaves_large = runner.is_distributed and (order.stack is None or len(jobs) < runner.width)
    function = partial(_segment_one, there, leaves_large=leaves_large)
    for outcome in scheduler.performed(runner, function, named, "image"):
        job = jobs[outcome.index]
        with summary.failures.caught(job.image, partial(smaller, job.image, order.view)):
            done = outcome.result()
            _require_same_model(done.model_id, summary.model_id)
            if done.is_left:
                large.append(outcome.index)
            else:
                keep(outcome.index, done)
    for index in sorted(large):  # each of them keeps all workers busy
        job = jobs[index]
        with summary.failures.caught(job.image, partial(smaller, job.image, order.view)):
            keep(index, divided.segment_on(runner, partial(_core, there), there, named[index], job))


def _require_same_model(there: str, here: str) -> None:
    """Refuse a worker with other weights."""
    if there != here:
        raise ClusterError(
            f"a worker has other weights ({there}) than the others ({here}): the results were "
            "written; give all the same file and segment again"
        )


def writable_folder(jobs: Sequence[Job]) -> Path:
    """Make the folder of the results where there is none; refuse one that is closed."""
    from sam_plugins.model.io.atomic import make_folder, require_writable_folder

    folder = make_folder(jobs[0].folder)
    require_writable_folder(folder)
    return folder


def _core(order: Order, kept: Kept) -> Core:
    """Return the model of an order, loaded once in each process."""
    key = ("core", order.model, order.running)
    return kept.get(key, lambda: load_core(order.model, order.running))


def _model_id(order: Order, kept: Kept) -> str:
    """Load the model; return its name and digest."""
    return _core(order, kept).model_id


def load_core(model: str, running: Running) -> Core:
    """Load the model; the first moment at which torch is imported."""
    from sam_plugins.cli.torch_core import TorchCore

    return TorchCore.load(model, running)


def _result(job: Job, done: Done) -> dict[str, Any]:
    """Return a picture for the summary."""
    return {
        "image": str(job.image),
        "objects": done.count,
        "seconds": round(done.seconds, 3),
        "files": {kind: str(path) for kind, path in (done.files or job.results).items()},
    }


def _tell_doubt(job: Job, found: Found) -> None:
    """Warn of masks that the model itself takes for poor: a click beside the object, mostly."""
    poor = sum(score < _DOUBTFUL_SCORE for score in found.scores)
    if poor:
        which = "a mask" if poor == 1 else f"{poor} masks"
        complain(
            f"{job.image}: {which} with a score below {_DOUBTFUL_SCORE}, so the model expects "
            "little: do the prompts lie on objects?"
        )


def _segment_one(order: Order, kept: Kept, job: Job, *, leaves_large: bool = False) -> Done:
    """Segment one image and write its results; a large one may be left to all workers."""
    from sam_plugins.cli.results import write_results

    core, wanted = _core(order, kept), order.wanted
    if order.stack is not None:
        if leaves_large:
            return Done(core.model_id, is_left=True)
        return stacks.segment_stack(job, core, order)
    if order.wants_tiles(job.image, core):
        if order.prompts:
            return tiles.answer_prompts(job, core, order.prompts, order.view, order.choice)
        if leaves_large:
            return Done(core.model_id, is_left=True)
        return tiles.segment_by_tiles(job, core, order.mode, order.view, order.choice)
    request = request_of(job.image, order, core.model_id)
    count = job.count_if_done(request) if job.resume else None
    if count is not None:
        return Done(core.model_id, count, is_passed_over=True)
    start = time.perf_counter()
    rgb = read_rgb(job.image, order.view)
    if wanted:
        with step_progress(job.name) as progress:
            found = wanted.find(core, rgb, order.mode, progress)
    elif order.prompts:
        found = core.prompted(rgb, order.prompts)
        _tell_doubt(job, found)
    else:
        with step_progress(job.name) as progress:
            found = core.automatic(
                rgb, order.mode, progress, looks_closer=not order.choice.is_refused
            )
    seconds = time.perf_counter() - start
    mode = wanted.mode if wanted else order.mode
    described = _describe(job, core, order.prompts, mode, order.view) | {REQUEST: request}
    if wanted:
        described |= {**wanted.described(), **found.notes}
    return Done(core.model_id, write_results(job, rgb, found, described), seconds)


def _describe(job: Job, core: Core, prompts: PromptChoice, mode: str, view: View) -> dict[str, Any]:
    """Return where the objects come from, for the table."""
    described: dict[str, Any] = {
        "image": job.image.name,
        "model": core.model_id,
        "software": f"sam-plugins {__version__}",
        "mode": mode if mode in {"text", "exemplars"} or not prompts else "prompts",
    }
    if prompts:
        described["prompts"] = {
            "points_xy": list(prompts.points_xy),
            "negatives_xy": list(prompts.negatives_xy),
            "boxes_xyxy": list(prompts.boxes_xyxy),
        }
        if prompts.mask is not None:
            described["prompts"]["mask"] = prompts.mask
    if chosen := view.chosen():
        described["view"] = chosen
    return described
