"""Whether so many pictures are held out that a training can be shown to be better."""

from __future__ import annotations

import math

from sam_plugins.model.engine.label_store import Split
from sam_plugins.model.engine.project.project import Project
from sam_plugins.model.weights.comparison import LEAST_PICTURES, TOO_FEW


def too_few_held_out(project: Project) -> str | None:
    """Say that too few pictures are held out, even when all are labelled, and what to do.

    Parameters
    ----------
    project : Project
        Its pictures are divided.

    Returns
    -------
    str or None
        None where there are enough.
    """
    held_out = len(project.labels.images(split=Split.HELD_OUT))
    if held_out >= LEAST_PICTURES:
        return None
    return f"{_so_many(held_out)}: {_import_more(project)}"


def too_few_labelled(project: Project) -> str | None:
    """Say that too few held-out pictures are labelled, and what to do.

    Parameters
    ----------
    project : Project

    Returns
    -------
    str or None
        None where there are enough; and where there is none, without which nothing is trained.
    """
    held_out = len(project.labels.images(split=Split.HELD_OUT))
    labelled = held_out - len(project.untouched(Split.HELD_OUT))
    if labelled == 0 or labelled >= LEAST_PICTURES:
        return None
    if held_out < LEAST_PICTURES:
        return f"{_so_many(labelled, 'labelled ')}: {_import_more(project)}, and label them"
    return (
        f"{_so_many(labelled, 'labelled ')}: label more of the {held_out} that are held out; "
        "`sam-plugins engine next` names some"
    )


def _so_many(count: int, which: str = "") -> str:
    """Say how many are measured on."""
    noun = f"{which}picture is" if count == 1 else f"{which}pictures are"
    return f"{count} {noun} held out to measure on, {TOO_FEW}"


def _import_more(project: Project) -> str:
    """Say how more pictures are held out; those that are there keep their place."""
    share = project.settings.held_out_share
    return (
        f"import more (of {math.ceil(LEAST_PICTURES / share)} in all, {LEAST_PICTURES} are held "
        f"out at this project's share of {share:g}), or begin a project with a larger "
        "`sam-plugins engine init --held-out`"
    )
