"""Where large labels are, and the offer to keep them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QGroupBox, QLabel, QPushButton, QVBoxLayout

if TYPE_CHECKING:
    from sam_plugins.napari_plugin.controller import SegmentController


class StoredLabelsBox(QGroupBox):
    """Shown where the objects of an image lie in a file; offers to keep a temporary one.

    Parameters
    ----------
    controller : SegmentController
    """

    def __init__(self, controller: SegmentController) -> None:
        super().__init__("Large labels")
        self._controller = controller
        self._text = QLabel()
        self._text.setWordWrap(True)
        self.button = QPushButton("Keep in a file...")
        self.button.setToolTip("Copy the labels to a Zarr array, and write to it as you commit")
        self.button.setObjectName("keep_labels")
        self.button.clicked.connect(self.ask)
        column = QVBoxLayout(self)
        column.addWidget(self._text)
        column.addWidget(self.button)
        self.hide()

    def ask(self) -> None:
        """Ask for the file, and keep the labels there."""
        segmenter = self._controller.segmenter
        if segmenter is None:
            return
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Keep the labels", f"{segmenter.objects.name}.zarr", "Zarr (*.zarr)"
        )
        if chosen:
            path = Path(chosen)
            self._controller.keep_labels(path.with_name(f"{path.stem}.zarr"))

    def show_state(self) -> None:
        """Show where the labels are."""
        segmenter = self._controller.ready_segmenter
        path = None if segmenter is None else segmenter.stored.path
        self.setVisible(path is not None)
        if segmenter is None or path is None:
            return
        stored = segmenter.stored
        self.button.setEnabled(not stored.is_moving)
        self.button.setVisible(stored.is_temporary)
        if stored.is_temporary:
            from sam_plugins.model.inference.memory import in_units

            self._text.setText(
                f"The labels of this image would take {in_units(stored.nbytes)} of memory. They "
                "are in a temporary file, chunk by chunk."
            )
        else:
            self._text.setText(f"What you commit is written to {path.name} at once.")
            self.setToolTip(str(path))
