"""Our widgets share a place in the window: each is a tab beside those that are there already.

Two of them below each other leave neither enough room for its buttons.
"""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

_PLACED = "sam_plugins_is_placed"
"""Property of a widget of ours that has its place."""


def share_place(widget: QWidget) -> None:
    """Make a widget a tab of ours in the same area of the window, once, when it is first shown.

    People may pull them apart afterwards. Nothing is done outside a dock.

    Parameters
    ----------
    widget : QWidget
    """
    _Placing(widget)


class _Placing(QObject):
    """Waits for a widget to be shown, and lives in it."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self._widget = widget
        self._later = QTimer(self)  # when napari is done with the dock
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._place)
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Notice that the widget is shown."""
        if event.type() == QEvent.Type.Show:
            watched.removeEventFilter(self)
            self._later.start(0)
        return False

    def _place(self) -> None:
        """Find the place."""
        self._widget.setProperty(_PLACED, True)
        dock = _dock_of(self._widget)
        window = None if dock is None else dock.parentWidget()
        if dock is None or dock.isFloating() or not isinstance(window, QMainWindow):
            return
        area = window.dockWidgetArea(dock)
        for other in reversed(window.findChildren(QDockWidget)):
            is_near = other is not dock and window.dockWidgetArea(other) == area
            if is_near and not other.isFloating() and not other.isHidden() and _has_ours(other):
                window.tabifyDockWidget(other, dock)
                dock.raise_()
                return


def _dock_of(widget: QWidget) -> QDockWidget | None:
    """Return the dock that a widget lies in."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent


def _has_ours(dock: QDockWidget) -> bool:
    """Return whether a widget of ours has its place in a dock."""
    return any(child.property(_PLACED) for child in dock.findChildren(QWidget))
