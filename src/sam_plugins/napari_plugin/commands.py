"""Commands of the manifest: what the buttons and keys of **Segment** do, for the command palette.

Each takes a viewer, by default the one in front, and opens **Segment** in it where it is not open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from sam_plugins.napari_plugin.controller import SegmentController

PLUGIN, WIDGET = "sam-plugins", "Segment"


def controller_of(viewer: Viewer | None = None) -> SegmentController:
    """Return what does the work in a viewer, opening **Segment** where it is not open.

    Raises
    ------
    RuntimeError
        If there is no viewer.
    """
    import napari

    from sam_plugins.napari_plugin.widgets.segment import open_widget

    viewer = viewer or napari.current_viewer()
    if viewer is None:
        raise RuntimeError("there must be a napari viewer to segment in; open one first")
    widget = open_widget(viewer)
    if widget is None:
        widget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)[1]
    controller: SegmentController = widget.controller
    return controller


def segment(viewer: Viewer | None = None) -> None:
    """Encode what is seen, so that a click is answered at once."""
    controller_of(viewer).segment()


def commit(viewer: Viewer | None = None) -> None:
    """Write the current masks to the objects layer."""
    controller_of(viewer).commit()


def clear(viewer: Viewer | None = None) -> None:
    """Drop the current masks and their prompts."""
    controller_of(viewer).clear()


def toggle_sign(viewer: Viewer | None = None) -> None:
    """Let clicks say where the object is not, or is again."""
    controller_of(viewer).toggle_sign()


def next_object(viewer: Viewer | None = None) -> None:
    """Begin another object with the next click."""
    controller_of(viewer).next_object()


def cycle_mask(viewer: Viewer | None = None) -> None:
    """Choose the next of the three masks of an ambiguous click."""
    controller_of(viewer).cycle_mask()


def propagate(viewer: Viewer | None = None) -> None:
    """Follow the current objects through the slices of the stack."""
    controller_of(viewer).propagate()


def stop_propagating(viewer: Viewer | None = None) -> None:
    """Stop following objects; the slices that are done stay."""
    controller_of(viewer).stop_propagating()


def undo(viewer: Viewer | None = None) -> None:
    """Take the last step back."""
    controller_of(viewer).undo()


def redo(viewer: Viewer | None = None) -> None:
    """Do again what was undone last."""
    controller_of(viewer).redo()


def edit_object(viewer: Viewer | None = None) -> None:
    """Go on with the object under the mouse."""
    controller_of(viewer).edit_object()


def delete_object(viewer: Viewer | None = None) -> None:
    """Remove the object under the mouse, from all slices of its stack."""
    controller_of(viewer).delete_object()


def delete_slice(viewer: Viewer | None = None) -> None:
    """Remove the object under the mouse from the slice that is seen."""
    controller_of(viewer).delete_slice()


def fill_object(viewer: Viewer | None = None) -> None:
    """Fill the holes of the object under the mouse."""
    controller_of(viewer).fill_object()


def split_object(viewer: Viewer | None = None) -> None:
    """Split the object under the draft's points, or under the mouse."""
    controller_of(viewer).split_object()


def merge_objects(viewer: Viewer | None = None) -> None:
    """Join the objects under the draft's points."""
    controller_of(viewer).merge_objects()


def find_similar(viewer: Viewer | None = None) -> None:
    """Find all objects like the current ones, the one under the mouse, or the committed ones."""
    controller_of(viewer).find_similar()


def find_words(viewer: Viewer | None = None) -> None:
    """Find the objects that the words in the options name."""
    controller_of(viewer).find_words()


def accept_one(viewer: Viewer | None = None) -> None:
    """Write only the mask under the mouse to the objects layer."""
    controller_of(viewer).accept_one()


def drop_one(viewer: Viewer | None = None) -> None:
    """Drop only the mask under the mouse."""
    controller_of(viewer).drop_one()


def replay_session(viewer: Viewer | None = None) -> dict[str, Any]:
    """Ask for all objects of the session again, and tell which masks are no longer the same."""
    return controller_of(viewer).replay()
