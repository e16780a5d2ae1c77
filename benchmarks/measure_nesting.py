"""How often one point has both a whole and its part among its masks, on sets where both are known.

Usage: ``python benchmarks/measure_nesting.py DATA [--sets SET...] [--model MODEL]``

The definition is :mod:`sam_plugins.model.evaluation.nesting`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sam_plugins.model.evaluation.bootstrap import bootstrap_mean
from sam_plugins.model.evaluation.loaded import LoadedModel
from sam_plugins.model.evaluation.nesting import NestedScore, evaluate_nesting
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.io.labelled import list_manifest_files

SETS = ("facades", "facades_more", "coco_open", "mushrooms")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of data sets")
    parser.add_argument("--sets", nargs="+", default=SETS, metavar="SET")
    parser.add_argument("--model", default="default")
    parser.add_argument("--split", default="val")
    parser.add_argument("--max-pairs", type=int, default=20, help="of a picture (%(default)s)")
    options = parser.parse_args(arguments)
    model = LoadedModel(load_model(options.model))
    print(f"{model.model.model_id}\n\n| set | pictures | points | whole | part | both |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in options.sets:
        by_picture: dict[str, list[NestedScore]] = {}
        for file in list_manifest_files(options.data, [name], split=options.split):
            if file.whole_rles:
                scores = evaluate_nesting(model, file.read(), max_pairs=options.max_pairs)
                by_picture |= {file.id: scores} if scores else {}
        found = [one for own in by_picture.values() for one in own]
        if found:
            pictures = [image for image, own in by_picture.items() for _ in own]
            both = bootstrap_mean([float(one.has_both) for one in found], pictures)
            whole = np.mean([one.whole_iou > 0.5 for one in found])
            part = np.mean([one.part_iou > 0.5 for one in found])
            print(
                f"| {name} | {len(by_picture)} | {len(found)} | {whole:.2f} | {part:.2f} | "
                f"{both.mean:.2f} [{both.low:.2f}, {both.high:.2f}] |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
