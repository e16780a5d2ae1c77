"""A backend that learns: webhooks in, labels kept, models trained, the better ones swapped in.

One thread does it all, step by step; of several processes with one state folder, one works and the
others only write events down and swap models. Each step is safe to be cut off and done again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import filelock

from sam_plugins.errors import DatasetError, LabelStudioError, SamPluginsError
from sam_plugins.labelstudio_backend.cluster import Cluster
from sam_plugins.labelstudio_backend.doctor.connections import PING
from sam_plugins.labelstudio_backend.learning import mirror
from sam_plugins.labelstudio_backend.learning.api import Api
from sam_plugins.labelstudio_backend.learning.contact import LOOK_SECONDS, Contact
from sam_plugins.labelstudio_backend.learning.database import Database, now
from sam_plugins.labelstudio_backend.learning.events import EventQueue
from sam_plugins.labelstudio_backend.learning.jobs import JobState
from sam_plugins.labelstudio_backend.learning.keys import key_of, model_name_of
from sam_plugins.labelstudio_backend.learning.projects import ProjectFolders
from sam_plugins.labelstudio_backend.learning.reconcile import reconcile
from sam_plugins.labelstudio_backend.learning.schedule import request_due
from sam_plugins.labelstudio_backend.learning.settings import LearningSettings
from sam_plugins.labelstudio_backend.learning.training import Trainings
from sam_plugins.labelstudio_backend.problems import Problems
from sam_plugins.model.weights.store import ModelStore, StoredVersion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sam_plugins.labelstudio_backend.learning.pictures import FetchPicture

SwapModel = Callable[[str, str], None]
"""Called with a project's key and the model that it is to use from now on."""

RefreshPredictions = Callable[[str], None]
"""Called with a project's key, again and again while Label Studio answers."""

_LOG = logging.getLogger(__name__)
_PAUSE_SECONDS = 2.0
_END_SECONDS = 5.0
"""Each step can be cut off: it is a transaction, or done again."""
_RETRY_SECONDS = 60.0
_KEPT_ERRORS = 20
_NOT_FOUND = 404
_LOCK_NAME = "learning.lock"


class BackendLearning:
    """What a backend learns from what people submit.

    Parameters
    ----------
    settings : LearningSettings
    fetch : callable
        See :data:`~.pictures.FetchPicture`.
    swap_model : callable, optional
        Told which model a project uses from now on, at the start too.
    refresh_predictions : callable, optional
        Sees to it that stored predictions are of the model in use; of several processes, in one.
    cluster : Cluster, optional
        Where models are trained, if it is wanted and can be reached.
    problems : Problems, optional
        Told while Label Studio does not answer, or a project cannot be compared with it.

    Raises
    ------
    LearningError
        If the state folder cannot be used.
    """

    def __init__(
        self,
        settings: LearningSettings,
        *,
        fetch: FetchPicture,
        swap_model: SwapModel | None = None,
        refresh_predictions: RefreshPredictions | None = None,
        cluster: Cluster | None = None,
        problems: Problems | None = None,
    ) -> None:
        self.settings = settings
        self._problems = problems or Problems()
        self._fetch = fetch
        self._swap_model = swap_model or (lambda _project, _model: None)
        self._refresh_predictions = refresh_predictions or (lambda _project: None)
        self._database = Database(settings.folder)
        self._events = EventQueue(self._database)
        self._trainings = Trainings(self._database, settings.training, cluster)
        self._folders = ProjectFolders(settings)
        self._models = ModelStore()
        self._api: Api | None = None
        self._contact: Contact | None = None
        if settings.url and settings.token:
            self._api = Api(settings.url, settings.token)
            often = min(LOOK_SECONDS, settings.reconcile_seconds)
            self._contact = Contact(
                settings.url, settings.token, self._problems, look_seconds=often
            )
        self._lock = filelock.FileLock(settings.folder.absolute() / _LOCK_NAME, thread_local=False)
        self._emails: Mapping[int, str] = {}
        self._swapped: dict[str, str] = {}
        self._heard: set[str] = set()
        self._reconcile_at: dict[str, float] = {}
        self._errors: deque[dict[str, Any]] = deque(maxlen=_KEPT_ERRORS)
        self._thread: threading.Thread | None = None
        self._process = -1
        self._wake = threading.Event()
        self._is_closing = False

    # ----------------------------------------------------------------------- from the routes

    def start(self) -> None:
        """Begin to work in the background, in this process; again is harmless."""
        if self._thread is not None and self._process == os.getpid() and self._thread.is_alive():
            return
        self._process = os.getpid()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="learning", daemon=True)
        self._thread.start()

    def on_webhook(self, payload: Mapping[str, Any]) -> None:
        """Write an event down, and return at once.

        Raises
        ------
        LearningError
            If it cannot be written; the project is compared with Label Studio later.
        """
        if payload.get("action") == PING:
            return
        try:
            self._events.put(payload)
        except SamPluginsError:
            key = key_of(payload.get("project"))
            if key is not None:
                self._reconcile_at[key] = 0.0
            raise
        finally:
            self._wake.set()

    def on_project(self, project: str, label_config: str = "") -> None:
        """Hear of a project that Label Studio connected, so that missed events are noticed."""
        if key_of(project) is None or project in self._heard:
            return
        with self._noting(f"hearing of project {project}"):
            with self._database.writing() as connection:
                mirror.put_project(connection, project, {"label_config": label_config})
            self._heard.add(project)

    def versions(self, project: str | None = None) -> list[str]:
        """Return the versions of a project's model, the newest first; of all projects' by default.

        Label Studio does not say which project it asks about.
        """
        keys = self.projects() if project is None else [project]
        return [
            str(version)
            for key in keys
            for version in reversed(self._models.versions(model_name_of(key)))
        ]

    def model_of(self, project: str) -> str | None:
        """Return the model that a project uses; None where it has none of its own yet."""
        version = self._models.in_use(model_name_of(project))
        return None if version is None else str(version)

    def status(self) -> dict[str, Any]:
        """Return what people want to know, ready for JSON."""
        return {
            "events_waiting": self._events.count(),
            "events_refused": self._events.refused()[:5],
            "errors": list(self._errors),
            "projects": {key: self._status_of(key) for key in self.projects()},
        }

    def close(self) -> None:
        """Stop working in this process; trainings go on by themselves."""
        self._is_closing = True
        self._wake.set()
        if self._thread is not None and self._process == os.getpid():
            self._thread.join(timeout=_END_SECONDS)
        self._lock.release(force=True)
        for one in (self._api, self._contact):
            if one is not None:
                one.close()

    # ------------------------------------------------------------------------ from a command

    def projects(self) -> list[str]:
        """Return the keys of all projects that were heard of."""
        return mirror.known_projects(self._database)

    def find_project(self, number: str) -> str | None:
        """Return the key of a project that Label Studio has; None without its API or the project.

        Raises
        ------
        LabelStudioError
            If Label Studio cannot be asked.
        """
        if self._api is None or not number.isdecimal():
            return None
        return key_of(self._api.project(int(number)))

    def request_training(self, project: str, reason: str) -> None:
        """Ask for a training."""
        with self._database.writing() as connection:
            mirror.put_project(connection, project, {})
        self._trainings.jobs.request(project, reason)
        self._wake.set()

    def require_enough_labels(self, project: str) -> None:
        """Refuse what a training would refuse, where that is known before it begins.

        Nothing is known while events or tasks wait to be taken in, or where Label Studio, which a
        training asks first, cannot be asked.

        Raises
        ------
        DatasetError
            With how many labels there are, and how many it takes.
        """
        told = self._foreseen_shortage(project)
        if told is not None and self._api is not None:
            try:
                reconcile(self._database, self._api, project)
            except LabelStudioError:
                return
            told = self._foreseen_shortage(project)
        if told is not None:
            raise told

    def is_training(self, project: str) -> bool:
        """Return whether a training of a project runs; another waits until it has ended."""
        running = self._trainings.jobs.in_state(JobState.RUNNING)
        return any(job.project == project for job in running)

    def cancel_training(self, project: str) -> bool:
        """Cancel what runs or waits; return whether there was anything."""
        return self._trainings.cancel(project)

    def roll_back(self, project: str) -> StoredVersion:
        """Put the model into use that was before the one that is.

        Raises
        ------
        StoreError
            If none was.
        """
        version = self._models.rollback(model_name_of(project))
        self._wake.set()
        return version

    def is_at_work(self) -> bool:
        """Return whether a backend works on the state folder."""
        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            return True
        self._lock.release()
        return False

    # ------------------------------------------------------------------------------- the work

    def work(self) -> None:
        """Do everything that there is to do now; what fails is noted, and tried again later."""
        self._swap()
        if not self._leads():
            return
        with self._noting("reading events"):
            while not self._is_closing and self._events.apply_next():
                pass
        if self._answers():
            for key in self.projects():
                with self._noting(f"comparing project {key} with Label Studio"):
                    self._reconcile_if_due(key)
                with self._noting(f"refreshing the predictions of project {key}"):
                    self._refresh_predictions(key)
        self._store_tasks(None)
        with self._noting("watching trainings"):
            if any(job.state == JobState.PROMOTED for job in self._trainings.watch()):
                self._swap()
        with self._noting("scheduling"):
            request_due(
                self._database,
                datetime.now().astimezone(),
                train_every=self.settings.train_every,
                train_at=self.settings.train_at,
            )
        for job in self._trainings.jobs.wanted():
            with self._noting(f"starting the training of project {job.project}"):
                self._prepare(job.project)
                with self._folders.open(job.project):
                    pass
                self._trainings.start(job, self._folders.folder_of(job.project))

    def _run(self) -> None:
        """Work until closed."""
        while not self._is_closing:
            self._wake.clear()
            try:
                self.work()
            except Exception as error:  # noqa: BLE001  # the thread must outlive it
                _LOG.exception("learning stumbled; it goes on")
                self._note("working", f"{type(error).__name__}: {error}")
            self._wake.wait(_PAUSE_SECONDS)

    def _leads(self) -> bool:
        """Return whether this process is the one that works."""
        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            return False
        except OSError as error:
            self._note("locking the state folder", str(error))
            return False
        return True

    def _swap(self) -> None:
        """Tell which models came into use since the last time, by whatever command."""
        for key in self.projects():
            with self._noting(f"swapping the model of project {key}"):
                model = self.model_of(key)
                if model is not None and self._swapped.get(key) != model:
                    self._swap_model(key, model)
                    self._swapped[key] = model

    def _answers(self) -> bool:
        """Return whether Label Studio answers; if it does again, everything is compared anew."""
        if self._contact is None:
            return False
        with self._noting("asking Label Studio"):
            if self._contact.came_back():
                self._reconcile_at.clear()
        return self._contact.is_up

    def _reconcile_if_due(self, key: str) -> None:
        """Compare a project with Label Studio, at the start and now and then."""
        if self._api is None or now() < self._reconcile_at.get(key, 0.0):
            return
        self._reconcile_at[key] = now() + min(_RETRY_SECONDS, self.settings.reconcile_seconds)
        self._reconcile(key)
        self._reconcile_at[key] = now() + self.settings.reconcile_seconds

    def _reconcile(self, key: str) -> None:
        """Compare a project with Label Studio."""
        assert self._api is not None
        name = f"comparing {key}"
        try:
            found = reconcile(self._database, self._api, key)
        except LabelStudioError as error:
            if error.status == _NOT_FOUND and mirror.was_compared(self._database, key):
                self._problems.end(name)  # it was deleted there, which is no fault
            else:
                told = f"annotations cannot be compared with Label Studio: {error}"
                self._problems.stand(name, "label_studio", told, project=key)
            raise
        self._problems.end(name)
        if found.mended:
            _LOG.info("project %s: %d annotations mended", key, found.mended)
        try:
            self._emails = self._api.emails()
        except LabelStudioError as error:  # Numbers name them, too.
            _LOG.info("users cannot be listed: %s", error)

    def _prepare(self, key: str) -> None:
        """Bring the labels of a project up to date, as far as that is possible."""
        if self._api is not None:
            with self._noting(f"comparing project {key} with Label Studio"):
                self._reconcile(key)
        mirror.try_again(self._database, key)
        self._store_tasks(key)

    def _store_tasks(self, key: str | None) -> None:
        """Bring changed tasks into the label stores."""
        while not self._is_closing:
            changed = mirror.changed_tasks(self._database, key)
            if not changed:
                return
            for project, task in changed:
                if not self._is_settled(project, task):
                    return

    def _is_settled(self, key: str, number: int) -> bool:
        """Bring a task into its label store, or note why not; return whether either is written.

        Where neither is, the task stands first again, so that nobody may ask for the next at once.
        """
        try:
            self._store_task(key, number)
        except Exception as error:  # noqa: BLE001  # one odd task must not stop the others
            reason = str(error)
            if not isinstance(error, SamPluginsError):
                _LOG.exception("task %d of project %s makes no sense", number, key)
                reason = f"{type(error).__name__}: {error}"
            self._note(f"storing task {number} of project {key}", reason)
            try:
                mirror.note_failure(self._database, key, number, reason)
            except SamPluginsError as failure:
                self._note("noting a failure", str(failure))
                return False
        return True

    def _store_task(self, key: str, number: int) -> None:
        """Bring one task into its label store."""
        from sam_plugins.labelstudio_backend.learning.labels import Authors, store_task

        task = mirror.read_task(self._database, key, number)
        known = mirror.objects_of(self._database, key, number)
        with self._folders.open(key) as project:
            stored = store_task(
                project.labels,
                task,
                known,
                self._folders.pictures(key, number, self._fetch),
                is_complete=self.settings.is_complete,
                authors=Authors(self._emails),
            )
        mirror.note_stored(self._database, task, stored.objects, stored.note, stored.left_out)

    def _foreseen_shortage(self, key: str) -> DatasetError | None:
        """Return why a project has too few labels; None where it has enough, or nobody knows."""
        from sam_plugins.labelstudio_backend.learning import tally
        from sam_plugins.labelstudio_backend.learning.splits import (
            Divided,
            foreseen,
            require_enough,
        )

        if self._events.count() or tally.counts(self._database, key)["tasks_waiting"]:
            return None
        divided = Divided(0, 0)
        if self._folders.is_there(key):
            with self._folders.open(key) as project:
                share, is_first = project.settings.held_out_share, not project.state.rounds()
                divided = foreseen(project.labels, share=share, is_first=is_first)
        try:
            require_enough(divided)
        except DatasetError as error:
            return error
        return None

    def _status_of(self, key: str) -> dict[str, Any]:
        """Return what people want to know about a project, or why nothing can be told."""
        try:
            return self._described(key)
        except Exception as error:  # noqa: BLE001  # the others are told nevertheless
            if not isinstance(error, SamPluginsError):
                _LOG.exception("project %s cannot be described", key)
            return {"error": f"this project cannot be described: {error}"}

    def _described(self, key: str) -> dict[str, Any]:
        """Return what people want to know about a project."""
        from sam_plugins.labelstudio_backend.learning import tally

        model = self._models.in_use(model_name_of(key))
        return {
            **tally.counts(self._database, key),
            "learns_from": tally.learned_from(self._database, key),
            "model": None if model is None else str(model),
            "versions": self.versions(key),
            "folder": str(self._folders.folder_of(key)),
            "trainings": self._trainings.status(key),
        }

    @contextmanager
    def _noting(self, doing: str) -> Iterator[None]:
        """Note what goes wrong, for people, and go on."""
        try:
            yield
        except SamPluginsError as error:
            self._note(doing, str(error))
        except Exception as error:  # noqa: BLE001  # what comes next does not depend on it
            _LOG.exception("%s", doing)
            self._note(doing, f"{type(error).__name__}: {error}")

    def _note(self, doing: str, message: str) -> None:
        """Remember an error, once where it comes again and again."""
        _LOG.warning("%s: %s", doing, message)
        if self._errors and self._errors[-1]["message"] == message:
            self._errors.pop()
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        self._errors.append({"at": moment, "while": doing, "message": message})
