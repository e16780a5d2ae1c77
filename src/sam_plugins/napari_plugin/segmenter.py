"""Segmenting one image of a viewer: prompts and edits at positions in the world."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from sam_plugins.napari_plugin.asking import Asker, LoadAnswerer, load_answerer
from sam_plugins.napari_plugin.choosing import MaskChoice
from sam_plugins.napari_plugin.committing import Committing
from sam_plugins.napari_plugin.coordinates import Place
from sam_plugins.napari_plugin.drawing import DraftView
from sam_plugins.napari_plugin.errors import NothingThereError
from sam_plugins.napari_plugin.gestures import (
    Said,
    box_at,
    outline_of,
    point_at,
    prompts_by_sight,
    scribble_along,
)
from sam_plugins.napari_plugin.jobs import Job
from sam_plugins.napari_plugin.layers import placement
from sam_plugins.napari_plugin.object_edits import ObjectEdits
from sam_plugins.napari_plugin.object_finder import ObjectFinder
from sam_plugins.napari_plugin.object_layers import ObjectLayers
from sam_plugins.napari_plugin.params import SegmentParams
from sam_plugins.napari_plugin.session.files import SavedSession
from sam_plugins.napari_plugin.session.followed import draft_at
from sam_plugins.napari_plugin.session.meaning import is_about
from sam_plugins.napari_plugin.session.replay import replay
from sam_plugins.napari_plugin.session.session import Session
from sam_plugins.napari_plugin.session.values import Draft, PointPrompt, Sight, Turn
from sam_plugins.napari_plugin.shown import show_model
from sam_plugins.napari_plugin.stored_labels import StoredLabels
from sam_plugins.napari_plugin.through_stack import ThroughStack
from sam_plugins.napari_plugin.viewpoint import Position, Viewpoint

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels
    from qtpy.QtCore import QObject

_PLACED = ("scale", "translate", "rotate", "shear", "affine")


class Segmenter:
    """An image, its session, its layers and the model that answers; used on the GUI thread.

    Positions are those of the world, one number for each axis of the viewer, as napari's mouse
    events and ``viewer.dims.point`` have them.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image
    params : SegmentParams, optional
    owner : QObject, optional
        Jobs end with it.
    load : callable
        Makes what answers; called in a thread.

    Attributes
    ----------
    changed : Signal()
        The session, or what is being waited for, has changed.
    renewed : Signal()
        The layer shows another picture of the same shape.
    outgrown : Signal()
        It shows one of another shape, which needs another segmenter.
    starts_new : bool
        Whether the next prompt begins another object.
    found_last : bool
        Whether the last drafts were found: the next prompt is about another object then.
    finder : ObjectFinder
        Finds many objects at once, which become drafts.
    committing : Committing
        Writes drafts to the objects, also those that are still to be answered.
    edits : ObjectEdits
        What can be done to committed objects.
    stored : StoredLabels
        The file of the objects, where they are large.
    through : ThroughStack
        What can be done along an axis with a slider.
    layers : ObjectLayers
        The labels layers that objects are written to, and their sessions.
    """

    changed = Signal()
    renewed = Signal()
    outgrown = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        params: SegmentParams | None = None,
        *,
        owner: QObject | None = None,
        load: LoadAnswerer = load_answerer,
    ) -> None:
        self.viewer = viewer
        self.image = image
        self.params = params or SegmentParams()
        self.viewpoint = Viewpoint(viewer, image, self.params)
        self.asker = Asker(self._show, self.changed.emit, owner, load, self.viewpoint.wider)
        self.view = DraftView(viewer, image, self.viewpoint.channel_axis)
        self.through = ThroughStack(self, owner)
        self.edits = ObjectEdits(self, owner)
        self.choice = MaskChoice(self)
        self.committing = Committing(self)
        self.finder = ObjectFinder(self)
        self.stored = StoredLabels(self, owner)
        self.layers = ObjectLayers(
            viewer,
            image,
            self.viewpoint.channel_axis,
            leave=self._drop_work,
            begin=self._on_session,
            on_state=self._on_state,
        )
        self._is_aside = False
        self.starts_new = False
        self.found_last = False
        self._is_closed = False
        for name in _PLACED:
            getattr(image.events, name).connect(self._follow_image)
        image.events.data.connect(self._on_data)

    @property
    def objects(self) -> Labels:
        """The labels layer that objects are written to."""
        return self.layers.layer

    @property
    def session(self) -> Session:
        """What was said and written in that layer."""
        return self.layers.session

    @property
    def is_aside(self) -> bool:
        """Whether it shows nothing now, and waits to be taken up again."""
        return self._is_aside

    @property
    def has_work(self) -> bool:
        """Whether there are drafts, or anything that can be undone or done again."""
        session = self.session
        is_begun = bool(session.state.drafts or session.undo_title or session.redo_title)
        return is_begun or self.layers.has_others

    # -------------------------------------------------------------------------------- prompting

    def click(self, position: Position, *, is_positive: bool | None = None) -> Draft | None:
        """Say that the object is here, or that it is not.

        Parameters
        ----------
        position : sequence of float
            In the world.
        is_positive : bool, optional
            By default as the parameters have it.

        Returns
        -------
        Draft or None
            The active draft, now waiting for its answer; None beside the image.

        Raises
        ------
        NothingThereError
            If there is no object yet that this could be beside.
        """
        sign = self._sign(is_positive)
        return self._prompt(point_at(self.viewpoint, position, is_positive=sign))

    def add_box(self, corner: Position, other: Position) -> Draft | None:
        """Say that an object lies between two positions; a second box is a second object."""
        return self._prompt(box_at(self.viewpoint, corner, other))

    def add_scribble(
        self, path: Sequence[Position], *, is_positive: bool | None = None
    ) -> Draft | None:
        """Say that the object is, or is not, all along a line."""
        sign = self._sign(is_positive)
        return self._prompt(scribble_along(self.viewpoint, path, is_positive=sign))

    def add_polygon(self, corners: Sequence[Position]) -> Draft | None:
        """Say that the object is what a lasso or a polygon holds; points make it better."""
        return self._prompt(outline_of(self.viewpoint, corners), new_object=True)

    def add_objects(
        self,
        points: Sequence[Position] = (),
        boxes: Sequence[tuple[Position, Position]] = (),
    ) -> tuple[Draft, ...]:
        """Begin a draft for each of many points and boxes, in one plane or in several.

        Those of a plane are answered together, and undone together.
        """
        return tuple(
            draft
            for sight, prompts in prompts_by_sight(self.viewpoint, points, boxes).items()
            for draft in self.session.add_objects(prompts, sight)
        )

    def _sign(self, is_positive: bool | None) -> bool:
        """Return what a point says that does not say it itself."""
        return self.params.is_positive if is_positive is None else is_positive

    def sight(self, found: Place) -> Sight:
        """Return what the model is shown for a place."""
        active = self.session.state.active
        return self.viewpoint.sight(found, None if active is None else active.sight)

    def _prompt(self, said: Said | None, *, new_object: bool = False) -> Draft | None:
        """Add prompts of one turn to the session, if there are any."""
        if said is None:
            return None
        prompts, found = said
        active = self.session.state.active
        is_negative = all(isinstance(p, PointPrompt) and not p.is_positive for p in prompts)
        starts_new = self.params.each_is_new or self.starts_new or self.found_last
        starts_new |= self.committing.is_meant(active)
        is_new = new_object or (starts_new and not is_negative)
        is_known = active is not None and is_about(active, Turn(prompts), found.plane)
        if is_negative and not is_known and not self.through.is_known(found):
            raise NothingThereError(
                "there is no object yet that this point could be beside; click on the object first"
            )
        about = active if is_known and not is_new else None
        sight = self.viewpoint.sight_of(found.plane, prompts, about)
        self.starts_new = self.found_last = False
        return self.session.add_prompts(prompts, sight, new_object=is_new)

    # ----------------------------------------------------------------------------------- objects

    def cycle(self) -> int | None:
        """Choose the next of the three masks of an ambiguous click, now or when they are there.

        One that goes on beyond what the model was shown is asked for anew, in a larger part.
        """
        return self.choice.next()

    def accept_at(self, position: Position) -> tuple[int, ...]:
        """Write the draft at a position to the objects layer, and return its label.

        Raises
        ------
        NothingThereError
            If there is none.
        """
        return self.commit([self._draft_at(position).key])

    def drop_at(self, position: Position) -> None:
        """Drop the draft at a position.

        Raises
        ------
        NothingThereError
            If there is none.
        """
        self.session.drop(self._draft_at(position).key)

    def _draft_at(self, position: Position) -> Draft:
        """Return the topmost draft at a position."""
        found = self.viewpoint.place_inside(position)
        draft = None
        if found is not None:
            draft = draft_at(self.session.state, found.plane, found.x, found.y)
        if draft is None:
            raise NothingThereError("there is no current mask here; point at one of them")
        return draft

    def commit(self, keys: Collection[int] | None = None) -> tuple[int, ...]:
        """Write the drafts, or those of some keys, to the objects layer; return their labels.

        Those that the model is being asked about are written when it has answered.
        """
        return self.committing.commit(keys)

    def clear(self) -> None:
        """Drop the drafts."""
        self.session.clear()

    def undo(self) -> str | None:
        """Take the last step back, and return what it was."""
        self.found_last = False
        self.committing.forget()
        self.through.forget()
        return self.layers.undo()

    def redo(self) -> str | None:
        """Do again what was undone last, and return what it was."""
        return self.layers.redo()

    def _drop_work(self) -> None:
        """Let nothing in that is on its way: it is about another session, or another picture."""
        self.through.follower.close()
        self.view.show_ahead([])
        self.asker.drop_answers()

    def use_labels(self, layer: Labels) -> None:
        """Write objects to another labels layer from now on.

        It has a history of its own; when all of that is undone, undoing goes on in the layer
        before, whose drafts are there again.

        Raises
        ------
        NothingThereError
            If its labels do not lie on the pixels of the image.
        """
        shape = self.viewpoint.source.shape
        if tuple(layer.data.shape) != shape:
            raise NothingThereError(
                f"labels for this image must have the shape {shape}, got "
                f"{tuple(layer.data.shape)} in {layer.name!r}; choose another layer"
            )
        if layer is not self.objects:
            self.layers.use(layer)
            self._on_state()

    def restore(self, saved: SavedSession) -> None:
        """Go on with a saved session: objects, open drafts and parameters as they were.

        Raises
        ------
        SessionFileError
            If it is about an image of another shape.
        """
        params = SegmentParams.from_document(saved.parameters) if saved.parameters else self.params
        saved.write_labels(self.session.canvas)
        self.set_params(params)
        self.layers.restore(saved)
        self._on_state()

    def replay(
        self,
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
    ) -> dict[str, list[int]]:
        """Ask for all objects again, in this thread; return the keys of equal and other masks.

        Parameters
        ----------
        progress : callable
            Told of objects done and objects in all.
        """
        state = self.session.state
        total = len(state.objects) + sum(draft.answer is not None for draft in state.drafts)
        progress(0, total)
        found = []
        for entry in replay(state, self.asker.answerer().answer):
            found.append(entry)
            progress(len(found), total)
        return {
            "same": [entry.key for entry in found if entry.is_same],
            "other": [entry.key for entry in found if not entry.is_same],
        }

    def placement(self) -> dict[str, Any]:
        """Return where in the world the objects lie, as what JSON can hold."""
        placed = placement(self.image, self.viewpoint.channel_axis)
        placed.pop("units")
        return {name: np.asarray(value).tolist() for name, value in placed.items()}

    # -------------------------------------------------------------------------------------- model

    def set_params(self, params: SegmentParams) -> None:
        """Take other parameters; another contrast makes answers that are on their way stale."""
        before, self.params = self.params, params
        self.viewpoint.params = params
        if (params.contrast, params.channels) != (before.contrast, before.channels):
            self.through.stop()
            self.asker.drop_answers()
        self._on_state()

    def is_ready(self) -> bool:
        """Return whether a click in the middle of what is seen is answered at once."""
        found = self.viewpoint.centre()
        return found is not None and self.asker.is_ready(self.sight(found))

    def prepare(self) -> Job | None:
        """Encode what is seen, so that the first click is answered at once."""
        found = self.viewpoint.centre()
        if found is None or self.asker.is_ready(self.sight(found)):
            return None
        return self.asker.encode(self.sight(found))

    def preview(self) -> npt.NDArray[np.uint8]:
        """Return the picture that the model sees of what is seen.

        Raises
        ------
        NotInPlaneError
            If the window shows no plane of the image.
        """
        found = self.viewpoint.centre() or self.viewpoint.place(self.viewer.dims.point)
        return self._show(self.sight(found))

    def _show(self, sight: Sight) -> npt.NDArray[np.uint8]:
        """Return the picture of a sight; from any thread."""
        return show_model(self.viewpoint.source, sight)

    # -------------------------------------------------------------------------------------- layers

    def close(self, *, layers_later: bool = False) -> None:
        """End the jobs and remove the layers of drafts, now or a little later; the objects stay."""
        if self._is_closed:
            return
        self._is_closed = True
        self.through.close()
        self.asker.close()
        self.layers.close()
        for name in _PLACED:
            getattr(self.image.events, name).disconnect(self._follow_image)
        self.image.events.data.disconnect(self._on_data)
        self.view.close(later=layers_later)

    def put_aside(self) -> None:
        """Show nothing and ask nothing until it is taken up again; the session stays.

        The objects stay, too, but for a layer that has none.
        """
        self._is_aside = True
        self.through.stop()
        self.through.forget()
        self.committing.forget()
        self.asker.drop_answers()
        self.view.close()
        self.layers.hide_if_empty()

    def take_up(self, params: SegmentParams) -> None:
        """Go on with what was put aside."""
        self._is_aside = False
        self.layers.show_hidden()
        self.set_params(params)

    def show_objects(self) -> None:
        """Put the objects layer back where somebody removed it."""
        self.layers.show()

    def _on_state(self) -> None:
        """Show what has changed, and ask what is to be asked."""
        if not self._is_closed and not self._is_aside:
            self.asker.ask(self.session)  # first: the model works while we draw
            self.view.show(self.session.state)
            self.through.on_state(self.session.state)
            self.choice.on_state()
            self.through.go_on()
            self.committing.on_state()
            self.changed.emit()

    def _on_session(self, layer: Labels, session: Session) -> None:
        """Let a session begin, or go on: what another one still waited for is not done in it."""
        self.stored.count(layer, session)
        self.choice.forget()
        self.committing.forget()
        self.through.forget()

    def _on_data(self) -> None:
        """Look at the picture that the layer shows now; what was answered about another is stale.

        Drafts are asked about again, as one step.
        """
        if not self.viewpoint.renew():
            self.outgrown.emit()
            return
        self._drop_work()
        self.through.filler.stop()
        self.asker.use_other_model()  # it remembers what it has seen
        self.session.ask_again(
            lambda draft: self.viewpoint.look_at(draft.sight.plane, draft.sight.region)
        )
        self.renewed.emit()
        self.changed.emit()

    def _follow_image(self) -> None:
        """Keep our layers where the image is."""
        self.view.follow_image()
        self.layers.follow_image()
