"""Asking the model off the GUI thread; answers that come too late are dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.current_model import current_model
from sam_plugins.napari_plugin.jobs import Job, start_job
from sam_plugins.napari_plugin.session.planes import Window
from sam_plugins.napari_plugin.session.session import Session
from sam_plugins.napari_plugin.session.values import (
    Answer,
    BoxPrompt,
    Draft,
    PointPrompt,
    Prompt,
    Sight,
    Turn,
)

if TYPE_CHECKING:
    from qtpy.QtCore import QObject

    from sam_plugins.napari_plugin.answering import Answerer

Show = Callable[[Sight], npt.NDArray[np.uint8]]
Widen = Callable[[Sight, Sequence[Prompt], Window], Sight | None]
LoadAnswerer = Callable[[Show], "Answerer"]

_MANY = 8  # objects at once, of which people want to see how far they are


def load_answerer(show: Show) -> Answerer:
    """Load the model that all widgets share, with the cache that all front ends share."""
    from sam_plugins.model.inference.cache import EmbeddingCache
    from sam_plugins.model.weights.paths import embeddings_directory
    from sam_plugins.napari_plugin.answering import Answerer

    return Answerer(current_model().load(), EmbeddingCache(embeddings_directory()), show)


class Asker:
    """Asks about the drafts of a session that wait for an answer; used on the GUI thread.

    Parameters
    ----------
    show : callable
        Returns the picture of a sight.
    on_change : callable
        Told when it begins or ends to be busy.
    owner : QObject, optional
        Jobs end with it.
    load : callable
        Makes what answers; called in a thread.
    widen : callable
        Returns what the model is shown where a mask goes on beyond it, None where it does not; from
        a sight, the prompts and the window around the mask. Called in a thread.
    """

    def __init__(
        self,
        show: Show,
        on_change: Callable[[], None],
        owner: QObject | None,
        load: LoadAnswerer,
        widen: Widen = lambda sight, prompts, reach: None,  # noqa: ARG005
    ) -> None:
        self._show = show
        self._widen = widen
        self._on_change = on_change
        self._owner = owner
        self._load = load
        self._generation = 0
        self._asked: set[tuple[int, tuple[Turn, ...]]] = set()
        self._jobs: list[Job] = []
        self._encoding: Job | None = None
        self._answerer: Answerer | None = None
        self._loading = threading.Lock()
        self._is_closed = False

    @property
    def is_busy(self) -> bool:
        """Whether the model is at work for us."""
        return any(job.is_running for job in self._jobs)

    @property
    def generation(self) -> int:
        """Counts up when model or contrast become others; answers from before are stale."""
        return self._generation

    def is_ready(self, sight: Sight) -> bool:
        """Return whether a prompt about this is answered at once, because it is encoded."""
        return self._answerer is not None and self._answerer.is_ready(sight)

    def is_asked(self, draft: Draft) -> bool:
        """Return whether the model is being asked about a draft as it is now."""
        return (draft.key, draft.turns) in self._asked

    def use_other_model(self) -> None:
        """Load the model again: another one was chosen."""
        self._answerer = None
        self.drop_answers()

    def encode(self, sight: Sight) -> Job:
        """Encode a sight, so that the first click about it is answered at once."""

        def encode(*, progress: Any) -> None:  # noqa: ANN401
            answerer = self.answerer()
            progress.check()
            answerer.encode(sight)

        if self._encoding is not None:
            self._encoding.cancel()  # of a slice that was left, where it has not begun
        self._encoding = self._start(encode, "Encoding the image", lambda _: None, self._tidy)
        return self._encoding

    def ask(self, session: Session) -> None:
        """Ask about all drafts that wait for an answer and were not asked about yet."""
        fresh: dict[Sight, list[Draft]] = {}
        for draft in session.state.drafts:
            if draft.answer is not None or (draft.key, draft.turns) in self._asked:
                continue
            self._asked.add((draft.key, draft.turns))
            if len(draft.prompts) == 1:
                fresh.setdefault(draft.sight, []).append(draft)
            else:
                self._ask_about(session, draft.sight, [draft])
        for sight, drafts in fresh.items():
            self._ask_about(session, sight, drafts)

    def find(
        self,
        work: Callable[..., list[Answer]],
        on_found: Callable[[list[Answer]], None],
        title: str,
    ) -> Job:
        """Look for many objects at once.

        Parameters
        ----------
        work : callable
            Called in a thread with what answers and ``progress``.
        on_found : callable
            Told what was found, unless model or contrast have become others meanwhile.
        title : str
            What people see that is being done.
        """
        generation = self._generation

        def find(*, progress: Any) -> list[Answer]:  # noqa: ANN401
            answerer = self.answerer()
            progress.check()
            return work(answerer, progress=progress)

        def take(found: list[Answer]) -> None:
            if generation == self._generation:
                on_found(found)

        return self._start(find, title, take, self._tidy)

    def answerer(self) -> Answerer:
        """Return what answers, loading the model when it is first needed; from any thread.

        Raises
        ------
        SamPluginsError
            If the model cannot be had.
        """
        with self._loading:
            known = self._answerer
            while known is None:
                generation = self._generation
                made = self._load(self._show)
                if generation == self._generation:  # else another model was chosen meanwhile
                    known = self._answerer = made
            return known

    def drop_answers(self) -> None:
        """Let no answer in that is on its way."""
        self._generation += 1
        for job in self._jobs:
            job.cancel()
        self._asked.clear()

    def close(self) -> None:
        """Ask no more."""
        self._is_closed = True
        self.drop_answers()

    def _ask_about(self, session: Session, sight: Sight, drafts: list[Draft]) -> None:
        """Start a job that answers drafts about the same picture."""
        generation = self._generation

        def ask(*, progress: Any) -> list[tuple[Sight, Answer]]:  # noqa: ANN401
            answerer = self.answerer()
            progress.check()
            if len(drafts) == 1:
                answers = [answerer.answer(sight, drafts[0].turns)]
            else:
                answers = answerer.answer_all(sight, [draft.prompts[0] for draft in drafts])
            return [
                self._whole(answerer, draft, answer, progress.check)
                for draft, answer in zip(drafts, answers, strict=True)
            ]

        def take(answers: list[tuple[Sight, Answer]]) -> None:
            if generation == self._generation:
                for draft, (seen, answer) in zip(drafts, answers, strict=True):
                    session.set_answer(draft.key, draft.turns, answer, seen)

        def finished() -> None:
            if generation == self._generation:  # Otherwise the marks are those of later jobs.
                for draft in drafts:
                    self._asked.discard((draft.key, draft.turns))
            self._tidy()

        is_ready = self.is_ready(sight)
        title = "Segmenting" if is_ready else "Encoding the image"
        self._start(ask, title, take, finished, is_shown=not is_ready or len(drafts) > _MANY)

    def _whole(
        self, answerer: Answerer, draft: Draft, answer: Answer, check: Callable[[], None]
    ) -> tuple[Sight, Answer]:
        """Ask anew, in larger and larger parts of the plane, where a mask may be cut."""
        sight = draft.sight
        while isinstance(draft.turns[-1].prompts[0], PointPrompt | BoxPrompt):
            chosen = answer.masks[answer.chosen(draft.turns[-1].choice)]
            wider = self._widen(sight, draft.prompts, chosen.window)
            if wider is None:
                break
            check()
            sight, answer = wider, answerer.answer(wider, draft.turns)
        return sight, answer

    def _start(
        self,
        work: Callable[..., object],
        title: str,
        on_result: Callable[[Any], None],
        on_finished: Callable[[], None],
        *,
        is_shown: bool = True,
    ) -> Job:
        """Start a job of ours."""
        job = start_job(
            work,
            title=title,
            owner=self._owner,
            on_result=on_result,
            on_finished=on_finished,
            is_shown=is_shown,
        )
        self._jobs.append(job)
        self._on_change()
        return job

    def _tidy(self) -> None:
        """Forget jobs that have ended."""
        self._jobs = [job for job in self._jobs if job.is_running]
        if not self._is_closed:
            self._on_change()
