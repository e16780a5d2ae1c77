"""Sessions in a real window: whenever the process ends, what was done is in a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from tests.napari_plugin.helpers import put_labels  # noqa: E402
from tests.napari_plugin.segmenting import load  # noqa: E402

from sam_plugins.napari_plugin.images import ImageSource  # noqa: E402
from sam_plugins.napari_plugin.recovery import sessions_directory  # noqa: E402
from sam_plugins.napari_plugin.session.files import (  # noqa: E402
    ImageNote,
    SavedSession,
    load_session,
    save_session,
)
from sam_plugins.napari_plugin.session.masks import MaskCrop  # noqa: E402
from sam_plugins.napari_plugin.session.planes import Plane, Window  # noqa: E402
from sam_plugins.napari_plugin.session.values import (  # noqa: E402
    Answer,
    Draft,
    MaskPrompt,
    Sight,
    State,
    Turn,
)
from sam_plugins.napari_plugin.session_io import session_reader  # noqa: E402
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget  # noqa: E402

IMAGE = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)
MASK = MaskCrop.of(np.ones((4, 5), bool), (3, 6))
SIGHT = Sight(Plane(), Window(0, 0, 32, 32))
DRAFT = Draft(1, SIGHT, (Turn((MaskPrompt(MASK),)),), Answer((MASK,), (1.0,)))
LABELS = np.zeros((32, 32), np.uint32)
LABELS[20:, 20:] = 3

_on_event: list[Callable[[str], None]] = []


def _hear(event: str, _: tuple[Any, ...]) -> None:
    if _on_event and event in {"open", "os.remove", "os.rename"}:
        _on_event[-1](event)


@pytest.fixture
def each_file_event() -> Iterator[list[Callable[[str], None]]]:
    """Return a list; what is in it is called before anything happens to a file, in any thread."""
    if not hasattr(_hear, "is_there"):
        sys.addaudithook(_hear)  # for ever: it cannot be removed
        _hear.is_there = True  # type: ignore[attr-defined]
    yield _on_event
    _on_event.clear()


def leave_session(labels: npt.NDArray[Any] | None = None) -> Path:
    """Save a session with an open draft, as a process that was killed leaves it."""
    planes = {} if labels is None else {Plane(): labels}
    note = ImageNote("cells", None, (32, 32), ImageSource([IMAGE]).fingerprint())
    path = sessions_directory() / "left.samsession"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_session(path, SavedSession(State((DRAFT,), (), 2, 4), (32, 32), "uint32", planes, note))
    return path


def open_offered(viewer: Any, qtbot: Any) -> SegmentWidget:
    """Open **Segment** on the image of a session that was left."""
    viewer.add_image(IMAGE, name="cells")
    widget = SegmentWidget(viewer, load=load)
    qtbot.waitUntil(lambda: widget._offered is not None, timeout=60_000)
    return widget


def files() -> list[SavedSession]:
    """Return all sessions that would be found if the process ended now."""
    return [load_session(path) for path in sessions_directory().glob("*.samsession")]


def has_session(found: list[SavedSession], labels: npt.NDArray[Any] | None) -> bool:
    """Return whether the session that was left is among some, whole."""
    return any(
        one.state.drafts == (DRAFT,)
        and (labels is None or np.array_equal(one.planes.get(Plane(), 0), labels))
        for one in found
    )


@pytest.mark.parametrize("labels", [None, LABELS], ids=["drafts only", "labels"])
def test_nothing_is_lost_whenever_restoring_is_interrupted(
    viewer: Any,
    qtbot: Any,
    each_file_event: list[Callable[[str], None]],
    labels: npt.NDArray[Any] | None,
) -> None:
    left = leave_session(labels)
    widget = open_offered(viewer, qtbot)
    assert widget.segmenter is not None
    painted = np.zeros((32, 32), np.uint32)
    painted[::2] = 8
    put_labels(widget.segmenter.session, Plane(), painted)  # before anybody saw the offer
    moments: list[tuple[str, bool]] = []
    is_looking = False

    def look(event: str) -> None:
        nonlocal is_looking
        if not is_looking:
            is_looking = True
            moments.append((event, has_session(files(), labels)))
            is_looking = False

    each_file_event.append(look)
    widget.restore()
    each_file_event.clear()
    assert {event for event, _ in moments} == {"open", "os.remove", "os.rename"}
    assert [event for event, is_there in moments if not is_there] == []
    assert not left.exists()
    assert len(files()) == 2
    assert has_session(files(), labels)
    assert any(np.array_equal(one.planes.get(Plane(), 0), painted) for one in files())
    widget.controller.close()
    assert has_session(files(), labels)


def test_what_cannot_be_restored_yet_is_offered_on(viewer: Any, qtbot: Any) -> None:
    from napari.utils.notifications import notification_manager

    left = leave_session(LABELS * 100)  # 300
    widget = open_offered(viewer, qtbot)
    segmenter = widget.segmenter
    assert segmenter is not None
    data = segmenter.objects.data
    segmenter.objects.data = data.astype(np.uint8)
    widget.restore()
    assert "number 300, but labels of type uint8" in notification_manager.records[-1].message
    assert left.exists()
    segmenter.objects.data = data
    widget.restore()
    assert np.array_equal(segmenter.objects.data, LABELS * 100)
    assert not left.exists()
    widget.controller.close()


def test_what_is_done_before_anything_is_saved_is_saved_too(viewer: Any, qtbot: Any) -> None:
    viewer.add_image(IMAGE, name="cells")
    widget = SegmentWidget(viewer, load=load)
    assert widget.segmenter is not None
    saves = widget.controller.recovery._saves
    assert not saves  # it still looks at the image
    put_labels(widget.segmenter.session, Plane(), LABELS)
    qtbot.waitUntil(lambda: bool(saves), timeout=60_000)
    widget.controller.close()
    (saved,) = files()
    np.testing.assert_array_equal(saved.planes[Plane()], LABELS)


def test_a_session_opened_as_a_layer_is_saved_with_all_its_labels(viewer: Any, qtbot: Any) -> None:
    left = leave_session(LABELS)
    opened = left.rename(left.with_name("opened").with_suffix(".samsession"))
    opened = opened.rename(sessions_directory().parent / opened.name)
    reader = session_reader(str(opened))
    assert reader is not None
    viewer.add_image(IMAGE, name="cells")
    ((data, keywords, _),) = reader(str(opened))
    viewer.add_labels(data, **keywords)
    widget = SegmentWidget(viewer, load=load)
    assert widget.segmenter is not None
    qtbot.waitUntil(lambda: bool(widget.controller.recovery._saves), timeout=60_000)
    widget.segmenter.clear()
    widget.controller.close()
    (saved,) = files()
    assert saved.state.drafts == ()
    np.testing.assert_array_equal(saved.planes[Plane()], LABELS)


def test_what_the_undo_of_napari_changes_is_saved(viewer: Any, qtbot: Any) -> None:
    viewer.add_image(np.zeros((3, 32, 32), np.uint8))
    widget = SegmentWidget(viewer, load=load)
    assert widget.segmenter is not None
    saving, objects = widget.controller.recovery, widget.segmenter.objects
    qtbot.waitUntil(lambda: bool(saving._saves), timeout=60_000)

    def saved(index: int) -> npt.NDArray[Any]:
        saving.save_now()
        (one,) = files()
        return one.planes[Plane((1, 2), (index,))]

    objects.fill((2, 20, 20), 3)
    objects.paint((1, 5, 5), 4)
    strokes = saved(1)
    assert strokes.any()
    objects.undo()  # in a slice that is not seen
    assert not saved(1).any()
    objects.undo()
    assert not saved(2).any()
    objects.redo()
    objects.redo()
    np.testing.assert_array_equal(saved(1), strokes)
    assert (saved(2) == 3).all()
    (path,) = sessions_directory().glob("*.samsession")
    before = path.stat()
    viewer.dims.set_point(0, 1)  # drawn again, and nothing has changed
    saving.save_now()
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    objects.visible = False
    objects.undo()  # of a hidden layer napari tells nothing
    widget.controller.close()
    (one,) = files()
    assert not one.planes[Plane((1, 2), (1,))].any()
    assert (one.planes[Plane((1, 2), (2,))] == 3).all()
