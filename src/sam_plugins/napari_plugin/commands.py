"""Commands of the manifest: what the buttons and keys of **Segment** do, for the command palette.

Each takes a viewer, by default the one in front, and opens **Segment** in it where it is not open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from sam_plugins.napari_plugin.controller import SegmentController
    from sam_plugins.napari_plugin.widgets.segment import SegmentWidget

PLUGIN, WIDGET = "sam-plugins", "Segment"


def viewer_meant(viewer: Viewer | None = None) -> Viewer:
    """Return a viewer, or the one in front where none is given.

    Raises
    ------
    RuntimeError
        If there is none.
    """
    import napari

    viewer = viewer or napari.current_viewer()
    if viewer is None:
        raise RuntimeError("there must be a napari viewer to segment in; open one first")
    return viewer


def widget_of(viewer: Viewer | None = None) -> SegmentWidget:
    """Return the **Segment** of a viewer, opening it where it is not open.

    Raises
    ------
    RuntimeError
        If there is no viewer.
    """
    from sam_plugins.napari_plugin.widgets.segment import open_widget

    viewer = viewer_meant(viewer)
    widget = open_widget(viewer)
    if widget is None:
        opened: SegmentWidget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)[1]
        return opened
    return widget


def controller_of(viewer: Viewer | None = None) -> SegmentController:
    """Return what does the work in a viewer, opening **Segment** where it is not open.

    Raises
    ------
    RuntimeError
        If there is no viewer.
    """
    return widget_of(viewer).controller


def segment(viewer: Viewer | None = None) -> None:
    """Encode what is seen, so that a click is answered at once."""
    controller_of(viewer).segment()


def commit(viewer: Viewer | None = None) -> None:
    """Write the current masks to the objects layer."""
    controller_of(viewer).commit()


def clear(viewer: Viewer | None = None) -> None:
    """Drop the current masks and their prompts."""
    controller_of(viewer).clear()


def drop_outline(viewer: Viewer | None = None) -> None:
    """Forget the corners of an outline that is not closed."""
    controller_of(viewer).drop_outline()


def toggle_sign(viewer: Viewer | None = None) -> None:
    """Let clicks say where the object is not, or is again."""
    controller_of(viewer).toggle_sign()


def next_object(viewer: Viewer | None = None) -> None:
    """Begin another object with the next click."""
    controller_of(viewer).next_object()


def prompt_from_layer(viewer: Viewer | None = None) -> None:
    """Begin an object with each point or shape of the selected Points or Shapes layer."""
    controller_of(viewer).prompt_from_layer()


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
    """Fill the holes that the object under the mouse has in each slice of its stack."""
    controller_of(viewer).fill_object()


def split_object(viewer: Viewer | None = None) -> None:
    """Split the object under the draft's points, or under the mouse, in the slice that is seen."""
    controller_of(viewer).split_object()


def merge_objects(viewer: Viewer | None = None) -> None:
    """Join the objects under the draft's points, through all slices of their stack."""
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


def replay_session(viewer: Viewer | None = None) -> None:
    """Ask for all objects of the session again, and tell which masks are no longer the same."""
    controller_of(viewer).replay()


def restore(viewer: Viewer | None = None) -> None:
    """Go on with the unfinished session that is offered."""
    widget_of(viewer).restore()


def discard(viewer: Viewer | None = None) -> None:
    """Remove the unfinished session that is offered, once a person has said yes."""
    widget_of(viewer).ask_discard()


def preview(viewer: Viewer | None = None) -> None:
    """Add the picture that the model is shown as a layer."""
    widget_of(viewer).show_preview()


def keep_labels(viewer: Viewer | None = None) -> None:
    """Ask for a file, and keep labels there that are too large for memory."""
    widget_of(viewer).stored_labels.ask()
