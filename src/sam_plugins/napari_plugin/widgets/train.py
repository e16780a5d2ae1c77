"""Train: the model learns from what people committed, is compared, and comes into use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from sam_plugins.durations import duration
from sam_plugins.errors import ProjectError, PromotionError, SamPluginsError
from sam_plugins.napari_plugin.belonging import labels_of
from sam_plugins.napari_plugin.controls import Controls
from sam_plugins.napari_plugin.current_model import CurrentModel, ModelChoice, current_model
from sam_plugins.napari_plugin.docking import share_place
from sam_plugins.napari_plugin.folder import FolderSettings
from sam_plugins.napari_plugin.images import ImageSource
from sam_plugins.napari_plugin.jobs import Job, JobProgress, JobState, start_job
from sam_plugins.napari_plugin.layers import (
    channel_axis_of,
    choose_image,
    plain_viewer,
    source_of,
)
from sam_plugins.napari_plugin.notifications import show_problem
from sam_plugins.napari_plugin.project_pictures import (
    AddedPictures,
    add_folder_to_project,
    add_picture_to_project,
    add_stack_to_project,
    picture_of,
)
from sam_plugins.napari_plugin.settings import keep_settings, read_settings
from sam_plugins.napari_plugin.training import (
    ProjectSummary,
    TrainingNews,
    TrainingResult,
    TrainParams,
    open_project,
    summarise,
    train_project,
)
from sam_plugins.napari_plugin.training_trial import TrainingRates, try_training
from sam_plugins.napari_plugin.widgets.curve import CurveWidget
from sam_plugins.napari_plugin.widgets.groups import name_buttons
from sam_plugins.napari_plugin.widgets.review import ReviewBox
from sam_plugins.napari_plugin.worker import in_process

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

_SAMPLE_WIDTH = 280


@dataclass(frozen=True)
class ProjectChoice:
    """The project that was used last."""

    folder: str = ""
    name: str = "my-model"


class TrainWidget(QWidget):
    """A project, its labels, and the versions that it trains.

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
        self.controls = Controls(read_settings("train", TrainParams()))
        self.controls.changed.connect(self._on_params)
        self.job: Job | None = None
        chosen = read_settings("project", ProjectChoice())
        self.folder = QLineEdit(chosen.folder)
        self.folder.setPlaceholderText("Folder of the project; it is made where there is none")
        self.folder.setToolTip("Where labels, pictures and what was tried are kept")
        self.name = QLineEdit(chosen.name)
        self.name.setToolTip("Name of the project and of its models, such as my-cells")
        self.is_complete = QCheckBox("Every visible object is labelled")
        self.is_complete.setToolTip(
            "Off: what has no label may be an object, and is not learned as background"
        )
        self.curve = CurveWidget()
        self.summary, self.outcome, self.before, self.after = (QLabel() for _ in range(4))
        self.estimate = QLabel()
        self._rates: TrainingRates | None = None
        self._project: ProjectSummary | None = None
        for label in (self.summary, self.outcome, self.estimate):
            label.setWordWrap(True)
        self.before.setToolTip("What the model before does with one click on held-out pictures")
        self.after.setToolTip("What the new one does")
        self.buttons = {
            "choose": self._button("Choose...", "Choose the folder", self.choose_folder),
            "add": self._button(
                "Add this picture", "Copy the picture and its committed objects into the project",
                self.add_picture,
            ),
            "add_stack": self._button(
                "Add all slices", "Every slice of the image that has objects: those that the "
                "project has already are brought up to date", self.add_stack,
            ),
            "add_folder": self._button(
                "Add what is done", "Every picture that is done in the folder that was opened last "
                "in Folder; those that the project has already are brought up to date",
                self.add_folder,
            ),
            "try": self._button(
                "How long?", "Try a few steps, and say how long all take and what memory they need",
                self.try_training,
            ),
            "start": self._button("Train", "Learn from all labels, in the background", self.train),
            "cancel": self._button(
                "Stop", "End at this step: what was added stays; of training the best so far, if "
                "it is better", self.cancel
            ),
            "promote": self._button(
                "Promote", "Put the newest version into use, in all widgets", self.promote
            ),
            "rollback": self._button(
                "Roll back", "Put the version into use that was before", self.roll_back
            ),
        }  # fmt: skip
        self.review = ReviewBox(
            self.viewer,
            self.project,
            self.is_complete.isChecked,
            lambda: self.model.choice.device,
        )
        self.review.summarised.connect(
            lambda summary: self._on_summary((self.name.text().strip(), summary))
        )
        name_buttons("train", self.buttons)
        self._lay_out()
        self.folder.editingFinished.connect(self.reload)
        self._show_state()
        self.reload()

    @property
    def is_running(self) -> bool:
        """Whether something is at work, also where it was told to stop and has not yet."""
        return self.job is not None and self.job.state is JobState.RUNNING

    def _button(self, text: str, tooltip: str, action: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tooltip)
        button.clicked.connect(lambda _: action())
        return button

    def _lay_out(self) -> None:
        place = QHBoxLayout()
        place.addWidget(self.folder)
        place.addWidget(self.buttons["choose"])
        form = QFormLayout()
        form.addRow("Project", place)
        form.addRow("Model", self.name)
        adding, work, versions = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        for key in ("add", "add_stack", "add_folder"):
            adding.addWidget(self.buttons[key])
        work.addWidget(self.buttons["try"])
        work.addWidget(self.buttons["start"])
        work.addWidget(self.buttons["cancel"])
        versions.addWidget(self.buttons["promote"])
        versions.addWidget(self.buttons["rollback"])
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.addLayout(form)
        layout.addWidget(self.is_complete)
        layout.addLayout(adding)
        layout.addWidget(self.summary)
        layout.addWidget(self.review)
        layout.addWidget(self.controls.form.native)
        layout.addWidget(self.estimate)
        layout.addLayout(work)
        layout.addWidget(self.curve)
        layout.addWidget(self.outcome)
        layout.addLayout(versions)
        layout.addWidget(self.before)
        layout.addWidget(self.after)
        layout.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setMinimumWidth(inside.minimumSizeHint().width() + 20)
        scroll.setWidget(inside)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(scroll)

    # ------------------------------------------------------------------------------- project

    def choose_folder(self) -> None:
        """Ask for the folder of the project."""
        folder = QFileDialog.getExistingDirectory(self, "Project", self.folder.text())
        if folder:
            self.folder.setText(folder)
            self.reload()

    def project(self) -> tuple[Path, str]:
        """Return the folder and the name that were chosen.

        Raises
        ------
        ProjectError
            If no folder was chosen.
        """
        folder, name = self.folder.text().strip(), self.name.text().strip()
        if not folder:
            raise ProjectError("choose a folder for the project first: new or existing")
        keep_settings("project", ProjectChoice(folder, name))
        return Path(folder).expanduser(), name

    def reload(self) -> None:
        """Look again what the project has."""
        folder = Path(self.folder.text().strip() or "?")
        if (folder / "project.sqlite").exists():
            start_job(
                _summary, folder, self.name.text().strip(), title="Reading the project", owner=self,
                on_result=self._on_summary, is_shown=False,
            )  # fmt: skip
        else:
            self.summary.setText("No labels yet: commit objects in Segment, then add the picture.")
            self.review.show_project(None)

    def _on_summary(self, found: tuple[str, ProjectSummary]) -> None:
        self.name.setText(found[0])
        self.summary.setText(str(found[1]))
        self._project = found[1]
        self.review.show_project(found[1])
        self._show_estimate()
        self._show_state()

    def add_picture(self) -> None:
        """Copy the picture that is seen, and its committed objects, into the project."""
        try:
            folder, name = self.project()
            image, source, objects = self._labelled_image()
        except SamPluginsError as error:
            show_problem(error)
            return
        picture = picture_of(
            source,
            objects,
            self._seen_plane(image, source),
            image.name,
            is_complete=self.is_complete.isChecked(),
        )
        start_job(
            add_picture_to_project,
            folder,
            name,
            picture,
            title=f"Adding {image.name} to the project",
            owner=self,
            on_result=lambda summary: self._on_summary((name, summary)),
        )

    def add_stack(self) -> None:
        """Copy all planes of the image that have objects into the project."""
        try:
            image, source, objects = self._labelled_image()
        except SamPluginsError as error:
            show_problem(error)
            return
        self._add_many(
            add_stack_to_project,
            source,
            objects,
            image.name,
            is_complete=self.is_complete.isChecked(),
            title=f"Adding the labelled slices of {image.name} to the project",
        )

    def add_folder(self, folder: Path | None = None) -> None:
        """Copy all pictures of a folder that are done into the project.

        Parameters
        ----------
        folder : Path, optional
            By default the one that was opened last in **Folder**.
        """
        chosen = folder or read_settings("folder", FolderSettings()).folder
        if not chosen:
            show_problem(
                ProjectError(
                    "there is no folder yet: open one in Folder, and press Done on its pictures"
                )
            )
            return
        pictures = Path(chosen).expanduser()
        self._add_many(
            add_folder_to_project,
            pictures,
            title=f"Adding what is done in {pictures.name} to the project",
        )

    def _add_many(self, work: Callable[..., AddedPictures], *args: object, **more: Any) -> None:  # noqa: ANN401
        """Start to add many pictures, unless something is at work."""
        if self.is_running:
            return
        try:
            folder, name = self.project()
        except SamPluginsError as error:
            show_problem(error)
            return
        self.outcome.setText("Adding pictures...")
        self.job = start_job(
            work,
            folder,
            name,
            *args,
            owner=self,
            on_result=lambda added: self._on_added(name, added),
            on_cancelled=lambda: self._on_not_added("Stopped; what was added stays."),
            on_error=self._on_adding_failed,
            on_finished=self._show_state,
            **more,
        )
        self._show_state()

    def _on_added(self, name: str, added: AddedPictures) -> None:
        """Say what was added."""
        self.outcome.setText(f"{added}.")
        self._on_summary((name, added.project))

    def _on_not_added(self, text: str) -> None:
        """Say that not all was added, and look what is there."""
        self.outcome.setText(text)
        self.reload()

    def _on_adding_failed(self, error: Exception) -> None:
        """Say why not all was added."""
        show_problem(error)
        self._on_not_added("Not all pictures were added.")

    def _labelled_image(self) -> tuple[Image, ImageSource, Any]:
        """Return the image that people mean, its data and its committed objects."""
        image = choose_image(self.viewer)
        if image is None:
            raise ProjectError("there is no image in the viewer: open one and label it first")
        channel_axis = channel_axis_of(image)
        source = source_of(image, channel_axis)
        objects = labels_of(self.viewer, "objects", image, channel_axis)
        if objects is None:
            raise ProjectError(
                f"{image.name} has no committed objects: label it with Segment or Automatic first"
            )
        return image, source, objects.data

    def _seen_plane(self, image: Image, source: ImageSource) -> tuple[int, ...]:
        """Return where the plane that is seen lies on the other axes."""
        ndim = len(source.shape)
        point = image.world_to_data(self.viewer.dims.point[-image.ndim :])[-ndim:]
        return tuple(
            int(np.clip(round(float(value)), 0, length - 1))
            for value, length in zip(point[: ndim - 2], source.shape[: ndim - 2], strict=True)
        )

    # ------------------------------------------------------------------------------ training

    def try_training(self) -> None:
        """Try a few steps, to say how long training will take."""
        if self.is_running:
            return
        try:
            folder, name = self.project()
        except SamPluginsError as error:
            show_problem(error)
            return
        self.estimate.setText("Trying a few steps...")
        self.job = start_job(
            in_process,
            try_training,
            folder,
            name,
            self.controls.params,
            self.model.choice.device,
            title="Trying a few steps",
            owner=self,
            on_result=self._on_rates,
            on_finished=self._on_tried,
        )
        self._show_state()

    def _on_rates(self, rates: TrainingRates) -> None:
        self._rates = rates

    def _on_tried(self) -> None:
        self._show_estimate()
        self._show_state()

    def _on_params(self, params: TrainParams) -> None:
        keep_settings("train", params)
        self._show_estimate()

    def _show_estimate(self) -> None:
        """Say how long training will take, as far as it was tried."""
        from sam_plugins.model.inference.memory import available_bytes, in_units

        params, rates, project = self.controls.params, self._rates, self._project
        known = (params.method, self.model.choice.device)
        if rates is None or project is None or (rates.method, rates.device) != known:
            self.estimate.setText("")
            return
        text = f"About {duration(rates.seconds(params, project))}"
        free = available_bytes()
        if rates.nbytes:
            text += f", and {in_units(rates.nbytes)} of memory or more"
            if free is not None and not rates.device.startswith("cuda"):
                text += f" ({in_units(free)} are free)"
        self.estimate.setText(f"{text}. Stop ends it earlier, and keeps the best so far.")

    def train(self) -> None:
        """Learn from all labels of the project."""
        if self.is_running:
            return
        try:
            folder, name = self.project()
        except SamPluginsError as error:
            show_problem(error)
            return
        params = self.controls.params
        self.curve.clear(params.steps)
        self.outcome.setText("Measuring the model as it is...")
        for label in (self.before, self.after):
            label.clear()
        self.job = start_job(
            in_process,
            train_project,
            folder,
            name,
            params,
            self.model.choice.device,
            title=f"Training {name}",
            owner=self,
            on_partial=self._on_news,
            on_result=self._on_trained,
            on_cancelled=lambda: self.outcome.setText(
                "Stopped before anything was better; the model is as it was."
            ),
            on_error=self._on_error,
            on_finished=self._show_state,
        )
        self._show_state()

    def cancel(self) -> None:
        """End at this step; what is better so far is kept."""
        if self.job is not None and self.is_running:
            self.job.stop()
            self.outcome.setText("Stopping...")

    def _on_news(self, news: TrainingNews) -> None:
        self.curve.add(news.step, news.loss, news.value)
        left = "" if news.seconds_left is None else f", {news.seconds_left / 60:.0f} min left"
        if self.job is None or not self.job.is_running:
            return
        if news.measuring is not None:
            done, total = news.measuring
            self.outcome.setText(f"Measuring on held-out pictures: {done} of {total}")
        else:
            self.outcome.setText(f"Step {news.step} of {self.curve.steps}{left}")

    def _on_error(self, error: Exception) -> None:
        self.outcome.setText("Training failed.")
        show_problem(error)

    def _on_trained(self, result: TrainingResult) -> None:
        """Say what it came to, and show it."""
        learned = result.learned
        comparison = learned.result.comparison
        if learned.version is None:
            text = "Nothing was better than the model in use, so nothing is stored."
        elif comparison.is_better:
            text = f"<b>{learned.version}</b> is better. Promote it to work with it."
        else:
            text = (
                f"<b>{learned.version}</b> did better, but that is no proof: other pictures might "
                "say otherwise. Label more, or promote it all the same."
            )
        self.outcome.setText(f"{text}<br>{comparison}")
        for label, path in ((self.before, result.before), (self.after, result.after)):
            if path is not None:
                label.setPixmap(
                    QPixmap(str(path)).scaledToWidth(
                        _SAMPLE_WIDTH, Qt.TransformationMode.SmoothTransformation
                    )
                )
        self._show_state()

    # ------------------------------------------------------------------------------ versions

    def promote(self, *, force: bool = False) -> None:
        """Put the newest version into use; where it is not shown to be better, ask."""
        from sam_plugins.model.weights.store import ModelStore

        name = self.name.text().strip()
        try:
            version = ModelStore().promote(name, force=force)
        except PromotionError as error:
            answer = QMessageBox.question(
                self, "Not shown to be better", f"{error}.\n\nPut it into use all the same?"
            )
            if answer == QMessageBox.StandardButton.Yes:
                self.promote(force=True)
            return
        except SamPluginsError as error:
            show_problem(error)
            return
        self.model.choose(ModelChoice(name, self.model.choice.device))
        self.model.refresh()
        self.outcome.setText(f"<b>{version}</b> is in use.")

    def roll_back(self) -> None:
        """Put the version into use that was before."""
        from sam_plugins.model.weights.store import ModelStore

        try:
            version = ModelStore().rollback(self.name.text().strip())
        except SamPluginsError as error:
            show_problem(error)
            return
        self.model.refresh()
        self.outcome.setText(f"<b>{version}</b> is in use again.")

    def _show_state(self) -> None:
        for key in ("start", "try", "add_stack", "add_folder"):
            self.buttons[key].setEnabled(not self.is_running)
        self.buttons["cancel"].setEnabled(self.is_running)


def _summary(folder: Path, name: str, *, progress: JobProgress) -> tuple[str, ProjectSummary]:
    """Return the name of a project, and what it has."""
    progress.check()
    with open_project(folder, name) as project:
        return project.settings.name, summarise(project)
