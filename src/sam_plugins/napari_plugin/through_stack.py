"""An image's objects through its slices: following them, going to slices, encoding ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal

from sam_plugins.errors import SamPluginsError
from sam_plugins.napari_plugin.coordinates import NotInPlaneError, Place
from sam_plugins.napari_plugin.filling import Filler
from sam_plugins.napari_plugin.follow_estimate import expected_to_follow
from sam_plugins.napari_plugin.follow_params import FollowParams
from sam_plugins.napari_plugin.following import Follower, Shown
from sam_plugins.napari_plugin.jobs import Job
from sam_plugins.napari_plugin.layers import voxel_lengths
from sam_plugins.napari_plugin.session.followed import (
    Followed,
    drafts_of,
    followed_of,
    object_meant,
)
from sam_plugins.napari_plugin.session.planes import Plane
from sam_plugins.napari_plugin.session.values import State
from sam_plugins.napari_plugin.stack import NoStackError, Stack, follow_axis, voxel_size

if TYPE_CHECKING:
    from qtpy.QtCore import QObject

    from sam_plugins.napari_plugin.segmenter import Segmenter


class ThroughStack:
    """What a segmenter does along the axis that has a slider.

    Parameters
    ----------
    segmenter : Segmenter
    owner : QObject, optional
        Jobs end with it.

    Attributes
    ----------
    params : FollowParams
    follower : Follower
    filler : Filler
    is_awaited : bool
        Whether objects are to be followed once the model has answered.
    failed : Signal(Exception)
        They cannot be.
    """

    failed = Signal(object)

    def __init__(self, segmenter: Segmenter, owner: QObject | None = None) -> None:
        self.params = FollowParams()
        self.is_awaited = False
        self._segmenter = segmenter
        asker = segmenter.asker
        self.follower = Follower(
            asker,
            self._show,
            self._take,
            segmenter.changed.emit,
            owner,
            lambda: segmenter.viewer.dims.ndisplay == 3,
        )
        self.filler = Filler(asker, lambda: asker.is_busy or self.follower.is_running, owner)

    @property
    def has_slices(self) -> bool:
        """Whether the image has an axis besides those that are seen."""
        source = self._segmenter.viewpoint.source
        lengths = [n for axis, n in enumerate(source.shape) if axis != (source.channel_axis or -1)]
        return sum(length > 1 for length in lengths) > 2

    @property
    def shown(self) -> Followed | None:
        """What was followed of the active object."""
        state = self._segmenter.session.state
        return None if state.active is None else followed_of(state, state.active.object_key)

    @property
    def length(self) -> int:
        """Slices along the axis of the active object."""
        followed = self.shown
        shape = self._segmenter.viewpoint.source.shape
        return 0 if followed is None else shape[followed.axis]

    def expected(self, params: FollowParams) -> str:
        """Return in words how far the active object is followed at most, and how long that takes.

        Nothing where there is no object, or no such axis.
        """
        state = self._segmenter.session.state
        if state.active is None:
            return ""
        source = self._segmenter.viewpoint.source
        try:
            axis = follow_axis(source, state.active.sight.plane, params.axis)
        except NoStackError:
            return ""
        return expected_to_follow(source.shape[axis], params)

    def follow(self, params: FollowParams | None = None) -> Job | None:
        """Follow all objects that are prompted in the stack of the active one, both ways.

        What is known from an earlier time is kept: only new objects and corrected slices are
        followed, up to the next prompted slices.

        Returns
        -------
        Job or None
            None where the model is being asked about one of them: they are followed when it has
            answered.

        Raises
        ------
        NoStackError
            If there is nothing to follow, or no slices.
        """
        self.params = params or self.params
        state = self._segmenter.session.state
        if state.active is None:
            raise NoStackError("there is no object to follow; click on one first")
        stack, is_asked = self._stack(state), self._segmenter.asker.is_asked
        open_drafts = (draft for draft in state.drafts if draft.answer is None)
        asked = [draft for draft in open_drafts if stack.holds(draft.sight) and is_asked(draft)]
        if not asked or self.follower.is_running:
            return self.follower.start(state, stack, self.params)
        if any(map(self._segmenter.committing.is_meant, asked)):
            raise NoStackError("the object is about to be committed; click on another one first")
        self.is_awaited = True
        self._segmenter.changed.emit()
        return None

    def go_on(self) -> None:
        """Follow what was to be followed when it is answered, if it is by now."""
        if not self.is_awaited or self._segmenter.choice.is_choosing:
            return  # a mask that is chosen may have to be asked about again, in a larger part
        self.is_awaited = False
        if self._segmenter.session.state.active is None:
            return
        try:
            self.follow()
        except (SamPluginsError, ValueError) as error:  # nobody is there to be told by an exception
            self.failed.emit(error)

    def forget(self) -> None:
        """Follow nothing when it is answered."""
        self.is_awaited = False

    def stop(self) -> None:
        """Stop following objects; the slices that are done stay."""
        self.follower.cancel()

    def require_rest(self) -> None:
        """Refuse to go on while objects are being followed.

        Raises
        ------
        NoStackError
            If they are.
        """
        if self.follower.is_running:
            raise NoStackError(
                "objects are still being followed; wait for the rest, or stop that first: what is "
                "done stays"
            )

    def is_known(self, found: Place) -> bool:
        """Return whether a place lies in a slice where something is known of the object meant."""
        state = self._segmenter.session.state
        meant = object_meant(state, found.plane, found.x, found.y)
        if meant is None:
            return False
        followed = followed_of(state, meant)
        if followed is not None and followed.on(found.plane) is not None:
            return True
        return any(draft.sight.plane == found.plane for draft in drafts_of(state, meant))

    def go_to(self, object_key: int, index: int) -> None:
        """Show a slice of an object that was followed; the next prompt is about it."""
        session = self._segmenter.session
        followed = followed_of(session.state, object_key)
        if followed is None or not session.activate(object_key):
            raise NoStackError("this object is no longer there; choose another slice")
        plane = followed.slices[0].plane.moved(followed.axis, index)
        found = followed.on(plane)
        window = (found or followed.slices[0]).mask.window
        viewpoint, dims = self._segmenter.viewpoint, self._segmenter.viewer.dims
        x, y = (window.left + window.right) / 2, (window.top + window.bottom) / 2
        position = viewpoint.position(plane, x, y)
        axis = followed.axis + dims.ndim - len(viewpoint.source.shape)
        dims.set_point(axis, position[axis])

    def seen_index(self) -> int:
        """Return which slice of the active object's stack is seen, -1 for none."""
        followed, dims = self.shown, self._segmenter.viewer.dims
        if followed is None:
            return -1
        data = self._segmenter.image.world_to_data(dims.point[-self._segmenter.image.ndim :])
        labels_ndim = len(self._segmenter.viewpoint.source.shape)
        return round(float(data[-labels_ndim:][followed.axis]))

    def is_changed(self) -> bool:
        """Return whether something was said of the active object since it was followed."""
        state, followed = self._segmenter.session.state, self.shown
        if state.active is None or followed is None:
            return False
        drafts = drafts_of(state, state.active.object_key)
        is_known = all(followed.knows(draft) for draft in drafts)
        return not is_known or len(drafts) != len(followed.anchors)

    def look(self) -> None:
        """Encode from the slice that is seen now."""
        if self.filler.is_running:
            self.filler.look_at(self._seen())

    def on_state(self, state: State) -> None:
        """Encode ahead once there is a first mask in a stack."""
        active = state.active
        if not self.params.encodes_ahead:
            self.filler.stop()
        elif active is not None and active.answer is not None and self.has_slices:
            try:
                self.filler.start(self._stack(state))
            except NoStackError:  # the axis that was chosen is none of this image
                return

    def close(self) -> None:
        """End the jobs."""
        self.follower.close()
        self.filler.stop()

    def _stack(self, state: State) -> Stack:
        """Return the stack that the active object lies in."""
        assert state.active is not None
        sight, source = state.active.sight, self._segmenter.viewpoint.source
        axis = follow_axis(source, sight.plane, self.params.axis)
        lengths = voxel_lengths(self._segmenter.image, source.channel_axis)
        return Stack(source, sight, axis, voxel_size(lengths, sight.plane, axis))

    def _seen(self) -> Plane | None:
        """Return the plane that is seen, None where none is."""
        viewpoint = self._segmenter.viewpoint
        try:
            return viewpoint.place(self._segmenter.viewer.dims.point).plane
        except NotInPlaneError:
            return None

    def _show(self, found: Shown) -> None:
        """Show slices of objects that are still being followed."""
        self._segmenter.view.show_ahead(found)

    def _take(self, found: list[Followed]) -> None:
        """Take what was followed into the session."""
        self._segmenter.session.set_followed(found)
