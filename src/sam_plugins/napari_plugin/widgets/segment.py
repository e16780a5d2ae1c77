"""**Segment**: the buttons and choices beside the canvas."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import (
    QFrame,
    QGroupBox,
    QHBoxLayout,
    QMessageBox,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from sam_plugins.errors import SamPluginsError
from sam_plugins.napari_plugin.actions import Group
from sam_plugins.napari_plugin.asking import LoadAnswerer, load_answerer
from sam_plugins.napari_plugin.canvas_guard import guard_canvas
from sam_plugins.napari_plugin.controller import SegmentController
from sam_plugins.napari_plugin.controls import Controls
from sam_plugins.napari_plugin.current_model import current_model
from sam_plugins.napari_plugin.docking import share_place
from sam_plugins.napari_plugin.layers import add_unselected, choose_image, plain_viewer
from sam_plugins.napari_plugin.notifications import show_problem
from sam_plugins.napari_plugin.params import SegmentParams
from sam_plugins.napari_plugin.recovery import Recovery
from sam_plugins.napari_plugin.segmenter import Segmenter
from sam_plugins.napari_plugin.session.autosave import forget_session, note_offered
from sam_plugins.napari_plugin.session.files import SessionFileError, load_session
from sam_plugins.napari_plugin.session.followed import object_keys
from sam_plugins.napari_plugin.widgets.groups import WrappedText, button_grid, fold
from sam_plugins.napari_plugin.widgets.stored_labels import StoredLabelsBox
from sam_plugins.napari_plugin.widgets.through_stack import ThroughStackBox

if TYPE_CHECKING:
    import napari.viewer

_WIDTH = 330
_FIELDS = {
    "prompt": ("tool", "is_positive", "each_is_new"),
    "find": ("words", "other_words", "clip"),
    "labels": ("overlap", "is_semantic", "class_name", "class_label"),
    "seen": ("contrast", "channel_axis", "channels"),
}
"""Which choices are shown together."""
_MS_UNTIL_WAITING, _MS_AFTER_MASK = 150, 20
_HINT = (
    "Click on an object: the mask follows.\n"
    "Ctrl-click: not here. Shift-drag: box. M: next mask. C: commit."
)
_OPEN: WeakSet[SegmentWidget] = WeakSet()


def open_widget(viewer: napari.viewer.Viewer) -> SegmentWidget | None:
    """Return the **Segment** that is open in a viewer, for commands."""
    known = plain_viewer(viewer)
    return next((widget for widget in _OPEN if widget.controller.viewer is known), None)


def open_segmenters() -> list[tuple[Recovery, Segmenter]]:
    """Return all segmenters that are at work, and what saves them."""
    return [
        (widget.controller.recovery, segmenter)
        for widget in _OPEN
        for segmenter in widget.controller.segmenters
    ]


class SegmentWidget(QWidget):
    """Segment objects of an image by clicking on them.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    params : SegmentParams, optional
        What is chosen at first.
    load : callable
        Makes what answers prompts.

    Attributes
    ----------
    controller : SegmentController
        Everything that the buttons do, for scripts.
    """

    _was_docked = False

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        params: SegmentParams | None = None,
        *,
        load: LoadAnswerer = load_answerer,
    ) -> None:
        super().__init__()
        share_place(self)
        viewer = plain_viewer(viewer)
        guard_canvas(viewer, self)
        # Without a parent: it must still be there when napari destroys this widget.
        self.controller = SegmentController(viewer, params, load=load)
        self._status = WrappedText(_HINT, least_lines=4)
        self._controls = Controls(self.controller.params, tuple(_FIELDS.values()))
        self._controls.changed.connect(self._on_choice)
        self._is_showing = False
        # To paint a text takes as long as half an answer where the processor draws the window:
        # nothing is said of a wait that is over at once, and of a mask when it is painted.
        self._telling = QTimer(self)
        self._telling.setSingleShot(True)
        self._telling.timeout.connect(lambda: self._status.setText(self.status()))
        layout = self._scrolled()
        layout.addWidget(self._status)
        layout.addWidget(self._recovery_box())
        self.stored_labels = StoredLabelsBox(self.controller)
        layout.addWidget(self.stored_labels)
        self.through_stack = ThroughStackBox(self.controller, button_grid("volume", self._act))
        self._add_groups(layout)
        layout.addStretch()
        self.controller.changed.connect(self._show)
        self.controller.viewed.connect(self.through_stack.show_slice)
        self.controller.recovery.found.connect(self._offer)
        self.destroyed.connect(_leaving(self.controller))  # napari closes no widget, it destroys it
        _OPEN.add(self)
        self._show()

    @property
    def segmenter(self) -> Segmenter | None:
        """The one for the image that is meant now."""
        return self.controller.segmenter

    def changeEvent(self, event: Any) -> None:  # noqa: ANN401, N802
        """End the work when the dock is removed: napari takes this widget out of it.

        It is destroyed only where nobody holds it any more, which is later, or never, with PyQt.
        """
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange:
            if self.parentWidget() is not None:
                self._was_docked = True
            elif self._was_docked:
                self.controller.close()

    def closeEvent(self, event: Any) -> None:  # noqa: ANN401, N802
        """End the jobs, and leave the viewer as it was."""
        self.controller.close()
        super().closeEvent(event)

    # ------------------------------------------------------------------------------------ layout

    def _scrolled(self) -> QVBoxLayout:
        """Return a column that scrolls where the window is too low for it."""
        area, column = QScrollArea(), QWidget()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setMinimumWidth(_WIDTH)
        area.setWidget(column)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        return QVBoxLayout(column)

    def _add_groups(self, layout: QVBoxLayout) -> None:
        """Add the buttons and choices: what people need first comes first and is open."""
        form = dict(zip(_FIELDS, (one.native for one in self._controls.forms), strict=True))
        for one in form.values():
            one.layout().setContentsMargins(0, 0, 0, 0)

        def buttons(group: Group) -> QWidget:
            return button_grid(group, self._act)

        layout.addWidget(buttons("finish"))
        prompts = "How you say where an object is: clicks, boxes, scribbles, outlines"
        layout.addWidget(
            fold("Prompts", form["prompt"], buttons("prompt"), is_open=True, tooltip=prompts)
        )
        layout.addWidget(
            fold(
                "Current object",
                buttons("object"),
                is_open=True,
                tooltip="What is shown and not committed yet",
            )
        )
        layout.addWidget(self.through_stack)
        layout.addWidget(
            fold("Edit objects", buttons("edit"), is_open=True, tooltip="Committed objects")
        )
        layout.addWidget(
            fold(
                "Find many objects",
                buttons("find"),
                form["find"],
                is_open=False,
                tooltip="All objects like one, or those that words name",
            )
        )
        layout.addWidget(
            fold(
                "What is written",
                form["labels"],
                is_open=False,
                tooltip="Numbers, classes, and what becomes of older objects",
            )
        )
        layout.addWidget(
            fold(
                "What the model sees",
                form["seen"],
                buttons("seen"),
                self._preview_button(),
                is_open=False,
                tooltip="Contrast and channels",
            )
        )

    def _act(self, name: str) -> None:
        """Do what a button says."""
        getattr(self.controller, name)()

    def _on_choice(self, params: SegmentParams) -> None:
        """Take what was chosen."""
        if not self._is_showing and params != self.controller.params:
            self.controller.set_params(params)

    def _preview_button(self) -> QPushButton:
        """Return a button that shows what the model sees."""
        button = QPushButton("Show it as a layer")
        button.setToolTip("Add the picture that the model is shown, with its contrast, as a layer")
        button.setObjectName("preview")
        button.clicked.connect(self.show_preview)
        return button

    def show_preview(self) -> None:
        """Add the picture that the model is shown as a layer."""
        if self.segmenter is None:
            return
        try:
            rgb = self.segmenter.preview()
        except (SamPluginsError, ValueError) as error:
            show_problem(error)
            return
        viewer = self.controller.viewer
        from napari.layers import Image

        add_unselected(viewer, Image(rgb, rgb=True, name="what the model sees"))

    # ---------------------------------------------------------------------------------- recovery

    def _recovery_box(self) -> QWidget:
        """Return the offer of an earlier session, hidden until there is one."""
        self._offered: tuple[Segmenter, Path] | None = None
        self._offer_box = QGroupBox("Unfinished session")
        column = QVBoxLayout(self._offer_box)
        self._offer_label = WrappedText()
        column.addWidget(self._offer_label)
        row = QHBoxLayout()
        for name, title, tooltip, work in (
            ("restore", "Restore", "Go on where that session ended", self.restore),
            ("discard", "Discard", "Remove it for good, after a question", self.ask_discard),
        ):
            button = QPushButton(title)
            button.setToolTip(tooltip)
            button.setObjectName(name)
            button.clicked.connect(work)
            row.addWidget(button)
        column.addLayout(row)
        self._offer_box.hide()
        return self._offer_box

    def _offer(self, segmenter: Segmenter, files: list[Path]) -> None:
        """Offer the latest session about an image that is still there: another window may end."""
        for path in files:
            with contextlib.suppress(SessionFileError):
                saved = load_session(path)
                break
        else:
            return
        self._offered = (segmenter, path)
        note_offered(path)
        self._offer_label.setText(
            f"Saved for {segmenter.image.name!r}: {saved.count_objects()} committed, "
            f"{len(object_keys(saved.state))} still open."
        )
        self._offer_box.show()

    def restore(self) -> None:
        """Go on with the session that was offered."""
        offered, self._offered = self._offered, None
        self._offer_box.hide()
        if offered is None:
            return
        try:
            self.controller.recovery.restore(*offered)
        except (SamPluginsError, ValueError) as error:
            show_problem(error)
            if offered[1].exists():  # once the cause is mended it can be tried again
                self._offered = offered
                self._offer_box.show()
            return
        self.controller.set_params(offered[0].params)

    def ask_discard(self) -> None:
        """Remove the session that was offered, once a person has said yes."""
        if self._offered is None:
            return
        answer = QMessageBox.question(
            self,
            "Discard the session?",
            f"{self._offer_label.text()}\n\nDiscard it for good? It cannot be undone.",
            QMessageBox.StandardButton.Discard | QMessageBox.StandardButton.Cancel,
            QMessageBox.StandardButton.Cancel,
        )
        if answer == QMessageBox.StandardButton.Discard:
            self.discard()

    def discard(self) -> None:
        """Remove the session that was offered, without a question."""
        offered, self._offered = self._offered, None
        self._offer_box.hide()
        if offered is not None:
            forget_session(offered[1])

    # ------------------------------------------------------------------------------------ status

    def _show(self) -> None:
        """Show how things are."""
        params = self.controller.params
        if params != self._controls.params:
            self._is_showing = True  # one control after the other: not yet what is meant
            self._controls.set(**asdict(params))
            self._is_showing = False
        segmenter = self.controller.ready_segmenter
        is_busy = segmenter is not None and segmenter.asker.is_busy
        if not (is_busy and self._telling.isActive()):
            self._telling.start(_MS_UNTIL_WAITING if is_busy else _MS_AFTER_MASK)
        self.through_stack.show_state()
        self.stored_labels.show_state()

    def status(self) -> str:
        """Return in words how things are."""
        segmenter, draft = self.controller.ready_segmenter, self.controller.active_draft
        image = choose_image(self.controller.viewer) if segmenter is None else segmenter.image
        if image is None:
            return "Open an image to segment."
        lines = [f"Image: {image.name}; model: {current_model().choice.name}"]
        if segmenter is None:
            lines.append(_HINT)
        elif draft is not None and draft.answer is not None and draft.choice is not None:
            others = len(object_keys(segmenter.session.state)) - 1
            also = f"; {others} more to commit" if others else ""
            lines.append(_told_of_masks(draft.answer.scores, draft.choice) + also)
        elif segmenter.asker.is_busy:
            lines.append("The model is at work…")
            if segmenter.choice.is_awaited:
                lines.append("Then the next mask is chosen.")
            if segmenter.through.is_awaited:
                lines.append("Then it is followed.")
            if segmenter.committing.is_awaited:
                lines.append("Then it is committed.")
        else:
            lines.append(_HINT)
        if self.controller.viewer.dims.ndisplay == 3:
            lines.append("In 3D display the mouse turns the view; switch to 2D to click.")
        if not self.controller.params.is_positive:
            lines.append("Clicks say what does NOT belong to the object (T).")
        return "\n".join(lines)


def _told_of_masks(scores: Sequence[float], choice: int) -> str:
    """Say what the model trusts its masks, with the chosen one in brackets."""
    if len(scores) == 1:
        return f"score {scores[0]:.2f}"
    told = (f"[{one:.2f}]" if i == choice else f"{one:.2f}" for i, one in enumerate(scores))
    return f"mask {choice + 1} of {len(scores)}, scores {', '.join(told)}"


def _leaving(controller: SegmentController) -> Callable[[], None]:
    """Return what ends a controller without the widget, which is gone by then."""

    def leave() -> None:
        controller.changed.disconnect()
        controller.viewed.disconnect()
        controller.recovery.found.disconnect()
        controller.close()

    return leave


def _leave_all() -> None:
    """End all controllers with Python, which saves what they have, while Qt is still there.

    Old napari ends the process where Qt destroys its window: no widget is told of that any more.
    """
    for widget in list(_OPEN):
        with contextlib.suppress(RuntimeError):  # Qt has destroyed it
            widget.controller.close()


atexit.register(_leave_all)
