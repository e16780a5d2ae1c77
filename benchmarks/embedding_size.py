"""How large embeddings are on the disk, and what that costs the masks.

``python benchmarks/embedding_size.py DATA`` takes a folder of data sets with manifests, asks for
objects of some val pictures by a point in their middle and by their box, and compares the masks
with those from embeddings that were never rounded: by float16, as caches keep them, and compact, as
``sam-plugins embed`` does. micro-sam keeps 64 x 64 x 256 values in float16 for any slice, 2 MiB.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.packed_embedding import PackedEmbedding
from sam_plugins.model.inference.predict import encode_image, predict_masks
from sam_plugins.model.inference.types import ImageEmbedding, Prompts
from sam_plugins.model.io.labelled import LabelledSource, list_manifest_files

SETS = ("dsb2018", "tem_axons", "sem_powder", "usiigaci_phase", "em_chloroplasts")
MICRO_SAM = 2 * 2**20


@dataclass
class Side:
    """One way to keep embeddings."""

    ious: list[float] = field(default_factory=list)
    bytes_by_size: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    writing: list[float] = field(default_factory=list)
    reading: list[float] = field(default_factory=list)


def main() -> None:
    """Print the comparison."""
    options = _options()
    torch.set_num_threads(1)
    model = load_model(options.model)
    sides = {"float16": Side(), "compact": Side()}
    rng = np.random.default_rng(0)
    for file in _chosen(options):
        image = file.read()
        fresh = encode_image(model, image.image)
        points, boxes = _prompts(image.labels, options.objects, rng)
        expected = _masks(model, fresh, points, boxes)
        for name, side in sides.items():
            kept = _kept(fresh, side, is_compact=name == "compact")
            pairs = zip(expected, _masks(model, kept, points, boxes), strict=True)
            side.ious += [_iou(first, second) for first, second in pairs]
    print(f"{model.model_id}, {len(sides['compact'].ious)} masks, micro-sam keeps 2 MiB a slice\n")
    print("| kept as | mean IoU | 5th percentile | least | write, s | read, s |")
    print("|---|---|---|---|---|---|")
    for name, side in sides.items():
        ious = np.array(side.ious)
        print(
            f"| {name} | {ious.mean():.5f} | {np.quantile(ious, 0.05):.4f} | {ious.min():.4f} | "
            f"{np.mean(side.writing):.3f} | {np.mean(side.reading):.3f} |"
        )
    print("\n| the model sees | float16, MiB | compact, MiB | compact beside micro-sam |")
    print("|---|---|---|---|")
    for size, own in sorted(sides["compact"].bytes_by_size.items()):
        half = np.mean(sides["float16"].bytes_by_size[size])
        print(
            f"| {size[0]} x {size[1]} | {half / 2**20:.2f} | {np.mean(own) / 2**20:.2f} | "
            f"{np.mean(own) / MICRO_SAM:.2f} |"
        )


def _options() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--sets", nargs="+", default=list(SETS), metavar="SET")
    parser.add_argument("--pictures", type=int, default=2, metavar="N", help="of each set")
    parser.add_argument("--objects", type=int, default=15, metavar="N", help="of each picture")
    parser.add_argument("--model", default="default", metavar="NAME")
    return parser.parse_args()


def _chosen(options: argparse.Namespace) -> list[LabelledSource]:
    """Return the first pictures of each set."""
    by_set: dict[str, list[LabelledSource]] = {}
    for file in list_manifest_files(options.data, options.sets, split="val"):
        by_set.setdefault(file.set_name, []).append(file)
    return [file for own in by_set.values() for file in own[: options.pictures]]


def _prompts(
    labels: npt.NDArray[Any], count: int, rng: np.random.Generator
) -> tuple[Prompts, Prompts]:
    """Return a point in the middle of each of some objects, and their boxes."""
    ids = rng.permutation(np.unique(labels)[1:])[:count]
    points, boxes = [], []
    for one in ids:
        depth = ndimage.distance_transform_edt(np.pad(labels == one, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        points.append((x, y))
        rows, columns = np.nonzero(labels == one)
        boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return Prompts.single_points(points), Prompts(boxes_xyxy=np.array(boxes, np.float32))


def _masks(
    model: Model, embedding: ImageEmbedding, points: Prompts, boxes: Prompts
) -> list[npt.NDArray[np.bool_]]:
    """Return the best mask of each prompt."""
    answers = [predict_masks(model, embedding, asked).best() for asked in (points, boxes)]
    return [answer.masks[index, 0] for answer in answers for index in range(len(answer))]


def _kept(fresh: ImageEmbedding, side: Side, *, is_compact: bool) -> ImageEmbedding:
    """Write and read an embedding; note how long that takes and how large it is."""
    start = time.process_time()
    packed = PackedEmbedding.of(fresh, compact=is_compact)
    assert packed is not None
    content = packed.to_bytes()
    side.writing.append(time.process_time() - start)
    start = time.process_time()
    read = PackedEmbedding.from_bytes(content)
    assert read is not None
    embedding = read.unpack("cpu")
    side.reading.append(time.process_time() - start)
    side.bytes_by_size.setdefault(fresh.padded_size_hw, []).append(len(content))
    return embedding


def _iou(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Return the IoU of two masks, 1 where both are empty."""
    union = np.count_nonzero(first | second)
    return 1.0 if union == 0 else np.count_nonzero(first & second) / union


if __name__ == "__main__":
    main()
