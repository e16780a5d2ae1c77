"""What was done, in order, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sam_plugins.napari_plugin.session.changes import LabelChange
from sam_plugins.napari_plugin.session.values import State


@dataclass(frozen=True)
class Step:
    """One thing that a person did: the state before and after, and the pixels that changed."""

    title: str
    before: State
    after: State
    changes: tuple[LabelChange, ...] = ()


class History:
    """Steps done and undone, without limit.

    States share what they have in common, and pixels are kept as differences, so that a step costs
    little memory.
    """

    def __init__(self) -> None:
        self._done: list[Step] = []
        self._undone: list[Step] = []

    @property
    def undo_title(self) -> str | None:
        """What would be undone next."""
        return self._done[-1].title if self._done else None

    @property
    def redo_title(self) -> str | None:
        """What would be done again next."""
        return self._undone[-1].title if self._undone else None

    def __len__(self) -> int:
        """Return the number of steps that can be undone."""
        return len(self._done)

    def add(self, step: Step) -> None:
        """Remember a step; what was undone is gone."""
        self._done.append(step)
        self._undone.clear()

    def amend(self, after: State) -> None:
        """Let the last step end in another state: an answer has arrived."""
        if self._done:
            self._done[-1] = replace(self._done[-1], after=after)

    def undo(self) -> Step | None:
        """Return the last step, now undone."""
        if not self._done:
            return None
        self._undone.append(self._done.pop())
        return self._undone[-1]

    def redo(self) -> Step | None:
        """Return the step that was undone last, now done."""
        if not self._undone:
            return None
        self._done.append(self._undone.pop())
        return self._done[-1]
