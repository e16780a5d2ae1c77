"""What skipping grid points in found objects saves, and what it costs in quality.

``measure_skipping.py DATA/dsb2018 [DATA/animals ...] [--pictures 4] [--points-per-side 16]``: the
shipped model on the first pictures of the train split, in mode "grid", with and without.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sam_plugins.model.evaluation.metrics import average_precisions
from sam_plugins.model.evaluation.overlaps import overlap_table
from sam_plugins.model.inference.automatic import segment_embedding
from sam_plugins.model.inference.candidates import MaskFilter
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.inference.segment_options import GRID
from sam_plugins.model.io.images import read_image


def main() -> None:
    """Print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folders", type=Path, nargs="+")
    options.add_argument("--pictures", type=int, default=4)
    options.add_argument("--points-per-side", type=int, default=16)
    options.add_argument("--threads", type=int, default=1)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    model = load_model(device="cpu", dtype="auto")
    # The usual thresholds are those of SAM, which is surer of its masks than the shipped model.
    masks = MaskFilter(0.4, 0.5, best_per_point=False)
    plain = replace(GRID, masks=masks, points_per_side=chosen.points_per_side)
    ways = {"all points": plain, "skipping": replace(plain, skip_found=True)}
    print("| set | points | s of processor time | objects | mSA |\n|---|---|---|---|---|")
    for folder in chosen.folders:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        entries = [entry for entry in manifest["files"] if entry["split"] == "train"]
        entries = entries[: chosen.pictures]
        seconds, objects = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0)
        scores: dict[str, list[float]] = {name: [] for name in ways}
        for entry in entries:
            embedding = encode_image(model, read_image(folder / entry["image"]))
            truth = read_image(folder / entry["label"])
            for name, asked in ways.items():
                start = time.process_time()
                found = segment_embedding(model, embedding, mode="grid", options=asked)
                seconds[name] += time.process_time() - start
                objects[name] += int(found.labels.max())
                table = overlap_table(truth.astype(np.int64), found.labels)
                complete = bool(manifest.get("annotation_complete", True))
                scores[name].append(float(average_precisions(table, complete=complete).mean()))
        for name in ways:
            print(
                f"| {folder.name} | {name} | {seconds[name]:.1f} | {objects[name]} "
                f"| {np.mean(scores[name]):.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
