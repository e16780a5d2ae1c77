"""The values of a session: prompts in their order, answers, drafts, objects, and the whole.

Nothing here changes once it is made, so that going back is taking an earlier value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from sam_plugins.napari_plugin.session.followed import Followed
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import Plane, Window


@dataclass(frozen=True)
class PointPrompt:
    """A point in pixels of the plane, on the object or beside it; integers are pixel centres."""

    x: float
    y: float
    is_positive: bool = True


@dataclass(frozen=True)
class BoxPrompt:
    """A box around the object, in pixels of the plane.

    Raises
    ------
    ValueError
        If it has no area.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        """Check that there is an area."""
        if not (self.x0 < self.x1 and self.y0 < self.y1):
            raise ValueError(
                f"a box must have x0 < x1 and y0 < y1, got {(self.x0, self.y0, self.x1, self.y1)}"
            )


@dataclass(frozen=True)
class MaskPrompt:
    """A mask to start from: an object that is edited, a lasso, a polygon."""

    mask: MaskCrop


Prompt: TypeAlias = PointPrompt | BoxPrompt | MaskPrompt


@dataclass(frozen=True)
class Turn:
    """What was said at once, and which of the answer's masks was chosen.

    Parameters
    ----------
    prompts : tuple of Prompt
        One click is one point; a scribble is many.
    choice : int, optional
        The mask that the person chose; by default the one that the model trusts most.
    """

    prompts: tuple[Prompt, ...]
    choice: int | None = None


@dataclass(frozen=True)
class Sight:
    """What the model saw: a part of a plane of the image, in some contrast.

    With the image it is all that is needed to make the very same picture again.

    Parameters
    ----------
    plane : Plane
        Of the labels; the image may have a channel axis besides.
    region : Window
        The part that was shown to the model, in pixels of the plane.
    level : int
        Of a multiscale image, 0 being the largest.
    channels : tuple of (str, int)
        Colour and channel, where the image has a channel axis.
    limits : tuple of (float, float), optional
        Values shown as black and as white, one pair for each channel; None for robust percentiles.
    """

    plane: Plane
    region: Window
    level: int = 0
    channels: tuple[tuple[str, int], ...] = ()
    limits: tuple[tuple[float, float], ...] | None = None


@dataclass(frozen=True)
class Answer:
    """What the model answered to all turns of a draft.

    Parameters
    ----------
    masks : tuple of MaskCrop
        One, or three where the prompt was ambiguous.
    scores : tuple of float
        The IoU that the model expects of each.
    model_id : str
        Of the model, or empty where no model was asked.
    """

    masks: tuple[MaskCrop, ...]
    scores: tuple[float, ...]
    model_id: str = ""

    def __post_init__(self) -> None:
        """Check that each mask has its score."""
        if not self.masks or len(self.masks) != len(self.scores):
            raise ValueError(
                f"an answer must have a score for each mask, got {len(self.masks)} masks and "
                f"{len(self.scores)} scores"
            )

    def chosen(self, choice: int | None) -> int:
        """Return the index of the chosen mask, by default of the most trusted one."""
        if choice is not None:
            return choice % len(self.masks)
        return max(range(len(self.scores)), key=self.scores.__getitem__)


@dataclass(frozen=True)
class Draft:
    """An object that is being made, or edited.

    Parameters
    ----------
    key : int
        Tells it from others of the session.
    sight : Sight
    turns : tuple of Turn
        In order; at least one.
    answer : Answer, optional
        To all turns; None while the model is being asked.
    label : int, optional
        Of the object that is being edited.
    shown : MaskCrop, optional
        The mask to show until the answer is there.
    of : int, optional
        Key of the first draft of the same object, which lies in another slice of the stack.
    """

    key: int
    sight: Sight
    turns: tuple[Turn, ...]
    answer: Answer | None = None
    label: int | None = None
    shown: MaskCrop | None = None
    of: int | None = None

    @property
    def object_key(self) -> int:
        """The same for all drafts of an object, one in each of its prompted slices."""
        return self.key if self.of is None else self.of

    @property
    def choice(self) -> int | None:
        """Index of the mask that counts, None while there is no answer."""
        return None if self.answer is None else self.answer.chosen(self.turns[-1].choice)

    @property
    def mask(self) -> MaskCrop | None:
        """The mask that counts: the chosen one, or the last one while the model is being asked."""
        if self.answer is None or self.choice is None:
            return self.shown
        return self.answer.masks[self.choice]

    @property
    def score(self) -> float | None:
        """The model's trust in the mask."""
        if self.answer is None or self.choice is None:
            return None
        return self.answer.scores[self.choice]

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """All prompts in order."""
        return tuple(prompt for turn in self.turns for prompt in turn.prompts)

    def with_turn(self, turn: Turn) -> Draft:
        """Return the draft after one more turn, not answered yet."""
        return replace(self, turns=(*self.turns, turn), answer=None, shown=self.mask)

    def with_choice(self, choice: int) -> Draft:
        """Return the draft with another of the answer's masks."""
        return replace(self, turns=(*self.turns[:-1], replace(self.turns[-1], choice=choice)))


@dataclass(frozen=True)
class SegmentedObject:
    """A committed object, and how it came about.

    Parameters
    ----------
    key : int
        Of the draft that it was.
    label : int
        Its value in the label array: its own, or that of its class.
    sight : Sight
    turns : tuple of Turn
    mask : MaskCrop
        As it was committed, before others could take pixels from it.
    score : float
    model_id : str
    class_name : str
    followed : Followed, optional
        All slices of an object that was followed through a stack. Each of its prompted slices is an
        object here, of the same label, and the first of them knows the slices.
    """

    key: int
    label: int
    sight: Sight
    turns: tuple[Turn, ...]
    mask: MaskCrop
    score: float
    model_id: str
    class_name: str = "object"
    followed: Followed | None = None


@dataclass(frozen=True)
class State:
    """All of a session but the pixels of its labels.

    Parameters
    ----------
    drafts : tuple of Draft
        The last one is the active one.
    objects : tuple of SegmentedObject
        In the order of their commits.
    next_key, next_label : int
        For what comes next.
    followed : tuple of Followed
        Drafts that were followed through a stack.
    """

    drafts: tuple[Draft, ...] = ()
    objects: tuple[SegmentedObject, ...] = ()
    next_key: int = 1
    next_label: int = 1
    followed: tuple[Followed, ...] = ()

    @property
    def active(self) -> Draft | None:
        """The draft that the next prompt is about."""
        return self.drafts[-1] if self.drafts else None

    def with_answers_of(self, other: State) -> State:
        """Return the state with the answers that another one has to what waits for one here."""
        answered = {(one.key, one.turns): one for one in other.drafts if one.answer is not None}
        drafts = tuple(
            draft if draft.answer is not None else answered.get((draft.key, draft.turns), draft)
            for draft in self.drafts
        )
        return self if drafts == self.drafts else replace(self, drafts=drafts)

    def with_last(self, draft: Draft) -> State:
        """Return the state with a draft that it has as the active one."""
        others = tuple(known for known in self.drafts if known.key != draft.key)
        return replace(self, drafts=(*others, draft))

    def with_new(self, draft: Draft) -> State:
        """Return the state with one more draft, which gets the next key."""
        draft = replace(draft, key=self.next_key)
        return replace(self, drafts=(*self.drafts, draft), next_key=self.next_key + 1)
