"""Segmenting in a window: follows the image that is meant, the mouse, the keys, the sliders."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtCore import Signal as QtSignal

from sam_plugins.errors import SamPluginsError
from sam_plugins.napari_plugin.asking import LoadAnswerer, load_answerer
from sam_plugins.napari_plugin.current_model import current_model
from sam_plugins.napari_plugin.drag_view import DragView
from sam_plugins.napari_plugin.errors import NothingThereError
from sam_plugins.napari_plugin.follow_params import FollowParams
from sam_plugins.napari_plugin.jobs import Job
from sam_plugins.napari_plugin.keys import KeyBindings
from sam_plugins.napari_plugin.layer_prompts import prompts_of, require_some
from sam_plugins.napari_plugin.layers import choose_image
from sam_plugins.napari_plugin.mouse import CanvasMouse, Position
from sam_plugins.napari_plugin.notifications import show_problem, show_warning
from sam_plugins.napari_plugin.opening import when_layers_are_cheap
from sam_plugins.napari_plugin.params import SegmentParams, Tool
from sam_plugins.napari_plugin.recovery import Recovery
from sam_plugins.napari_plugin.replaying import start_replay
from sam_plugins.napari_plugin.segmenter import Segmenter
from sam_plugins.napari_plugin.segmenters import Segmenters
from sam_plugins.napari_plugin.session.values import Draft, PointPrompt
from sam_plugins.napari_plugin.settings import keep_settings, read_settings

if TYPE_CHECKING:
    from napari.components import ViewerModel

_SECTION, _FOLLOW_SECTION = "segment", "follow"
_MS_UNTIL_ENCODING = 250  # who scrolls through a stack does not want each slice encoded


class SegmentController(QObject):
    """What **Segment** does, without its buttons.

    Parameters
    ----------
    viewer : ViewerModel
    params : SegmentParams, optional
    parent : QObject, optional
    load : callable
        Makes what answers prompts.

    Attributes
    ----------
    changed : Signal()
        Something that the widget shows is another.
    viewed : Signal()
        Another slice is seen.
    """

    changed = Signal()
    viewed = Signal()
    _model_chosen = QtSignal()  # queued: whoever chose may be in another thread

    def __init__(
        self,
        viewer: ViewerModel,
        params: SegmentParams | None = None,
        parent: QObject | None = None,
        *,
        load: LoadAnswerer = load_answerer,
    ) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self._starts_new = False
        self._is_closed = False
        self._drag = DragView(viewer)
        self.recovery = Recovery(self)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_MS_UNTIL_ENCODING)
        self._timer.timeout.connect(self._prepare)
        self._mouse = CanvasMouse(viewer, self)
        self._segmenters = Segmenters(
            viewer,
            params or read_settings(_SECTION, SegmentParams()),
            read_settings(_FOLLOW_SECTION, FollowParams()),
            owner=self,
            load=load,
            recovery=self.recovery,
            leave=self.drop_outline,
            wait=self._timer.start,
            complain=self._complain,
        )
        self._segmenters.changed.connect(self.changed.emit)
        self._links: list[tuple[Any, Callable[..., None]]] = [
            (viewer.layers.selection.events.active, self._on_layers),
            (viewer.layers.events.inserted, self._on_layers),
            (viewer.layers.events.removed, self._on_removed),
            (viewer.dims.events.point, self._on_view),
            (viewer.dims.events.order, self._on_view),
            (viewer.dims.events.ndisplay, self._on_display),
        ]
        for event, callback in self._links:
            event.connect(callback)
        self._model_chosen.connect(self._use_other_model, Qt.ConnectionType.QueuedConnection)
        current_model().changed.connect(self._on_model)
        self._is_opening = True
        self._keys = KeyBindings(viewer, lambda name: getattr(self, name)())
        self._keys.bind_on(viewer.layers.selection.active)
        when_layers_are_cheap(self._open, self)

    @property
    def params(self) -> SegmentParams:
        """How objects are segmented."""
        return self._segmenters.params

    @property
    def follow_params(self) -> FollowParams:
        """How they are followed through a stack."""
        return self._segmenters.follow_params

    @property
    def segmenter(self) -> Segmenter | None:
        """The one for the image that is meant now, None without an image.

        Whoever asks before the window has had the time to make it lets it be made now.
        """
        self._open()
        return self._segmenters.current

    @property
    def ready_segmenter(self) -> Segmenter | None:
        """The same where it is made already, for what only shows it."""
        return self._segmenters.current

    @property
    def segmenters(self) -> tuple[Segmenter, ...]:
        """Those of all images that were segmented and are still there."""
        self._open()
        return tuple(self._segmenters)

    @property
    def active_draft(self) -> Draft | None:
        """The object that the next prompt is about."""
        segmenter = self.ready_segmenter
        return None if segmenter is None else segmenter.session.state.active

    # ----------------------------------------------------------------------------------- actions

    def segment(self) -> None:
        """Encode what is seen, so that the next click is answered at once."""
        self._do(lambda segmenter: segmenter.prepare())

    def commit(self) -> tuple[int, ...]:
        """Write the current masks to the objects layer: now, or when the model has answered."""
        labels = self._do(lambda segmenter: segmenter.commit()) or ()
        self.recovery.save_soon()
        return labels

    def clear(self) -> None:
        """Drop the current masks, and an outline that is not closed."""
        self._starts_new = False
        self.drop_outline()
        self._do(lambda segmenter: segmenter.clear())

    def drop_outline(self) -> None:
        """Forget the corners of an outline (the tool *polygon*) that is not closed."""
        self._mouse.drop_outline()

    def toggle_sign(self) -> None:
        """Let clicks say where the object is not, or is again."""
        self.set_params(replace(self.params, is_positive=not self.params.is_positive))

    def next_object(self) -> None:
        """Begin another object with the next click; the current masks stay."""
        self._starts_new = True
        if not self.params.is_positive:
            self.toggle_sign()

    def prompt_from_layer(self) -> None:
        """Begin an object with each point or shape of the selected Points or Shapes layer."""
        layer = self.viewer.layers.selection.active

        def prompt(segmenter: Segmenter) -> None:
            points, boxes = prompts_of(layer, segmenter.viewpoint)
            require_some(segmenter.add_objects(points, boxes), layer)

        self._do(prompt)

    def cycle_mask(self) -> None:
        """Choose the next of the three masks."""
        self._do(lambda segmenter: segmenter.cycle())

    def propagate(self) -> None:
        """Follow the current objects through the slices of the stack, from those prompted."""
        self._do(lambda segmenter: segmenter.through.follow(self.follow_params))

    def stop_propagating(self) -> None:
        """Stop following objects; the slices that are done stay."""

        def stop(segmenter: Segmenter) -> None:
            segmenter.through.forget()
            segmenter.through.stop()

        self._do(stop)

    def go_to(self, object_key: int, index: int) -> None:
        """Show a slice of an object that was followed; the next prompt is about it."""
        self._do(lambda segmenter: segmenter.through.go_to(object_key, index))

    def undo(self) -> None:
        """Take the last step back."""
        self._do(lambda segmenter: segmenter.undo())

    def redo(self) -> None:
        """Do again what was undone last."""
        self._do(lambda segmenter: segmenter.redo())

    def edit_object(self) -> None:
        """Go on with the object under the mouse."""
        self._do(lambda segmenter: segmenter.edits.edit_at(self._mouse_position()))

    def delete_object(self) -> None:
        """Remove the object under the mouse, from all slices of its stack."""
        self._do(lambda segmenter: segmenter.edits.delete_at(self._mouse_position()))

    def delete_slice(self) -> None:
        """Remove the object under the mouse from the slice that is seen."""
        self._do(
            lambda segmenter: segmenter.edits.delete_at(self._mouse_position(), only_here=True)
        )

    def fill_object(self) -> None:
        """Fill the holes that the object under the mouse has in each slice of its stack."""
        self._do(lambda segmenter: segmenter.edits.fill_at(self._mouse_position()))

    def split_object(self) -> None:
        """Split the object under the draft's points, or under the mouse, in the slice seen."""
        self._do(lambda segmenter: self._with_points(segmenter, segmenter.edits.split_at))

    def merge_objects(self) -> None:
        """Join the objects under the draft's points, through all slices of their stack."""
        self._do(lambda segmenter: self._with_points(segmenter, segmenter.edits.merge_at))

    def find_similar(self) -> None:
        """Find all objects like the current ones, the one under the mouse, or the committed ones.

        What is found becomes drafts: *commit* accepts all of them, :meth:`accept_one` and
        :meth:`drop_one` one.
        """
        self._do(lambda segmenter: segmenter.finder.similar(self._mouse_if_needed(segmenter)))

    def find_words(self) -> None:
        """Find the objects that the words of the parameters name; they become drafts."""
        self._do(lambda segmenter: segmenter.finder.words())

    def accept_one(self) -> tuple[int, ...]:
        """Write only the mask under the mouse to the objects layer."""
        labels = self._do(lambda segmenter: segmenter.accept_at(self._mouse_position())) or ()
        self.recovery.save_soon()
        return labels

    def drop_one(self) -> None:
        """Drop only the mask under the mouse."""
        self._do(lambda segmenter: segmenter.drop_at(self._mouse_position()))

    def keep_labels(self, path: Path) -> None:
        """Write the objects to a Zarr array of one's own, now and from now on."""
        self._do(lambda segmenter: segmenter.stored.keep(path))

    def replay(self) -> Job | None:
        """Ask for all objects of the session again, and tell which masks are no longer the same.

        Returns
        -------
        Job or None
            It tells when it ends; in a script ``segmenter.replay()`` answers at once.
        """
        job: Job | None = self._do(lambda segmenter: start_replay(segmenter, self))
        return job

    def set_params(self, params: SegmentParams) -> None:
        """Take other parameters."""
        before = self.params
        if params.tool != before.tool:
            self.drop_outline()
        self._segmenters.set_params(params)
        if params.lasting != before.lasting:
            keep_settings(_SECTION, params.lasting)
        self._timer.start()
        self.changed.emit()

    def set_follow_params(self, params: FollowParams) -> None:
        """Take other parameters for following objects."""
        before = self.follow_params
        self._segmenters.set_follow_params(params)
        if params.lasting != before.lasting:
            keep_settings(_FOLLOW_SECTION, params.lasting)
        self.changed.emit()

    # ------------------------------------------------------------------------------------- mouse

    @property
    def tool(self) -> Tool:
        """What dragging does."""
        return self.params.tool

    @property
    def takes_mouse(self) -> bool:
        """Whether the mouse is ours just now, and not a tool of napari's."""
        active = self.viewer.layers.selection.active
        is_free = active is None or str(active.mode).rpartition(".")[2].lower() == "pan_zoom"
        return is_free and self.viewer.dims.ndisplay == 2 and self.segmenter is not None

    def take_click(self, position: Position, *, is_negative: bool) -> None:
        """Take a click of the mouse."""
        sign = False if is_negative else None
        self._do(lambda segmenter: segmenter.click(position, is_positive=sign))

    def take_drag(self, tool: Tool, path: list[Position], *, is_negative: bool) -> None:
        """Take a box, a scribble or an outline."""
        if tool == "box":
            self._do(lambda segmenter: segmenter.add_box(path[0], path[-1]))
        elif tool == "scribble":
            sign = False if is_negative else None
            self._do(lambda segmenter: segmenter.add_scribble(path, is_positive=sign))
        else:
            self._do(lambda segmenter: segmenter.add_polygon(path))

    def show_drag(self, tool: Tool, path: list[Position]) -> None:
        """Show what is being drawn; while an outline grows, Escape drops it."""
        if tool == "polygon":
            self._keys.lend("Escape", self.drop_outline if path else None)
        self._drag.show(tool, path)

    def _mouse_position(self) -> Position:
        """Return where the mouse is, in the world.

        Raises
        ------
        NothingThereError
            In 3D display, where it points at a line of voxels.
        """
        if self.viewer.dims.ndisplay == 3:
            raise NothingThereError(
                "in 3D display the mouse points at no single pixel: switch to 2D display (Ctrl-Y), "
                "and point at the object there"
            )
        return tuple(self.viewer.cursor.position)

    def _mouse_if_needed(self, segmenter: Segmenter) -> Position | None:
        """Return where the mouse is, None where drafts say what is meant."""
        is_said = any(draft.mask for draft in segmenter.session.state.drafts)
        return None if is_said else self._mouse_position()

    def _with_points(self, segmenter: Segmenter, work: Callable[[list[Position]], object]) -> None:
        """Do something at the draft's points, which are used up; without any, at the mouse."""
        draft = segmenter.session.state.active
        points = () if draft is None else draft.prompts
        positions = [
            segmenter.viewpoint.position(draft.sight.plane, point.x, point.y)
            for point in points
            if draft is not None and isinstance(point, PointPrompt) and point.is_positive
        ]
        work(positions or [self._mouse_position()])
        if positions:
            segmenter.clear()

    def _do(self, work: Callable[[Segmenter], Any]) -> Any:  # noqa: ANN401
        """Do something with the image that is meant; what goes wrong becomes a notification."""
        if self._is_closed:
            return None
        segmenter = self.segmenter
        try:
            if segmenter is None:
                raise NothingThereError("there is no image to segment; open one first")
            segmenter.starts_new = self._starts_new
            done = work(segmenter)
            self._starts_new = segmenter.starts_new
        except (SamPluginsError, ValueError) as error:
            self._complain(error)
            return None
        return done

    def _complain(self, error: Exception) -> None:
        """Say what cannot be done."""
        if isinstance(error, NothingThereError) or not isinstance(error, SamPluginsError):
            show_warning(str(error))
        else:
            show_problem(error)

    # ------------------------------------------------------------------------------------ layers

    def _open(self) -> None:
        """Take the first image: its layer of objects is what takes long when the widget opens."""
        if self._is_opening and not self._is_closed:
            self._is_opening = False
            self._on_layers()

    def _on_layers(self, event: object = None) -> None:  # noqa: ARG002
        """Take the image that is meant now."""
        from napari.layers import Image

        active = self.viewer.layers.selection.active
        self._keys.bind_on(active)
        if self._is_opening or self._segmenters.is_taking:  # not yet; or ours
            return
        if isinstance(active, Image):
            image = active
        elif self.ready_segmenter is None:
            image = choose_image(self.viewer)
        else:
            return
        segmenter = self.ready_segmenter
        if image is not None and (segmenter is None or segmenter.image is not image):
            self._segmenters.take(image)

    def _on_removed(self, event: Any) -> None:  # noqa: ANN401
        """Let go of an image that was removed; other layers of ours are made again when needed."""
        if self._segmenters.forget(event.value):
            self._is_opening = True  # not now: the image that would be next may go as well
            when_layers_are_cheap(self._open, self)
            self.changed.emit()

    def _on_view(self, event: object = None) -> None:  # noqa: ARG002
        """Encode another slice when the slider rests; an outline lies in one slice."""
        self.drop_outline()
        self._timer.start()
        if self.ready_segmenter is not None:
            self.ready_segmenter.through.look()
        self.viewed.emit()

    def _on_display(self, event: object = None) -> None:  # noqa: ARG002
        """Say that the mouse is not ours in 3D display, or is again."""
        self._timer.start()
        self.changed.emit()

    def _prepare(self) -> None:
        """Encode what is seen."""
        self._segmenters.look_again()
        if self.ready_segmenter is not None and self.viewer.dims.ndisplay == 2:
            self.segment()

    def _on_model(self, choice: object) -> None:  # noqa: ARG002
        """Hear that another model was chosen, in any thread."""
        self._model_chosen.emit()

    def _use_other_model(self) -> None:
        """Ask the model that was chosen."""
        self._segmenters.use_other_model()
        self._timer.start()

    def close(self) -> None:
        """Leave the viewer as it was, but for the objects."""
        if self._is_closed:
            return
        self._is_closed = True
        with contextlib.suppress(RuntimeError):  # Qt has destroyed it with the program
            self._timer.stop()
        current_model().changed.disconnect(self._on_model)
        for event, callback in self._links:
            event.disconnect(callback)
        self.drop_outline()
        self._mouse.close()
        self._drag.close()
        self._keys.close()
        self._segmenters.close()
