"""How sure the model is of an object on each slice: bars to look at, and to click on."""

from __future__ import annotations

from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from sam_plugins.napari_plugin.session.followed import Followed

_SURE, _DOUBTFUL, _PROMPTED = QColor("#5cb85c"), QColor("#e6a23c"), QColor("#7aa6da")
_HERE = QColor("#ffffff")
_MARGIN = 4


class ConfidenceView(QWidget):
    """A bar for each slice of a stack: high and green where sure, orange where doubtful.

    Attributes
    ----------
    chosen : Signal(int)
        Somebody clicked on a slice.
    """

    chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._followed: Followed | None = None
        self._length = 1
        self._here = -1
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(56)
        self.setToolTip(
            "Confidence of the object on each slice: green sure, orange doubtful, blue prompted, "
            "white where you are. Click to go there"
        )

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return a size that a dock has room for."""
        return QSize(280, 56)

    def show_object(self, followed: Followed | None, length: int) -> None:
        """Show an object in a stack of so many slices."""
        self._followed, self._length = followed, max(1, length)
        self.update()

    def show_slice(self, index: int) -> None:
        """Show which slice is seen; -1 for none."""
        if index != self._here:
            self._here = index
            self.update()

    def slice_at(self, x: float) -> int:
        """Return the slice that lies at a place of the widget."""
        area = self._area()
        share = (x - area.left()) / max(1.0, area.width())
        return min(max(int(share * self._length), 0), self._length - 1)

    def x_of(self, index: int) -> float:
        """Return the middle of a slice's bar."""
        area = self._area()
        return area.left() + area.width() * (index + 0.5) / self._length

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Tell which slice was clicked on."""
        if self._followed is not None and event.button() == Qt.MouseButton.LeftButton:
            place = event.position() if hasattr(event, "position") else event.pos()
            self.chosen.emit(self.slice_at(place.x()))

    def _area(self) -> QRectF:
        return QRectF(self.rect()).adjusted(_MARGIN, _MARGIN, -_MARGIN, -_MARGIN)

    def paintEvent(self, _: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Draw the bars."""
        painter = QPainter(self)
        area = self._area()
        painter.setPen(QPen(self.palette().mid().color(), 1))
        painter.drawRect(area)
        width = area.width() / self._length
        followed = self._followed
        doubtful = set() if followed is None else {doubt.index for doubt in followed.doubts}
        for found in () if followed is None else followed.slices:
            index = found.plane.index_on(followed.axis) if followed is not None else 0
            colour = _DOUBTFUL if index in doubtful else _SURE
            height = max(0.06, found.confidence) * area.height()
            painter.fillRect(
                QRectF(
                    area.left() + index * width,
                    area.bottom() - height,
                    max(1.0, width - (1 if width > 3 else 0)),
                    height,
                ),
                _PROMPTED if found.is_prompted else colour,
            )
        if 0 <= self._here < self._length:
            painter.setPen(QPen(_HERE, 1))
            x = round(self.x_of(self._here))
            painter.drawLine(x, round(area.top()), x, round(area.bottom()))
        painter.end()
