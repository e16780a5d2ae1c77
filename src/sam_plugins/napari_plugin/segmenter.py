"""Segmenting one image of a viewer: prompts and edits at positions in the world."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from sam_plugins.napari_plugin.asking import Asker, LoadAnswerer, load_answerer
from sam_plugins.napari_plugin.belonging import labels_of, lies_on, owner_of
from sam_plugins.napari_plugin.choosing import MaskChoice
from sam_plugins.napari_plugin.committing import Committing
from sam_plugins.napari_plugin.coordinates import Place, box_between
from sam_plugins.napari_plugin.drawing import DraftView, place
from sam_plugins.napari_plugin.errors import NothingThereError
from sam_plugins.napari_plugin.jobs import Job
from sam_plugins.napari_plugin.label_arrays import is_empty
from sam_plugins.napari_plugin.layers import (
    KEY,
    LayerCanvas,
    add_labels,
    add_unselected,
    bind,
    placement,
    set_role,
)
from sam_plugins.napari_plugin.object_edits import ObjectEdits
from sam_plugins.napari_plugin.object_finder import ObjectFinder
from sam_plugins.napari_plugin.painting import BrushWatch
from sam_plugins.napari_plugin.params import SegmentParams
from sam_plugins.napari_plugin.session.editing import polygon_mask, sample_path
from sam_plugins.napari_plugin.session.files import SavedSession, load_session
from sam_plugins.napari_plugin.session.followed import drafts_of, object_at
from sam_plugins.napari_plugin.session.meaning import is_about
from sam_plugins.napari_plugin.session.replay import replay
from sam_plugins.napari_plugin.session.session import Session
from sam_plugins.napari_plugin.session.values import (
    BoxPrompt,
    Draft,
    MaskPrompt,
    PointPrompt,
    Prompt,
    Sight,
    State,
    Turn,
)
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
        self.objects = self._objects_layer()
        self._brush: BrushWatch | None = None
        self._earlier: list[tuple[Labels, Session]] = []
        self._later: list[tuple[Labels, Session]] = []
        self._is_aside = self._has_hidden = False
        saved = self._saved_with(self.objects)
        self.session = self._session_on(self.objects, None if saved is None else saved.state)
        self._touch_all(saved)
        self.starts_new = False
        self.found_last = False
        self._is_closed = False
        for name in _PLACED:
            getattr(image.events, name).connect(self._follow_image)
        image.events.data.connect(self._on_data)

    @property
    def is_aside(self) -> bool:
        """Whether it shows nothing now, and waits to be taken up again."""
        return self._is_aside

    @property
    def has_work(self) -> bool:
        """Whether there are drafts, or anything that can be undone or done again."""
        session = self.session
        is_begun = bool(session.state.drafts or session.undo_title or session.redo_title)
        return is_begun or bool(self._earlier or self._later)

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
        found = self.viewpoint.place_inside(position)
        if found is None:
            return None
        return self._prompt([PointPrompt(found.x, found.y, self._sign(is_positive))], found)

    def add_box(self, corner: Position, other: Position) -> Draft | None:
        """Say that an object lies between two positions; a second box is a second object."""
        boxed = self._box(corner, other)
        return None if boxed is None else self._prompt([boxed[0]], boxed[1])

    def add_scribble(
        self, path: Sequence[Position], *, is_positive: bool | None = None
    ) -> Draft | None:
        """Say that the object is, or is not, all along a line."""
        found = [self.viewpoint.place_inside(position) for position in path]
        places = [place for place in found if place is not None]
        if not places:
            return None
        points = sample_path([(place.x, place.y) for place in places])
        sign = self._sign(is_positive)
        return self._prompt([PointPrompt(x, y, sign) for x, y in points], places[0])

    def add_polygon(self, corners: Sequence[Position]) -> Draft | None:
        """Say that the object is what a lasso or a polygon holds; points make it better."""
        places = [self.viewpoint.place(position) for position in corners]
        plane = places[0].plane
        mask = polygon_mask([(p.x, p.y) for p in places], self.viewpoint.size_hw(plane))
        window = mask.window
        middle = Place(plane, (window.left + window.right) / 2, (window.top + window.bottom) / 2)
        return self._prompt([MaskPrompt(mask)], middle, new_object=True)

    def add_objects(
        self,
        points: Sequence[Position] = (),
        boxes: Sequence[tuple[Position, Position]] = (),
    ) -> tuple[Draft, ...]:
        """Begin a draft for each of many points and boxes, in one plane or in several.

        Those of a plane are answered together, and undone together.
        """
        said: dict[Sight, list[Prompt]] = {}
        for position in points:
            found = self.viewpoint.place_inside(position)
            if found is not None:
                point = PointPrompt(found.x, found.y)
                said.setdefault(self.viewpoint.sight_of(found.plane, [point]), []).append(point)
        for corner, other in boxes:
            boxed = self._box(corner, other)
            if boxed is not None:
                sight = self.viewpoint.sight_of(boxed[1].plane, [boxed[0]])
                said.setdefault(sight, []).append(boxed[0])
        return tuple(
            draft
            for sight, prompts in said.items()
            for draft in self.session.add_objects(prompts, sight)
        )

    def _sign(self, is_positive: bool | None) -> bool:
        """Return what a point says that does not say it itself."""
        return self.params.is_positive if is_positive is None else is_positive

    def _box(self, corner: Position, other: Position) -> tuple[BoxPrompt, Place] | None:
        """Return a box and its middle; None where it has no pixel."""
        one, two = self.viewpoint.place(corner), self.viewpoint.place(other)
        size_hw = self.viewpoint.size_hw(one.plane)
        box = box_between((one.x, one.y), (two.x, two.y), size_hw)
        if box is None:
            return None
        return BoxPrompt(*box), Place(one.plane, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2)

    def sight(self, found: Place) -> Sight:
        """Return what the model is shown for a place."""
        active = self.session.state.active
        return self.viewpoint.sight(found, None if active is None else active.sight)

    def _prompt(
        self, prompts: Sequence[Prompt], found: Place, *, new_object: bool = False
    ) -> Draft:
        """Add prompts of one turn to the session."""
        active = self.session.state.active
        is_negative = all(isinstance(p, PointPrompt) and not p.is_positive for p in prompts)
        starts_new = self.params.each_is_new or self.starts_new or self.found_last
        starts_new |= self.committing.is_meant(active)
        is_new = new_object or (starts_new and not is_negative)
        is_known = active is not None and is_about(active, Turn(tuple(prompts)), found.plane)
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
        for draft in reversed(self.session.state.drafts if found is not None else ()):
            assert found is not None
            is_there = draft.mask is not None and draft.mask.contains(found.x, found.y)
            if is_there and draft.sight.plane == found.plane:
                return draft
        state = self.session.state
        key = None if found is None else object_at(state, found.plane, found.x, found.y)
        if key is not None:
            return drafts_of(state, key)[-1]
        raise NothingThereError("there is no current mask here; point at one of them")

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
        done = self.session.undo()
        if self._earlier and self.session.undo_title is None:
            self._later.append((self.objects, self.session))
            self._go_to(*self._earlier.pop())
            return done or "other objects"
        return done

    def redo(self) -> str | None:
        """Do again what was undone last, and return what it was."""
        done = self.session.redo()
        if done is None and self._later:
            self._earlier.append((self.objects, self.session))
            self._go_to(*self._later.pop())
            done = self.session.redo()
        return done

    def _go_to(self, layer: Labels, session: Session) -> None:
        """Go on with a session that was left, in its layer."""
        self._drop_work()
        self.objects, self.session = layer, session
        self._attend(layer, session)
        session.suspect()  # whoever painted in it meanwhile was not heard
        self.show_objects()
        self._on_state()

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
        if layer is self.objects:
            return
        set_role(layer, "objects")
        self._take_over(layer)
        self._drop_work()
        self._earlier.append((self.objects, self.session))
        self._later.clear()
        known = [session for one, session in self._earlier if one is layer]
        state = replace(known[-1].state, drafts=(), followed=()) if known else None
        self.objects = layer
        self.session = self._session_on(layer, state)
        for plane in known[-1].touched_planes if known else ():
            self.session.touch(plane)
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
        self._earlier.clear()
        self._later.clear()
        self.set_params(params)
        self.session = self._session_on(self.objects, saved.state)
        self._touch_all(saved)
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
        if self._brush is not None:
            self._brush.close()
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
        is_ours = owner_of(self.viewer, self.objects) is self.image
        if is_ours and self.objects in self.viewer.layers and is_empty(self.objects.data):
            self._has_hidden = True
            self.viewer.layers.remove(self.objects)

    def take_up(self, params: SegmentParams) -> None:
        """Go on with what was put aside."""
        self._is_aside = False
        if self._has_hidden:
            self._has_hidden = False
            self.show_objects()
        self.set_params(params)

    def show_objects(self) -> None:
        """Put the objects layer back where somebody removed it."""
        if self.objects not in self.viewer.layers:
            add_unselected(self.viewer, self.objects)

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

    def _session_on(self, layer: Labels, state: State | None = None) -> Session:
        """Return a session that writes to a layer."""
        canvas = LayerCanvas(self.viewer, layer)
        session = Session(canvas, state)
        session.state_changed.connect(self._on_state)
        self._attend(layer, session)
        return session

    def _attend(self, layer: Labels, session: Session) -> None:
        """Hear of what is painted by hand in the layer of a session, and begin nothing late."""
        self.stored.count(session)
        self.choice.forget()
        self.committing.forget()
        self.through.forget()
        canvas = session.canvas
        assert isinstance(canvas, LayerCanvas)
        before, self._brush = self._brush, BrushWatch(layer, canvas, session)
        if before is not None:
            before.close()
            before.hand_over(self._brush)

    def _objects_layer(self) -> Labels:
        """Return the labels layer for this image, making one where there is none."""
        channel_axis = self.viewpoint.channel_axis
        known = labels_of(self.viewer, "objects", self.image, channel_axis)
        if known is None:
            return add_labels(
                self.viewer,
                self.image,
                "objects",
                channel_axis=channel_axis,
                name=f"{self.image.name} objects",
            )
        self._take_over(known)
        if not lies_on(known, self.image, channel_axis):
            place(known, self.image, channel_axis)
        return known

    def _take_over(self, layer: Labels) -> None:
        """Let labels be ours that no other image has."""
        if owner_of(self.viewer, layer) is None:
            bind(layer, self.image)

    def _saved_with(self, layer: Labels) -> SavedSession | None:
        """Return the session file that a layer was read from, once."""
        path = layer.metadata.get(KEY, {}).pop("session", None)
        return None if path is None else load_session(path)

    def _touch_all(self, saved: SavedSession | None) -> None:
        """Let all that a session file had be saved with what comes next."""
        for plane in () if saved is None else saved.planes:
            self.session.touch(plane)

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
        if owner_of(self.viewer, self.objects) is self.image:
            place(self.objects, self.image, self.viewpoint.channel_axis)
