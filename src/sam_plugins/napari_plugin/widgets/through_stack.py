"""The part of **Segment** about stacks: how far objects are followed, where to look, options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QGroupBox,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from sam_plugins.durations import duration
from sam_plugins.napari_plugin.controls import Controls
from sam_plugins.napari_plugin.follow_params import FollowParams, preset
from sam_plugins.napari_plugin.session.followed import DoubtfulSlice, Followed
from sam_plugins.napari_plugin.widgets.confidence import ConfidenceView
from sam_plugins.napari_plugin.widgets.groups import WrappedText

if TYPE_CHECKING:
    from sam_plugins.napari_plugin.controller import SegmentController

_HINT = "P follows the current objects through the slices. Click on more slices to help."
_MOST_DOUBTS = 200
_LIST_HEIGHT = 110
_PLACE = Qt.ItemDataRole.UserRole


class ThroughStackBox(QGroupBox):
    """Progress, reasons for ends, confidence and doubtful slices of followed objects.

    Parameters
    ----------
    controller : SegmentController
    buttons : QWidget
        What can be done.
    """

    def __init__(self, controller: SegmentController, buttons: QWidget) -> None:
        super().__init__("Through the stack")
        self._controller = controller
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self._shown: tuple[Followed, ...] | None = None
        self.summary = WrappedText(_HINT)
        self.progress = QProgressBar()
        self.confidence = ConfidenceView()
        self.doubts = QListWidget()
        self.doubts.setMaximumHeight(_LIST_HEIGHT)
        self.doubts.setToolTip("Slices to look at, the most doubtful first; a click goes there")
        self.doubts.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # keys stay with the canvas
        self.controls = Controls(controller.follow_params)
        self._more = QToolButton()
        self._more.setText("Options")
        self._more.setToolTip(
            "Along which axis and how far objects are followed, and when they end"
        )
        self._more.setCheckable(True)
        self._more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._more.setArrowType(Qt.ArrowType.RightArrow)
        column = QVBoxLayout(self)
        column.addWidget(buttons)
        for widget in (self.summary, self.progress, self.confidence, self.doubts, self._more):
            column.addWidget(widget)
        column.addWidget(self.controls.form.native)
        self.controls.form.native.hide()
        self._more.toggled.connect(self._unfold)
        self.confidence.chosen.connect(self._go_to_slice)
        self.doubts.itemClicked.connect(self._go_to_doubt)
        self.controls.changed.connect(self._on_choice)
        self.show_state()

    def show_state(self) -> None:
        """Show how things are."""
        segmenter = self._controller.ready_segmenter
        through = None if segmenter is None else segmenter.through
        self.setVisible(through is not None and through.has_slices)
        if segmenter is None or through is None:
            return
        job = through.follower.job
        is_running = through.follower.is_running
        self.progress.setVisible(is_running)
        if job is not None and is_running:
            done, total = job.steps
            self.progress.setRange(0, total)
            self.progress.setValue(done)
            left = job.seconds_left
            self.progress.setFormat(
                "%v of at most %m slices" + (f", {duration(left)} left" if left else "")
            )
        active = through.shown
        self.confidence.setVisible(active is not None)
        self.confidence.show_object(active, through.length)
        self.show_slice()
        followed = segmenter.session.state.followed
        if followed is not self._shown:
            self._shown = followed
            self._list_doubts(followed)
        self.summary.setText(self._words(active, is_running=is_running))

    def show_slice(self) -> None:
        """Show which slice is seen."""
        segmenter = self._controller.ready_segmenter
        if segmenter is not None and segmenter.through.shown is not None:
            self.confidence.show_slice(segmenter.through.seen_index())

    def _words(self, active: Followed | None, *, is_running: bool) -> str:
        """Return in words what is known of the active object."""
        segmenter = self._controller.ready_segmenter
        lines = ["Following…"] if is_running else []
        if active is not None and active.slices:
            indices = [found.plane.index_on(active.axis) for found in active.slices]
            lines.append(f"{len(indices)} slices, {min(indices)} to {max(indices)}.")
            lines += [
                f"{side} at {end.index}: {end.reason}."
                for side, end in zip(("Ends below", "Ends above"), active.ends, strict=False)
            ]
            if segmenter is not None and segmenter.through.is_changed():
                lines.append("Something changed: P follows it again, from there only.")
        elif not is_running:
            lines.append(_HINT)
            if segmenter is not None:
                lines.append(segmenter.through.expected(self._controller.follow_params))
        return "\n".join(line for line in lines if line)

    def _list_doubts(self, followed: tuple[Followed, ...]) -> None:
        """List the slices to look at."""
        self.doubts.clear()
        places = sorted(_doubts(followed), key=lambda place: place[1].confidence)
        for one, doubt in places[:_MOST_DOUBTS]:
            which = f"object {one.key}, " if len(followed) > 1 else ""
            item = QListWidgetItem(f"{which}slice {doubt.index}: {doubt.reason}")
            item.setData(_PLACE, (one.key, doubt.index))
            self.doubts.addItem(item)
        self.doubts.setVisible(bool(places))

    def _go_to_doubt(self, item: QListWidgetItem) -> None:
        """Go to a doubtful slice."""
        self._controller.go_to(*item.data(_PLACE))

    def _go_to_slice(self, index: int) -> None:
        """Go to a slice of the active object."""
        segmenter = self._controller.ready_segmenter
        if segmenter is not None and segmenter.through.shown is not None:
            self._controller.go_to(segmenter.through.shown.key, index)

    def _unfold(self, is_open: bool) -> None:
        """Show the options, or hide them."""
        self.controls.form.native.setVisible(is_open)
        self._more.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)

    def _on_choice(self, params: FollowParams) -> None:
        """Take what was chosen; another kind of stack brings what suits it."""
        before = self._controller.follow_params
        self._controller.set_follow_params(params)
        if params.kind != before.kind:
            self.controls.set(**preset(params.kind))


def _doubts(followed: tuple[Followed, ...]) -> Iterator[tuple[Followed, DoubtfulSlice]]:
    """Yield the doubtful slices of all objects."""
    for one in followed:
        for doubt in one.doubts:
            yield one, doubt
