"""The part of **Train** in which people look at what the model proposes, picture by picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QGroupBox,
    QLabel,
    QPushButton,
    QVBoxLayout,
)

from sam_plugins.errors import ProjectError, SamPluginsError
from sam_plugins.napari_plugin.folder import FolderSettings
from sam_plugins.napari_plugin.jobs import Job, JobState, start_job
from sam_plugins.napari_plugin.layers import add_labels, note_channel_axis
from sam_plugins.napari_plugin.notifications import show_problem, show_warning
from sam_plugins.napari_plugin.reviewing import (
    BroughtIn,
    PictureToReview,
    Reviewed,
    accept_review,
    bring_pictures,
    next_to_review,
    reject_review,
)
from sam_plugins.napari_plugin.settings import read_settings
from sam_plugins.napari_plugin.training import ProjectSummary
from sam_plugins.napari_plugin.widgets.groups import name_buttons

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

_HINT = "Delete in Segment what is no object, mend the others, add what is missing; then accept."


class ReviewBox(QGroupBox):
    """How many proposals wait, and one picture after the other with its proposals as objects.

    Parameters
    ----------
    viewer : ViewerModel
    project : callable
        Returns folder and name of the project, or raises ProjectError where none is chosen.
    is_complete : callable
        Whether every visible object of a picture is labelled when it is accepted.
    device : callable
        Where models compute.

    Attributes
    ----------
    summarised : Signal(ProjectSummary)
        The project has something else than before.
    picture : PictureToReview or None
        What is open.
    """

    summarised = Signal(ProjectSummary)

    def __init__(
        self,
        viewer: ViewerModel,
        project: Callable[[], tuple[Path, str]],
        is_complete: Callable[[], bool],
        device: Callable[[], str],
    ) -> None:
        super().__init__("Review")
        self._viewer = viewer
        self._project, self._is_complete, self._device = project, is_complete, device
        self.job: Job | None = None
        self.picture: PictureToReview | None = None
        self._layers: tuple[Image, Labels] | None = None
        self._passed: set[str] = set()
        self.queue, self.state = QLabel(), QLabel()
        for label in (self.queue, self.state):
            label.setWordWrap(True)
        self.buttons = {
            "bring": self._button(
                "Bring in pictures...",
                "Let the project know the pictures of a folder, labelled or not; they stay there",
                self.bring_in,
            ),
            "next": self._button(
                "Next picture",
                "The next one whose proposals wait, or from which the model would learn most, with "
                "what the model proposes",
                self.go_on,
            ),
            "accept": self._button(
                "Accept, next",
                "Take over the objects as they are now: what you deleted is rejected, what you "
                "changed corrected",
                self.accept,
            ),
            "reject": self._button(
                "Reject all, next", "None of the proposals is an object", self.reject
            ),
            "stop": self._button("Stop", "Look for no picture any more", self.stop),
        }
        name_buttons("review", self.buttons)
        column, grid = QVBoxLayout(self), QGridLayout()
        for number, button in enumerate(self.buttons.values()):
            grid.addWidget(button, number // 2, number % 2)
        for part in (self.queue, self.state):
            column.addWidget(part)
        column.addLayout(grid)
        self._show_buttons()

    def _button(self, text: str, tooltip: str, action: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tooltip)
        button.clicked.connect(lambda _: action())
        return button

    @property
    def is_running(self) -> bool:
        """Whether something is at work."""
        return self.job is not None and self.job.state is JobState.RUNNING

    def show_project(self, project: ProjectSummary | None) -> None:
        """Say how much waits."""
        if project is None:
            self.queue.setText("Bring in pictures that are not labelled yet, to be proposed to.")
            return
        self.queue.setText(
            f"{project.proposals} proposals wait in {project.waiting} pictures; "
            f"{project.unlabelled} pictures are not labelled yet."
        )

    # --------------------------------------------------------------------------------- actions

    def bring_in(self, pictures: Path | None = None) -> None:
        """Let the project know the pictures of a folder; which one is asked, by default."""
        if pictures is None:
            begin = read_settings("folder", FolderSettings()).folder
            chosen = QFileDialog.getExistingDirectory(self, "Pictures", begin)
            if not chosen:
                return
            pictures = Path(chosen)
        self._start(
            bring_pictures,
            *self._known(),
            pictures,
            title=f"Bringing in the pictures of {pictures.name}",
            on_result=self._on_brought,
        )

    def go_on(self) -> None:
        """Open the next picture; the one that is open is passed by."""
        if self._is_changed():
            show_warning(
                f"objects of {self.picture.name if self.picture else ''} were changed: accept them "
                "first, or undo"
            )
            return
        if self.picture is not None:
            self._passed.add(self.picture.image_id)
        self._open_next()

    def accept(self) -> None:
        """Take over the objects of the picture that is open, and go on."""
        labels = self._labels()
        if self.picture is None or labels is None:
            show_warning("there is no picture to accept; press Next picture")
            return
        self._start(
            accept_review,
            *self._known()[:1],
            self.picture,
            np.array(labels),
            is_complete=self._is_complete(),
            title=f"Accepting the objects of {self.picture.name}",
            on_result=self._on_reviewed,
        )

    def reject(self) -> None:
        """Say that no proposal of the picture that is open is an object, and go on."""
        if self.picture is None:
            show_warning("there is no picture to reject; press Next picture")
            return
        self._start(
            reject_review,
            *self._known()[:1],
            self.picture,
            title=f"Rejecting the proposals of {self.picture.name}",
            on_result=self._on_rejected,
        )

    def stop(self) -> None:
        """Look for no picture any more."""
        if self.job is not None:
            self.job.cancel()

    def _known(self) -> tuple[Path, str] | tuple[()]:
        """Return folder and name of the project; nothing where people were told to choose one."""
        try:
            return self._project()
        except SamPluginsError as error:
            show_problem(error)
            return ()

    def _start(self, work: Callable[..., object], *args: object, **more: Any) -> None:  # noqa: ANN401
        """Start to do something, unless something is being done, or there is no project."""
        if self.is_running or not args or not isinstance(args[0], Path):
            return
        self.job = start_job(
            work,
            *args,
            owner=self,
            on_error=self._on_error,
            on_finished=self._show_buttons,
            **more,
        )
        self._show_buttons()

    def _open_next(self) -> None:
        """Look for the next picture."""
        self.state.setText("Looking for the next picture...")
        self._start(
            next_to_review,
            *self._known()[:1],
            frozenset(self._passed),
            self._device(),
            title="Looking for the next picture",
            on_result=self._on_picture,
            on_partial=show_problem,
            on_cancelled=lambda: self.state.setText("Stopped."),
        )

    # --------------------------------------------------------------------------------- answers

    def _on_brought(self, brought: BroughtIn) -> None:
        """Say what came in."""
        self.state.setText(f"{brought.new} pictures came in. Press Next picture.")
        if brought.skipped:
            rest = len(brought.skipped) - 1
            show_warning(brought.skipped[0] + (f"; so were {rest} others" if rest else ""))
        self.summarised.emit(brought.project)

    def _on_picture(self, picture: PictureToReview) -> None:
        """Show a picture with its objects."""
        self._close()
        if picture.image_id in self._passed:
            self._passed.clear()  # all were passed by: from the beginning
        layer = picture.layer
        image = self._viewer.add_image(layer.pixels, rgb=layer.is_rgb, name=picture.name)
        if layer.channel_axis is not None:
            note_channel_axis(image, layer.channel_axis)
        objects = add_labels(
            self._viewer,
            image,
            "objects",
            channel_axis=layer.channel_axis,
            data=picture.labels.copy(),
            name=f"{picture.name} objects",
        )
        self._viewer.layers.selection.active = image
        self._viewer.reset_view()
        self.picture, self._layers = picture, (image, objects)
        count = picture.proposals
        self.state.setText(f"{picture.name} ({picture.why}): {count} proposals. {_HINT}")
        self.summarised.emit(picture.project)

    def _on_reviewed(self, reviewed: Reviewed) -> None:
        """Go on after a picture that was accepted."""
        self._close()
        self._say_and_go_on(reviewed)

    def _on_rejected(self, reviewed: Reviewed) -> None:
        """Go on after a picture whose proposals were rejected."""
        if self.picture is not None:
            self._passed.add(self.picture.image_id)  # nothing is labelled there, or it would come
        self._close()
        self._say_and_go_on(reviewed)

    def _say_and_go_on(self, reviewed: Reviewed) -> None:
        """Say what a review came to, and look for the next picture when this job has ended."""
        self.summarised.emit(reviewed.project)
        if reviewed.project.waiting or reviewed.project.unlabelled:
            self._open_next()
        else:
            self.state.setText(f"{reviewed.labelled}. Every picture is labelled.")

    def _on_error(self, error: Exception) -> None:
        """Say what went wrong; that nothing is left is nothing wrong."""
        self.state.setText(str(error) if isinstance(error, ProjectError) else "")
        show_problem(error)

    # ---------------------------------------------------------------------------------- layers

    def _labels(self) -> Any:  # noqa: ANN401
        """Return the labels of the picture that is open, None where the layer is gone."""
        if self._layers is None or self._layers[1] not in self._viewer.layers:
            return None
        return self._layers[1].data

    def _is_changed(self) -> bool:
        """Return whether somebody changed the objects of the picture that is open."""
        labels = self._labels()
        known = self.picture
        return labels is not None and known is not None and not np.array_equal(labels, known.labels)

    def _close(self) -> None:
        """Take the picture that is open out of the viewer."""
        for layer in reversed(self._layers or ()):
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self.picture = self._layers = None

    def _show_buttons(self) -> None:
        """Let people press only what does something now."""
        for name, button in self.buttons.items():
            needs_picture = name in {"accept", "reject"}
            is_ready = not self.is_running and (self.picture is not None or not needs_picture)
            button.setEnabled(self.is_running if name == "stop" else is_ready)
