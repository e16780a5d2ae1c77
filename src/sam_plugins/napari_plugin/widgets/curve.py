"""A curve that grows while a model learns."""

from __future__ import annotations

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

_LOSS = QColor("#7aa6da")
_MEASURED = QColor("#e6a23c")
_MARGIN = 8
_HEADING = 18


class CurveWidget(QWidget):
    """The loss of each step, and what was measured on held-out pictures; each on its own scale."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[tuple[int, float]] = []
        self.measured: list[tuple[int, float]] = []
        self.steps = 1
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.setMinimumHeight(120)
        self.setToolTip("Blue: the loss, less is better. Orange: held-out pictures, more is better")

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return a size that a dock has room for."""
        return QSize(300, 150)

    def clear(self, steps: int) -> None:
        """Begin a new curve of so many steps."""
        self.losses, self.measured, self.steps = [], [], max(1, steps)
        self.update()

    def add(self, step: int, loss: float | None, measured: float | None) -> None:
        """Add what is known after a step."""
        if loss is not None:
            self.losses.append((step, loss))
        if measured is not None:
            self.measured.append((step, measured))
        self.update()

    def paintEvent(self, _: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Draw both."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(self.rect()).adjusted(_MARGIN, _MARGIN + _HEADING, -_MARGIN, -_MARGIN)
        painter.setPen(QPen(self.palette().mid().color(), 1))
        painter.drawRect(area)
        for points, colour, name, side in (
            (self.losses, _LOSS, "loss", Qt.AlignmentFlag.AlignLeft),
            (self.measured, _MEASURED, "held out", Qt.AlignmentFlag.AlignRight),
        ):
            text = f"{name} {points[-1][1]:.3f}" if points else name
            painter.setPen(QPen(colour, 2))
            painter.drawText(QRectF(_MARGIN, 2, self.width() - 2 * _MARGIN, _HEADING), side, text)
            line = QPolygonF([self._at(area, point, points) for point in points])
            painter.drawPolyline(line)
            if colour is _MEASURED:
                for point in points:
                    painter.drawEllipse(self._at(area, point, points), 3, 3)
        painter.end()

    def _at(
        self, area: QRectF, point: tuple[int, float], points: list[tuple[int, float]]
    ) -> QPointF:
        """Return where a point lies in the area."""
        values = [value for _, value in points]
        low, high = min(values), max(values)
        share = (point[1] - low) / (high - low) if high > low else 0.5
        x = area.left() + area.width() * min(1.0, point[0] / self.steps)
        return QPointF(x, area.bottom() - area.height() * (0.05 + 0.9 * share))
