"""How fast a picture of 1024 x 1024 is encoded, from RGB pixels to a ready embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from official_code import import_official
from plain_tiny_vit import plain_tiny_vit
from rows import Row, record
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.preprocess import prepare_input
from sides import (
    as_bfloat16,
    clock_of,
    official_vit,
    our_tiny_vit,
    our_vit,
    parser,
    picture,
    shipped,
)
from timing import Timing, conditions, interleave, table
from trained_like import make_trained_like

OFFICIAL = "official ViT-B, float32"
OFFICIAL_H = "official ViT-H, float32"
PLAIN = "TinyViT as MobileSAM computes it, float32"
ASKED = {"float32": 1.4, "bfloat16": 2.8}
GOAL = {"float32": None, "bfloat16": 5.0}


def error_of(model: Model, rgb: npt.NDArray[np.uint8], expected: torch.Tensor) -> float:
    """Return the relative error (L2) of an embedding."""
    features = encode_rgb(model, rgb).features.float()
    return float((features - expected).norm() / expected.norm())


def ratios(timings: dict[str, Timing], baseline: str) -> dict[str, float]:
    """Return how many times as fast each side is, of the minima."""
    return {name: timings[baseline].minimum / one.minimum for name, one in timings.items()}


def compare_vit_b(options: Any, rgb: npt.NDArray[np.uint8]) -> None:  # noqa: ANN401
    """Print and record the official ViT-B beside ours and the shipped model."""
    official = import_official()
    theirs = official_vit(official, options.device)
    predictor = official.SamPredictor(theirs)
    exact, own = our_vit(theirs), shipped(options)
    models = {"float32": exact, "bfloat16": as_bfloat16(exact)}
    small = {"float32": own, "bfloat16": as_bfloat16(own)}
    sides: dict[str, Any] = {OFFICIAL: lambda: predictor.set_image(rgb)}
    for name, model in models.items():
        sides[f"our ViT-B, {name}"] = lambda model=model: encode_rgb(model, rgb)
    for name, model in small.items():
        sides[f"shipped model, {name}"] = lambda model=model: encode_rgb(model, rgb)
    timings = interleave(sides, repetitions=options.repetitions, clock=clock_of(options))
    print(table(timings, OFFICIAL, unit="s"))
    expected = predictor.get_image_embedding()
    faster = ratios(timings, OFFICIAL)
    fresh = {name: error_of(model, rgb, expected) for name, model in models.items()}
    make_trained_like(theirs.image_encoder)
    predictor.set_image(rgb)
    expected, exact = predictor.get_image_embedding(), our_vit(theirs)
    models = {"float32": exact, "bfloat16": as_bfloat16(exact)}
    for name, model in models.items():
        like = error_of(model, rgb, expected)
        quality = f"relative error {fresh[name]:.1e} (fresh weights), {like:.1e} (trained-like)"
        print(f"\nour ViT-B, {name}: {quality}")
        ratio = faster[f"our ViT-B, {name}"]
        record(Row(f"ViT-B encode, {name}", ratio, ASKED[name], quality, GOAL[name]))
    for name, asked, goal in (("float32", 15.0, None), ("bfloat16", 15.0, 40.0)):
        ratio = faster[f"shipped model, {name}"]
        record(Row(f"shipped model encode, {name}, beside ViT-B", ratio, asked, goal=goal))


def compare_vit_h(options: Any, rgb: npt.NDArray[np.uint8]) -> None:  # noqa: ANN401
    """Print and record the official ViT-H beside ours."""
    official = import_official()
    theirs = official_vit(official, options.device, "vit_h")
    predictor = official.SamPredictor(theirs)
    exact = our_vit(theirs, "vit_h")
    models = {"float32": exact, "bfloat16": as_bfloat16(exact)}
    sides: dict[str, Any] = {OFFICIAL_H: lambda: predictor.set_image(rgb)}
    for name, model in models.items():
        sides[f"our ViT-H, {name}"] = lambda model=model: encode_rgb(model, rgb)
    timings = interleave(sides, repetitions=options.repetitions, clock=clock_of(options))
    print("\n" + table(timings, OFFICIAL_H, unit="s"))
    expected, faster = predictor.get_image_embedding(), ratios(timings, OFFICIAL_H)
    for name, model in models.items():
        quality = f"relative error {error_of(model, rgb, expected):.1e} (fresh weights)"
        record(Row(f"ViT-H encode, {name}", faster[f"our ViT-H, {name}"], None, quality))


def compare_tiny_vit(options: Any, rgb: npt.NDArray[np.uint8]) -> None:  # noqa: ANN401
    """Print and record TinyViT in the order of MobileSAM's code beside ours."""
    exact = our_tiny_vit(options.device)
    half, plain = as_bfloat16(exact), plain_tiny_vit(exact.network.image_encoder)
    pixels = prepare_input(rgb, exact.preprocessing)[0].to(options.device)
    sides: dict[str, Any] = {
        PLAIN: lambda: plain(pixels),
        "our TinyViT, float32": lambda: encode_rgb(exact, rgb),
        "our TinyViT, bfloat16": lambda: encode_rgb(half, rgb),
    }
    timings = interleave(sides, repetitions=options.repetitions, clock=clock_of(options))
    print("\n" + table(timings, PLAIN, unit="s"))
    expected, faster = plain(pixels), ratios(timings, PLAIN)
    for name, model, asked, goal in (
        ("float32", exact, None, 2.5),
        ("bfloat16", half, 2.5, 4.0),
    ):
        quality = f"relative error {error_of(model, rgb, expected):.1e}"
        print(f"\nour TinyViT, {name}: {quality}")
        ratio = faster[f"our TinyViT, {name}"]
        record(Row(f"TinyViT encode, {name}", ratio, asked, quality, goal))


def main() -> None:
    """Print the comparisons."""
    arguments = parser(__doc__ or "", repetitions=5)
    arguments.add_argument(
        "--vit-h", action="store_true", help="ViT-H, too: minutes, and 8 GB of memory, on a CPU"
    )
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    print(conditions(options.repetitions, options.clock) + "\n")
    rgb = picture()
    compare_tiny_vit(options, rgb)
    compare_vit_b(options, rgb)
    if options.vit_h or options.device.type == "cuda":
        compare_vit_h(options, rgb)


if __name__ == "__main__":
    main()
