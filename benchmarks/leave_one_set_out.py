"""What a model does on a kind of picture that it never saw: trained without a set, measured on it.

Usage: ``python benchmarks/leave_one_set_out.py DATA SET --steps N -o DIR [--start-from MODEL]``

Two trainings with the shipped recipe, one with all sets and one without ``SET``, alike in all else,
each of N steps; then both are measured on the val split of ``SET``. They begin from scratch, or go
on from given weights, which should never have seen the set either: weights that have seen it forget
it slowly, and the table then says too much. Run it again to go on where it stopped.

What it writes into ``DIR``: links to the sets of both trainings, their states and models, and
``SET.md`` and ``SET.json``. A step takes two to four seconds of a core; figures of less than some
thousand steps from scratch say nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from sam_plugins.errors import DatasetError
from sam_plugins.model.evaluation.loaded import AutomaticSegmenter, LoadedModel
from sam_plugins.model.evaluation.measure import measure
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.io.atomic import make_folder, write_bytes
from sam_plugins.model.io.labelled import MANIFEST_NAME, LabelledFile, list_manifest_files
from sam_plugins.model.training import default

FIGURES = {
    "point_best_iou": "one click, best of 3",
    "point_confident_iou": "one click, most confident",
    "box_iou": "box",
    "msa": "mSA",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train twice, measure twice and write the table; return the exit code."""
    options = _parse(arguments)
    folder = make_folder(options.output)
    files = list_manifest_files(options.data, [options.set], split="val")
    if not files:
        raise DatasetError(f"{options.set} has no val pictures to measure on")
    if options.val is not None:
        files = files[: options.val]
    rows = {}
    for name, left_out in (("with", None), (f"without {options.set}", options.set)):
        state = folder / name.replace(" ", "-")
        code = default.main(_training(options, _sets(options.data, state, left_out), state))
        if code:
            return code
        rows[name] = _measured(state / "default.safetensors", files, options.max_objects)
    write_bytes(folder / f"{options.set}.json", json.dumps(rows, indent=1).encode())
    lines = [
        f"| {options.set}, trained | " + " | ".join(FIGURES.values()) + " |",
        "| --- | " + " | ".join("---:" for _ in FIGURES) + " |",
    ]
    for name, figures in rows.items():
        cells = [f"{figures[one]:.3f}" if one in figures else "" for one in FIGURES]
        lines.append(f"| {name}{' it' if name == 'with' else ''} | " + " | ".join(cells) + " |")
    table = "\n".join(lines) + "\n"
    write_bytes(folder / f"{options.set}.md", table.encode())
    print(table)
    return 0


def _sets(data: Path, state: Path, left_out: str | None) -> Path:
    """Return a folder with links to all sets but one."""
    folder = make_folder(state / "sets")
    for manifest in sorted(data.glob(f"*/{MANIFEST_NAME}")):
        link = folder / manifest.parent.name
        if manifest.parent.name != left_out and not link.exists():
            link.symlink_to(manifest.parent.resolve())
    if left_out is not None and (folder / left_out).exists():
        raise DatasetError(f"{folder} holds {left_out}: choose another folder with -o")
    return folder


def _training(options: argparse.Namespace, data: Path, state: Path) -> list[str]:
    """Return what the training is asked for: the first stage's values, or the last one's."""
    stage = default.RECIPE[-1] if options.start_from else default.RECIPE[0]
    started = ["--start-from", str(options.start_from)] if options.start_from else []
    return [
        str(data), "--state", str(state), "--steps", str(options.steps), *started,
        "--learning-rate", str(stage.learning_rate), "--optimizer", stage.optimizer,
        "--muon-scale", str(stage.muon_scale), "--seed", str(stage.seed),
        "--workers", str(options.workers), "--device", options.device,
    ]  # fmt: skip


def _measured(
    path: Path, files: Sequence[LabelledFile], max_objects: int | None
) -> dict[str, float]:
    """Return the figures of one model."""
    model = load_model(path)
    report = measure(
        path.parent.name,
        files,
        model=LoadedModel(model),
        segmenter=AutomaticSegmenter(model),
        with_floor=False,
        max_objects=max_objects,
        on_progress=lambda task, done, total: print(f"{task} {done}/{total}", file=sys.stderr),
    )
    summaries = [report.prompts, *report.automatic.values()]
    return {
        name: round(one.mean, 4)
        for summary in summaries
        if summary is not None
        for name, one in summary.over_sets.items()
        if name in FIGURES
    }


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of data sets")
    parser.add_argument("set", metavar="SET", help="the one that is left out")
    parser.add_argument("--steps", type=int, required=True, help="of each of the two trainings")
    parser.add_argument("--start-from", metavar="MODEL", help="weights to go on from (scratch)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--max-objects", type=int, default=6, help="prompted ones of a picture")
    parser.add_argument("--val", type=int, metavar="N", help="at most N val pictures")
    parser.add_argument("--workers", type=int, default=1, help="that prepare batches")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
