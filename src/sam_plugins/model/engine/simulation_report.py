"""A simulation as people read it: a table in Markdown, and a plot.

Both are made from the values of :func:`~.simulation.to_dict`, so that they can be made again from
the JSON file alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam_plugins.errors import MissingExtraError, how_to_install
from sam_plugins.model.io.atomic import atomic_path

_COLOURS = {"chosen order": "#0b6e99", "random order": "#d9822b", "no retraining": "#777777"}
_SIZE_INCHES = (8.0, 3.2)


def to_markdown(document: Mapping[str, Any]) -> str:
    """Return the rounds as a table, and what changed from the first to the last in sentences.

    Parameters
    ----------
    document : mapping
        Of :func:`~.simulation.to_dict`.
    """
    options, pictures = document["options"], document["pictures"]
    about = (
        f"{', '.join(document['sets'])}, starting from {document['start']['model']} "
        f"({document['start']['model_id']}). A pool of {pictures['pool']} pictures, "
        f"{options['pictures_per_round']} labelled in each round; {pictures['held_out']} held out "
        f"for training, {pictures['test']} for the test."
    )
    columns = (
        "order", "round", "labelled: pictures", "objects", "clicks per object", "untouched",
        "test: clicks per object", "untouched",
    )  # fmt: skip
    lines = [about, "", f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    lines += [
        f"| {strategy} | {one['round']} | {_cells(one)} |"
        for strategy, rounds in document["courses"].items()
        for one in rounds
    ]
    lines.append("")
    lines += [_change(strategy, one) for strategy, one in document["changes"].items()]
    return "\n".join(lines) + "\n"


def draw_plot(document: Mapping[str, Any], path: Path) -> None:
    """Draw clicks per object and untouched share of the test pictures, round by round.

    Parameters
    ----------
    document : mapping
        Of :func:`~.simulation.to_dict`.
    path : Path
        File to write; its ending says the format, ``.png`` or ``.svg``.

    Raises
    ------
    MissingExtraError
        If Matplotlib is not installed.
    OutputError
        If the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # No pyplot: it would choose a window toolkit for the whole process.
    figure = Figure(figsize=_SIZE_INCHES, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for strategy, rounds in document["courses"].items():
        numbers = [one["round"] for one in rounds]
        tests = [_sum(one["test"]) for one in rounds]
        style = {"color": _COLOURS.get(strategy), "marker": "o", "label": strategy}
        left.plot(numbers, [one["clicks"] / one["objects"] for one in tests], **style)
        right.plot(numbers, [100 * one["untouched"] / one["objects"] for one in tests], **style)
    left.set(xlabel="round", ylabel="clicks per object")
    right.set(xlabel="round", ylabel="objects accepted untouched (%)")
    left.set_ylim(bottom=0)
    right.set_ylim(0, 100)
    for axes in (left, right):
        axes.set_xticks(numbers)
        axes.grid(visible=True, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    figure.suptitle(f"{', '.join(document['sets'])}: the same test pictures after each round")
    with atomic_path(path) as temporary:
        # The date would make every file another one.
        figure.savefig(temporary, format=path.suffix[1:], metadata={"Software": None})


def require_matplotlib() -> None:
    """Refuse to begin what ends in a plot that cannot be drawn.

    Raises
    ------
    MissingExtraError
        With what to install.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError(
            f"the plot is drawn by Matplotlib, which is not installed; {how_to_install('train')}"
        )


def _cells(one: Mapping[str, Any]) -> str:
    """Return the numbers of a round."""
    labelled, test = _sum(one["labelled"]), _sum(one["test"])
    now = ["", "", "", ""]
    if labelled["objects"]:
        now = [str(len(one["labelled"])), str(labelled["objects"]), *_shares(labelled)]
    return " | ".join([*now, *_shares(test)])


def _shares(work: Mapping[str, int]) -> Sequence[str]:
    """Return clicks per object, and the share that was accepted untouched."""
    objects = max(1, work["objects"])
    return f"{work['clicks'] / objects:.2f}", f"{100 * work['untouched'] / objects:.0f} %"


def _sum(works: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Add the work on several pictures up."""
    return {
        name: sum(work[name] for work in works.values())
        for name in ("objects", "clicks", "untouched")
    }


def _change(strategy: str, one: Mapping[str, Mapping[str, float | None]]) -> str:
    """Say how the work on the test pictures changed, with its interval."""
    clicks, share = one["clicks_per_object"], one["untouched_share"]
    return (
        f"- {strategy}: clicks per object {_signed(clicks)}, accepted untouched "
        f"{_signed(share, 100, ' points')} on the test pictures."
    )


def _signed(values: Mapping[str, float | None], factor: float = 1, unit: str = "") -> str:
    """Return a difference and its interval."""
    mean, low, high = (values[name] for name in ("mean", "low", "high"))
    digits = 2 if factor == 1 else 0
    if mean is None:
        return "not measured"
    text = f"{factor * mean:+.{digits}f}{unit}"
    if low is None or high is None:
        return text
    return f"{text} ({factor * low:+.{digits}f} to {factor * high:+.{digits}f})"
