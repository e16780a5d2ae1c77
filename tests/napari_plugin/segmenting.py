"""Help for tests that segment in a real window: a real picture, a real mouse, the shipped model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from skimage.measure import regionprops

from sam_plugins import EmbeddingCache, load_model, read_image
from sam_plugins.napari_plugin.answering import Answerer
from sam_plugins.napari_plugin.params import SegmentParams
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import Window
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget

SECONDS = 90.0
NO_KEY = Qt.KeyboardModifier.NoModifier
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


@cache
def shipped_model() -> Any:
    return load_model(device="cpu")


_CACHE = EmbeddingCache()


def load(show: Any) -> Answerer:
    """Answer with the shipped model, which is loaded once for all tests."""
    return Answerer(shipped_model(), _CACHE, show)


def load_held_back(may_go: threading.Event) -> Callable[[Any], Answerer]:
    """Return the same, whose answers to prompts wait until they may go."""

    def slow(show: Any) -> Answerer:
        answerer = load(show)
        answer = answerer.answer
        answerer.answer = lambda *args: (may_go.wait(60), answer(*args))[1]  # type: ignore[method-assign]
        return answerer

    return slow


@dataclass(frozen=True)
class Nuclei:
    """A picture of nuclei (H, W) with its labels, and the largest of them."""

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[Any]

    @classmethod
    def read(cls, test_data: Path) -> Nuclei:
        folder = test_data / "dsb2018" / "val"
        path = sorted((folder / "images").iterdir())[3]
        image = read_image(path)
        grey = image if image.ndim == 2 else image[..., 0]
        return cls(grey, read_image(folder / "labels" / f"{path.stem}.png"))

    def nucleus(self, rank: int = 0) -> tuple[npt.NDArray[np.bool_], tuple[float, float]]:
        """Return the mask of one of the largest, and its centre (y, x)."""
        regions = regionprops(self.labels)  # type: ignore[no-untyped-call]
        found = sorted(regions, key=lambda one: -one.area)[rank]
        return self.labels == found.label, found.centroid


class Hand:
    """A mouse and a keyboard on the canvas of a viewer."""

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self._canvas = viewer.window._qt_viewer.canvas
        self._native = self._canvas.native

    def point(self, world: Any) -> QPoint:
        """Return where on the canvas a position of the world is, by how napari maps the canvas."""
        axes = list(self.viewer.dims.displayed)

        def mapped(x: float, y: float) -> npt.NDArray[np.float64]:
            found = self._canvas._map_canvas2world((x, y), self._canvas.view)
            return np.asarray(found, float)[axes]

        origin = mapped(0, 0)
        matrix = np.stack([mapped(1, 0) - origin, mapped(0, 1) - origin], axis=1)
        x, y = np.linalg.solve(matrix, np.asarray(world, float)[axes] - origin)
        return QPoint(round(float(x)), round(float(y)))

    def settle(self) -> None:
        """Let the window find its size, and show all of the picture."""
        for _ in range(5):
            QApplication.processEvents()
            time.sleep(0.02)
        self.viewer.reset_view()
        QApplication.processEvents()

    def click(self, world: Any, modifiers: Any = NO_KEY) -> None:
        where = self.point(world)
        QTest.mouseMove(self._native, where)
        QTest.mouseClick(self._native, Qt.MouseButton.LeftButton, modifiers, where)
        rest()

    def double_click(self, world: Any) -> None:
        """Click twice, as Qt tells it: press, release, double click, release."""
        where = self.point(world)
        self.click(world)
        QTest.mouseDClick(self._native, Qt.MouseButton.LeftButton, NO_KEY, where)
        rest()

    def hover(self, world: Any) -> None:
        rest()  # napari lets no more than some moves a second through
        _move(self._native, self.point(world), NO_KEY, Qt.MouseButton.NoButton)
        rest()

    def drag(self, path: list[Any], modifiers: Any = NO_KEY) -> None:
        points = [self.point(world) for world in path]
        left = Qt.MouseButton.LeftButton
        QTest.mousePress(self._native, left, modifiers, points[0])
        for where in points[1:]:
            rest()  # napari lets no more than some moves a second through
            _move(self._native, where, modifiers)
        rest()
        QTest.mouseRelease(self._native, left, modifiers, points[-1])
        rest()

    def key(self, key: Any, modifiers: Any = NO_KEY) -> None:
        QTest.keyClick(self._native, key, modifiers)


def rest() -> None:
    """Let the window take what the hand did."""
    for _ in range(3):
        QApplication.processEvents()
        time.sleep(0.02)


def _move(
    native: Any, where: QPoint, modifiers: Any, buttons: Any = Qt.MouseButton.LeftButton
) -> None:
    """Move the mouse with its button down, which QTest cannot."""
    from qtpy.QtCore import QEvent, QPointF
    from qtpy.QtGui import QMouseEvent

    event = QMouseEvent(
        QEvent.Type.MouseMove,
        QPointF(where),
        QPointF(native.mapToGlobal(where)),
        Qt.MouseButton.NoButton,
        buttons,
        modifiers,
    )
    QApplication.sendEvent(native, event)


Open = Callable[..., tuple[SegmentWidget, Hand]]


@contextmanager
def opening_segment(viewer: Any) -> Iterator[Open]:
    """Hand over what opens **Segment** beside the layers that are there; close it at the end."""
    opened: list[SegmentWidget] = []

    def open_it(
        params: SegmentParams | None = None, loader: Any = load, *, ahead: bool = True
    ) -> Any:
        widget = SegmentWidget(viewer, params, load=loader)
        follow = widget.controller.follow_params
        widget.controller.set_follow_params(replace(follow, encodes_ahead=ahead))
        viewer.window.add_dock_widget(widget, name="Segment")
        opened.append(widget)
        hand = Hand(viewer)
        hand.settle()
        return widget, hand

    yield open_it
    for widget in opened:
        widget.controller.close()


def until(is_so: Callable[[], Any], seconds: float = SECONDS) -> None:
    """Let the window live until something is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        QApplication.processEvents()
        time.sleep(0.003)


def answered(widget: SegmentWidget) -> None:
    """Wait for all drafts to be answered."""
    until(lambda: all(draft.answer for draft in drafts(widget)))


def objects(widget: SegmentWidget) -> npt.NDArray[Any]:
    assert widget.segmenter is not None
    return np.asarray(widget.segmenter.objects.data)


def drafts(widget: SegmentWidget) -> tuple[Any, ...]:
    assert widget.segmenter is not None
    return widget.segmenter.session.state.drafts


def mask_of(crop: MaskCrop, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    return crop.on(Window(0, 0, *shape))


def iou(mask: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())
