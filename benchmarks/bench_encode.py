"""How fast a picture of 1024 x 1024 is encoded, from RGB pixels to a ready embedding."""

from __future__ import annotations

import torch

from official_code import import_official
from sam_plugins.model.inference.predict import encode_rgb
from sides import official_vit_b, our_vit_b, parser, picture, shipped
from timing import conditions, interleave, table

OFFICIAL = "official ViT-B, float32"


def main() -> None:
    """Print the comparison."""
    options = parser(__doc__ or "", repetitions=5).parse_args()
    torch.set_num_threads(options.threads)
    official = import_official()
    theirs = official_vit_b(official)
    predictor = official.SamPredictor(theirs)
    same, own = our_vit_b(theirs), shipped(random_weights=options.random_weights)
    rgb = picture()
    timings = interleave(
        {
            OFFICIAL: lambda: predictor.set_image(rgb),
            "our ViT-B, float32, the same weights": lambda: encode_rgb(same, rgb),
            f"shipped model ({own.model_id})": lambda: encode_rgb(own, rgb),
        },
        repetitions=options.repetitions,
        clock=options.clock,
    )
    expected = predictor.get_image_embedding()
    error = (encode_rgb(same, rgb).features - expected).norm() / expected.norm()
    print(conditions(options.repetitions, options.clock))
    print(f"Embeddings of the two ViT-B differ by {float(error):.1e} (relative L2).\n")
    print(table(timings, OFFICIAL, unit="s"))


if __name__ == "__main__":
    main()
