"""What can be done in **Segment**: each a button, a key, a command of the manifest and a method."""

from __future__ import annotations

from typing import Literal, NamedTuple

Group = Literal["prompt", "object", "finish", "edit", "find", "volume", "seen"]
"""What it is about: the groups of buttons, what people need first before the rest."""


class Action(NamedTuple):
    """Something to do.

    ``name`` is the method of :class:`~sam_plugins.napari_plugin.controller.SegmentController`.
    """

    name: str
    title: str
    key: str | None
    tooltip: str
    group: Group

    @property
    def hint(self) -> str:
        """What a button says when the mouse rests on it: what it does, and its key."""
        key = f" ({self.key.replace('Control', 'Ctrl')})" if self.key else ""
        return self.tooltip + key


ACTIONS = (
    Action("commit", "Commit", "C", "Write the current masks to the objects layer", "finish"),
    Action(
        "undo", "Undo", "Control-Z", "Take the last step back: prompt, mask, commit, edit", "finish"
    ),
    Action("redo", "Redo", "Control-Shift-Z", "Do again what was undone last", "finish"),
    Action(
        "toggle_sign", "On / beside", "T", "Whether clicks are on the object or beside it", "prompt"
    ),
    Action("next_object", "Next object", "N", "The next click begins another object", "prompt"),
    Action(
        "prompt_from_layer",
        "From layer",
        None,
        "Each point or shape of the selected Points or Shapes layer is an object, in all slices; "
        "those selected in it, if any",
        "prompt",
    ),
    Action(
        "cycle_mask",
        "Next mask",
        "M",
        "The next of the three masks of an ambiguous click",
        "object",
    ),
    Action("clear", "Clear", "Shift-C", "Drop the current masks and their prompts", "object"),
    Action("accept_one", "Accept one", "A", "Commit only the mask under the mouse", "object"),
    Action("drop_one", "Drop one", "D", "Drop only the mask under the mouse", "object"),
    Action(
        "propagate",
        "Propagate",
        "P",
        "Follow the current objects through the stack, both ways from the slices with prompts",
        "volume",
    ),
    Action(
        "stop_propagating",
        "Stop",
        None,
        "Stop following objects; the slices that are done stay",
        "volume",
    ),
    Action(
        "edit_object", "Edit", "E", "Go on with the object under the mouse, of any layer", "edit"
    ),
    Action(
        "delete_object",
        "Delete",
        "Delete",
        "Remove the object under the mouse, from all slices",
        "edit",
    ),
    Action(
        "delete_slice",
        "Delete here",
        "Shift-Delete",
        "Remove the object under the mouse from this slice alone",
        "edit",
    ),
    Action(
        "fill_object",
        "Fill holes",
        "F",
        "Fill the holes of the object under the mouse, in all slices",
        "edit",
    ),
    Action(
        "split_object",
        "Split",
        None,
        "Into its pieces, or between the points of the draft, in this slice",
        "edit",
    ),
    Action(
        "merge_objects",
        "Merge",
        None,
        "Join the objects under the points of the draft, in all slices",
        "edit",
    ),
    Action(
        "find_similar",
        "Find all like this",
        "L",
        "Objects like the current ones, the one under the mouse, or all committed ones",
        "find",
    ),
    Action("find_words", "Find by words", None, "Objects that the words below name", "find"),
    Action(
        "segment",
        "Prepare",
        "S",
        "Encode what is seen, so that a click is answered at once",
        "seen",
    ),
)
BY_NAME = {action.name: action for action in ACTIONS}
