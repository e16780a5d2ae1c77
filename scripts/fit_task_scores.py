"""Fit how good a picture's automatic objects are to what the model says of them.

    python scripts/fit_task_scores.py ../shared/data [--pictures 4] [--sets dsb2018 melt_pools]

Segments train pictures of several data sets, measures their quality against the ground truth, and
fits the numbers of ``labelstudio_backend/scores.py``; then measures on val pictures how well the
scores rank them (Spearman) and how far they are from the quality (mean absolute error, and expected
calibration error over ten bins), against the mean score of the objects alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.stats import spearmanr

from sam_plugins.errors import DatasetError
from sam_plugins.labelstudio_backend.scores import evidence_of
from sam_plugins.model.evaluation.metrics import match_objects
from sam_plugins.model.evaluation.overlaps import overlap_table
from sam_plugins.model.inference.automatic import instance_maps, segment_embedding
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.io.labelled import LabelledImage, list_manifest_files

SETS = ("dsb2018", "tem_nanoparticles", "mushrooms", "fly_embryos", "sem_powder", "tem_axons")
_RIDGE = 0.02


class Row(NamedTuple):
    """One picture: its set, what the model says, the mean score alone, and the true quality."""

    name: str
    evidence: list[float]
    mean_score: float
    quality: float


def main() -> None:
    """Measure, fit, measure again and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of data sets")
    parser.add_argument("--pictures", type=int, default=4, help="of each set and split")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--rows", type=Path, help="keep what was measured here, to fit again")
    args = parser.parse_args()
    kept = json.loads(args.rows.read_text()) if args.rows and args.rows.exists() else {}
    rows: dict[str, list[Row]] = {"train": [], "val": []}
    model = load_model("default", device="cpu")
    for name in args.sets:
        for split, found in rows.items():
            key = f"{name} {split}"
            if key not in kept:
                kept[key] = measured(model, args.data, name, split, args.pictures)
                if args.rows:
                    args.rows.write_text(json.dumps(kept))
            found += [Row(*one) for one in kept[key]]
    weights = fitted(rows["train"])
    print("weights:", [round(float(one), 3) for one in weights])
    for split, found in rows.items():
        quality = np.array([row.quality for row in found])
        before = np.array([row.mean_score for row in found])
        after = squashed(design(found) @ weights)
        print(f"{split}: {len(found)} pictures, mean quality {quality.mean():.3f}")
        tell("mean score of the objects", before, quality, found)
        tell("calibrated", after, quality, found)


def measured(model: Model, data: Path, name: str, split: str, pictures: int) -> list[Row]:
    """Segment some pictures of a set, and compare."""
    try:
        files = list_manifest_files(data, [name], split=split)
    except DatasetError as error:  # a set without this split, which is said
        print(f"{name} {split}: {error}", flush=True)
        return []
    rows = []
    for file in files[:: max(1, len(files) // pictures)][:pictures]:
        image = file.read()
        if image.complete and image.labels.any():
            rows.append(row_of(model, image, name))
    print(f"{name} {split}: {len(rows)} pictures", flush=True)
    return rows


def row_of(model: Model, image: LabelledImage, name: str) -> Row:
    """Segment a picture and compare with its ground truth."""
    embedding = encode_image(model, image.image)
    found = segment_embedding(model, embedding)
    foreground = instance_maps(model, embedding).foreground
    evidence = evidence_of(found.scores, found.labels, foreground)
    mean = float(found.scores.mean()) if len(found) else 0.0
    return Row(name, list(evidence), mean, quality_of(image, found.labels))


def quality_of(image: LabelledImage, labels: np.ndarray) -> float:
    """Return the panoptic quality (Kirillov et al. 2019): IoU of the pairs by objects of both."""
    pairs = match_objects(
        overlap_table(image.labels, labels, ignore=image.ignore), 0.5, strict=True
    )
    count = pairs.true_positives + (pairs.false_positives + pairs.false_negatives) / 2
    return float(np.sum(pairs.ious) / count) if count else 1.0


def design(rows: list[Row]) -> np.ndarray:
    """Return the evidence with a column of ones."""
    return np.array([[1.0, *row.evidence] for row in rows])


def squashed(values: np.ndarray) -> np.ndarray:
    """Return values between 0 and 1."""
    result: np.ndarray = 1 / (1 + np.exp(-values))
    return result


def fitted(rows: list[Row]) -> np.ndarray:
    """Return the weights of a logistic regression on qualities, each set counting the same."""
    x, quality = design(rows), np.array([row.quality for row in rows])
    names = [row.name for row in rows]
    share = np.array([1 / names.count(name) for name in names])
    share /= share.sum()

    def loss(weights: np.ndarray) -> float:
        guess = np.clip(squashed(x @ weights), 1e-6, 1 - 1e-6)
        entropy = -(quality * np.log(guess) + (1 - quality) * np.log(1 - guess))
        return float((share * entropy).sum() + _RIDGE / 100 * (weights[1:] ** 2).sum())

    result: np.ndarray = minimize(loss, np.zeros(x.shape[1])).x
    return result


def tell(name: str, scores: np.ndarray, quality: np.ndarray, rows: list[Row]) -> None:
    """Print how scores fit qualities, over all pictures and within each set."""
    bins = np.minimum((scores * 10).astype(int), 9)
    gaps = [abs(scores[bins == b].mean() - quality[bins == b].mean()) * (bins == b).sum()
            for b in np.unique(bins)]  # fmt: skip
    names = np.array([row.name for row in rows])
    within = [
        spearmanr(scores[names == n], quality[names == n]).statistic
        for n in np.unique(names)
        if (names == n).sum() > 3 and np.ptp(quality[names == n]) and np.ptp(scores[names == n])
    ]
    print(
        f"  {name}: rank correlation {spearmanr(scores, quality).statistic:.3f} "
        f"(within a set {np.mean(within):.3f}), mean error {np.abs(scores - quality).mean():.3f}, "
        f"calibration error {sum(gaps) / len(scores):.3f}"
    )


if __name__ == "__main__":
    main()
