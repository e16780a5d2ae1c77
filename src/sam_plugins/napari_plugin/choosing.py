"""Which mask of an ambiguous click is meant, said after the answer or before it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sam_plugins.napari_plugin.session.values import Draft, Turn

if TYPE_CHECKING:
    from sam_plugins.napari_plugin.segmenter import Segmenter


class MaskChoice:
    """Chooses among the masks of a segmenter's answers; used on the GUI thread.

    Parameters
    ----------
    segmenter : Segmenter
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._awaited: dict[tuple[int, tuple[Turn, ...]], int] = {}
        self._is_choosing = False

    @property
    def is_awaited(self) -> bool:
        """Whether another mask is wanted of an answer that is still to come."""
        return bool(self._awaited)

    @property
    def is_choosing(self) -> bool:
        """Whether a mask is being chosen just now, and may have to be asked about again."""
        return self._is_choosing

    def next(self) -> int | None:
        """Choose the next mask of the active draft, as soon as there is one; return its index."""
        draft = self._segmenter.session.state.active
        if draft is None:
            return None
        if draft.answer is not None:
            return self._choose(draft, 1)
        key = (draft.key, draft.turns)
        self._awaited[key] = self._awaited.get(key, 0) + 1
        self._segmenter.changed.emit()
        return None

    def on_state(self) -> None:
        """Choose in answers that have come; of drafts that are others by now nothing is wanted."""
        known = {(one.key, one.turns): one for one in self._segmenter.session.state.drafts}
        for key in list(self._awaited):
            draft = known.get(key)
            if draft is not None and draft.answer is None:
                continue
            # What is chosen leads back to here, which may have come to this one already.
            steps = self._awaited.pop(key, None)
            if draft is not None and steps is not None:
                self._choose(draft, steps)

    def forget(self) -> None:
        """Want nothing more: another session begins."""
        self._awaited.clear()

    def _choose(self, draft: Draft, steps: int) -> int | None:
        """Choose a mask; one that goes on beyond what was shown is asked for in a larger part."""
        was_choosing, self._is_choosing = self._is_choosing, True
        try:
            return self._choose_whole(draft, steps)
        finally:
            self._is_choosing = was_choosing

    def _choose_whole(self, draft: Draft, steps: int) -> int | None:
        """Choose a mask, and have it asked for in a larger part where it needs one."""
        session, viewpoint = self._segmenter.session, self._segmenter.viewpoint
        choice = session.cycle(draft.key, steps)
        now = next((one for one in session.state.drafts if one.key == draft.key), None)
        if choice is not None and now is not None and now.mask is not None:
            wider = viewpoint.wider(now.sight, now.prompts, now.mask.window)
            if wider is not None:
                session.look_again(now.key, wider)
        return choice
