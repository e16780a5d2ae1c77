"""How fast one click is answered on a picture of 1024 x 1024 whose embedding is ready."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch

from official_code import import_official
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_rgb, predict_masks
from sam_plugins.model.inference.types import Prompts
from sides import official_vit_b, our_vit_b, parser, picture, shipped
from timing import Action, conditions, interleave, table

POINT_XY = (500.0, 300.0)
OFFICIAL = "official decoder"


def our_sides(model: Model, name: str) -> tuple[dict[str, Action], dict[str, Action]]:
    """Return ways to answer a click: masks of the picture's size, and low-res logits only."""
    embedding = encode_rgb(model, picture())
    click = Prompts(points_xy=np.array([[POINT_XY]]), point_labels=np.array([[1]]))

    def best() -> object:
        return predict_masks(model, embedding, click).best().masks

    def all_three() -> object:
        return predict_masks(model, embedding, click).masks

    def low_res() -> object:
        return predict_masks(model, embedding, click)

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
        coordinates = torch.tensor([[POINT_XY]]), torch.tensor([[1]])
        sparse, dense = model.prompt_encoder(points=coordinates, boxes=None, masks=None)
        return model.mask_decoder(
            image_embeddings=predictor.features,
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )

    return full_size, low_res


def main() -> None:
    """Print the comparison."""
    options = parser(__doc__ or "", repetitions=50).parse_args()
    torch.set_num_threads(options.threads)
    official = import_official()
    theirs = official_vit_b(official)
    own = shipped(random_weights=options.random_weights)
    full_size, low_res = official_sides(official, theirs)
    own_full, own_low = our_sides(own, f"shipped model ({own.model_id})")
    same_full, same_low = our_sides(our_vit_b(theirs), "our ViT-B's decoder")
    print(conditions(options.repetitions, options.clock))
    for title, sides in (
        (
            "From a click to masks of the picture's size",
            {OFFICIAL: full_size, **own_full, **same_full},
        ),
        ("From a click to three low-res masks", {OFFICIAL: low_res, **own_low, **same_low}),
    ):
        timings = interleave(sides, repetitions=options.repetitions, warm_up=3, clock=options.clock)
        print(f"\n{title}:\n\n{table(timings, OFFICIAL, unit='ms')}")


if __name__ == "__main__":
    main()
