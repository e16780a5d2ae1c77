"""The labels layers that an image's objects are written to, each with its session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from sam_plugins.napari_plugin.belonging import labels_of, lies_on, owner_of
from sam_plugins.napari_plugin.drawing import place
from sam_plugins.napari_plugin.label_arrays import is_empty
from sam_plugins.napari_plugin.layers import (
    KEY,
    LayerCanvas,
    add_labels,
    add_unselected,
    bind,
    set_role,
)
from sam_plugins.napari_plugin.painting import BrushWatch
from sam_plugins.napari_plugin.session.files import SavedSession, load_session
from sam_plugins.napari_plugin.session.session import Session
from sam_plugins.napari_plugin.session.values import State

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels


class ObjectLayers:
    """One labels layer at a time, and a way back to those before; used on the GUI thread.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image
    channel_axis : int or None
        Of the image.
    leave : callable
        Called before another layer takes the place of this one.
    begin : callable
        Called with a layer and its session, which begins or goes on.
    on_state : callable
        Called when the state of a session has changed.

    Attributes
    ----------
    layer : Labels
        Where objects are written; made where the image has none.
    session : Session
        Of that layer; what its file had, if it was read from one.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        channel_axis: int | None,
        *,
        leave: Callable[[], None],
        begin: Callable[[Labels, Session], None],
        on_state: Callable[[], None],
    ) -> None:
        self._viewer = viewer
        self._image = image
        self._channel_axis = channel_axis
        self._leave, self._begin, self._on_state = leave, begin, on_state
        self._brush: BrushWatch | None = None
        self._earlier: list[tuple[Labels, Session]] = []
        self._later: list[tuple[Labels, Session]] = []
        self._has_hidden = False
        self.layer = self._found_or_made()
        saved = _saved_with(self.layer)
        self.session = self._session_on(self.layer, None if saved is None else saved.state)
        if saved is not None:
            self._touch_all(saved)

    @property
    def has_others(self) -> bool:
        """Whether undoing or doing again leads to another layer."""
        return bool(self._earlier or self._later)

    def use(self, layer: Labels) -> None:
        """Write objects to another layer, of the shape of this one, from now on."""
        set_role(layer, "objects")
        self._take_over(layer)
        self._leave()
        self._earlier.append((self.layer, self.session))
        self._later.clear()
        known = [session for one, session in self._earlier if one is layer]
        state = replace(known[-1].state, drafts=(), followed=()) if known else None
        self.layer = layer
        self.session = self._session_on(layer, state)
        for plane in known[-1].touched_planes if known else ():
            self.session.touch(plane)

    def restore(self, saved: SavedSession) -> None:
        """Go on with a saved session in this layer; nothing leads back to others."""
        self._earlier.clear()
        self._later.clear()
        self.session = self._session_on(self.layer, saved.state)
        self._touch_all(saved)

    def undo(self) -> str | None:
        """Take the last step back, at last to the layer before, and return what it was."""
        done = self.session.undo()
        if self._earlier and self.session.undo_title is None:
            self._later.append((self.layer, self.session))
            self._go_to(*self._earlier.pop())
            return done or "other objects"
        return done

    def redo(self) -> str | None:
        """Do again what was undone last, and return what it was."""
        done = self.session.redo()
        if done is None and self._later:
            self._earlier.append((self.layer, self.session))
            self._go_to(*self._later.pop())
            done = self.session.redo()
        return done

    def show(self) -> None:
        """Put the layer back where somebody removed it."""
        if self.layer not in self._viewer.layers:
            add_unselected(self._viewer, self.layer)

    def hide_if_empty(self) -> None:
        """Remove the layer for a while, if it is the image's and holds nothing."""
        is_ours = owner_of(self._viewer, self.layer) is self._image
        if is_ours and self.layer in self._viewer.layers and is_empty(self.layer.data):
            self._has_hidden = True
            self._viewer.layers.remove(self.layer)

    def show_hidden(self) -> None:
        """Put back what was removed for a while."""
        if self._has_hidden:
            self._has_hidden = False
            self.show()

    def follow_image(self) -> None:
        """Keep the layer where the image is."""
        if owner_of(self._viewer, self.layer) is self._image:
            place(self.layer, self._image, self._channel_axis)

    def close(self) -> None:
        """Hear no more of what is painted; the layers stay."""
        if self._brush is not None:
            self._brush.close()

    def _go_to(self, layer: Labels, session: Session) -> None:
        """Go on with a session that was left, in its layer."""
        self._leave()
        self.layer, self.session = layer, session
        self._attend(layer, session)
        session.suspect()  # whoever painted in it meanwhile was not heard
        self.show()
        self._on_state()

    def _session_on(self, layer: Labels, state: State | None = None) -> Session:
        """Return a session that writes to a layer."""
        session = Session(LayerCanvas(self._viewer, layer), state)
        session.state_changed.connect(self._on_state)
        self._attend(layer, session)
        return session

    def _attend(self, layer: Labels, session: Session) -> None:
        """Hear of what is painted by hand in the layer of a session."""
        self._begin(layer, session)
        canvas = session.canvas
        assert isinstance(canvas, LayerCanvas)
        before, self._brush = self._brush, BrushWatch(layer, canvas, session)
        if before is not None:
            before.close()
            before.hand_over(self._brush)

    def _found_or_made(self) -> Labels:
        """Return the labels layer for this image, making one where there is none."""
        known = labels_of(self._viewer, "objects", self._image, self._channel_axis)
        if known is None:
            return add_labels(
                self._viewer,
                self._image,
                "objects",
                channel_axis=self._channel_axis,
                name=f"{self._image.name} objects",
            )
        self._take_over(known)
        if not lies_on(known, self._image, self._channel_axis):
            place(known, self._image, self._channel_axis)
        return known

    def _take_over(self, layer: Labels) -> None:
        """Let labels be ours that no other image has."""
        if owner_of(self._viewer, layer) is None:
            bind(layer, self._image)

    def _touch_all(self, saved: SavedSession) -> None:
        """Let all that a session file had be saved with what comes next."""
        for plane in saved.planes:
            self.session.touch(plane)


def _saved_with(layer: Labels) -> SavedSession | None:
    """Return the session file that a layer was read from, once."""
    path = layer.metadata.get(KEY, {}).pop("session", None)
    return None if path is None else load_session(path)
