"""How fast a picture is segmented with a grid of points, by the official code and by ours.

The weights are random. So that as many masks come through as with trained ones, the thresholds are
quantiles of what the official decoder says of some points; without a trained checkpoint, masks are
noise all over the picture, the most expensive ones to draw, and the hardest to match in bfloat16.
"""

from __future__ import annotations

import argparse
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from official_code import import_official
from rows import Row, record
from sam_plugins.model.inference.automatic import segment_embedding
from sam_plugins.model.inference.compat import SamAutomaticMaskGenerator, SamModel
from sam_plugins.model.inference.predict import encode_rgb
from sides import as_bfloat16, clock_of, official_vit, our_vit, parser, picture, shipped
from timing import conditions, interleave, table

OFFICIAL = "official code, float32"
NAMES = {"vit_b": "ViT-B", "vit_h": "ViT-H"}
_PASSING = (0.16, 0.33)
"""Share of masks that pass the predicted IoU, and of those the stability: 5 in 100, as with SAM."""

Masks = list[dict[str, Any]]


def thresholds(official: ModuleType, model: Any) -> dict[str, float]:  # noqa: ANN401
    """Return thresholds that a usual share of masks pass, from 16 points."""
    generator = official.SamAutomaticMaskGenerator(
        model,
        points_per_side=4,
        pred_iou_thresh=0,
        stability_score_thresh=0,
        box_nms_thresh=1.0,
        output_mode="coco_rle",
    )
    seen = generator.generate(picture())
    predicted = np.array([mask["predicted_iou"] for mask in seen])
    stability = np.array([mask["stability_score"] for mask in seen])
    limit = float(np.quantile(predicted, 1 - _PASSING[0]))
    of_these = stability[predicted > limit]
    return {
        "pred_iou_thresh": limit,
        "stability_score_thresh": float(np.quantile(of_these, 1 - _PASSING[1])),
        "box_nms_thresh": 1.0,  # Boxes of noise are all of the picture: none would be left.
    }


def best_ious(theirs: Masks, ours: Masks) -> npt.NDArray[np.float64]:
    """Return the IoU of each official mask with the one of ours from the same point."""
    found = np.zeros(len(theirs))
    for index, mask in enumerate(theirs):
        for other in ours:
            if np.allclose(other["point_coords"], mask["point_coords"]):
                one, two = mask["segmentation"], other["segmentation"]
                iou = np.count_nonzero(one & two) / max(1, np.count_nonzero(one | two))
                found[index] = max(found[index], iou)
    return found


def options() -> argparse.Namespace:
    """Read the command line."""
    arguments = parser(__doc__ or "", repetitions=1)
    arguments.add_argument("--points-per-side", type=int, default=32)
    arguments.add_argument("--network", choices=tuple(NAMES), default="vit_b")
    return arguments.parse_args()


def main() -> None:
    """Print the comparison."""
    chosen = options()
    torch.set_num_threads(chosen.threads)
    official = import_official()
    theirs = official_vit(official, chosen.device, chosen.network)
    limits = thresholds(official, theirs)
    exact = our_vit(theirs, chosen.network)
    half = as_bfloat16(exact)
    own = shipped(chosen)
    generators = {
        OFFICIAL: official.SamAutomaticMaskGenerator(
            theirs, points_per_side=chosen.points_per_side, **limits
        )
    }
    for name, model in (
        (f"our {NAMES[chosen.network]}, float32", exact),
        (f"our {NAMES[chosen.network]}, bfloat16", half),
    ):
        generators[name] = SamAutomaticMaskGenerator(
            SamModel(model), points_per_side=chosen.points_per_side, **limits
        )
    found: dict[str, Masks] = {}

    def runs(name: str) -> Any:  # noqa: ANN401
        def run() -> None:
            found[name] = generators[name].generate(picture())

        return run

    sides: dict[str, Any] = {name: runs(name) for name in generators}
    for model, name in ((own, "float32"), (as_bfloat16(own), "bfloat16")):
        sides[f"shipped model, automatic, {name}"] = lambda model=model: segment_embedding(
            model, encode_rgb(model, picture())
        )
    timings = interleave(sides, repetitions=chosen.repetitions, warm_up=0, clock=clock_of(chosen))
    print(conditions(chosen.repetitions, chosen.clock))
    side = chosen.points_per_side
    print(f"\n{side} x {side} points, {len(found[OFFICIAL])} masks of the official code:\n")
    print(table(timings, OFFICIAL, unit="s"))
    reference = timings[OFFICIAL].minimum
    for name in list(generators)[1:]:
        ious = best_ious(found[OFFICIAL], found[name])
        quality = f"{(ious > 0.99).mean():.1%} of masks at IoU > 0.99, median {np.median(ious):.4f}"
        print(f"\n{name}: {quality}")
        is_half = name.endswith("bfloat16")
        asked, goal = (5.0, 10.0) if is_half else (None, 5.0)
        if chosen.network != "vit_b":
            asked = goal = None
        ratio = reference / timings[name].minimum
        record(Row(f"grid {side} x {side}, {name}", ratio, asked, quality, goal))
    if chosen.network != "vit_b":
        return
    for name, asked, goal in (("float32", None, 30.0), ("bfloat16", 30.0, 80.0)):
        ratio = reference / timings[f"shipped model, automatic, {name}"].minimum
        work = f"shipped model, automatic, {name}, beside the grid of ViT-B"
        record(Row(work, ratio, asked, goal=goal))


if __name__ == "__main__":
    main()
