"""One table of what the benchmarks measured beside what is asked for, and a plot of it."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from rows import FILE, Row, recorded


def table(rows: list[Row]) -> str:
    """Return a table in Markdown."""
    lines = ["| work | asked | goal | measured | as asked | answers |", "|---|---|---|---|---|---|"]
    for row in rows:
        asked = "" if row.asked is None else f"{row.asked:g}x"
        is_met = row.asked is not None and row.ratio >= row.asked and row.holds
        met = "" if row.asked is None else ("yes" if is_met else "no")
        goal = "" if row.goal is None else f"{row.goal:g}x"
        lines.append(
            f"| {row.work} | {asked} | {goal} | {row.ratio:.2f}x | {met} | {row.quality} |"
        )
    return "\n".join(lines)


def plot(rows: list[Row], path: Path) -> None:
    """Draw the measured ratios as bars, and what is asked for as lines across them."""
    mpl.rcParams["font.size"] = 9
    figure = Figure(figsize=(8, 0.4 * len(rows) + 1), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(rows))
    axes.barh(places, [row.ratio for row in rows], height=0.6, color="tab:blue")
    for place, row in zip(places, rows, strict=True):
        if row.asked is not None:
            axes.plot([row.asked] * 2, [place - 0.4, place + 0.4], color="tab:red", linewidth=2)
    axes.set_yticks(list(places), [row.work for row in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("times as fast as the official code (red: asked for)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Print the table and write the plot."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--plot", type=Path, default=FILE.with_name("speed.svg"))
    path: Path = options.parse_args().plot
    rows = recorded()
    print(table(rows))
    plot(rows, path)
    print(f"\nThe plot is {path}.")


if __name__ == "__main__":
    main()
