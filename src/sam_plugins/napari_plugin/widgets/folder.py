"""Folder: many pictures, one after the other, with nothing lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

from sam_plugins.errors import SamPluginsError
from sam_plugins.napari_plugin.canvas_guard import guard_canvas
from sam_plugins.napari_plugin.current_model import CurrentModel, current_model
from sam_plugins.napari_plugin.docking import share_place
from sam_plugins.napari_plugin.folder import (
    FolderSettings,
    LoadedPicture,
    PictureFolder,
    PictureState,
    best_next,
    prefetch,
)
from sam_plugins.napari_plugin.jobs import Job, JobProgress, start_job
from sam_plugins.napari_plugin.layers import plain_viewer
from sam_plugins.napari_plugin.notifications import show_problem
from sam_plugins.napari_plugin.open_picture import OpenPicture
from sam_plugins.napari_plugin.settings import keep_settings, read_settings
from sam_plugins.napari_plugin.widgets.groups import name_buttons

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from sam_plugins.model.engine.selection import Signals

_MARKS = {PictureState.NEW: "○", PictureState.BEGUN: "◐", PictureState.DONE: "●"}
_AUTOSAVE_MILLISECONDS = 15_000
_MOST_PREPARED_BYTES = 1 << 29


class _Holder:
    """What outlives the widget: the picture that is open."""

    def __init__(self) -> None:
        self.picture: OpenPicture | None = None

    def save_last(self) -> None:
        """Save when the widget goes."""
        if self.picture is not None:
            try:
                self.picture.keep(self.picture.labels)
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
        share_place(self)
        self.viewer = plain_viewer(napari_viewer)
        guard_canvas(self.viewer, self)
        self.model = model or current_model()
        self.pictures: PictureFolder | None = None
        self.index = -1
        self.job: Job | None = None
        self.prefetching: Job | None = None
        self.turning: Job | None = None
        self._prepared: tuple[PictureFolder, int, LoadedPicture] | None = None
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
        name_buttons("folder", self.buttons)
        self._lay_out()
        self.folder.returnPressed.connect(lambda: self.open_folder(Path(self.folder.text())))
        self.list.itemDoubleClicked.connect(lambda item: self.open(self.list.row(item)))
        self._autosave = QTimer(self)
        self._autosave.timeout.connect(self.save_soon)
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
        """Open a folder, at the first picture that is not done; returns before it is there."""
        opened = self._opened.picture
        self._turn(
            _list_pictures,
            opened,
            None if opened is None else opened.labels,
            folder.expanduser(),
            title=f"Looking into {folder.name}",
            on_result=lambda pictures: self._on_folder(folder, pictures),
        )

    def _on_folder(self, folder: Path, pictures: PictureFolder) -> None:
        """Show the pictures of a folder."""
        if not self.save():
            return
        self.pictures = pictures
        self.folder.setText(str(folder))
        keep_settings("folder", FolderSettings(str(folder), self.skips_done.isChecked()))
        self._close_layers()
        self.index, self._signals = -1, {}
        self._show()
        first = pictures.step(-1, 1, skips_done=True)
        self.open(0 if first is None else first)

    def step(self, by: int) -> None:
        """Save, and go to the next picture in a direction."""
        if self.pictures is None:
            return
        found = self.pictures.step(self.index, by, skips_done=self.skips_done.isChecked())
        if found is None:
            self.save_soon()
            self.state.setText(
                "Nothing is left after this one." if by > 0 else "Nothing is left before this one."
            )
        else:
            self.open(found)

    def done(self) -> None:
        """Call the picture done, and go on."""
        opened = self._opened.picture
        if self.pictures is not None and opened is not None:
            self._turn(
                _call_done,
                opened,
                opened.labels,
                self.pictures,
                title=f"Saving {self.pictures.paths[opened.index].name}",
                on_result=lambda _: self._on_done(),
            )

    def _on_done(self) -> None:
        """Go on after a picture that is done."""
        self._show()
        self.step(1)

    def jump(self) -> None:
        """Go to the picture from which the model would learn most."""
        if self.pictures is None or (self.job is not None and self.job.is_running):
            return
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

    @property
    def is_turning(self) -> bool:
        """Whether another picture is being opened."""
        return self.turning is not None and self.turning.is_running

    def open(self, index: int) -> None:
        """Save what is open, and open another picture with its labels, in a thread."""
        pictures, opened = self.pictures, self._opened.picture
        if pictures is None:
            return
        known = self._prepared
        is_ready = known is not None and known[:2] == (pictures, index)
        self._turn(
            _turn_page,
            opened,
            None if opened is None else opened.labels,
            pictures,
            index,
            known[2] if known is not None and is_ready else None,
            title=f"Opening {pictures.paths[index].name}",
            on_result=lambda loaded: self._on_loaded(pictures, index, loaded),
        )

    def _turn(self, work: Callable[..., Any], *args: object, **keywords: Any) -> None:  # noqa: ANN401
        """Start to open something, unless something else is being opened."""
        if self.is_turning:
            return
        self.turning = start_job(
            work, *args, owner=self, on_finished=self._show_buttons, **keywords
        )
        self._show_buttons()

    def _on_loaded(self, pictures: PictureFolder, index: int, loaded: LoadedPicture) -> None:
        """Show a picture that was read."""
        if not self.save():  # what was painted while it was read
            return
        self._close_layers()
        self._prepared = None
        self._opened.picture = OpenPicture(self.viewer, pictures, index, loaded)
        self.index = index
        self._opened.picture.show_middle()
        self._show()
        self._prefetch()

    def _close_layers(self) -> None:
        """Take the picture that was open, and its objects, out of the viewer."""
        opened, self._opened.picture = self._opened.picture, None
        if opened is not None:
            opened.remove()

    def _prefetch(self) -> None:
        """Encode the next picture while people label this one."""
        pictures = self.pictures
        if pictures is None:
            return
        if self.prefetching is not None:
            self.prefetching.cancel()
        following = pictures.step(self.index, 1, skips_done=self.skips_done.isChecked())
        if following is not None:
            self.prefetching = start_job(
                prefetch,
                pictures,
                following,
                self.model.load,
                self._cache(),
                title=f"Preparing {pictures.paths[following].name}",
                owner=self,
                on_partial=lambda loaded: self._on_prepared(pictures, following, loaded),
                on_error=lambda _: None,  # it is told when people come to it
                is_shown=False,
            )

    def _on_prepared(self, pictures: PictureFolder, index: int, loaded: LoadedPicture) -> None:
        """Keep the next picture, unless it is a large one."""
        if loaded.layer.pixels.nbytes <= _MOST_PREPARED_BYTES:
            self._prepared = pictures, index, loaded

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
            has_changed = opened.keep(opened.labels)
        except (SamPluginsError, ValueError) as error:
            show_problem(error)
            return False
        if has_changed:
            self._show()
        return True

    def save_soon(self) -> None:
        """Keep the objects of the picture that is open, in a thread."""
        opened = self._opened.picture
        if opened is None or self.is_turning:
            return
        start_job(
            _keep,
            opened,
            opened.labels,
            title="Saving the objects",
            owner=self,
            on_result=lambda has_changed: self._show() if has_changed else None,
            is_shown=False,
        )

    def _show_buttons(self) -> None:
        """Let people press only what does something now."""
        for name in ("previous", "next", "done", "best"):
            self.buttons[name].setEnabled(self.pictures is not None and not self.is_turning)

    def _show(self) -> None:
        """Show the list, and how far people are."""
        self._show_buttons()
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


def _list_pictures(
    opened: OpenPicture | None,
    labels: Any,  # noqa: ANN401
    folder: Path,
    *,
    progress: JobProgress,
) -> PictureFolder:
    """Keep the picture that is open, and look which pictures are in a folder."""
    _keep(opened, labels, progress=progress)
    return PictureFolder(folder)


def _call_done(
    opened: OpenPicture,
    labels: Any,  # noqa: ANN401
    pictures: PictureFolder,
    *,
    progress: JobProgress,
) -> None:
    """Keep the picture that is open, and call it done."""
    _keep(opened, labels, progress=progress)
    pictures.set_done(opened.index, True)


def _turn_page(
    opened: OpenPicture | None,
    labels: Any,  # noqa: ANN401
    pictures: PictureFolder,
    index: int,
    prepared: LoadedPicture | None,
    *,
    progress: JobProgress,
) -> LoadedPicture:
    """Keep the picture that is open, and read another one where that was not done before."""
    _keep(opened, labels, progress=progress)
    return prepared or pictures.load(index, progress)


def _keep(
    opened: OpenPicture | None,
    labels: Any,  # noqa: ANN401
    *,
    progress: JobProgress,
) -> bool:
    """Keep the labels of the picture that is open, and return whether they had changed."""
    progress.check()
    return opened is not None and opened.keep(labels)
