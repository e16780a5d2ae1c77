"""What can be done in **Segment**: each a button, a key, a command of the manifest and a method."""

from __future__ import annotations

from typing import NamedTuple


class Action(NamedTuple):
    """Something to do.

    ``name`` is the method of :class:`~sam_plugins.napari_plugin.controller.SegmentController`.
    """

    name: str
    title: str
    key: str | None
    tooltip: str


ACTIONS = (
    Action("segment", "Prepare", "S", "Encode what is seen, so that a click is answered at once"),
    Action("commit", "Commit", "C", "Write the current masks to the objects layer"),
    Action("clear", "Clear", "Shift-C", "Drop the current masks and their prompts"),
    Action("toggle_sign", "On / beside", "T", "Whether clicks are on the object or beside it"),
    Action("next_object", "Next object", "N", "The next click begins another object"),
    Action("cycle_mask", "Next mask", "M", "The next of the three masks of an ambiguous click"),
    Action(
        "propagate",
        "Propagate",
        "P",
        "Follow the current objects through the stack, both ways from the slices with prompts",
    ),
    Action(
        "stop_propagating",
        "Stop",
        None,
        "Stop following objects; the slices that are done stay",
    ),
    Action("undo", "Undo", "Control-Z", "Take the last step back: prompt, mask, commit, edit"),
    Action("redo", "Redo", "Control-Shift-Z", "Do again what was undone last"),
    Action("edit_object", "Edit", "E", "Go on with the object under the mouse, of any layer"),
    Action(
        "delete_object", "Delete", "Delete", "Remove the object under the mouse, from all slices"
    ),
    Action(
        "delete_slice",
        "Delete here",
        "Shift-Delete",
        "Remove the object under the mouse from this slice alone",
    ),
    Action("fill_object", "Fill holes", "F", "Fill the holes of the object under the mouse"),
    Action("split_object", "Split", None, "Into its pieces, or between the points of the draft"),
    Action("merge_objects", "Merge", None, "Join the objects under the points of the draft"),
    Action(
        "find_similar",
        "Find all like this",
        "L",
        "Objects like the current ones, the one under the mouse, or all committed ones",
    ),
    Action("find_words", "Find by words", None, "Objects that the words in the options name"),
    Action("accept_one", "Accept one", "A", "Commit only the mask under the mouse"),
    Action("drop_one", "Drop one", "D", "Drop only the mask under the mouse"),
)
BY_NAME = {action.name: action for action in ACTIONS}
