"""The segmenters of a window, one for each image and channel axis, and which one is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from psygnal import Signal

from sam_plugins.errors import SamPluginsError
from sam_plugins.napari_plugin.asking import LoadAnswerer
from sam_plugins.napari_plugin.follow_params import FollowParams
from sam_plugins.napari_plugin.layers import channel_axis_of
from sam_plugins.napari_plugin.notifications import show_info
from sam_plugins.napari_plugin.params import SegmentParams
from sam_plugins.napari_plugin.recovery import Recovery
from sam_plugins.napari_plugin.segmenter import Segmenter

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image
    from qtpy.QtCore import QObject


class Segmenters:
    """Makes a segmenter when an image is meant first, and keeps it; used on the GUI thread.

    Parameters
    ----------
    viewer : ViewerModel
    owner : QObject
        Jobs end with it.
    load : callable
        Makes what answers prompts.
    recovery : Recovery
        Saves their sessions.
    leave : callable
        Called before an image is taken: what is being drawn is about the one before.
    wait : callable
        Called when something else is to be encoded, once the window rests.
    complain : callable
        Called with what cannot be done.

    Attributes
    ----------
    changed : Signal()
        Another one is meant, or one of them has changed.
    current : Segmenter or None
        The one that is meant now.
    is_taking : bool
        Whether one is being made or put aside just now: layers come and go that are our own.
    params : SegmentParams
    follow_params : FollowParams
    """

    changed = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        params: SegmentParams,
        follow_params: FollowParams,
        *,
        owner: QObject,
        load: LoadAnswerer,
        recovery: Recovery,
        leave: Callable[[], None],
        wait: Callable[[], None],
        complain: Callable[[Exception], None],
    ) -> None:
        self.params = params
        self.follow_params = follow_params
        self.current: Segmenter | None = None
        self.is_taking = False
        self._viewer = viewer
        self._owner, self._load, self._recovery = owner, load, recovery
        self._leave, self._wait, self._complain = leave, wait, complain
        self._all: list[Segmenter] = []
        self._renewed: set[Segmenter] = set()

    def __iter__(self) -> Iterator[Segmenter]:
        """Go through those of all images that are still there."""
        return iter(tuple(self._all))

    def take(self, image: Image) -> None:
        """Segment an image from now on, in the way that the parameters say."""
        self.is_taking = True
        try:
            self._leave()
            self.current = self._known_or_made(image)
            self._wait()
            self.changed.emit()
        except SamPluginsError as error:
            self._complain(error)
        finally:
            self.is_taking = False

    def set_params(self, params: SegmentParams) -> None:
        """Take other parameters; another channel axis is a segmenter of its own."""
        before, self.params = self.params, params
        if params.channel_axis != before.channel_axis:
            self._put_aside()
        for segmenter in self._all:
            if not segmenter.is_aside:
                segmenter.set_params(params)

    def set_follow_params(self, params: FollowParams) -> None:
        """Take other parameters for following objects."""
        self.follow_params = params
        for segmenter in self._all:
            segmenter.through.params = params

    def use_other_model(self) -> None:
        """Ask the model that was chosen."""
        for segmenter in self._all:
            segmenter.through.stop()
            segmenter.asker.use_other_model()
            if not segmenter.is_aside:
                segmenter.asker.ask(segmenter.session)  # what the one before had not answered yet

    def look_again(self) -> None:
        """Save about the pictures that layers show now instead of others."""
        while self._renewed:
            self._recovery.look_again(self._renewed.pop())

    def forget(self, image: object) -> bool:
        """Let go of an image that was removed; return whether it was segmented."""
        gone = [entry for entry in self._all if entry.image is image]
        for segmenter in gone:
            self._all.remove(segmenter)
            self._recovery.forget(segmenter)
            segmenter.close(layers_later=True)  # napari may be about to remove them, too
            if segmenter is self.current:
                self.current = None
        return bool(gone)

    def close(self) -> None:
        """Close all of them, once all are saved."""
        for segmenter in self._all:
            self._recovery.forget(segmenter)
        for segmenter in self._all:
            segmenter.close()
        self._all.clear()
        self.current = None

    def _known_or_made(self, image: Image) -> Segmenter:
        """Return the segmenter of an image with the channel axis of the parameters."""
        axis = channel_axis_of(image, self.params.channel_axis)
        for known in self._all:
            if known.image is image and known.viewpoint.channel_axis == axis:
                if known.is_aside:
                    known.take_up(self.params)
                return known
        made = Segmenter(self._viewer, image, self.params, owner=self._owner, load=self._load)
        made.through.params = self.follow_params
        made.changed.connect(self.changed.emit)
        made.committing.came.connect(self._recovery.save_soon)
        made.committing.failed.connect(self._complain)
        made.through.failed.connect(self._complain)
        made.renewed.connect(partial(self._on_renewed, made))
        made.outgrown.connect(partial(self._on_outgrown, made))
        self._all.append(made)
        self._recovery.watch(made)
        return made

    def _put_aside(self) -> None:
        """Put aside what was done with other channel axes, and segment the image with this one."""
        for segmenter in [one for one in self._all if not one.is_aside]:
            image, axis = segmenter.image, segmenter.viewpoint.channel_axis
            if channel_axis_of(image, self.params.channel_axis) == axis:
                continue
            self.is_taking = True
            try:
                segmenter.put_aside()
            finally:
                self.is_taking = False
            if segmenter.has_work:
                show_info(
                    f"{image.name!r} is segmented with another channel axis now. Its masks that "
                    f"are open, and what can be undone, come back with the channel axis "
                    f"{-1 if axis is None else axis}"
                )
            if segmenter is self.current:
                self.current = None
                self.take(image)

    def _on_renewed(self, segmenter: Segmenter) -> None:
        """Encode the picture that a layer shows now, and save about it, when it rests."""
        self._renewed.add(segmenter)
        self._wait()

    def _on_outgrown(self, segmenter: Segmenter) -> None:
        """Begin anew with an image that has another shape now; what was done is in its file."""
        self._all.remove(segmenter)
        self._recovery.forget(segmenter)
        if segmenter.has_work:
            show_info(
                f"{segmenter.image.name!r} has another shape now. What was open is kept as a "
                "session for the picture that it was about"
            )
        segmenter.close(layers_later=True)
        if segmenter is self.current:
            self.current = None
            self.take(segmenter.image)
        self.changed.emit()
