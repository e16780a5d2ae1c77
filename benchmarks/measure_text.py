"""Does training by what CLIP sees teach a network words? On coloured shapes, from nothing.

A tiny CLIP learns what crops of shapes are called; a small promptable network learns, without a
word, to find what CLIP saw in a crop; then both are asked with phrases. Pairs of colour and shape
that are held out were in no picture of either. Every phrase is asked for among two objects of the
same colour and two of the same shape. Prints the IoU of each group of phrases beside two kinds of
chance: what another phrase of the scene finds, and a perfect mask of an object taken at random.

    python -m benchmarks.measure_text --steps 1500
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.shapes_clip import accuracy, train_clip
from benchmarks.shapes_model import measure_phrases, train_model

from sam_plugins.model.inference.clip import load_clip


def main() -> None:
    """Train both, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--clip", type=Path, help="folder of a tiny CLIP that is trained already")
    parser.add_argument("--scenes", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start = time.process_time()
    if args.clip:
        clip = load_clip(args.clip, device="cpu")
    else:
        with tempfile.TemporaryDirectory() as folder:
            clip = train_clip(Path(folder), steps=args.clip_steps, seed=args.seed)
    trained_clip = time.process_time() - start

    def report(step: int, values: dict[str, float]) -> None:
        if (step + 1) % 250 == 0:
            told = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
            print(f"step {step + 1}: {told}", flush=True)

    model = train_model(clip, steps=args.steps, seed=args.seed, report=report)
    print(f"CLIP {trained_clip:.0f} s, network {time.process_time() - start - trained_clip:.0f} s")
    print("| phrases | IoU | 95 % | another phrase | random object | CLIP: 1 of 30 |")
    print("|---|---|---|---|---|---|")
    for name, held_out in (("seen in training", False), ("held out", True)):
        found, at_random = measure_phrases(model, clip, held_out=held_out, scenes=args.scenes)
        print(
            f"| {name} | {found.iou.mean:.2f} | {found.iou.low:.2f} to {found.iou.high:.2f} "
            f"| {found.chance.mean:.2f} | {at_random:.2f} | {accuracy(clip, held_out):.2f} |"
        )


if __name__ == "__main__":
    main()
