"""Asking for all objects of a session again beside the window, and telling what is another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sam_plugins.napari_plugin.errors import NothingThereError
from sam_plugins.napari_plugin.jobs import Job, start_job
from sam_plugins.napari_plugin.notifications import show_info
from sam_plugins.napari_plugin.session.values import State

if TYPE_CHECKING:
    from qtpy.QtCore import QObject

    from sam_plugins.napari_plugin.segmenter import Segmenter


def start_replay(segmenter: Segmenter, owner: QObject) -> Job:
    """Ask for all objects of a session again; the job tells when it ends.

    Raises
    ------
    NothingThereError
        If there are none.
    """
    state, name = segmenter.session.state, segmenter.image.name
    if not (state.objects or state.drafts):
        raise NothingThereError(
            f"there is no object of this session in {name!r} to ask for again; click on one first"
        )
    return start_job(
        segmenter.replay,
        title=f"Asking for the objects of {name} again",
        owner=owner,
        on_result=lambda found: show_info(_told(name, state, found)),
    )


def _told(name: str, state: State, found: dict[str, list[int]]) -> str:
    """Say in words which masks are the same as they were."""
    same, other = len(found["same"]), len(found["other"])
    if not other:
        return f"{name}: all {same} masks are the same as they were"
    labels = sorted({one.label for one in state.objects if one.key in found["other"]})
    which = f" (objects {', '.join(map(str, labels))})" if labels else ""
    return (
        f"{name}: {other} of {same + other} masks are others than they were{which}: the model, the "
        "picture or its contrast is another"
    )
