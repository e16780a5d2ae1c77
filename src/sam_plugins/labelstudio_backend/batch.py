"""Predictions for many tasks: what is ready in time is answered, the rest posted when it is.

Label Studio waits 100 seconds and then forgets the whole batch. So a batch answers within its time
what is there, an empty list for each task that is not (Label Studio stores nothing for it), and the
work goes on: predictions are posted through the API as they come, also after a restart.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from sam_plugins.errors import ImageError, LabelStudioError, SamPluginsError
from sam_plugins.labelstudio_backend.addresses import AddressError
from sam_plugins.labelstudio_backend.batch_log import BatchLog, Progress
from sam_plugins.labelstudio_backend.client import LabelStudioClient
from sam_plugins.labelstudio_backend.cluster import Cluster
from sam_plugins.labelstudio_backend.download import DownloadFailedError
from sam_plugins.labelstudio_backend.engine import Engine
from sam_plugins.labelstudio_backend.label_config import ConfigError, LabelConfig
from sam_plugins.labelstudio_backend.lanes import Priority
from sam_plugins.labelstudio_backend.payload import PredictRequest, Task
from sam_plugins.labelstudio_backend.problems import PayloadError
from sam_plugins.labelstudio_backend.projects import Project
from sam_plugins.labelstudio_backend.task_predictions import (
    Prediction,
    TaskPredictor,
    prediction_of,
)
from sam_plugins.labelstudio_backend.unfinished import Unfinished

_WORKERS = 2
_WORKERS_OF_CLUSTER = 64
"""Threads that wait for it; more tasks than that are never under way."""
_STORING_SECONDS = 0.7
_POST_TRIES = 4
_POST_WAIT_SECONDS = 2.0
_LOOK_SECONDS = 0.2
_ASKED_FOR, _RENEWED = "asked for", "another model is in use"
_TAKEN_UP = "asked for before the backend was restarted"
_AWAY = {None, 401, 502, 503, 504}
"""Answers of a Label Studio that is down, or refuses the token: none at all, or one of these."""


@dataclass
class _Work:
    """One task: first somebody waits for it, later it has to be posted.

    ``is_joined`` where an earlier request asked for it: that one answers or posts it, once.
    """

    project: Project
    task: Task
    future: Future[Prediction | None]
    is_joined: bool = False


class Batches:
    """Makes predictions of whole pictures; safe with threads.

    Parameters
    ----------
    engine : Engine
    cluster : Cluster
        Where batches are worked on, if it is wanted and can be reached. A task that somebody opens
        never waits for it.
    """

    def __init__(self, engine: Engine, cluster: Cluster) -> None:
        self._engine = engine
        self._cluster = cluster
        self._predictor = TaskPredictor(engine, cluster)
        workers = _WORKERS_OF_CLUSTER if cluster.is_wanted else _WORKERS
        self._width = workers
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="batch")
        self._opened = ThreadPoolExecutor(_WORKERS, thread_name_prefix="open")
        self._under_way: dict[tuple[str, str, str], Future[Prediction | None]] = {}
        self._log = BatchLog()
        self.unfinished = Unfinished(engine.settings.folder / "batches")
        self._closing = threading.Event()
        self._lock = threading.RLock()  # a task that fails at once ends while it starts

    def predict(self, project: Project, request: PredictRequest) -> list[Any]:
        """Return a prediction for each task, an empty list for each that is not ready.

        Parameters
        ----------
        project : Project
        request : PredictRequest
            Without prompts.
        """
        if not request.tasks:
            return []
        is_single = len(request.tasks) == 1
        settings = project.settings
        seconds = settings.open_seconds if is_single else settings.batch_seconds
        deadline = time.monotonic() + seconds
        try:
            config = self._engine.config(project, request)
        except ConfigError as error:
            self._engine.report(error, project)
            return [[] for _ in request.tasks]
        progress = self._log.begin(project.key, project.model, _ASKED_FOR, len(request.tasks))
        works = [
            self._started(project, task, config, progress, is_single) for task in request.tasks
        ]
        self._wait([work.future for work in works], deadline)
        if any(work.is_joined and work.future.done() for work in works):
            # The first one to ask has it stored; a page of the editor asks twice, and shows what is
            # stored when the later answer is there.
            time.sleep(max(0.0, min(_STORING_SECONDS, deadline - time.monotonic())))
        if not is_single:  # whoever opened a task asks again
            self._write_down(works)
        answers = [self._answer(work, progress) for work in works]
        progress.answered = time.time()
        self._engine.metrics.background.set(self._pending())
        return answers

    def take_up(self, project: Project, tasks: Sequence[Task], config: LabelConfig) -> None:
        """Go on with tasks that an earlier backend left; wait for nothing.

        Parameters
        ----------
        project : Project
            That Label Studio can be asked for.
        tasks : sequence of Task
            Without a prediction of its model.
        config : LabelConfig
        """
        client = self._engine.access.client(project)
        if client is None or not tasks:
            return
        self.unfinished.add(project.key, [task.id for task in tasks])
        progress = self._log.begin(project.key, project.model, _TAKEN_UP, len(tasks))
        for task in tasks:
            work = self._started(project, task, config, progress, is_single=False)
            if work.is_joined:  # the first one to ask has it stored
                self.unfinished.end(project.key, task.id)
            else:
                self._post_when_done(work, client, progress)
        progress.answered = time.time()

    def renew(
        self,
        project: Project,
        tasks: Sequence[Task],
        config: LabelConfig,
        *,
        replaced: Callable[[Task], int | None],
        goes_on: Callable[[], bool],
    ) -> None:
        """Predict tasks anew, each in the place of a prediction that it has; wait for all.

        No more begin at once than there are workers, so that whoever asks for a batch waits for few
        of them. A task that fails keeps what it has.

        Parameters
        ----------
        project : Project
        tasks : sequence of Task
        config : LabelConfig
        replaced : callable
            Number of the prediction of a task that is replaced, None for none any more; asked
            before it is predicted, and once more before that is stored.
        goes_on : callable
            Whether the rest is still wanted.

        Raises
        ------
        LabelStudioError
            If Label Studio is down or refuses the token; what is left is as it was.
        """
        progress = self._log.begin(project.key, project.model, _RENEWED, len(tasks))
        try:
            for first in range(0, len(tasks), self._width):
                if self._closing.is_set() or not goes_on():
                    return
                futures = []
                for task in tasks[first : first + self._width]:
                    future = self._workers.submit(
                        self._renewed, project, task, config, replaced, progress
                    )
                    future.add_done_callback(lambda done: self._count(done, progress))
                    futures.append(future)
                self._wait(futures, math.inf)
                if self._closing.is_set():
                    return
                for future in futures:
                    future.result()
        except RuntimeError:  # the backend ends
            if not self._closing.is_set():
                raise
        finally:
            progress.ended = progress.answered = time.time()

    def documents(self) -> list[dict[str, Any]]:
        """Return how far the last batches are, newest first."""
        return self._log.documents()

    def may_store_others(self, project: Project) -> bool:
        """Return whether predictions of another model than a project's may still be stored."""
        return self._log.may_store(project.key, other_than=project.model)

    def close(self) -> None:
        """Stop: what is not done is taken up by the next backend, or asked for again.

        Whoever waits for a batch is answered with what is ready.
        """
        self._closing.set()
        for pool in (self._workers, self._opened):
            pool.shutdown(wait=False, cancel_futures=True)

    def _wait(self, futures: Sequence[Future[Prediction | None]], deadline: float) -> None:
        """Wait until all are done, the time is over, or the backend ends."""
        pending = set(futures)
        while pending and not self._closing.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                return
            pending = wait(pending, timeout=min(left, _LOOK_SECONDS)).not_done

    def _pending(self) -> int:
        """Return how many tasks are under way."""
        with self._lock:
            return len(self._under_way)

    def _started(
        self,
        project: Project,
        task: Task,
        config: LabelConfig,
        progress: Progress,
        is_single: bool,
    ) -> _Work:
        """Start a task, or join one that is under way: a page of the editor asks twice."""
        key = (project.key, task.id or str(id(task)), project.model)
        with self._lock:
            future = self._under_way.get(key)
            is_joined = future is not None
            if future is None:
                pool = self._opened if is_single else self._workers
                priority = Priority.OPEN if is_single else Priority.BATCH
                try:
                    future = pool.submit(self._made, project, task, config, priority)
                except RuntimeError:  # the backend ends
                    future = Future()
                    future.cancel()
                else:
                    self._under_way[key] = future
                    future.add_done_callback(lambda _: self._ended(key))
            future.add_done_callback(lambda done: self._count(done, progress))
        return _Work(project, task, future, is_joined)

    def _ended(self, key: tuple[str, str, str]) -> None:
        """Let a task be asked for anew."""
        with self._lock:
            self._under_way.pop(key, None)
        self._engine.metrics.background.set(self._pending())

    def _count(self, future: Future[Prediction | None], progress: Progress) -> None:
        """Count a task that is done, for everybody who asked for it."""
        failed = future.cancelled() or future.exception() is not None or future.result() is None
        self._log.count(progress, failed=failed)

    def _answer(self, work: _Work, progress: Progress) -> Any:  # noqa: ANN401
        """Return what is ready, or let it be posted when it is."""
        if work.is_joined:
            return []  # the first one to ask has it stored
        if work.future.done():
            prediction = None if work.future.cancelled() else work.future.result()
            if prediction is not None:
                self.unfinished.end(work.project.key, work.task.id)
            return [] if prediction is None else prediction
        if self._closing.is_set():
            return []
        client = self._engine.access.client(work.project)
        if client is None or not work.task.id:
            self._engine.report(
                SamPluginsError(
                    "a prediction was not ready in time and cannot be posted: set "
                    "SAM_PLUGINS_LS_URL and SAM_PLUGINS_LS_API_KEY, or ask for fewer tasks"
                ),
                work.project,
                work.task,
            )
            return []
        self._post_when_done(work, client, progress)
        return []

    def _write_down(self, works: Sequence[_Work]) -> None:
        """Let what is not ready survive the end of the backend, where it can be posted."""
        late = [
            work
            for work in works
            if not work.is_joined
            and work.task.id.isdecimal()
            and (not work.future.done() or self._was_cut_off(work.future))
        ]
        if late and self._engine.access.client(late[0].project) is not None:
            self.unfinished.add(late[0].project.key, [work.task.id for work in late])

    def _was_cut_off(self, future: Future[Prediction | None]) -> bool:
        """Return whether a task that is done is so because the backend ends."""
        return future.cancelled() or (self._closing.is_set() and future.result() is None)

    def _post_when_done(self, work: _Work, client: LabelStudioClient, progress: Progress) -> None:
        """Let a prediction be posted when it is there."""
        work.future.add_done_callback(lambda done: self._post_later(work, client, done, progress))

    def _post_later(
        self,
        work: _Work,
        client: LabelStudioClient,
        future: Future[Prediction | None],
        progress: Progress,
    ) -> None:
        """Post a prediction that came too late for the answer."""
        if self._was_cut_off(future):
            return
        prediction = future.result()
        if prediction is not None:
            body = {**prediction, "task": int(work.task.id)}
            if self._is_stored(work.project, work.task, client, "POST", "/api/predictions/", body):
                self._log.count_posted(progress)
            elif self._closing.is_set():
                return
        self.unfinished.end(work.project.key, work.task.id)

    def _is_stored(
        self,
        project: Project,
        task: Task,
        client: LabelStudioClient,
        method: str,
        path: str,
        body: Prediction,
    ) -> bool:
        """Store a prediction in Label Studio, in several tries; return whether it took it."""
        for attempt in range(_POST_TRIES):
            try:
                client.call(method, path, body=body)
            except SamPluginsError as error:
                if attempt + 1 == _POST_TRIES:
                    self._engine.report(error, project, task)
                elif self._closing.wait(_POST_WAIT_SECONDS * 2**attempt):
                    break
            else:
                return True
        return False

    def _renewed(
        self,
        project: Project,
        task: Task,
        config: LabelConfig,
        replaced: Callable[[Task], int | None],
        progress: Progress,
    ) -> Prediction | None:
        """Put a new prediction of a task in the place of an old one; None where that failed."""
        try:
            if replaced(task) is None:
                return {}
            prediction = self._predictor.predict(project, task, config, Priority.BATCH)
            number = replaced(task)  # people go on meanwhile
            client = self._engine.access.client(project)
        except Exception as error:
            if isinstance(error, LabelStudioError) and error.status in _AWAY:
                raise
            if not (self._closing.is_set() or self._cluster.is_closed):
                self._engine.report(error, project, task)
            return None
        if number is None:
            return {}
        if prediction is None or client is None:
            return None
        body = {**prediction, "task": int(task.id)}
        path = f"/api/predictions/{number}/"
        if not self._is_stored(project, task, client, "PATCH", path, body):
            return None
        self._log.count_posted(progress)
        return prediction

    def _made(
        self, project: Project, task: Task, config: LabelConfig, priority: Priority
    ) -> Prediction | None:
        """Return the prediction of a task; None where it cannot be had now."""
        try:
            return self._predictor.predict(project, task, config, priority)
        except (PayloadError, ConfigError, ImageError) as error:
            self._engine.report(error, project, task)
            # What a second try would not mend is answered with nothing in it, so that it is not
            # asked for again and again; a server that is down may come back.
            passes = isinstance(error, DownloadFailedError | AddressError)
            return None if passes else prediction_of(project, [], 0.0)
        except Exception as error:  # noqa: BLE001  # one task never spoils a batch
            if self._closing.is_set() or self._cluster.is_closed:
                return None  # the backend ends; it is asked for again
            self._engine.report(error, project, task)
            return None
