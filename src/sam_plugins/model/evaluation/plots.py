"""Plots of a report as PNG. Matplotlib is imported here alone, when a plot is drawn."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from sam_plugins.errors import MissingExtraError, how_to_install
from sam_plugins.model.evaluation.task_report import Plot
from sam_plugins.model.inference.overlay import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (6.0, 4.2)  # inches
_DPI = 130
_MAX_NAMED = 12  # lines in a legend
_DARK = (4, 5, 2, 0, 6, 1)  # of the palette: those that are seen on white, the best first
_FLOOR = "#777777"
_FLOOR_STYLES = ("--", ":", "-.")


def draw_plot(plot: Plot) -> bytes:
    """Return a plot as PNG.

    Parameters
    ----------
    plot : Plot

    Raises
    ------
    MissingExtraError
        If Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise MissingExtraError(
            f"plots are drawn by Matplotlib, which is not installed; {how_to_install('evaluate')}"
        ) from error
    # No pyplot: it would choose a window toolkit for the whole process.
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if plot.iso_f:
        _draw_iso_f(axes)
    _draw_lines(axes, plot)
    axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label, ylim=plot.y_limits)
    if plot.log_x:
        axes.set_xscale("log")
    elif all(x.is_integer() for line in plot.lines for x in line.x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_lines(axes: Axes, plot: Plot) -> None:
    """Draw the lines, and name them where they are few enough."""
    floors = 0
    colour: str | tuple[float, float, float]
    for number, line in enumerate(plot.lines):
        if line.is_floor:
            colour, style = _FLOOR, _FLOOR_STYLES[floors % len(_FLOOR_STYLES)]
            floors += 1
        else:
            colour, style = _colour(number), "-"
        is_mean = number == 0 and len(plot.lines) > 1
        axes.plot(
            line.x, line.y, style, color=colour, label=line.label,
            linewidth=2.2 if is_mean and not line.is_floor else 1.4,
        )  # fmt: skip
        if line.low:
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
    if plot.lines:
        axes.legend(
            handles=axes.get_lines()[-len(plot.lines) :][:_MAX_NAMED], fontsize=8, frameon=False
        )


def _draw_iso_f(axes: Axes) -> None:
    """Draw faint lines of equal F-measure behind precision over recall."""
    recall = np.linspace(0.01, 1, 200)
    for f in np.arange(1, 10) / 10:
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = f * recall / (2 * recall - f)
        shown = (precision > 0) & (precision <= 1)
        axes.plot(recall[shown], precision[shown], color="#2e7d32", alpha=0.2, linewidth=1)
        axes.annotate(
            f"F {f:.1f}", (1, f / (2 - f)), fontsize=6, color="#2e7d32", alpha=0.6, va="center"
        )
    axes.set_xlim(0, 1)


def _colour(number: int) -> tuple[float, float, float]:
    """Return a colour for a line."""
    red, green, blue = PALETTE[_DARK[number % len(_DARK)]] / 255
    return float(red), float(green), float(blue)
