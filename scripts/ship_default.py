"""Measure a trained model on the val splits, put the figures into its passport, and ship it.

Usage: ``python scripts/ship_default.py runs/default/stage-2/default.safetensors DATA``, or ``make
train-default``. With ``--measure-only`` (``make measure-default``) nothing is shipped.

Writes ``src/sam_plugins/model/weights/default/default.safetensors`` and
``docs/explanation/shipped-model-figures.md``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sam_plugins.model.evaluation.automatic import FLOOR_NAME
from sam_plugins.model.evaluation.bootstrap import Interval
from sam_plugins.model.evaluation.loaded import AutomaticSegmenter, LoadedModel
from sam_plugins.model.evaluation.measure import measure
from sam_plugins.model.evaluation.report import Report, to_markdown, write_report
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.io.labelled import list_manifest_files
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.loading import load_checkpoint

REPOSITORY = Path(__file__).resolve().parent.parent
SHIPPED = REPOSITORY / "src/sam_plugins/model/weights/default/default.safetensors"
FIGURES = REPOSITORY / "docs/explanation/shipped-model-figures.md"


def metrics_of(report: Report) -> dict[str, dict[str, float]]:
    """Return the means of a report by task and set, and over the sets of each task."""
    summaries = [("prompts", report.prompts)] if report.prompts else []
    summaries += [
        ("automatic", one) for name, one in report.automatic.items() if name != FLOOR_NAME
    ]
    metrics: dict[str, dict[str, float]] = {}
    for task, summary in summaries:
        mean = f"mean over {len(summary.sets)} sets"
        for name, figures in {**summary.sets, mean: summary.over_sets}.items():
            metrics[f"{task}, {name}"] = _rounded(figures)
    return metrics


def _rounded(figures: Mapping[str, Interval]) -> dict[str, float]:
    """Return what could be measured."""
    return {name: round(one.mean, 4) for name, one in figures.items() if not math.isnan(one.mean)}


def _say(task: str, done: int, total: int) -> None:
    """Show how far the work is."""
    print(f"\r{task} {done}/{total} ", end="", file=sys.stderr)


def main() -> int:
    """Measure and write; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--max-objects", type=int, help="prompted objects of a picture (all)")
    parser.add_argument("--automatic-sets", nargs="+", help="sets to segment as a whole (all)")
    parser.add_argument("--report", type=Path, default=Path("runs/default/report.json"))
    parser.add_argument("--measure-only", action="store_true", help="print the table, no more")
    options = parser.parse_args()
    model = load_model(options.model)
    prompts = measure(
        "default",
        list_manifest_files(options.data, split="val"),
        model=LoadedModel(model),
        max_objects=options.max_objects,
        data={"split": "val", "max_objects": options.max_objects},
        on_progress=_say,
    )
    automatic = measure(
        "default",
        list_manifest_files(options.data, options.automatic_sets, split="val"),
        segmenter=AutomaticSegmenter(model),
        on_progress=_say,
    )
    report = replace(
        prompts,
        automatic=automatic.automatic,
        picture_scores=automatic.picture_scores,
        seconds={**prompts.seconds, **automatic.seconds},
    )
    write_report(options.report, report)
    table = to_markdown(report).replace("## default\n\n", "")
    if options.measure_only:
        print(table)
        return 0
    loaded = load_checkpoint(options.model)
    assert loaded.passport is not None
    how = {"split": "val", "prompted_objects_of_a_picture": options.max_objects or "all"}
    passport = replace(
        loaded.passport,
        metrics=metrics_of(report),
        extra={**loaded.passport.extra, "measured": how},
    )
    save_model_file(SHIPPED, loaded.state_dict, passport)
    FIGURES.write_text(table, encoding="utf-8")
    means = {name: values for name, values in passport.metrics.items() if "mean over" in name}
    print(f"\n{SHIPPED.stat().st_size / 2**20:.1f} MiB, {means}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
