"""Models: what there is, what it is good for, and which one all widgets work with."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QMessageBox,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from sam_plugins.errors import PromotionError, SamPluginsError
from sam_plugins.napari_plugin.current_model import (
    AUTO_DEVICE,
    CurrentModel,
    Devices,
    ModelChoice,
    current_model,
    when_devices_are_known,
)
from sam_plugins.napari_plugin.docking import share_place
from sam_plugins.napari_plugin.jobs import Job, JobProgress, start_job
from sam_plugins.napari_plugin.notifications import show_problem
from sam_plugins.napari_plugin.widgets.groups import name_buttons

if TYPE_CHECKING:
    from collections.abc import Callable

    from sam_plugins.model.weights.registry import ModelEntry
    from sam_plugins.napari_plugin.model_list import ModelRow

_COLUMNS = ("Model", "Where", "Size", "Good for", "Licence")


class ModelsWidget(QWidget):
    """A table of models, with what can be done with each.

    Parameters
    ----------
    model : CurrentModel, optional
        By default the one that all widgets share.
    """

    def __init__(self, model: CurrentModel | None = None) -> None:
        super().__init__()
        share_place(self)
        self._model = model or current_model()
        self._rows: list[ModelRow] = []
        self._download: Job | None = None
        self._table = QTableWidget(0, len(_COLUMNS))
        self._passport = QTextBrowser()
        self._in_use = QLabel()
        self._device = QComboBox()
        self.buttons = {
            "use": self._button("Use", "Let all widgets work with this model", self.use),
            "download": self._button(
                "Download", "Fetch the file and check it; it goes on where it stopped",
                self.download,
            ),
            "delete": self._button("Delete", "Remove the file from this machine", self.delete),
            "promote": self._button(
                "Promote", "Put this version into use, if it is shown to be better", self.promote
            ),
            "rollback": self._button(
                "Roll back", "Put the version into use that was before", self.roll_back
            ),
        }  # fmt: skip
        name_buttons("models", self.buttons)
        self._lay_out()
        self._model.changed.connect(self._on_model_changed)
        self.destroyed.connect(_disconnecting(self._model, self._on_model_changed))
        self.reload()
        when_devices_are_known(self._on_devices, self)

    def _button(self, text: str, tooltip: str, action: Callable[[], None]) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tooltip)
        button.clicked.connect(lambda _: action())  # without the state of the button
        return button

    def _lay_out(self) -> None:
        """Put the parts in their places."""
        table = self._table
        table.setHorizontalHeaderLabels(list(_COLUMNS))
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setToolTip("Your own models first, then the published ones")
        table.verticalHeader().setVisible(False)
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setStretchLastSection(True)
        table.itemSelectionChanged.connect(self._on_selected)
        self._passport.setToolTip("What is known about the model that is selected")
        self._device.addItems(list(dict.fromkeys((AUTO_DEVICE, self._model.choice.device))))
        self._device.setToolTip("Where all widgets compute; auto takes a CUDA GPU where there is")
        self._device.setCurrentText(self._model.choice.device)
        self._device.currentTextChanged.connect(self._on_device)
        form = QFormLayout()
        form.addRow("In use", self._in_use)
        form.addRow("Device", self._device)
        buttons = QHBoxLayout()
        for button in self.buttons.values():
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(table, 3)
        layout.addLayout(buttons)
        layout.addWidget(self._passport, 2)

    # ------------------------------------------------------------------------------- reading

    def reload(self) -> None:
        """Look again which models there are."""
        from sam_plugins.napari_plugin.model_list import list_models

        chosen = self.selected.name if self.selected else self._model.choice.name
        try:
            self._rows = list_models()
        except SamPluginsError as error:
            show_problem(error)
        self._table.setRowCount(len(self._rows))
        for number, row in enumerate(self._rows):
            for column, text in enumerate(
                (row.name, row.where, row.size, row.good_for, row.licence)
            ):
                item = QTableWidgetItem(text)
                item.setToolTip(text)
                self._table.setItem(number, column, item)
        self.select(chosen)
        self._show_choice()

    @property
    def selected(self) -> ModelRow | None:
        """The model that is selected in the table."""
        number = self._table.currentRow()
        return self._rows[number] if 0 <= number < len(self._rows) else None

    def select(self, name: str) -> None:
        """Select a model; the first of a name where several versions bear it."""
        for number, row in enumerate(self._rows):
            if name in {row.name, row.name.partition("@")[0]}:
                self._table.selectRow(number)
                break
        self._on_selected()

    def _on_selected(self) -> None:
        """Show what is known, and what can be done."""
        row = self.selected
        own = row is not None and row.version is not None
        self.buttons["use"].setEnabled(row is not None and row.is_here)
        self.buttons["download"].setEnabled(
            row is not None and row.can_download and self._download is None
        )
        self.buttons["delete"].setEnabled(row is not None and row.can_delete)
        self.buttons["promote"].setEnabled(own)
        self.buttons["rollback"].setEnabled(own)
        if row is not None:
            self._passport.setHtml(_described(row))

    def _show_choice(self) -> None:
        self._in_use.setText(f"<b>{self._model.choice.name}</b>")

    # --------------------------------------------------------------------------------- doing

    def use(self) -> None:
        """Let all widgets work with the selected model."""
        row = self.selected
        if row is None:
            return
        name = row.name
        if row.version is not None and row.version.is_in_use:
            name = row.version.name  # later versions come into use by promotion
        self._model.choose(ModelChoice(name, self._device.currentText()))

    def download(self) -> None:
        """Fetch the selected model."""
        row = self.selected
        if row is None or row.entry is None or self._download is not None:
            return
        self._download = start_job(
            _fetch,
            row.entry,
            title=f"Downloading {row.name} ({row.size}, {row.licence})",
            owner=self,
            on_finished=self._on_downloaded,
        )
        self._on_selected()

    def _on_downloaded(self) -> None:
        self._download = None
        self.reload()

    def delete(self) -> None:
        """Remove the file of the selected model, after a question."""
        row = self.selected
        if row is None or not row.can_delete:
            return
        again = "" if row.version is None else " It cannot be fetched again."
        answer = QMessageBox.question(
            self, "Delete a model", f"Remove {row.name} from this machine?{again}"
        )
        if answer == QMessageBox.StandardButton.Yes:
            self.delete_now(row)

    def delete_now(self, row: ModelRow) -> None:
        """Remove the file of a model."""
        try:
            if row.version is not None:
                shutil.rmtree(row.path.parent)
            else:
                row.path.unlink(missing_ok=True)
        except OSError as error:
            show_problem(SamPluginsError(f"cannot delete {row.path}: {error.strerror or error}"))
        self.reload()

    def promote(self, *, force: bool = False) -> None:
        """Put the selected version into use; where it is not shown to be better, ask."""
        from sam_plugins.model.weights.store import ModelStore

        row = self.selected
        if row is None or row.version is None:
            return
        try:
            ModelStore().promote(str(row.version), force=force)
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
        self._model.choose(ModelChoice(row.version.name, self._device.currentText()))
        self._model.refresh()
        self.reload()

    def roll_back(self) -> None:
        """Put the version into use that was before the one that is."""
        from sam_plugins.model.weights.store import ModelStore

        row = self.selected
        if row is None or row.version is None:
            return
        try:
            ModelStore().rollback(row.version.name)
        except SamPluginsError as error:
            show_problem(error)
            return
        self._model.refresh()
        self.reload()

    def _on_devices(self, devices: Devices) -> None:
        """List what there is to compute on."""
        chosen, before = self._model.choice.device, self._device.blockSignals(True)
        self._device.clear()
        self._device.addItems(list(dict.fromkeys((*devices.names, chosen))))
        self._device.setItemData(0, f"Now {devices.auto}", Qt.ItemDataRole.ToolTipRole)
        self._device.setCurrentText(chosen)
        self._device.blockSignals(before)

    def _on_device(self, device: str) -> None:
        self._model.choose(ModelChoice(self._model.choice.name, device))

    def _on_model_changed(self, choice: ModelChoice) -> None:
        """Follow a choice that was made elsewhere."""
        if self._device.findText(choice.device) >= 0:
            self._device.setCurrentText(choice.device)
        self._show_choice()


def _described(row: ModelRow) -> str:
    """Return what a model says of itself, or why it cannot."""
    from sam_plugins.napari_plugin.model_list import passport_html

    try:
        return passport_html(row)
    except SamPluginsError as error:
        return str(error)


def _fetch(entry: ModelEntry, *, progress: JobProgress) -> None:
    """Download a model."""
    from sam_plugins.model.weights.download import fetch

    fetch(entry, show_progress=False, progress=progress)


def _disconnecting(
    model: CurrentModel, listener: Callable[[ModelChoice], None]
) -> Callable[[], None]:
    """Return what takes a widget that is gone off the list of those who listen."""
    return lambda: model.changed.disconnect(listener, missing_ok=True)
