"""Find all objects like 1 and like 3 random ones, beside automatic segmentation.

The exemplars are objects of the ground truth, drawn at random; they are left out of every figure.
Recall and precision are at an IoU of 0.5. Where only one class of a picture's objects is asked for
(``SET:CATEGORY``), all others are false positives. With ``--carry``, the exemplars are in another
picture of the set.

    python benchmarks/measure_similar.py DATA dsb2018 facades:window --pictures 4
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import skimage.data

from sam_plugins.model.evaluation.metrics import average_precisions, match_objects
from sam_plugins.model.evaluation.overlaps import overlap_table
from sam_plugins.model.inference.automatic import segment_embedding
from sam_plugins.model.inference.exemplars import Exemplars, describe_exemplars
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.inference.similar import find_similar
from sam_plugins.model.inference.types import Prompts
from sam_plugins.model.io.labelled import LabelledImage, list_manifest_files

COUNTS = (1, 3)


def pictures(data: Path, name: str, split: str, count: int) -> Iterator[LabelledImage]:
    """Yield some pictures with at least five objects of the wanted kind, at random."""
    if name == "coins":
        yield coins()
        return
    set_name, _, category = name.partition(":")
    files = list_manifest_files(data, [set_name], split=split)
    order = np.random.default_rng(0).permutation(len(files))
    found = 0
    for index in order:
        image = files[index].read()
        if category:
            image = of_category(data, image, category)
        if len(np.unique(image.labels)) > 5:
            yield image
            found += 1
        if found == count:
            return


def of_category(data: Path, image: LabelledImage, category: str) -> LabelledImage:
    """Return the picture with the labels of one category alone; everything else is wrong."""
    manifest = json.loads((data / image.set_name / "manifest.json").read_text("utf-8"))
    entry = next(entry for entry in manifest["files"] if entry["id"] == image.id)
    wanted = [one["id"] for one in entry["objects"] if one["category"] == category]
    return replace(image, labels=np.where(np.isin(image.labels, wanted), image.labels, 0))


def coins() -> LabelledImage:
    """Return scikit-image's coins with labels by a threshold, checked by eye: 24 coins."""
    from scipy import ndimage
    from skimage.filters import sobel
    from skimage.segmentation import watershed

    picture = skimage.data.coins()
    markers = np.where(picture < 30, 1, np.where(picture > 150, 2, 0))
    inside = ndimage.binary_fill_holes(watershed(sobel(picture), markers) == 2)
    labels, _ = ndimage.label(ndimage.binary_opening(inside, iterations=2))
    areas = np.bincount(labels.ravel())
    labels[(areas < 400)[labels]] = 0
    return LabelledImage("coins", picture, labels, set_name="coins")


def figures(
    image: LabelledImage, predicted: npt.NDArray[Any], exemplars: npt.NDArray[Any]
) -> dict[str, float]:
    """Return recall and precision at IoU 0.5 and mSA of all but the exemplars."""
    is_exemplar = np.isin(image.labels, exemplars)
    ignore = is_exemplar if image.ignore is None else is_exemplar | image.ignore
    labels = np.where(is_exemplar, 0, image.labels)
    table = overlap_table(labels, predicted, ignore=ignore)
    matching = match_objects(table, 0.5)
    hits = matching.true_positives
    return {
        "recall": hits / max(1, matching.n_true),
        "precision": hits / max(1, matching.n_predicted),
        "mSA": float(average_precisions(table, complete=True).mean()),
    }


def measure_set(model: Model, args: argparse.Namespace, name: str) -> dict[str, dict[str, float]]:
    """Return the mean figures of a set by method."""
    rows: dict[str, list[dict[str, float]]] = {}
    carried: dict[int, Exemplars] = {}
    for image in pictures(args.data, name, args.split, args.pictures):
        rng = np.random.default_rng(1)
        embedding = encode_image(model, image.image)
        automatic = segment_embedding(model, embedding).labels
        ids = np.unique(image.labels)[1:]
        for count in COUNTS:
            chosen = rng.choice(ids, count, replace=False)
            marked = np.stack([image.labels == label for label in chosen])
            described = describe_exemplars(model, embedding, marked)
            if args.mark == "box":
                boxes = [box_of(mask) for mask in marked]
                described = describe_exemplars(model, embedding, Prompts(boxes_xyxy=boxes))
            used: Exemplars | None = described
            if args.carry:
                used, carried[count] = carried.get(count), described
                chosen = chosen[:0]
            if used is None:
                continue
            found = find_similar(model, embedding, used)
            rows.setdefault(f"like {count}", []).append(figures(image, found.labels, chosen))
            rows.setdefault(f"automatic {count}", []).append(figures(image, automatic, chosen))
    return {
        method: {key: float(np.mean([one[key] for one in some])) for key in some[0]}
        for method, some in rows.items()
    }


def box_of(mask: npt.NDArray[np.bool_]) -> list[float]:
    """Return the box of a mask, edges of its pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--model", default="default")
    parser.add_argument("--split", default="val")
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--mark", choices=("mask", "box"), default="mask")
    parser.add_argument("--carry", action="store_true")
    args = parser.parse_args()
    model = load_model(args.model)
    print(f"{model.model_id}, {args.split}, up to {args.pictures} pictures of a set")
    print("| set | exemplars | recall | precision | mSA | automatic: recall | precision | mSA |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.sets:
        found = measure_set(model, args, name)
        for count in COUNTS:
            if f"like {count}" not in found:
                continue
            values = [
                f"{found[method][key]:.2f}"
                for method in (f"like {count}", f"automatic {count}")
                for key in ("recall", "precision", "mSA")
            ]
            print(f"| {name} | {count} | {' | '.join(values)} |", flush=True)


if __name__ == "__main__":
    main()
