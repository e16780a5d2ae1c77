"""Commands, reader and writer of the manifest, in a real window."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from npe2 import PluginManager, read  # noqa: E402
from qtpy.QtWidgets import QAbstractButton, QPushButton, QWidget  # noqa: E402
from superqt import QCollapsible  # noqa: E402
from tests.napari_plugin.helpers import open_widget  # noqa: E402
from tests.napari_plugin.segmenting import Nuclei, answered, load  # noqa: E402

from sam_plugins.napari_plugin import commands, recovery, widget_commands  # noqa: E402
from sam_plugins.napari_plugin.actions import ACTIONS  # noqa: E402
from sam_plugins.napari_plugin.recovery import sessions_directory  # noqa: E402
from sam_plugins.napari_plugin.session.files import load_session  # noqa: E402
from sam_plugins.napari_plugin.session.planes import Plane  # noqa: E402
from sam_plugins.napari_plugin.session_io import session_reader, write_session  # noqa: E402
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget  # noqa: E402

SEGMENT_BUTTONS = {"restore", "discard", "preview", "keep_labels"}
"""Of **Segment**, besides its actions."""
WITHOUT_BUTTON = {"replay_session", "drop_outline"}


def commands_of(module: str) -> dict[str, str]:
    """Return the ids of the commands that a module has the functions of, by function."""
    contributed = PluginManager.instance().get_manifest("sam-plugins").contributions.commands or ()
    return {
        command.python_name.rpartition(":")[2]: command.id
        for command in contributed
        if command.python_name and f".{module}:" in command.python_name
    }


def buttons_of(widget: QWidget) -> list[QPushButton]:
    """Return what can be pressed, but for the heads of groups that fold."""
    pressed = widget.findChildren(QPushButton)
    return [one for one in pressed if not isinstance(one.parentWidget(), QCollapsible)]


def test_each_action_is_a_command_a_button_and_a_method(viewer: Any) -> None:
    known = commands_of("commands")
    assert set(known) == {action.name for action in ACTIONS} | SEGMENT_BUTTONS | WITHOUT_BUTTON
    viewer.add_image(np.zeros((32, 32), np.uint8))
    widget = SegmentWidget(viewer, load=load)
    for action in ACTIONS:
        assert callable(getattr(widget.controller, action.name))
        button = widget.findChild(QPushButton, action.name)
        assert button is not None
        assert button.toolTip().startswith(action.tooltip)
    PluginManager.instance().commands.execute(known["toggle_sign"], (viewer,))
    assert not widget.controller.params.is_positive
    assert "does NOT belong" in widget.status()
    widget.controller.close()


def test_each_button_of_all_widgets_is_a_command_and_says_what_it_does(viewer: Any) -> None:
    viewer.add_image(np.zeros((32, 32), np.uint8))
    known = {**commands_of("commands"), **commands_of("widget_commands")}
    found = []
    for name in ("Segment", "Automatic", "Folder", "Train", "Models"):
        widget = open_widget(viewer, name)
        if name == "Automatic":
            for key, button in (
                ("find", widget.run_button),
                ("cancel", widget.cancel_button),
                ("add", widget.add_button),
            ):
                button.setObjectName(f"automatic_{key}")
        pressed = buttons_of(widget)
        assert pressed
        found += [one.objectName() for one in pressed]
        for one in widget.findChildren(QAbstractButton):
            is_of_qt = one.objectName().startswith("qt_")
            assert is_of_qt or one.toolTip(), f"{name}: {one.text()!r} has no tooltip"
    assert sorted(found) == sorted(set(known) - WITHOUT_BUTTON)
    for function in commands_of("widget_commands"):
        assert callable(getattr(widget_commands, function))


def test_commands_do_what_the_buttons_do(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer.add_image(np.zeros((32, 32), np.uint8))
    done: list[str] = []
    widgets = {name: open_widget(viewer, name) for name in ("Automatic", "Folder", "Train")}
    meant = {
        "automatic_find": (widgets["Automatic"], "run"),
        "automatic_cancel": (widgets["Automatic"], "cancel"),
        "folder_done": (widgets["Folder"], "done"),
        "train_start": (widgets["Train"], "train"),
        "train_promote": (widgets["Train"], "promote"),
        "review_accept": (widgets["Train"].review, "accept"),
    }
    execute = PluginManager.instance().commands.execute
    for command, (widget, method) in meant.items():
        monkeypatch.setattr(widget, method, lambda command=command: done.append(command))
        execute(f"sam-plugins.{command}", (viewer,))
    assert done == list(meant)
    monkeypatch.setattr(widgets["Folder"], "step", done.append)
    execute("sam-plugins.folder_previous", (viewer,))
    execute("sam-plugins.folder_next", (viewer,))
    assert done[-2:] == [-1, 1]


def test_a_command_opens_the_widget(viewer: Any) -> None:
    viewer.add_image(np.zeros((32, 32), np.uint8))
    controller = commands.controller_of(viewer)
    assert controller is commands.controller_of(viewer)
    controller.close()


def test_a_session_is_written_and_read_by_napari(
    viewer: Any, test_data: Path, tmp_path: Path
) -> None:
    nuclei = Nuclei.read(test_data)
    viewer.add_image(nuclei.image, name="nuclei", scale=(0.5, 0.5))
    widget = SegmentWidget(viewer, load=load)
    assert widget.segmenter is not None
    _, (y, x) = nuclei.nucleus()
    widget.segmenter.click((y / 2, x / 2))
    answered(widget)
    widget.controller.commit()
    objects = widget.segmenter.objects
    path = tmp_path / "work.samsession"
    viewer.layers.selection.active = objects
    assert viewer.layers.save(str(path), selected=True, plugin="sam-plugins") == [str(path)]
    state = widget.segmenter.session.state
    assert load_session(path).state == state
    before = objects.data.copy()
    (layer,) = read([str(path)], stack=False, plugin_name="sam-plugins")
    data, keywords, kind = cast("tuple[Any, dict[str, Any], str]", layer)
    assert kind == "labels"
    np.testing.assert_array_equal(data, before)
    assert keywords["scale"] == [0.5, 0.5]
    assert keywords["name"] == "nuclei objects"
    assert widget.segmenter.replay() == {"same": [1], "other": []}
    widget.controller.close()


def test_a_session_file_is_opened_and_gone_on_with(
    viewer: Any, test_data: Path, tmp_path: Path
) -> None:
    nuclei = Nuclei.read(test_data)
    image = viewer.add_image(nuclei.image, name="nuclei", scale=(0.5, 0.5))
    widget = SegmentWidget(viewer, load=load)
    assert widget.segmenter is not None
    for rank in (0, 1):
        _, (y, x) = nuclei.nucleus(rank)
        widget.segmenter.click((y / 2, x / 2))
        answered(widget)
        if rank == 0:
            widget.controller.commit()
    path = tmp_path / "work.samsession"
    viewer.layers.selection.active = widget.segmenter.objects
    viewer.layers.save(str(path), selected=True, plugin="sam-plugins")
    state, written = widget.segmenter.session.state, widget.segmenter.objects
    before = written.data.copy()
    widget.controller.close()
    viewer.layers.remove(written)

    (objects,) = viewer.open(str(path), plugin="sam-plugins")
    image.translate = (5, 7)  # its pixels tell it all the same
    viewer.layers.selection.active = image
    again = SegmentWidget(viewer, load=load)
    assert again.segmenter is not None
    assert again.segmenter.objects is objects
    np.testing.assert_array_equal(objects.translate, image.translate)
    assert again.segmenter.session.state == state
    np.testing.assert_array_equal(objects.data, before)
    assert again.segmenter.replay() == {"same": [1, 2], "other": []}
    again.controller.commit()
    assert not again.segmenter.session.state.drafts
    assert objects.data.max() == 2
    again.controller.close()


def test_a_session_has_all_labels_whoever_made_them(viewer: Any, tmp_path: Path) -> None:
    viewer.add_image(np.zeros((4, 32, 32), np.uint8))
    widget = SegmentWidget(viewer, load=load)
    segmenter = widget.segmenter
    assert segmenter is not None
    objects = segmenter.objects
    objects.data[3, 4:8, 4:8] = 5  # there before; the session has not touched it
    viewer.dims.set_point(0, 1)
    with objects.block_history():
        objects.paint((1, 20, 20), 9)
    assert segmenter.session.state.next_label == 10
    assert list(segmenter.session.touched_planes) == [Plane((1, 2), (1,))]
    (path,) = write_session(str(tmp_path / "all"), objects.data, {})
    reader = session_reader(path)
    assert reader is not None
    np.testing.assert_array_equal(reader(path)[0][0], objects.data)
    objects.selected_label = 12  # as napari's M does; nothing is painted yet
    assert segmenter.session.state.next_label == 13
    widget.controller.close()
    touched = segmenter.session.touched_planes
    objects.paint((1, 4, 4), 9)
    assert segmenter.session.touched_planes == touched


def test_what_is_painted_by_hand_is_saved_by_itself(viewer: Any, qtbot: Any) -> None:
    viewer.add_image(np.zeros((3, 32, 32), np.uint8))
    widget = SegmentWidget(viewer, load=load)
    assert widget.segmenter is not None
    saving, objects = widget.controller.recovery, widget.segmenter.objects
    qtbot.waitUntil(lambda: bool(saving._saves), timeout=60_000)
    objects.fill((2, 20, 20), 3)
    objects.n_edit_dimensions = 3
    objects.paint((1, 5, 5), 4)
    saving.save_now()
    (path,) = sessions_directory().glob("*.samsession")
    planes = load_session(path).planes
    for index in range(3):
        np.testing.assert_array_equal(planes[Plane((1, 2), (index,))], objects.data[index])
    widget.controller.close()


def test_people_are_told_that_nothing_is_saved(
    viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, threading.Thread]] = []

    def note(text: str) -> None:
        told.append((text, threading.current_thread()))

    monkeypatch.setattr(recovery, "show_warning", note)
    viewer.add_image(np.zeros((32, 32), np.uint8))
    widget = SegmentWidget(viewer, load=load)
    assert widget.segmenter is not None
    saves = widget.controller.recovery._saves
    qtbot.waitUntil(lambda: bool(saves), timeout=60_000)
    ((_, autosave),) = saves.values()
    autosave.path.mkdir()  # a folder where the file should be
    widget.segmenter.objects.fill((20, 20), 3)
    widget.controller.recovery.save_soon()
    qtbot.waitUntil(lambda: bool(told), timeout=60_000)
    ((text, thread),) = told
    assert "not being saved by itself" in text
    assert "a folder of that name exists" in text
    assert thread is threading.main_thread()
    widget.controller.close()


def test_labels_of_others_are_written_too(tmp_path: Path) -> None:
    labels = np.zeros((3, 8, 9), np.uint16)
    labels[1, 2:4, 3:5] = 7
    (path,) = write_session(str(tmp_path / "others"), labels, {})
    reader = session_reader(path)
    assert reader is not None
    ((data, keywords, kind),) = reader(path)
    np.testing.assert_array_equal(data, labels)
    assert (kind, keywords["metadata"]["sam_plugins"]["role"]) == ("labels", "objects")
    assert session_reader("picture.tif") is None
