"""Groups of buttons and choices that fold, so that what people need first is seen first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QWidget
from superqt import QCollapsible

from sam_plugins.napari_plugin.actions import ACTIONS, Group

_COLUMNS = 3
_ARROWS = ("\N{BLACK RIGHT-POINTING SMALL TRIANGLE}", "\N{BLACK DOWN-POINTING SMALL TRIANGLE}")
_HEAD = "QPushButton { background: transparent; font-weight: bold; text-align: left; padding: 2px }"


class WrappedText(QLabel):
    """A text of several lines that keeps its height where the column about it scrolls.

    A scrolled column is as high as its least height, which for wrapped text is too little.

    Parameters
    ----------
    text : str
    least_lines : int
        For which there is always room, so that what stands below stays where it is.
    """

    def __init__(self, text: str = "", *, least_lines: int = 0) -> None:
        super().__init__(text)
        self.setWordWrap(True)
        self._least_lines = least_lines
        if least_lines:
            self.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)

    def setText(self, text: str) -> None:  # noqa: N802
        """Show a text, at the height that it needs."""
        super().setText(text)
        self._keep_height()

    def resizeEvent(self, event: Any) -> None:  # noqa: ANN401, N802
        """Wrap it anew."""
        super().resizeEvent(event)
        self._keep_height()

    def _keep_height(self) -> None:
        """Ask for as much height as the lines take at this width."""
        self.setMinimumHeight(0)  # or a shorter text would be said to need what the last one did
        least = self._least_lines * self.fontMetrics().lineSpacing()
        self.setMinimumHeight(max(least, self.heightForWidth(self.width())))


def button_grid(group: Group, act: Callable[[str], None]) -> QWidget:
    """Return a button for each action of a group.

    Parameters
    ----------
    group : str
    act : callable
        Called with the name of the action whose button is pressed.
    """
    box = QWidget()
    grid = QGridLayout(box)
    grid.setContentsMargins(0, 0, 0, 0)
    actions = [action for action in ACTIONS if action.group == group]
    for number, action in enumerate(actions):
        button = QPushButton(action.title)
        button.setToolTip(action.hint)
        button.setObjectName(action.name)
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # keys stay with the canvas
        button.clicked.connect(lambda _=False, name=action.name: act(name))
        grid.addWidget(button, number // _COLUMNS, number % _COLUMNS)
    return box


def name_buttons(widget: str, buttons: Mapping[str, QPushButton]) -> None:
    """Name buttons after their commands in the manifest.

    Parameters
    ----------
    widget : str
    buttons : mapping of str to QPushButton
        By what they do.
    """
    for name, button in buttons.items():
        button.setObjectName(f"{widget}_{name}")


def fold(title: str, *contents: QWidget, is_open: bool, tooltip: str = "") -> QCollapsible:
    """Return widgets below a title that shows and hides them.

    Parameters
    ----------
    title : str
    contents : QWidget
        From top to bottom.
    is_open : bool
        Whether they are seen at first.
    tooltip : str
        Of the title.
    """
    group = QCollapsible(expandedIcon=" ", collapsedIcon=" ")  # theirs are black on black
    head = group.toggleButton()
    head.setStyleSheet(_HEAD)
    head.setToolTip(tooltip)
    head.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # keys stay with the canvas
    layout = group.layout()
    assert layout is not None
    layout.setContentsMargins(0, 0, 0, 0)
    group.toggled.connect(lambda opened: head.setText(f"{_ARROWS[opened]}  {title}"))
    group.setDuration(0)
    for widget in contents:
        group.addWidget(widget)
    (group.expand if is_open else group.collapse)(animate=False)
    return group
