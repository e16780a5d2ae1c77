"""Folder: many pictures, one after the other, with nothing lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from sam_plugins.errors import SamPluginsError, UnreadableImageError
from sam_plugins.napari_plugin.canvas_guard import guard_canvas
from sam_plugins.napari_plugin.current_model import CurrentModel, current_model
from sam_plugins.napari_plugin.folder import PictureFolder, PictureState, best_next, prefetch
from sam_plugins.napari_plugin.jobs import Job, start_job
from sam_plugins.napari_plugin.layers import add_labels, find_layer
from sam_plugins.napari_plugin.notifications import show_problem
from sam_plugins.napari_plugin.settings import keep_settings, read_settings

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from sam_plugins.model.engine.selection import Signals

_MARKS = {PictureState.NEW: "○", PictureState.BEGUN: "◐", PictureState.DONE: "●"}
_AUTOSAVE_MILLISECONDS = 15_000


@dataclass(frozen=True)
class FolderSettings:
    """What people chose last."""

    folder: str = ""
    skips_done: bool = True


class _OpenPicture:
    """A picture in the viewer, and its objects as they were last saved; no Qt in it."""

    def __init__(
        self, viewer: ViewerModel, pictures: PictureFolder, index: int, image: Image
    ) -> None:
        self.image = image
        self._viewer = viewer
        self._pictures = pictures
        self._index = index
        objects = self.objects()
        self._saved = np.zeros(0) if objects is None else np.array(objects.data)

    def objects(self) -> Any:  # noqa: ANN401
        """Return the layer of its objects, None where somebody removed it."""
        shape = tuple(self.image.data.shape)
        return find_layer(self._viewer, "objects", shape[:-1] if self.image.rgb else shape)

    def save(self) -> bool:
        """Write the objects where they have changed, and return whether they had.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        objects = self.objects() if self.image in self._viewer.layers else None
        if objects is None or np.array_equal(objects.data, self._saved):
            return False
        labels = np.array(objects.data)
        self._pictures.write_labels(self._index, labels)
        self._saved = labels
        return True


class _Holder:
    """What outlives the widget: the picture that is open."""

    def __init__(self) -> None:
        self.picture: _OpenPicture | None = None

    def save_last(self) -> None:
        """Save when the widget goes."""
        if self.picture is not None:
            try:
                self.picture.save()
            except (SamPluginsError, ValueError) as error:
                show_problem(error)


class FolderWidget(QWidget):
    """A list of pictures; leaving one saves its objects.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    model : CurrentModel, optional
        By default the one that all widgets share.
    """

    def __init__(self, napari_viewer: ViewerModel, model: CurrentModel | None = None) -> None:
        super().__init__()
        self.viewer = napari_viewer
        guard_canvas(napari_viewer, self)
        self.model = model or current_model()
        self.pictures: PictureFolder | None = None
        self.index = -1
        self.job: Job | None = None
        self.prefetching: Job | None = None
        self._opened = _Holder()
        self._signals: dict[str, Signals] = {}
        settings = read_settings("folder", FolderSettings())
        self.folder = QLineEdit(settings.folder)
        self.folder.setToolTip("Folder of pictures; labels go into its folder 'labels'")
        self.folder.setPlaceholderText("Folder of pictures")
        self.list = QListWidget()
        self.list.setToolTip("○ new, ◐ begun, ● done; a double click opens a picture")
        self.skips_done = QCheckBox("Skip what is done")
        self.skips_done.setChecked(settings.skips_done)
        self.skips_done.setToolTip("Previous and next pass by the pictures that are done")
        self.state = QLabel()
        self.state.setWordWrap(True)
        self.buttons = {
            "choose": self._button("Open folder...", "Choose the folder", self.choose_folder),
            "previous": self._button("◀ Previous", "Save, and go one back", lambda: self.step(-1)),
            "next": self._button("Next ▶", "Save, and go on", lambda: self.step(1)),
            "done": self._button(
                "Done, next ▶", "Every object is labelled: save, and go on", self.done
            ),
            "best": self._button(
                "Most useful next",
                "The new picture from which the model would learn most; it looks at all of them "
                "the first time",
                self.jump,
            ),
        }
        self._lay_out()
        self.folder.returnPressed.connect(lambda: self.open_folder(Path(self.folder.text())))
        self.list.itemDoubleClicked.connect(lambda item: self.open(self.list.row(item)))
        self._autosave = QTimer(self)
        self._autosave.timeout.connect(self.save)
        self._autosave.start(_AUTOSAVE_MILLISECONDS)
        self.destroyed.connect(self._opened.save_last)  # napari destroys docks without closing them
        self._show()

    def _button(self, text: str, tooltip: str, action: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tooltip)
        button.clicked.connect(lambda _: action())
        return button

    def _lay_out(self) -> None:
        place, steps = QHBoxLayout(), QHBoxLayout()
        place.addWidget(self.folder)
        place.addWidget(self.buttons["choose"])
        for name in ("previous", "next", "done"):
            steps.addWidget(self.buttons[name])
        layout = QVBoxLayout(self)
        layout.addLayout(place)
        layout.addWidget(self.list)
        layout.addLayout(steps)
        layout.addWidget(self.buttons["best"])
        layout.addWidget(self.skips_done)
        layout.addWidget(self.state)

    # -------------------------------------------------------------------------------- moving

    def choose_folder(self) -> None:
        """Ask for the folder, and open it."""
        folder = QFileDialog.getExistingDirectory(self, "Pictures", self.folder.text())
        if folder:
            self.open_folder(Path(folder))

    def open_folder(self, folder: Path) -> None:
        """Open a folder, at the first picture that is not done."""
        self.save()
        try:
            self.pictures = PictureFolder(folder.expanduser())
        except SamPluginsError as error:
            show_problem(error)
            return
        self.folder.setText(str(folder))
        keep_settings("folder", FolderSettings(str(folder), self.skips_done.isChecked()))
        self._close_layers()
        self.index, self._signals = -1, {}
        first = self.pictures.step(-1, 1, skips_done=True)
        self.open(0 if first is None else first)

    def step(self, by: int) -> None:
        """Save, and go to the next picture in a direction."""
        if self.pictures is None:
            return
        found = self.pictures.step(self.index, by, skips_done=self.skips_done.isChecked())
        if found is None:
            self.save()
            self.state.setText(
                "Nothing is left after this one." if by > 0 else "Nothing is left before this one."
            )
        else:
            self.open(found)

    def done(self) -> None:
        """Call the picture done, and go on."""
        if self.pictures is None or self.index < 0:
            return
        self.save()
        try:
            self.pictures.set_done(self.index, True)
        except SamPluginsError as error:
            show_problem(error)
            return
        self.step(1)
        self._show()

    def jump(self) -> None:
        """Go to the picture from which the model would learn most."""
        if self.pictures is None or (self.job is not None and self.job.is_running):
            return
        self.save()
        self.job = start_job(
            best_next,
            self.pictures,
            self._signals,
            self.model.load,
            self._cache(),
            title="Looking which picture is most useful",
            owner=self,
            on_result=self._on_best,
        )

    def _on_best(self, index: int | None) -> None:
        if index is None:
            self.state.setText("Every picture is labelled.")
        else:
            self.open(index)

    def open(self, index: int) -> None:
        """Save what is open, and open another picture with its labels."""
        if self.pictures is None or not self.save():
            return
        try:
            pixels = self.pictures.read(index)
            labels = self.pictures.read_labels(index)
        except (SamPluginsError, ValueError) as error:
            show_problem(
                error
                if isinstance(error, SamPluginsError)
                else UnreadableImageError(
                    f"{self.pictures.labels_path(index)} cannot be read: {error}"
                )
            )
            return
        self._close_layers()
        is_rgb = pixels.ndim == 3 and pixels.shape[-1] in (3, 4)
        image = self.viewer.add_image(pixels, rgb=is_rgb, name=self.pictures.paths[index].stem)
        objects = add_labels(self.viewer, image, "objects", name=f"{image.name} objects")
        if labels is not None and labels.shape == objects.data.shape:
            objects.data[...] = labels
            objects.refresh()
        self._opened.picture = _OpenPicture(self.viewer, self.pictures, index, image)
        self.index = index
        self.viewer.layers.selection.active = image
        self.viewer.reset_view()
        self._show()
        self._prefetch()

    def _close_layers(self) -> None:
        """Take the picture that was open, and its objects, out of the viewer."""
        opened, self._opened.picture = self._opened.picture, None
        if opened is not None and opened.image in self.viewer.layers:
            objects = opened.objects()
            if objects is not None:
                self.viewer.layers.remove(objects)
            self.viewer.layers.remove(opened.image)

    def _prefetch(self) -> None:
        """Encode the next picture while people label this one."""
        if self.pictures is None:
            return
        if self.prefetching is not None:
            self.prefetching.cancel()
        following = self.pictures.step(self.index, 1, skips_done=self.skips_done.isChecked())
        if following is not None:
            self.prefetching = start_job(
                prefetch,
                self.pictures,
                following,
                self.model.load,
                self._cache(),
                title=f"Preparing {self.pictures.paths[following].name}",
                owner=self,
                on_error=lambda _: None,  # it is told when people come to it
                is_shown=False,
            )

    def _cache(self) -> Any:  # noqa: ANN401
        from sam_plugins.model.engine.project.encoding import usual_cache

        return usual_cache()

    # -------------------------------------------------------------------------------- saving

    def save(self) -> bool:
        """Keep the objects of the picture that is open, where they have changed.

        Returns
        -------
        bool
            False where they could not be kept: then the picture must not be closed.
        """
        opened = self._opened.picture
        if opened is None:
            return True
        try:
            has_changed = opened.save()
        except (SamPluginsError, ValueError) as error:
            show_problem(error)
            return False
        if has_changed:
            self._show()
        return True

    def _show(self) -> None:
        """Show the list, and how far people are."""
        for name in ("previous", "next", "done", "best"):
            self.buttons[name].setEnabled(self.pictures is not None)
        if self.pictures is None:
            self.state.setText("Open a folder of pictures.")
            return
        states = [self.pictures.state(index) for index in range(len(self.pictures))]
        self.list.clear()
        self.list.addItems(
            [
                f"{_MARKS[state]} {path.name}"
                for state, path in zip(states, self.pictures.paths, strict=True)
            ]
        )
        self.list.setCurrentRow(self.index)
        done = states.count(PictureState.DONE)
        self.state.setText(
            f"Picture {self.index + 1} of {len(states)}; {done} done, "
            f"{states.count(PictureState.BEGUN)} begun. Objects are saved as you go."
        )
