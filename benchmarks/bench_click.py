"""How fast one click is answered on a picture of 1024 x 1024 whose embedding is ready."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch

from official_code import import_official
from rows import Row, record
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_rgb, predict_masks
from sam_plugins.model.inference.types import Prompts
from sides import as_bfloat16, clock_of, official_vit, our_vit, parser, picture, shipped
from timing import Action, Timing, conditions, interleave, table

POINT_XY = (500.0, 300.0)
OFFICIAL = "official decoder"


ASKED = {
    "our ViT-B's decoder, float32": 1.7,
    "our ViT-B's decoder, bfloat16": 3.0,
    "shipped model, float32": 2.0,
    "shipped model, bfloat16": 4.0,
}
"""How many times as fast as the official decoder."""

GOAL = {
    "our ViT-B's decoder, float32": None,
    "our ViT-B's decoder, bfloat16": 4.0,
    "shipped model, float32": 4.0,
    "shipped model, bfloat16": 8.0,
}
MOST_MS = 30
"""So long may a click on the shipped model take until its best mask is drawn."""


def click() -> Prompts:
    """Return one click."""
    return Prompts(points_xy=np.array([[POINT_XY]]), point_labels=np.array([[1]]))


def our_sides(model: Model, name: str) -> tuple[dict[str, Action], dict[str, Action]]:
    """Return ways to answer a click: masks of the picture's size, and low-res logits only."""
    embedding, asked = encode_rgb(model, picture()), click()

    def best() -> object:
        return predict_masks(model, embedding, asked).best().masks

    def all_three() -> object:
        return predict_masks(model, embedding, asked).masks

    def low_res() -> object:
        return predict_masks(model, embedding, asked)

    return {f"{name}, the best mask": best, f"{name}, three masks": all_three}, {name: low_res}


def official_sides(official: ModuleType, model: Any) -> tuple[Action, Action]:  # noqa: ANN401
    """Return the same two ways of the official code, which always makes three masks."""
    predictor = official.SamPredictor(model)
    predictor.set_image(picture())
    points, labels = np.array([POINT_XY]), np.array([1])

    def full_size() -> object:
        return predictor.predict(points, labels, multimask_output=True)

    @torch.no_grad()
    def low_res() -> object:
        coordinates = (
            torch.tensor([[POINT_XY]], device=model.device),
            torch.tensor([[1]], device=model.device),
        )
        sparse, dense = model.prompt_encoder(points=coordinates, boxes=None, masks=None)
        return model.mask_decoder(
            image_embeddings=predictor.features,
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )

    return full_size, low_res


def agreement(model: Model, expected: torch.Tensor) -> str:
    """Say how far the low-res masks of a click agree with the official ones."""
    embedding = encode_rgb(model, picture())
    answer = torch.from_numpy(predict_masks(model, embedding, click()).low_res_logits)
    error = float((answer - expected).norm() / expected.norm())
    one, two = answer > 0, expected > 0
    ious = (one & two).sum((-2, -1)) / (one | two).sum((-2, -1)).clamp(min=1)
    return f"logits differ by {error:.1e}, least mask IoU {float(ious.min()):.4f}"


def main() -> None:
    """Print the comparison."""
    chosen = parser(__doc__ or "", repetitions=50)
    chosen.add_argument(
        "--float32", action="store_true", help="alone: CPUs that know no bfloat16 take minutes"
    )
    options = chosen.parse_args()
    torch.set_num_threads(options.threads)
    official = import_official()
    theirs = official_vit(official, options.device)
    own = shipped(options)
    full_size, low_res = official_sides(official, theirs)
    exact = our_vit(theirs)
    models = {
        "our ViT-B's decoder, float32": exact,
        "shipped model, float32": own,
    }
    if not options.float32:
        models["our ViT-B's decoder, bfloat16"] = as_bfloat16(exact)
        models["shipped model, bfloat16"] = as_bfloat16(own)
    full, low = {OFFICIAL: full_size}, {OFFICIAL: low_res}
    for name, model in models.items():
        own_full, own_low = our_sides(model, name)
        full |= own_full
        low |= own_low
    print(conditions(options.repetitions, options.clock))
    clock = clock_of(options)
    to_masks = interleave(full, repetitions=options.repetitions, warm_up=3, clock=clock)
    print(
        f"\nFrom a click to masks of the picture's size:\n\n{table(to_masks, OFFICIAL, unit='ms')}"
    )
    to_logits = interleave(low, repetitions=options.repetitions, warm_up=3, clock=clock)
    print(f"\nFrom a click to three low-res masks:\n\n{table(to_logits, OFFICIAL, unit='ms')}")
    with torch.no_grad():
        expected = low_res()[0].cpu()
    for name, model in models.items():
        if name.startswith("our"):
            record_decoder(name, to_logits, agreement(model, expected))
        else:
            record_click(name, to_masks, to_logits)


def record_decoder(name: str, to_logits: Mapping[str, Timing], quality: str) -> None:
    """Record how fast the same decoder is, and how far its answers agree."""
    print(f"\n{name}: {quality}")
    ratio = to_logits[OFFICIAL].minimum / to_logits[name].minimum
    record(Row(f"one click, {name}", ratio, ASKED[name], quality, GOAL[name]))


def record_click(
    name: str, to_masks: Mapping[str, Timing], to_logits: Mapping[str, Timing]
) -> None:
    """Record how fast the shipped model answers, and whether soon enough.

    A person gets one mask of ours, and three of the official predictor, which makes no single one.
    """
    best, three = to_masks[f"{name}, the best mask"], to_masks[f"{name}, three masks"]
    took = 1e3 * best.median
    quality = f"{took:.0f} ms (median), {MOST_MS} allowed"
    print(f"\n{name}: {quality}")
    asked, goal = ASKED[name], GOAL[name]
    ratio = to_masks[OFFICIAL].minimum / best.minimum
    soon = took <= MOST_MS
    record(Row(f"one click to the best mask, {name}", ratio, asked, quality, goal, soon))
    ratio = to_masks[OFFICIAL].minimum / three.minimum
    record(Row(f"one click to three masks, {name}", ratio, asked, goal=goal))
    ratio = to_logits[OFFICIAL].minimum / to_logits[name].minimum
    record(Row(f"one click to low-res masks, {name}", ratio, asked, goal=goal))


if __name__ == "__main__":
    main()
