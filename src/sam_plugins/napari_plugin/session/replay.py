"""A saved session asked again: the same prompts and the same model should give the same masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.values import Answer, Sight, State, Turn

Ask = Callable[[Sight, tuple[Turn, ...]], Answer]
"""Answers all turns of an object about what is seen."""


@dataclass(frozen=True)
class Replayed:
    """An object of a session, as it was and as it is answered now.

    Parameters
    ----------
    key : int
    before, now : MaskCrop
    """

    key: int
    before: MaskCrop
    now: MaskCrop

    @property
    def is_same(self) -> bool:
        """Whether the two masks are equal, pixel by pixel."""
        return self.before == self.now


def replay(state: State, ask: Ask) -> Iterator[Replayed]:
    """Ask for all objects and drafts of a session again, in their order.

    Yields
    ------
    Replayed
    """
    for known in state.objects:
        yield Replayed(known.key, known.mask, _mask(ask(known.sight, known.turns), known.turns))
    for draft in state.drafts:
        if draft.answer is not None and draft.mask is not None:
            answer = ask(draft.sight, draft.turns)
            yield Replayed(draft.key, draft.mask, _mask(answer, draft.turns))


def _mask(answer: Answer, turns: tuple[Turn, ...]) -> MaskCrop:
    """Return the mask that the last turn chose."""
    return answer.masks[answer.chosen(turns[-1].choice)]
