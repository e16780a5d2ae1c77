"""Commands of the manifest: what the buttons of the widgets besides **Segment** do.

Each takes a viewer, by default the one in front, and opens the widget in it where it is not open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sam_plugins.napari_plugin.commands import PLUGIN, viewer_meant

if TYPE_CHECKING:
    from napari.viewer import Viewer


def widget_of(name: str, viewer: Viewer | None = None) -> Any:  # noqa: ANN401
    """Return a widget of ours, opening it where it is not open.

    Parameters
    ----------
    name : str
        Its display name in the manifest.
    viewer : Viewer, optional
        By default the one in front.

    Raises
    ------
    RuntimeError
        If there is no viewer.
    """
    return viewer_meant(viewer).window.add_plugin_dock_widget(PLUGIN, name)[1]


def automatic_find(viewer: Viewer | None = None) -> None:
    """Find objects in the background."""
    widget_of("Automatic", viewer).run()


def automatic_cancel(viewer: Viewer | None = None) -> None:
    """Stop finding objects; what was found so far stays."""
    widget_of("Automatic", viewer).cancel()


def automatic_add(viewer: Viewer | None = None) -> None:
    """Write what is shown into the objects, where nothing is yet."""
    widget_of("Automatic", viewer).add_to_objects()


def folder_choose(viewer: Viewer | None = None) -> None:
    """Ask for a folder of pictures, and open it."""
    widget_of("Folder", viewer).choose_folder()


def folder_previous(viewer: Viewer | None = None) -> None:
    """Save, and go one picture back."""
    widget_of("Folder", viewer).step(-1)


def folder_next(viewer: Viewer | None = None) -> None:
    """Save, and go to the next picture."""
    widget_of("Folder", viewer).step(1)


def folder_done(viewer: Viewer | None = None) -> None:
    """Call the picture done, and go on."""
    widget_of("Folder", viewer).done()


def folder_best(viewer: Viewer | None = None) -> None:
    """Go to the new picture from which the model would learn most."""
    widget_of("Folder", viewer).jump()


def train_choose(viewer: Viewer | None = None) -> None:
    """Ask for the folder of the project."""
    widget_of("Train", viewer).choose_folder()


def train_add(viewer: Viewer | None = None) -> None:
    """Copy the picture that is seen, and its objects, into the project."""
    widget_of("Train", viewer).add_picture()


def train_add_stack(viewer: Viewer | None = None) -> None:
    """Copy all slices of the image that have objects into the project."""
    widget_of("Train", viewer).add_stack()


def train_add_folder(viewer: Viewer | None = None) -> None:
    """Copy what is done in the folder of **Folder** into the project."""
    widget_of("Train", viewer).add_folder()


def train_try(viewer: Viewer | None = None) -> None:
    """Try a few steps, and say how long training will take."""
    widget_of("Train", viewer).try_training()


def train_start(viewer: Viewer | None = None) -> None:
    """Learn from all labels of the project."""
    widget_of("Train", viewer).train()


def train_cancel(viewer: Viewer | None = None) -> None:
    """End at this step; what is better so far is kept."""
    widget_of("Train", viewer).cancel()


def train_promote(viewer: Viewer | None = None) -> None:
    """Put the newest version of the project into use."""
    widget_of("Train", viewer).promote()


def train_rollback(viewer: Viewer | None = None) -> None:
    """Put the version of the project into use that was before."""
    widget_of("Train", viewer).roll_back()


def review_bring(viewer: Viewer | None = None) -> None:
    """Ask for a folder, and let the project know its pictures."""
    widget_of("Train", viewer).review.bring_in()


def review_next(viewer: Viewer | None = None) -> None:
    """Open the next picture of the project to review."""
    widget_of("Train", viewer).review.go_on()


def review_accept(viewer: Viewer | None = None) -> None:
    """Take over the objects of the picture under review, and go on."""
    widget_of("Train", viewer).review.accept()


def review_reject(viewer: Viewer | None = None) -> None:
    """Reject all proposals of the picture under review, and go on."""
    widget_of("Train", viewer).review.reject()


def review_stop(viewer: Viewer | None = None) -> None:
    """Look for no picture to review any more."""
    widget_of("Train", viewer).review.stop()


def models_use(viewer: Viewer | None = None) -> None:
    """Let all widgets work with the selected model."""
    widget_of("Models", viewer).use()


def models_download(viewer: Viewer | None = None) -> None:
    """Fetch the selected model."""
    widget_of("Models", viewer).download()


def models_delete(viewer: Viewer | None = None) -> None:
    """Remove the file of the selected model, after a question."""
    widget_of("Models", viewer).delete()


def models_promote(viewer: Viewer | None = None) -> None:
    """Put the selected version into use."""
    widget_of("Models", viewer).promote()


def models_rollback(viewer: Viewer | None = None) -> None:
    """Put the version into use that was before the selected one."""
    widget_of("Models", viewer).roll_back()
