"""One person's work on one image: what can be done, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from psygnal import Signal

from sam_plugins.napari_plugin.session.changes import LabelChange
from sam_plugins.napari_plugin.session.editing import Overlap, find_object
from sam_plugins.napari_plugin.session.followed import (
    Followed,
    drafts_of,
    followed_of,
    object_keys,
)
from sam_plugins.napari_plugin.session.history import History, Step
from sam_plugins.napari_plugin.session.meaning import begun_draft, draft_meant, title_of
from sam_plugins.napari_plugin.session.planes import LabelCanvas, Plane
from sam_plugins.napari_plugin.session.values import (
    Answer,
    Draft,
    MaskPrompt,
    Prompt,
    SegmentedObject,
    Sight,
    State,
    Turn,
)
from sam_plugins.napari_plugin.session.writing import (
    Changes,
    commit_drafts,
    delete_object,
    fill_holes,
    is_in,
    merge_objects,
    split_object,
)

_ANOTHER_PICTURE = "another picture"


class Session:
    """Drafts, committed objects and the labels that they are written to, with undo and redo.

    It asks no model: it says through its signals what is to be asked, and is told the answer.

    Parameters
    ----------
    canvas : LabelCanvas
        The labels; written to when an object is committed or edited.
    state : State, optional
        To go on from.

    Attributes
    ----------
    state_changed : Signal()
        Drafts, objects or what can be undone have changed.
    labels_changed : Signal(Plane, Window)
        Pixels of the labels have changed there.
    """

    state_changed = Signal()
    labels_changed = Signal(object, object)

    def __init__(self, canvas: LabelCanvas, state: State | None = None) -> None:
        self.canvas = canvas
        self._state = State() if state is None else state
        self._history = History()
        self._touched: dict[Plane, int] = {}
        self._watched: set[Plane] = set()
        self._is_suspect = False
        self._has_changed: Callable[[], bool] = lambda: False
        self._reserved = 0

    @property
    def state(self) -> State:
        """All but the pixels, as it is now."""
        return self._state

    @property
    def undo_title(self) -> str | None:
        """What would be undone next, None for nothing."""
        return self._history.undo_title

    @property
    def redo_title(self) -> str | None:
        """What would be done again next, None for nothing."""
        return self._history.redo_title

    @property
    def touched_planes(self) -> dict[Plane, int]:
        """Planes whose pixels have changed, and how often."""
        return dict(self._touched)

    def touch(self, plane: Plane) -> None:
        """Say that somebody else has painted on a plane."""
        self._touched[plane] = self._touched.get(plane, 0) + 1

    @property
    def watched_planes(self) -> tuple[Plane, ...]:
        """Planes that others can change without a word."""
        return tuple(self._watched)

    def watch(self, planes: Iterable[Plane]) -> None:
        """Say which planes others can change without a word, as the undo of napari's tools does."""
        self._watched.update(planes)

    def look_with(self, has_changed: Callable[[], bool]) -> None:
        """Say what tells, in any thread, whether others may have changed a watched plane."""
        self._has_changed = has_changed

    def suspect(self) -> None:
        """Say that watched planes may have changed; whoever saves them looks."""
        self._is_suspect = True

    def take_suspects(self) -> tuple[Plane, ...]:
        """Return the planes that may have changed since this was asked last."""
        if not self._has_changed() and not self._is_suspect:
            return ()
        self._is_suspect = False  # only here: another thread may have set it since
        return self.watched_planes

    # ---------------------------------------------------------------------------------- drafts

    def add_prompts(
        self, prompts: Sequence[Prompt], sight: Sight, *, new_object: bool = False
    ) -> Draft:
        """Say something about the active draft, or begin one.

        Parameters
        ----------
        prompts : sequence of Prompt
            What is said at once.
        sight : Sight
            What the model is shown; from now on, where it is another part of the plane than before.
        new_object : bool
            Whether it is about another object even if there is an active draft. It is so in any
            case for a second box in a plane. In another slice of a stack it is about the followed
            object there, or the active one, which may then be followed from both slices.

        Returns
        -------
        Draft
            The active one, waiting for its answer.

        Raises
        ------
        ValueError
            If there are no prompts.
        """
        if not prompts:
            raise ValueError("there must be at least one prompt, got none")
        turn = Turn(tuple(prompts))
        state = self._state
        known = None if new_object else draft_meant(state, turn, sight)
        if known is not None:
            state = state.with_last(replace(known.with_turn(turn), sight=sight))
        else:
            state = state.with_new(begun_draft(state, turn, sight, new_object=new_object))
        self._do(title_of(turn), state)
        assert self._state.active is not None
        return self._state.active

    def add_objects(self, prompts: Iterable[Prompt], sight: Sight) -> tuple[Draft, ...]:
        """Begin a draft for each of many points or boxes, as one step."""
        state = self._state
        before = len(state.drafts)
        for prompt in prompts:
            state = state.with_new(Draft(0, sight, (Turn((prompt,)),)))
        added = state.drafts[before:]
        if added:
            self._do(f"{len(added)} objects", state)
        return added

    def add_found(
        self, answers: Sequence[Answer], sight: Sight, *, title: str = "find"
    ) -> tuple[Draft, ...]:
        """Begin a draft for each mask that was found, as one step: people accept or drop them.

        Parameters
        ----------
        answers : sequence of Answer
            Of one mask each. The mask is the draft's first prompt, so that it replays, and can be
            made better with points.
        sight : Sight
            What it was found in.
        title : str
            Of the step.
        """
        state = self._state
        before = len(state.drafts)
        for answer in answers:
            turns = (Turn((MaskPrompt(answer.masks[0]),)),)
            state = state.with_new(Draft(0, sight, turns, answer))
        added = state.drafts[before:]
        if added:
            self._do(title, state)
        return added

    def drop(self, key: int) -> None:
        """Drop one draft, and with it all slices of an object that was followed."""
        state = self._state
        gone = next((draft.object_key for draft in state.drafts if draft.key == key), None)
        if gone is None:
            return
        is_followed = followed_of(state, gone) is not None
        drafts = tuple(
            draft
            for draft in state.drafts
            if not (draft.key == key or (is_followed and draft.object_key == gone))
        )
        followed = tuple(one for one in state.followed if one.key != gone)
        self._do("drop", replace(state, drafts=drafts, followed=followed))

    def set_answer(
        self, key: int, turns: tuple[Turn, ...], answer: Answer, sight: Sight | None = None
    ) -> bool:
        """Take the model's answer to the turns of a draft; a stale one is dropped.

        Parameters
        ----------
        key : int
        turns : tuple of Turn
        answer : Answer
        sight : Sight, optional
            What the model was shown, where the object was larger than what was asked about.

        Returns
        -------
        bool
            Whether the draft is still there, and still waits for this answer.
        """
        drafts = tuple(
            replace(draft, answer=answer, shown=None, sight=sight or draft.sight)
            if draft.key == key and draft.turns == turns and draft.answer is None
            else draft
            for draft in self._state.drafts
        )
        if drafts == self._state.drafts:
            return False
        self._state = replace(self._state, drafts=drafts)
        self._history.amend(self._state)
        self.state_changed.emit()
        return True

    def cycle(self, key: int | None = None, steps: int = 1) -> int | None:
        """Choose the next of a draft's masks, or one further on, and return its index.

        Parameters
        ----------
        key : int, optional
            Of the draft; by default the active one.
        steps : int
            How many masks to go on.
        """
        active = self._state.active
        key = active.key if key is None and active is not None else key
        draft = next((one for one in self._state.drafts if one.key == key), None)
        if draft is None or draft.answer is None or draft.choice is None:
            return None
        choice = (draft.choice + steps) % len(draft.answer.masks)
        if choice != draft.choice:
            chosen = draft.with_choice(choice)
            drafts = tuple(chosen if one is draft else one for one in self._state.drafts)
            self._do("another mask", replace(self._state, drafts=drafts))
        return choice

    def look_again(self, key: int, sight: Sight) -> None:
        """Let a draft be asked about again, in what the model is shown of another part."""
        drafts = tuple(
            replace(draft, sight=sight, answer=None, shown=draft.mask)
            if draft.key == key
            else draft
            for draft in self._state.drafts
        )
        self._state = replace(self._state, drafts=drafts)
        self._history.amend(self._state)
        self.state_changed.emit()

    def ask_again(self, look: Callable[[Draft], Sight]) -> None:
        """Let all drafts be asked about anew, as one step: the picture is another one.

        Parameters
        ----------
        look : callable
            Returns what the model is to be shown for a draft.
        """
        if not self._state.drafts:
            return
        drafts = tuple(
            replace(draft, sight=look(draft), answer=None, shown=draft.mask)
            for draft in self._state.drafts
        )
        state = replace(self._state, drafts=drafts, followed=())
        if self.undo_title == _ANOTHER_PICTURE:  # a film that runs is one step
            self._history.amend(state)
            self._become(state, ())
        else:
            self._do(_ANOTHER_PICTURE, state)

    def clear(self) -> None:
        """Drop all drafts."""
        if self._state.drafts:
            self._do("clear", replace(self._state, drafts=(), followed=()))

    def activate(self, object_key: int) -> bool:
        """Let the next prompt be about another of the objects that are being made."""
        drafts = drafts_of(self._state, object_key)
        if not drafts:
            return False
        self._state = self._state.with_last(drafts[-1])
        self._history.amend(self._state)
        self.state_changed.emit()
        return True

    def set_followed(self, found: Sequence[Followed]) -> int:
        """Take what was followed through a stack, as one step.

        Objects that are no longer being made are left out.

        Returns
        -------
        int
            The number of objects that were taken.
        """
        keys = object_keys(self._state)
        taken = tuple(one for one in found if one.key in keys)
        if taken:
            new = {one.key for one in taken}
            others = tuple(one for one in self._state.followed if one.key not in new)
            self._do("propagate", replace(self._state, followed=(*others, *taken)))
        return len(taken)

    def commit(
        self,
        *,
        overlap: Overlap = "keep",
        class_name: str = "object",
        class_label: int | None = None,
        keys: Collection[int] | None = None,
    ) -> tuple[int, ...]:
        """Write all drafts that have a mask to the labels.

        Parameters
        ----------
        overlap : {"keep", "replace"}
            Whether pixels of other objects stay or are taken over.
        class_name : str
            What the objects are.
        class_label : int, optional
            Write the class instead of a number for each object (semantic labels).
        keys : collection of int, optional
            Of the drafts to write; by default all.

        Returns
        -------
        tuple of int
            The labels that were written.

        Raises
        ------
        ValueError
            If a label does not fit the type of the labels.
        """
        state, changes, labels = commit_drafts(
            self.canvas,
            self._state,
            overlap=overlap,
            class_name=class_name,
            class_label=class_label,
            keys=keys,
        )
        if labels:
            self._do("commit", state, changes)
        return labels

    # --------------------------------------------------------------------------------- objects

    def edit(self, label: int, sight: Sight) -> Draft:
        """Make an object of the labels, from whichever tool, the active draft; its number stays.

        Raises
        ------
        ValueError
            If there is no such object in the plane.
        """
        mask = find_object(self.canvas.read(sight.plane), label)
        known = self._object(label, sight.plane)
        turns = (Turn((MaskPrompt(mask),)),)
        score = 1.0 if known is None else known.score
        draft = Draft(0, sight, turns, Answer((mask,), (score,)), label)
        self._do("edit", replace(self._state, drafts=(), followed=()).with_new(draft))
        assert self._state.active is not None
        return self._state.active

    def delete(self, label: int, planes: Plane | Sequence[Plane]) -> None:
        """Remove an object from a plane, or from all of several, as one step.

        Raises
        ------
        ValueError
            If it is in none of them.
        """
        self._do("delete", *delete_object(self.canvas, self._state, label, _several(planes)))

    def merge(self, labels: Sequence[int], planes: Plane | Sequence[Plane]) -> int:
        """Give objects the number of the first one, in a plane or in all of several, as one step.

        Returns
        -------
        int
            The number of the first one.

        Raises
        ------
        ValueError
            If there are fewer than two, or one of them is in none of the planes.
        """
        state, changes, label = merge_objects(self.canvas, self._state, labels, _several(planes))
        self._do("merge", state, changes)
        return label

    def split(
        self, label: int, plane: Plane, seeds_xy: Sequence[tuple[float, float]] = ()
    ) -> tuple[int, ...]:
        """Split an object of a plane; the largest part keeps its number.

        Parameters
        ----------
        label : int
        plane : Plane
        seeds_xy : sequence of (float, float)
            A point in each part, pixels of the plane; by default pieces that do not touch.

        Returns
        -------
        tuple of int
            The numbers of all parts.

        Raises
        ------
        ValueError
            If it would remain whole.
        """
        state, changes, numbers = split_object(self.canvas, self._state, label, plane, seeds_xy)
        self._do("split", state, changes)
        return numbers

    def fill(self, label: int, planes: Plane | Sequence[Plane]) -> None:
        """Fill the holes of an object in a plane, or in each of several; other objects stay.

        Raises
        ------
        ValueError
            If it is in none of them.
        """
        changes = fill_holes(self.canvas, label, _several(planes))
        if changes:
            self._do("fill", self._state, changes)

    def note_written(self, title: str, changes: Sequence[LabelChange]) -> None:
        """Take pixels that somebody wrote to the canvas already as one step."""
        if changes:
            self._do(title, self._state, list(changes))

    def reserve_labels(self, largest: int) -> None:
        """Give new objects numbers above one that is in use already; undoing does not free it."""
        self._reserved = max(self._reserved, largest)
        self._state = self._above_reserved(self._state)

    # --------------------------------------------------------------------------------- history

    def undo(self) -> str | None:
        """Take the last step back, and return what it was."""
        step = self._history.undo()
        if step is None:
            return None
        with self.canvas.together():
            for change in reversed(step.changes):
                change.undo(self.canvas)
        self._return_to(step.before, step.changes)
        return step.title

    def redo(self) -> str | None:
        """Do again what was undone last, and return what it was."""
        step = self._history.redo()
        if step is None:
            return None
        with self.canvas.together():
            for change in step.changes:
                change.redo(self.canvas)
        self._return_to(step.after, step.changes)
        return step.title

    def _do(self, title: str, state: State, changes: Changes | None = None) -> None:
        """Remember a step whose pixels are written already, and tell of it."""
        done = tuple(changes or ())
        self._history.add(Step(title, self._state, state, done))
        self._become(state, done)

    def _return_to(self, state: State, changes: Sequence[LabelChange]) -> None:
        """Take over a state that was there before; what was answered since stays answered."""
        state = state.with_answers_of(self._state)
        self._history.amend(state)
        self._become(state, changes)

    def _become(self, state: State, changes: Sequence[LabelChange]) -> None:
        """Take over a state, and say what is another."""
        self._state = self._above_reserved(state)
        for change in changes:
            self.touch(change.plane)
            self.labels_changed.emit(change.plane, change.window)
        self.state_changed.emit()

    def _above_reserved(self, state: State) -> State:
        """Return a state whose next number nobody else has: steps know nothing of other tools."""
        if state.next_label > self._reserved:
            return state
        return replace(state, next_label=self._reserved + 1)

    def _object(self, label: int, plane: Plane) -> SegmentedObject | None:
        """Return the last object of this session with a number in a plane."""
        found = (o for o in reversed(self._state.objects) if is_in(o, label, plane))
        return next(found, None)


def _several(planes: Plane | Sequence[Plane]) -> Sequence[Plane]:
    """Return planes, of which there may be one."""
    return [planes] if isinstance(planes, Plane) else planes
