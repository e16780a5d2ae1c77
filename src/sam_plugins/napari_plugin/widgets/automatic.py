"""Automatic: every object of a picture, a region or a stack, with thresholds that act at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from sam_plugins.errors import SamPluginsError
from sam_plugins.napari_plugin.adding import Addition, Writing, find_addition
from sam_plugins.napari_plugin.automatic import (
    Pace,
    Painted,
    choose_again,
    find_all,
    picture_kind,
    tiles_expected,
)
from sam_plugins.napari_plugin.automatic_estimate import RunEstimate
from sam_plugins.napari_plugin.automatic_params import (
    WHERE,
    FindParams,
    KeepParams,
    LinkParams,
)
from sam_plugins.napari_plugin.controls import Controls
from sam_plugins.napari_plugin.current_model import (
    CurrentModel,
    Devices,
    current_model,
    when_devices_are_known,
)
from sam_plugins.napari_plugin.docking import share_place
from sam_plugins.napari_plugin.found_objects import FoundObjects
from sam_plugins.napari_plugin.jobs import Job, start_job
from sam_plugins.napari_plugin.layers import LayerCanvas, choose_image, plain_viewer, voxel_lengths
from sam_plugins.napari_plugin.linked import link_all, whole_stack
from sam_plugins.napari_plugin.notifications import show_problem
from sam_plugins.napari_plugin.places import NothingToSegmentError, sights_of
from sam_plugins.napari_plugin.session.planes import Window
from sam_plugins.napari_plugin.settings import keep_settings, read_settings
from sam_plugins.napari_plugin.viewpoint import Viewpoint
from sam_plugins.napari_plugin.widgets.groups import WrappedText

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from sam_plugins.napari_plugin.session.session import Session

_MILLISECONDS_OF_A_SLIDER = 60
_LEAST_MS_BETWEEN_DRAWINGS = 50
_SHARE_OF_DRAWING = 0.1
"""A large layer takes long to draw: no more than this part of the time goes there."""
_TILES_IN_A_BLINK = 8


class AutomaticWidget(QWidget):
    """Finds objects in the background, and shows those that pass the thresholds.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    model : CurrentModel, optional
        By default the one that all widgets share.
    """

    def __init__(self, napari_viewer: ViewerModel, model: CurrentModel | None = None) -> None:
        super().__init__()
        share_place(self)
        self.viewer = plain_viewer(napari_viewer)
        self.model = model or current_model()
        self.finding = Controls(read_settings("automatic", FindParams()))
        self.keeping = Controls(read_settings("automatic thresholds", KeepParams()))
        self.linking = Controls(read_settings("automatic linking", LinkParams()))
        self.linking.changed.connect(lambda params: keep_settings("automatic linking", params))
        self._redrawn = QTimer(self)
        self._redrawn.setSingleShot(True)
        self._redrawn.timeout.connect(self._draw_later)
        self._is_stale = False
        self.job: Job | None = None
        self._run: FoundObjects | None = None
        self._held: list[FoundObjects] = []  # for when the widget is gone
        self._painting: Job | None = None
        self._adding: Job | None = None
        self._writings: list[Writing] = []  # one or none, for when the widget is gone
        self._waiting: list[tuple[FoundObjects, Painted]] = []
        self.added = 0
        self._estimate = RunEstimate(self.model)
        self._status = WrappedText(least_lines=3)
        self.run_button = self._button(
            "Find objects", "Find them in the background; the window stays free", self.run
        )
        self.cancel_button = self._button(
            "Cancel", "Stop; what was found so far stays", self.cancel
        )
        self.add_button = self._button(
            "Add to objects",
            "Write what is shown into the objects, where nothing is yet; with Segment open, Ctrl-Z "
            "takes it back",
            self.add_to_objects,
        )
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(_MILLISECONDS_OF_A_SLIDER)
        self._later.timeout.connect(self._repaint)
        self._lay_out()
        self.finding.changed.connect(self._on_find)
        self.keeping.changed.connect(self._on_keep)
        on_removed, on_active = _weakly(self._on_removed), _weakly(self._show_estimate)
        self.viewer.layers.events.removed.connect(on_removed)
        self.viewer.layers.selection.events.active.connect(on_active)
        self.destroyed.connect(
            _leaving(self.viewer, on_removed, on_active, self._held, self._writings)
        )
        self._show_state()
        self._show_estimate()
        when_devices_are_known(self._on_devices, self)

    def _button(self, text: str, tooltip: str, action: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tooltip)
        button.clicked.connect(lambda _: action())
        return button

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button)
        buttons.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.addWidget(self.finding.form.native)
        layout.addLayout(buttons)
        layout.addWidget(self._status)
        layout.addWidget(self.keeping.form.native)
        layout.addWidget(self.linking.form.native)
        self.linking.form.native.setVisible(self.finding.params.where == WHERE[3])
        layout.addWidget(self.add_button)
        layout.addStretch(1)

    # ------------------------------------------------------------------------------- finding

    def run(self) -> None:
        """Find objects where the controls say; what was found before is forgotten."""
        if self.is_adding or (self.job is not None and self.job.is_running):
            return
        if self.finding.params.where == WHERE[3]:
            self._run_linked()
            return
        try:
            viewpoint = self._viewpoint()
            sights = sights_of(viewpoint, self.finding.params.where)
        except SamPluginsError as error:
            show_problem(error)
            return
        from sam_plugins.model.inference.cache import EmbeddingCache
        from sam_plugins.model.weights.paths import embeddings_directory, proposals_directory

        run = self._begin(FoundObjects(viewpoint, proposals_directory()))
        sizes_hw = [sight.region.shape for sight in sights]
        pace, params = Pace(sum(map(tiles_expected, sizes_hw))), self.finding.params
        kind = picture_kind(max(sizes_hw, key=max), params)
        key = self._estimate.key(params, kind)
        self.job = start_job(
            find_all,
            self.model.load,
            viewpoint.source,
            sights,
            params,
            lambda: self.keeping.params,
            title=f"Finding objects in {run.image.name}",
            owner=self,
            cache=EmbeddingCache(embeddings_directory()),
            masks=run.masks,
            on_progress=lambda done, total: self._note_pace(pace, done, total),
            on_partial=lambda painted: self._show(run, painted),
            # A quick run may begin before it is known what there is to compute on.
            on_result=lambda are_new: self._note_complete(
                run, pace if are_new else None, key or self._estimate.key(params, kind)
            ),
            on_finished=self._on_finished,
        )
        self._show_state()

    def _note_pace(self, pace: Pace, done: int, total: int) -> None:
        """Note how far a run is, and say how long it still takes where that reads otherwise."""
        pace.note(done, total)
        if self._estimate.note(pace):
            self._show_estimate()

    def _begin(self, run: FoundObjects) -> FoundObjects:
        """Forget what was found before, and begin anew."""
        if self._painting is not None:
            self._painting.cancel()
        if self._run is not None:
            self._run.close()
        self._run = run
        self._held[:] = [run]
        return run

    def _note_complete(self, run: FoundObjects, pace: Pace | None, key: str | None) -> None:
        """Keep nothing on the disk of what is done but how fast it was, where that tells."""
        run.is_complete = True
        if pace is not None:
            self._estimate.keep(pace, key)

    def _run_linked(self) -> None:
        """Find the objects of a whole stack, linked across its slices."""
        try:
            viewpoint = self._viewpoint()
            plane = viewpoint.plane()
            sight = viewpoint.look_at(plane, Window(0, 0, *viewpoint.size_hw(plane)))
            lengths = voxel_lengths(viewpoint.image, viewpoint.channel_axis)
            stack = whole_stack(viewpoint.source, sight, lengths)
        except SamPluginsError as error:
            show_problem(error)
            return
        from sam_plugins.model.inference.cache import EmbeddingCache
        from sam_plugins.model.weights.paths import embeddings_directory, proposals_directory

        run = self._begin(FoundObjects(viewpoint, proposals_directory(), stack))
        self.job = start_job(
            link_all,
            self.model.load,
            stack,
            run.preview.data,
            (self.finding.params, self.keeping.params, self.linking.params),
            title=f"Finding objects in {run.image.name}",
            owner=self,
            cache=EmbeddingCache(embeddings_directory()),
            on_progress=lambda done, total: self._draw_soon(run),  # noqa: ARG005
            on_finished=lambda: self._on_linked(run),
        )
        self._show_state()

    def _on_linked(self, run: FoundObjects) -> None:
        """Count what is there, whether or not it was all."""
        if run is self._run and run.is_shown:
            run.count_linked()
        self._show_state()
        self._show_estimate()

    def cancel(self) -> None:
        """Stop; what was found so far stays, and nothing of it is added."""
        for job in (self.job, self._adding):
            if job is not None:
                job.cancel()

    def _viewpoint(self) -> Viewpoint:
        """Return the image that people mean, as the controls show it to the model."""
        image = choose_image(self.viewer)
        if image is None:
            raise NothingToSegmentError(
                "there is no image in the viewer: open one, or take one from File > Open Sample"
            )
        return Viewpoint(self.viewer, image, self.finding.params)

    # ------------------------------------------------------------------------------- showing

    def _show(self, run: FoundObjects, painted: Painted) -> None:
        """Show the objects of a part of a plane, and draw the layer now and then."""
        if self.is_adding:
            self._waiting.append((run, painted))
        elif run is self._run and run.is_shown:
            run.show(painted)
            self._show_state()
            self._draw_soon(run)

    def _draw_soon(self, run: FoundObjects) -> None:
        """Draw the layer, now and then."""
        if run is self._run:
            self._is_stale = True
            if not self._redrawn.isActive():
                self._draw_later()

    def _draw_later(self) -> None:
        """Draw the layer if it has changed, and rest."""
        if self._is_stale and self._run is not None:
            self._draw(self._run)

    def _draw(self, run: FoundObjects) -> None:
        """Draw the layer now."""
        if run is not self._run or not run.is_shown:
            return
        started = time.monotonic()
        self._is_stale = False
        run.preview.refresh()
        taken = round(1000 * (time.monotonic() - started) / _SHARE_OF_DRAWING)
        self._redrawn.start(max(_LEAST_MS_BETWEEN_DRAWINGS, taken))

    def _repaint(self) -> None:
        """Choose again among what was found; an older choice that is still made is dropped."""
        run = self._run
        if run is None or not run.grounds or self.is_adding:
            return
        if self._painting is not None:
            self._painting.cancel()
        self._painting = start_job(
            choose_again,
            run.masks,
            list(run.grounds),
            self.keeping.params,
            title="Choosing objects",
            owner=self,
            on_partial=lambda painted: self._show(run, painted),
            on_finished=lambda: self._draw(run),
            is_shown=run.tiles_done > _TILES_IN_A_BLINK,
        )

    def add_to_objects(self) -> Job | None:
        """Write what is shown into the objects, where nothing is yet; how many is :attr:`added`.

        Returns
        -------
        Job or None
            Which works out what changes; cancelling it leaves all as it was. None where nothing is
            shown, or it is being added already.
        """
        run = self._run
        if run is None or not run.is_shown or self.is_adding:
            return None
        if self._painting is not None:
            self._painting.cancel()
        target = run.objects_layer()
        session = _session_of(target)
        first = 1
        if session is not None:  # what is committed meanwhile gets other numbers
            first = session.state.next_label
            session.reserve_labels(first + run.count)
        self._adding = start_job(
            find_addition,
            run.preview.data,
            target.data,
            list(run.places()),
            run.next_label,
            first,
            title="Adding objects",
            owner=self,
            on_result=lambda addition: self._write(run, target, addition),
            on_finished=self._on_worked_out,
        )
        self._show_state()
        return self._adding

    @property
    def is_adding(self) -> bool:
        """Whether objects are being added just now."""
        return bool(self._writings) or (self._adding is not None and self._adding.is_running)

    def _write(self, run: FoundObjects, target: Labels, addition: Addition) -> None:
        """Write what was worked out."""
        session = _session_of(target)
        canvas = LayerCanvas(self.viewer, target) if session is None else session.canvas

        def on_written() -> None:
            self._writings.clear()
            self.added = addition.count
            run.forget()
            self._on_worked_out()

        self._writings[:] = [Writing(addition, canvas, session, on_written)]

    def _on_worked_out(self) -> None:
        """Show what was found meanwhile, once nothing is being added."""
        if not self.is_adding:
            waiting, self._waiting = self._waiting, []
            for run, painted in waiting:
                self._show(run, painted)
            self._show_state()

    # ----------------------------------------------------------------------------- listening

    def _on_finished(self) -> None:
        self._estimate.end()
        self._show_state()
        self._show_estimate()
        self._repaint()  # thresholds may have moved since the first tile

    def _on_find(self, params: FindParams) -> None:
        keep_settings("automatic", params.lasting)
        self.linking.form.native.setVisible(params.where == WHERE[3])
        self._show_estimate()

    def _on_keep(self, params: KeepParams) -> None:
        keep_settings("automatic thresholds", params)
        self._later.start()

    def _on_removed(self, event: Any) -> None:  # noqa: ANN401
        """End with the image, or with the layer that shows what is found."""
        run = self._run
        if run is not None and event.value in {run.image, run.preview}:
            self.cancel()
            run.close()
            self._run = None
            self._show_state()

    def _show_state(self) -> None:
        """Say what is going on and what can be done."""
        is_running = self.job is not None and self.job.is_running
        self.run_button.setEnabled(not is_running and not self.is_adding)
        self.cancel_button.setEnabled(is_running or self.is_adding)
        count = 0 if self._run is None else self._run.count
        self.add_button.setEnabled(count > 0 and not self.is_adding)
        # Not all of them come in: which are there already is known when they are added.
        self.add_button.setText(f"Add to objects ({count} shown)" if count else "Add to objects")

    def _on_devices(self, devices: Devices) -> None:
        """Say where the model computes, and how fast it was there."""
        self._estimate.devices = devices
        self._show_estimate()

    def _show_estimate(self, _: object = None) -> None:
        """Say how long it will take, and what it needs."""
        image = choose_image(self.viewer)
        if image is None:
            self._status.setText("Open an image first.")
            return
        try:
            source = Viewpoint(self.viewer, image, self.finding.params).source
        except SamPluginsError as error:
            self._status.setText(str(error))
            return
        self._status.setText(self._estimate.text(source, self.finding.params))


def _session_of(layer: Labels) -> Session | None:
    """Return the session of an open **Segment** that writes to a layer."""
    from sam_plugins.napari_plugin.widgets.segment import open_segmenters

    return next((one.session for _, one in open_segmenters() if one.objects is layer), None)


def _weakly(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return what calls a method of a widget, and can be compared when the widget is gone.

    napari looks at the object of a method when it is disconnected, which PyQt does not allow then.
    """
    known = WeakMethod(method)

    def call(event: Any) -> None:  # noqa: ANN401
        method = known()
        if method is not None:
            method(event)

    return call


def _leaving(
    viewer: ViewerModel,
    on_removed: Callable[[Any], None],
    on_active: Callable[[Any], None],
    held: list[FoundObjects],
    writings: list[Writing],
) -> Callable[[], None]:
    """Return what takes a widget that is gone off the lists of those who listen."""

    def leave() -> None:
        viewer.layers.events.removed.disconnect(on_removed)
        viewer.layers.selection.events.active.disconnect(on_active)
        for writing in writings:
            writing.finish()
        for run in held:
            run.close()

    return leave
