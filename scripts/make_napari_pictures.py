"""Make the napari pictures of README and docs: screenshots and a short recording of a real session.

Usage: ``xvfb-run -a -s "-screen 0 1600x1000x24" python scripts/make_napari_pictures.py``. The
session is that of ``docs/tutorials/napari-first-five-minutes.md``, step by step, on the plugin's
own samples with the shipped model; the script ends with an error where a step does not do what the
tutorial says.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tifffile import imread

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
if (
    __name__ == "__main__" and "--work-until-killed" not in sys.argv
):  # before napari and the plugin look: nothing of the user's is touched
    _PLACE = tempfile.mkdtemp(prefix="sam-plugins-pictures-")
    os.environ["SAM_PLUGINS_HOME"] = os.environ["NAPARI_CONFIG"] = str(Path(_PLACE) / "home")
    os.environ["NAPARI_CONFIG"] += "/napari.yaml"

SIZE = (1120, 700)
MOST_BYTES = 2 << 20
CAPTION_PIXELS = 34
COIN = (52, 216)
OTHER_COIN = (52, 318)
"""Row and column of two coins."""
CLICKED_SLICE, CLICKED = 15, (62, 58)
_ARROW = [(0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (13, 12)]


@dataclass(frozen=True)
class Frame:
    """A picture of the window, and how long it stays."""

    image: Image.Image
    milliseconds: int


class Recorder:
    """Takes pictures of a window, with the mouse and a caption."""

    def __init__(self, viewer: Any) -> None:  # noqa: ANN401
        self.viewer = viewer
        self.frames: list[Frame] = []
        self.mouse: tuple[int, int] | None = None
        self._font = ImageFont.load_default(17)

    def grab(self) -> Image.Image:
        """Return the window as it is."""
        from tests.napari_plugin.segmenting import rest

        rest()
        shot = self.viewer.window.screenshot(canvas_only=False, flash=False)
        return Image.fromarray(np.asarray(shot)[..., :3])

    def take(self, caption: str, milliseconds: int) -> None:
        """Add a frame."""
        window = self.grab()
        frame = Image.new("RGB", (window.width, window.height + CAPTION_PIXELS), "#1b1e24")
        frame.paste(window, (0, 0))
        draw = ImageDraw.Draw(frame)
        draw.text((14, window.height + 7), caption, "white", font=self._font)
        if self.mouse is not None:
            x, y = self.mouse
            draw.polygon([(x + a, y + b) for a, b in _ARROW], "white", "black")
        self.frames.append(Frame(frame, milliseconds))

    def point_at(self, hand: Any, world: Any) -> None:  # noqa: ANN401
        """Show the mouse at a position of the world."""
        window = self.viewer.window._qt_window
        native = hand._canvas.native
        where = native.mapTo(window, hand.point(world))
        self.mouse = (where.x(), where.y())

    def write(self, path: Path) -> None:
        """Write the recording, with as many colours as fit."""
        for colours in (255, 128, 64):
            shared = _palette([frame.image for frame in self.frames], colours)
            frames = [
                frame.image.quantize(palette=shared, dither=Image.Dither.NONE)
                for frame in self.frames
            ]
            frames[0].save(
                path,
                save_all=True,
                append_images=frames[1:],
                duration=[frame.milliseconds for frame in self.frames],
                loop=0,
                optimize=True,
            )
            if path.stat().st_size <= MOST_BYTES:
                return
        raise SystemExit(f"{path} is larger than {MOST_BYTES} bytes: take fewer frames")


def _palette(images: list[Image.Image], colours: int) -> Image.Image:
    """Return colours that suit all frames."""
    width, height = images[0].size
    sheet = Image.new("RGB", (width // 2, height // 2 * len(images)))
    for number, image in enumerate(images):
        sheet.paste(image.resize((width // 2, height // 2)), (0, height // 2 * number))
    return sheet.quantize(colours, Image.Quantize.MAXCOVERAGE)


def require(is_so: bool, what: str) -> None:
    """End where a step of the tutorial does not do what it says."""
    if not is_so:
        raise SystemExit(f"this step of the tutorial did not come true: {what}")


class Session:
    """The tutorial, in a real window."""

    def __init__(self, folder: Path) -> None:
        import napari

        self.folder = folder
        self.viewer = napari.Viewer()
        self.viewer.window._qt_window.resize(*SIZE)
        self.viewer.window._qt_viewer.dockLayerControls.setVisible(False)
        self.recorder = Recorder(self.viewer)

    def keep(self, name: str) -> None:
        """Write a screenshot."""
        picture = self.recorder.grab().quantize(255, dither=Image.Dither.NONE)
        picture.save(self.folder / f"{name}.png", optimize=True)

    def open_widget(self, name: str) -> Any:  # noqa: ANN401
        """Open one of our widgets as the menu does."""
        from qtpy.QtWidgets import QApplication

        _, widget = self.viewer.window.add_plugin_dock_widget("sam-plugins", name)
        QApplication.processEvents()
        return widget

    def open_sample(self, name: str) -> Any:  # noqa: ANN401
        """Open one of our samples as the menu does, and return its layer."""
        (layer,) = self.viewer.open_sample("sam-plugins", name)
        return layer

    def segment(self) -> None:
        """Click, cycle, commit."""
        from qtpy.QtCore import Qt
        from tests.napari_plugin.segmenting import CTRL, SHIFT, Hand, answered, until

        take = self.recorder.take
        self.open_sample("coins")
        take("File > Open Sample > SAM plugins > Coins (2D)", 1500)
        widget = self.open_widget("Segment")
        hand = Hand(self.viewer)
        hand.settle()
        until(widget.segmenter.is_ready)
        take("Plugins > SAM plugins > Segment", 1800)
        self.recorder.point_at(hand, COIN)
        hand.hover(COIN)
        take("Point at an object ...", 900)
        hand.click(COIN)
        answered(widget)
        self._rest(widget)
        take("... and click: its mask is there", 1800)
        draft = widget.controller.active_draft
        require(draft.mask.contains(COIN[1], COIN[0]), "a click gives a mask")
        require(len(draft.answer.masks) == 3, "M chooses among three masks")
        self.keep("napari-segment")
        for _ in range(2):
            hand.key(Qt.Key.Key_M)
            self._rest(widget)
            take("Not what was meant? M shows the next of three masks", 1200)
        hand.key(Qt.Key.Key_M)
        self._rest(widget)
        hand.key(Qt.Key.Key_C)
        self._rest(widget)
        take("C commits it to the objects layer; Ctrl-Z takes anything back", 1600)
        objects = widget.segmenter.objects
        require(int(objects.data.max()) == 1, "C commits the mask")
        hand.key(Qt.Key.Key_Z, CTRL)
        require(not objects.data.any(), "Ctrl-Z takes it back")
        hand.key(Qt.Key.Key_Z, CTRL | SHIFT)
        require(int(objects.data.max()) == 1, "Ctrl-Shift-Z does it again")
        self.recorder.mouse = None
        self._close(widget)

    def automatic(self) -> None:
        """Find every object, and add them."""
        from tests.napari_plugin.segmenting import until

        take = self.recorder.take
        widget = self.open_widget("Automatic")
        take("Plugins > SAM plugins > Automatic", 1200)
        widget.run()
        until(lambda: not widget.job.is_running)
        until(lambda: widget._painting is None or not widget._painting.is_running)
        take("Find objects: all of them, in the background", 1800)
        before = widget._run.count
        require(before >= 24, "Find objects finds the 24 coins")
        self.keep("napari-automatic")
        widget.keeping.set(min_area=1800)
        until(lambda: widget._run.count < 24)
        take("The thresholds act at once, without asking the model again", 1500)
        widget.keeping.set(min_area=100)
        until(lambda: widget._run.count == 24)
        widget.add_to_objects()
        until(lambda: not widget.is_adding)
        count = widget.added
        require(count == 23, "Add to objects adds all but the one that is there")
        take(f"Add to objects: {count} more, and what you committed stays", 1800)
        with tempfile.TemporaryDirectory() as place:
            layer = self.viewer.layers["coins objects"]
            (path,) = layer.save(str(Path(place) / "coins.tif"))
            same = np.array_equal(imread(path), layer.data)
            require(same, "the layer is saved as a label image")
        self._close(widget)

    def volume(self) -> None:
        """Follow a nucleus through a stack, and see it in 3D."""
        from qtpy.QtCore import Qt
        from tests.napari_plugin.segmenting import Hand, answered, until

        from sam_plugins.napari_plugin.mouse import camera_of

        take, viewer = self.recorder.take, self.viewer
        viewer.layers.clear()
        layer = self.open_sample("nuclei")
        world = layer.data_to_world((CLICKED_SLICE, *CLICKED))
        viewer.dims.set_point(0, world[0])
        widget = self.open_widget("Segment")
        hand = Hand(viewer)
        hand.settle()
        until(widget.segmenter.is_ready)
        take("A stack: nuclei (3D)", 1300)
        self.recorder.point_at(hand, world)
        hand.hover(world)
        hand.click(world)
        answered(widget)
        self._rest(widget)
        take("Click on a nucleus in the slice that you see", 1300)
        hand.key(Qt.Key.Key_P)
        until(lambda: not widget.segmenter.through.follower.is_running)
        self._rest(widget)
        take("P follows it through the slices, and says where to look", 1800)
        (followed,) = widget.segmenter.session.state.followed
        require(len(followed.slices) > 5, "P follows the nucleus")
        self._correct(widget, hand, layer, followed)
        hand.key(Qt.Key.Key_C)
        self._rest(widget)
        self.recorder.mouse = None
        viewer.dims.ndisplay = 3
        layer.blending = "additive"
        layer.opacity = 0.7
        for angle in range(0, 60, 12):
            camera_of(viewer).angles = (0, -20 + angle, 70)
            take("Committed as one object; here in 3D", 1800 if angle == 48 else 250)
        self.keep("napari-3d")
        self._close(widget)

    def _correct(self, widget: Any, hand: Any, layer: Any, followed: Any) -> None:  # noqa: ANN401
        """Go to one of the last slices, correct it, and let it be followed again from there."""
        from qtpy.QtCore import Qt
        from tests.napari_plugin.segmenting import answered, until

        last = max(followed.slices, key=lambda one: one.plane.index_on(followed.axis))
        index, window = last.plane.index_on(followed.axis), last.mask.window
        widget.controller.go_to(followed.key, index)
        self._rest(widget)
        middle = ((window.top + window.bottom) / 2, (window.left + window.right) / 2)
        world = layer.data_to_world((index, *middle))
        self.recorder.point_at(hand, world)
        hand.hover(world)
        hand.click(world)
        answered(widget)
        self._rest(widget)
        self.recorder.take("A slice that is not right: go there, and correct it with a click", 1500)
        require(widget.segmenter.through.is_changed(), "a correction is noticed")
        self.keep("napari-correction")
        hand.key(Qt.Key.Key_P)
        until(lambda: not widget.segmenter.through.follower.is_running)
        self._rest(widget)
        self.recorder.take("P again: it is followed anew from there alone", 1500)
        require(not widget.segmenter.through.is_changed(), "P follows it again")

    def recovery(self) -> None:
        """Open the picture of a napari that was killed at work."""
        from tests.napari_plugin.segmenting import until

        self.viewer.layers.clear()
        self.viewer.dims.ndisplay = 2
        _work_until_killed()
        self.open_sample("coins")
        widget = self.open_widget("Segment")
        until(lambda: not widget._offer_box.isHidden())
        until(widget.segmenter.is_ready)
        self._rest(widget)
        self.keep("napari-recovery")
        widget.restore()
        count = int(widget.segmenter.objects.data.max())
        require(count == 1, "a session that was killed comes back")
        require(len(widget.segmenter.session.state.drafts) == 1, "with what was open")
        self._close(widget)

    def _rest(self, widget: Any) -> None:  # noqa: ANN401
        """Wait until points and thumbnails are drawn, too."""
        from qtpy.QtTest import QTest
        from tests.napari_plugin.segmenting import until

        until(lambda: not widget.segmenter.asker.is_busy)
        QTest.qWait(600)

    def _close(self, widget: Any) -> None:  # noqa: ANN401
        """Take a widget out of the window, as people close a dock."""
        self.viewer.window.remove_dock_widget(widget)
        widget.close()


def _work_until_killed() -> None:
    """Commit a coin in another napari, click on a second one, and kill it: ``kill -9``."""
    with subprocess.Popen(
        [sys.executable, __file__, "--work-until-killed"], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        require(other.stdout.readline() == b"working\n", "another napari is at work")
        other.kill()


def work_and_wait() -> None:
    """Commit a coin and click on a second one, say so when it is saved, and wait for the end."""
    import napari
    from tests.napari_plugin.segmenting import answered, until

    from sam_plugins.napari_plugin.recovery import sessions_directory
    from sam_plugins.napari_plugin.session.files import load_session
    from sam_plugins.napari_plugin.widgets.segment import SegmentWidget

    viewer = napari.Viewer()
    viewer.open_sample("sam-plugins", "coins")
    widget = SegmentWidget(viewer)
    segmenter = widget.segmenter
    assert segmenter is not None
    segmenter.click(COIN)
    answered(widget)
    widget.controller.commit()
    segmenter.click(OTHER_COIN)
    answered(widget)

    def is_saved() -> bool:
        files = list(sessions_directory().glob("*.samsession"))
        return any(load_session(path).state.drafts for path in files)

    until(is_saved)
    print("working", flush=True)
    until(lambda: False, 600)


def main() -> None:
    """Play the tutorial, and write its pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work-until-killed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "docs" / "images")
    options = parser.parse_args()
    if options.work_until_killed:
        work_and_wait()
        return
    session = Session(options.folder)
    session.segment()
    session.automatic()
    session.volume()
    session.recovery()
    session.recorder.write(options.folder / "napari-session.gif")
    session.viewer.close()


if __name__ == "__main__":
    main()
