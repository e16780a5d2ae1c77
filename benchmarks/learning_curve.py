"""How much a model gains from 1, 4 and 16 labelled pictures of a kind that it never saw.

Usage: ``python benchmarks/learning_curve.py DATA SET... --start-from MODEL -o DIR``

For every set, the model is measured on the pictures of the val split, fine-tuned on the first few
pictures of the train split (a fixed, seeded order, so that 1 is among the 4 and 4 among the 16),
and measured again. Volumes count plane by plane. It writes ``learning-curve.json``, a table in
Markdown and a plot, and goes on where it stopped: what is in the JSON is not trained again.

The start model must never have seen the set: the shipped model has, in training. Its passport is
searched, and a model that names the set is refused unless ``--even-if-seen``. To make one, train
the shipped recipe on a folder of data without the set
(``python -m sam_plugins.model.training.default DATA-WITHOUT-SET --state runs/without-SET``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sam_plugins.errors import DatasetError
from sam_plugins.model.engine.fine_tuning import (
    METHODS,
    FineTuningOptions,
    TrainingProgress,
    fine_tune,
)
from sam_plugins.model.engine.held_out import Round
from sam_plugins.model.io.atomic import make_folder, write_bytes
from sam_plugins.model.io.labelled import LabelledFile, list_manifest_files
from sam_plugins.model.weights.loading import load_checkpoint

FIGURES = ("one click", "3 clicks", "5 clicks", "box", "mSA", "mean")
_VAL_PLANES = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, and write table and plot; return the exit code."""
    options = _parse(arguments)
    folder = make_folder(options.output)
    path = folder / "learning-curve.json"
    done: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    parent = load_checkpoint(options.start_from)
    for name in options.sets:
        seen = _has_seen(parent.passport, name)
        if seen and not options.even_if_seen:
            raise DatasetError(
                f"{parent.model_id} was trained on {name}: start from a model that never saw it, "
                "or say --even-if-seen"
            )
        train, val = _files(options.data, name, options.val)
        for count in options.counts:
            key = f"{parent.model_id} {name} {count} {options.method} {options.steps}"
            if key in done:
                continue
            if count > len(train):
                _say(f"{name} has {len(train)} pictures, not {count}: left out")
                continue
            done[key] = _one(options, name, train[:count], val) | {"seen": seen}
            write_bytes(path, json.dumps(done, indent=1).encode())
    table = to_table(list(done.values()))
    write_bytes(folder / "learning-curve.md", table.encode())
    plot(folder / "learning-curve.png", list(done.values()))
    _say(table)
    return 0


def _one(
    options: argparse.Namespace,
    name: str,
    train: Sequence[LabelledFile],
    val: Sequence[LabelledFile],
) -> dict[str, Any]:
    """Fine-tune on some pictures."""
    tuning = FineTuningOptions(
        method=options.method,
        steps=options.steps,
        rounds=options.rounds,
        learning_rate=options.learning_rate,
        max_objects=options.max_objects,
        seed=options.seed,
    )
    started = time.monotonic()

    def tell(now: TrainingProgress) -> None:
        if now.figures is not None:
            _say(f"{name}, {len(train)} pictures, step {now.step}: {_rounded(now.figures)}")

    result = fine_tune(
        options.start_from,
        train,
        val,
        options.output / f"{name}-{len(train)}.safetensors",
        tuning,
        name=f"{name}-{len(train)}",
        device=options.device,
        on_progress=tell,
    )
    return {
        "set": name,
        "pictures": len(train),
        "val_pictures": len(val),
        "method": options.method,
        "before": _figures(result.rounds[0]),
        "after": _figures(result.best),
        "best_step": result.best.step,
        "steps": options.steps,
        "gain": str(result.comparison),
        "minutes": round((time.monotonic() - started) / 60, 1),
    }


def _figures(measured: Round) -> dict[str, float]:
    """Return what was measured, and the mean by which the best weights are chosen."""
    return {**measured.figures, "mean": measured.value}


def to_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table in Markdown: a row for each set and number of pictures, 0 first."""
    lines = [
        "| set | pictures | " + " | ".join(FIGURES) + " |",
        "| --- | --- | " + " | ".join("---" for _ in FIGURES) + " |",
    ]
    for name in sorted({row["set"] for row in rows}):
        own = sorted((row for row in rows if row["set"] == name), key=lambda row: row["pictures"])
        points = [(0, own[0]["before"]), *[(row["pictures"], row["after"]) for row in own]]
        for count, figures in points:
            cells = [f"{figures[one]:.3f}" if one in figures else "" for one in FIGURES]
            lines.append(f"| {name} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw one panel for each set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = sorted({row["set"] for row in rows})
    figure = Figure(figsize=(4 * len(names), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(np.ravel(figure.subplots(1, len(names))), names, strict=True):
        own = sorted((row for row in rows if row["set"] == name), key=lambda row: row["pictures"])
        counts = [0, *[row["pictures"] for row in own]]
        for one in FIGURES:
            values = [own[0]["before"].get(one), *[row["after"].get(one) for row in own]]
            if None not in values:
                axes.plot(range(len(counts)), values, "o-", label=one)
        axes.set_xticks(range(len(counts)), [str(count) for count in counts])
        axes.set(title=name, xlabel="labelled pictures", ylim=(0, 1))
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def _files(
    data: Path, name: str, max_val: int | None
) -> tuple[list[LabelledFile], list[LabelledFile]]:
    """Return the train pictures in a seeded order, and the val pictures spread over the split."""
    train = list_manifest_files(data, [name], split="train", volume_step=8)
    val = list_manifest_files(data, [name], split="val", volume_step=_VAL_PLANES)
    order = np.random.default_rng(0).permutation(len(train))
    if max_val is not None and len(val) > max_val:
        val = [val[int(index)] for index in np.linspace(0, len(val) - 1, max_val)]
    return [train[int(index)] for index in order], val


def _has_seen(passport: Any, name: str) -> bool:  # noqa: ANN401
    """Whether a passport names a set."""
    if passport is None:
        return False  # A published checkpoint: its makers' data is another matter.
    named = ", ".join(source.name for source in passport.training_data)
    return name in {one.split("/")[0] for one in named.split(", ")}


def _rounded(figures: Mapping[str, float]) -> str:
    """Return figures as text."""
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items())


def _say(message: str) -> None:
    """Tell whoever watches."""
    print(message, file=sys.stderr)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of data sets")
    parser.add_argument("sets", nargs="+", metavar="SET")
    parser.add_argument("--start-from", required=True, metavar="MODEL")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 4, 16], metavar="N")
    parser.add_argument("--method", choices=METHODS, default="full")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--max-objects", type=int, default=20)
    parser.add_argument("--val", type=int, metavar="N", help="at most N val pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--even-if-seen", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
