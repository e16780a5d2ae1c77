"""The cluster that batches and trainings are sent to, as long as it can be reached."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sam_plugins.errors import (
    ClusterError,
    ImageError,
    MissingExtraError,
    OutputError,
    TaskLostError,
)
from sam_plugins.labelstudio_backend.logs import LOG
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.cluster.choice import LOCAL, NONE
from sam_plugins.model.io.atomic import make_folder
from sam_plugins.model.weights.paths import store_directory

if TYPE_CHECKING:
    from sam_plugins.model.cluster.outcome import Function, Outcome, Runner

Item = TypeVar("Item")
Value = TypeVar("Value")

_RETRY_SECONDS = 60.0
_IDLE_SECONDS = 300.0
_LETTING_GO_SECONDS = 3.0
_ENOUGH = 10_000
"""Tasks; as many processes of ``local`` as the machine has room for."""


class Cluster:
    """Where :attr:`Settings.scheduler` says that work goes; safe with threads.

    It is opened when the first work comes, and closed when none has come for five minutes, so that
    processes of ``local`` hold no memory meanwhile. Where it cannot be reached it is not tried
    again for a minute.

    Parameters
    ----------
    settings : Settings
        Workers must see its folder, and that of the models that people trained.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened = contextlib.ExitStack()
        self._runner: Runner | None = None
        self._told = "not used yet"
        self._problem = ""
        self._failed_at = -_RETRY_SECONDS
        self._busy = 0
        self.is_closed = False
        self._idle: threading.Timer | None = None
        self._opening = threading.Lock()
        self._lock = threading.Lock()

    @property
    def is_wanted(self) -> bool:
        """Whether work is to be sent away at all."""
        return self._settings.scheduler != NONE

    @property
    def is_here(self) -> bool:
        """Whether its processes share this machine with those who click."""
        return self._settings.scheduler == LOCAL

    def perform(self, function: Function[Item, Value], item: Item) -> Outcome[Item, Value]:
        """Run one task on a worker, and wait; one whose worker was lost runs again elsewhere.

        Parameters
        ----------
        function : callable
            At module level; leaves the same behind when it runs twice.
        item : object
            Goes there pickled.

        Raises
        ------
        ClusterError
            If the cluster is away: the work is to be done here.
        """
        with self._lock:
            self._busy += 1
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
        try:
            runner = self._ready()
            try:
                (outcome,) = runner.run(function, [item])
            except ClusterError as error:
                self._lose(runner, error)
                raise
            return outcome
        finally:
            self._rest()

    def status(self) -> dict[str, Any]:
        """Return what the status page shows."""
        with self._lock:
            return {
                "scheduler": self._settings.scheduler,
                "state": self._problem or self._told,
                "tasks_sent": self._busy,
            }

    def close(self) -> None:
        """Let the cluster go for good; processes of ``local`` end."""
        self.is_closed = True
        with self._lock:
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
        with self._opening:
            if self._runner is not None:
                self._runner.close()
                self._wait_until_idle()
            self._shut("closed")

    def _wait_until_idle(self) -> None:
        """Wait until nobody uses the cluster, but not for ever."""
        end = time.monotonic() + _LETTING_GO_SECONDS
        while self._busy and time.monotonic() < end:
            time.sleep(0.05)

    def _ready(self) -> Runner:
        """Return what runs tasks, opened where it is not."""
        with self._opening:
            if self._runner is not None:
                return self._runner
            if self.is_closed:
                raise ClusterError("the backend ends")
            if time.monotonic() - self._failed_at < _RETRY_SECONDS:
                raise ClusterError(self._problem)
            try:
                self._runner = self._open()
            except (ClusterError, MissingExtraError, OutputError, OSError) as error:
                self._opened.close()
                self._away(error)
                raise ClusterError(str(error)) from error
            self._problem = ""
            LOG.info("cluster: %s", self._told)
            return self._runner

    def _open(self) -> Runner:
        """Connect to the scheduler, or start processes; they must see our folders."""
        from sam_plugins.model.cluster.opening import open_runner
        from sam_plugins.model.cluster.shared import SharedFiles, marked

        store = make_folder(store_directory().absolute())
        seen = self._opened.enter_context(marked(SharedFiles.of(), store))
        return self._opened.enter_context(
            open_runner(
                self._settings.scheduler,
                _ENOUGH,
                files=[Path(str(seen.marker))],
                folder=make_folder(self._settings.folder.absolute()),
                tell=self._tell,
            )
        )

    def _tell(self, told: str) -> None:
        """Hear where the cluster is."""
        self._told = told

    def _away(self, error: Exception) -> None:
        """Note that the cluster cannot be used now."""
        self._failed_at = time.monotonic()
        self._problem = " ".join(str(error).split())
        LOG.warning("the cluster cannot be used, work is done here: %s", self._problem)

    def _lose(self, runner: Runner, error: ClusterError) -> None:
        """Let a cluster go that was lost; of several who notice, the first does."""
        if self.is_closed:
            return
        with self._opening:
            if self._runner is runner and not self.is_closed:
                self._shut("lost")
                self._away(error)

    def _rest(self) -> None:
        """Note that some work is over; the last one lets the cluster go after a while."""
        with self._lock:
            self._busy -= 1
            if not self._busy and self._runner is not None and not self.is_closed:
                self._idle = threading.Timer(_IDLE_SECONDS, self._close_idle)
                self._idle.daemon = True
                self._idle.start()

    def _close_idle(self) -> None:
        """Let the cluster go, if nothing has come meanwhile."""
        with self._opening:
            with self._lock:
                if self._busy:
                    return
            self._shut("closed until there is work")

    def _shut(self, why: str) -> None:
        """Close what is open."""
        if self._runner is None:
            return
        self._runner = None
        self._told = why
        try:
            self._opened.close()
        except Exception as error:  # noqa: BLE001  # a scheduler that is gone; whatever Dask raises
            LOG.info("the cluster was closed with a complaint: %s", error)


def done_or_here(
    cluster: Cluster,
    function: Function[Item, Value],
    item: Item,
    here: Callable[[], Value],
) -> Value:
    """Return what a worker makes of an item, or what is made here where none can.

    Raises
    ------
    ClusterError
        If the backend ends.
    TaskLostError
        If it took one worker after the other with it: here it would take the backend.
    ImageError
        If a picture is to blame.
    """
    try:
        outcome = cluster.perform(function, item)
    except ClusterError:
        if cluster.is_closed:  # the backend ends
            raise
        return here()  # the cluster has said why
    if outcome.error is None or isinstance(outcome.error, TaskLostError | ImageError):
        return outcome.result()
    LOG.warning("a worker could not do its task, it is done here: %s", outcome.error)
    return here()
