"""Writing drafts to the objects: those that are answered at once, the others when they are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psygnal import Signal

from sam_plugins.errors import SamPluginsError
from sam_plugins.napari_plugin.params import SegmentParams
from sam_plugins.napari_plugin.session.followed import followed_of
from sam_plugins.napari_plugin.session.values import Draft, State

if TYPE_CHECKING:
    from sam_plugins.napari_plugin.segmenter import Segmenter


@dataclass(frozen=True)
class _Wish:
    """Drafts to be written together, and how, as it was said when it was wished.

    Parameters
    ----------
    drafts : tuple of (int, int)
        Key of each, and its number of turns: which mask is chosen may still become another.
    params : SegmentParams
    """

    drafts: tuple[tuple[int, int], ...]
    params: SegmentParams


class Committing:
    """Commits the drafts of a segmenter, now or when they are answered; used on the GUI thread.

    Parameters
    ----------
    segmenter : Segmenter

    Attributes
    ----------
    came : Signal()
        A draft that was waited for is committed.
    failed : Signal(Exception)
        It cannot be; it stays a draft.
    """

    came = Signal()
    failed = Signal(object)

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._awaited: dict[int, _Wish] = {}

    @property
    def is_awaited(self) -> bool:
        """Whether a draft is to be committed whose answer is still to come."""
        return bool(self._awaited)

    def is_meant(self, draft: Draft | None) -> bool:
        """Return whether a draft is to be committed when it is answered."""
        return draft is not None and any(_name(draft) in w.drafts for w in self._awaited.values())

    def commit(self, keys: Collection[int] | None = None) -> tuple[int, ...]:
        """Write all drafts, or those of some keys, and return the labels of those written now.

        Of an object that was followed all drafts are written together, once all are answered. A
        draft that the model is not being asked about is written with the mask that it shows.
        """
        state, is_asked = self._segmenter.session.state, self._segmenter.asker.is_asked
        meant = {
            _object_of(state, draft) for draft in state.drafts if keys is None or draft.key in keys
        }
        objects: dict[int, list[Draft]] = {key: [] for key in meant}
        for draft in state.drafts:
            objects.get(_object_of(state, draft), []).append(draft)
        params = self._segmenter.params
        wishes = {
            key: _Wish(tuple(map(_name, drafts)), params)
            for key, drafts in objects.items()
            if any(draft.answer is None and is_asked(draft) for draft in drafts)
        }
        if not wishes:
            return self._write(keys, params)
        ready = [d.key for key in meant - set(wishes) for d in objects[key]]
        labels = self._write(ready, params)
        self._awaited.update(wishes)
        self._segmenter.changed.emit()
        return labels

    def on_state(self) -> None:
        """Commit what is answered by now; of drafts that are others by now nothing is wanted."""
        if self._segmenter.choice.is_choosing:
            return  # it may have to be asked about again, in a larger part
        known = {_name(draft): draft for draft in self._segmenter.session.state.drafts}
        for key, wish in list(self._awaited.items()):
            drafts = [known.get(name) for name in wish.drafts]
            is_there = None not in drafts
            if is_there and not all(draft is not None and draft.answer for draft in drafts):
                continue
            # What is written leads back to here, which may have come to this wish already.
            if self._awaited.pop(key, None) is not None and is_there:
                self._write_late(wish)

    def forget(self) -> None:
        """Want nothing more."""
        self._awaited.clear()

    def _write_late(self, wish: _Wish) -> None:
        """Write drafts that were waited for; nobody is there to be told by an exception."""
        try:
            self._write([key for key, _ in wish.drafts], wish.params)
        except (SamPluginsError, ValueError) as error:
            self.failed.emit(error)
        else:
            self.came.emit()

    def _write(self, keys: Collection[int] | None, params: SegmentParams) -> tuple[int, ...]:
        """Write drafts to the objects layer, which is put back where somebody removed it."""
        segmenter = self._segmenter
        segmenter.through.require_rest()
        segmenter.stored.require_count()
        segmenter.show_objects()
        return segmenter.session.commit(
            overlap=params.overlap,
            class_name=params.class_name,
            class_label=params.class_label if params.is_semantic else None,
            keys=keys,
        )


def _name(draft: Draft) -> tuple[int, int]:
    """Return what tells a draft from others, and from itself before and after another prompt."""
    return draft.key, len(draft.turns)


def _object_of(state: State, draft: Draft) -> int:
    """Return a key that is the same for drafts that are written together."""
    return draft.key if followed_of(state, draft.object_key) is None else draft.object_key
