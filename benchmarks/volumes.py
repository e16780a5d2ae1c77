"""One click in the middle slice of each object, to the whole object: how much of it is found.

Beside it, in the same run: what a projection of the mask finds that stops on overlap alone (asked
with the box of the last mask, 2.5 % larger, and its logits, as micro-sam 1.8 does), from its own
first mask and from ours; and what the model finds on each slice if somebody gives it the true box,
or the point deepest inside: the ceiling of all propagation with boxes or points.

    python benchmarks/volumes.py DATA mouse_embryo_3d davis_car_shadow --objects 24
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

from sam_plugins import segment_volume
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.inference.predict import predict_masks
from sam_plugins.model.inference.types import MaskPrediction, Prompts
from sam_plugins.model.inference.volume import (
    FILM,
    LinkOptions,
    Propagation,
    PropagationOptions,
    Seed,
    SliceEmbeddings,
    Volume,
    propagate,
)
from sam_plugins.model.inference.volume.shapes import deepest_point, window_of
from sam_plugins.model.inference.volume.values import DOUBTFUL
from sam_plugins.model.io.images import read_image
from sam_plugins.model.weights.paths import embeddings_directory

BoolArray = npt.NDArray[np.bool_]
BASELINE_THRESHOLDS = (0.5, 0.8)
BASELINE_MARGIN = 0.025
MIN_SLICES, MIN_VOXELS = 3, 60
MAX_ORACLE_SLICES = 12


@dataclass(frozen=True, eq=False)
class Stack:
    """A volume and its truth (Z, Y, X)."""

    name: str
    split: str
    volume: Volume
    labels: npt.NDArray[np.integer]
    from_first: bool = False


def read_stack(data: Path, name: str) -> Stack:
    """Read a set's only volume of a split, ``SET`` or ``SET:SPLIT``, or a film."""
    name, _, wanted = name.partition(":")
    manifest = json.loads((data / name / "manifest.json").read_text("utf-8"))
    files = [f for f in manifest["files"] if not wanted or f["split"] == wanted]
    if len(files[0]["image_shape"]) == 3 and files[0]["image_shape"][-1] == 3:
        frames = [read_image(data / name / f["image"]) for f in files]
        masks = np.stack([read_labels(data / name / f["label"]) for f in files])
        volume = Volume(np.stack(frames), channel_axis=3)
        return Stack(name, files[0]["split"], volume, masks, from_first=True)
    file = next(f for f in files if f["image"].endswith(".tif"))
    size = tuple(file.get("voxel_size_um_zyx", (1.0, 1.0, 1.0)))
    values = read_tiff(data / name / file["image"])
    labels = read_tiff(data / name / file["label"])
    return Stack(name, file["split"], Volume(values, voxel_size_zyx=size), labels)


def read_tiff(path: Path) -> npt.NDArray[Any]:
    """Read a stack."""
    import tifffile

    return np.asarray(tifffile.imread(path))


def read_labels(path: Path) -> npt.NDArray[np.integer]:
    """Read a label picture."""
    from PIL import Image

    return np.asarray(Image.open(path)).astype(np.int32)


def objects_of(stack: Stack, count: int) -> Iterator[tuple[int, int]]:
    """Yield objects on enough slices, at random where they are many, and their middle slices."""
    found = []
    for number, window in enumerate(ndimage.find_objects(stack.labels), 1):
        if window is None:
            continue
        there = stack.labels[window] == number
        slices = window[0].start + np.flatnonzero(there.any(axis=(1, 2)))
        if len(slices) >= MIN_SLICES and there.sum() >= MIN_VOXELS:
            found.append((number, 0 if stack.from_first else int(slices[len(slices) // 2])))
    if count and len(found) > count:
        chosen = np.random.default_rng(0).permutation(len(found))[:count]
        found = [found[index] for index in sorted(chosen)]
    yield from found


def click_in(mask: BoolArray) -> tuple[float, float]:
    """Return the point deepest inside an object of a slice."""
    return deepest_point(window_of(mask))


def box_of(mask: BoolArray, margin: float = 0.0) -> npt.NDArray[np.float64]:
    """Return the box around a mask, larger by a share of its sides on each."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    outwards = np.array([-1.0, -1.0, 1.0, 1.0])
    box = np.array([columns[0], rows[0], columns[-1], rows[-1]]) + outwards / 2
    return np.asarray(box + margin * np.tile(box[2:] - box[:2], 2) * outwards)


def iou(first: BoolArray, second: BoolArray) -> float:
    """Return the IoU of two masks."""
    union = np.count_nonzero(first | second)
    return float(np.count_nonzero(first & second) / union) if union else 0.0


def project(
    slices: SliceEmbeddings, start: int, seed: MaskPrediction
) -> dict[int, tuple[BoolArray, float]]:
    """Follow a mask by its box and its logits; return masks and their IoU with the last one."""
    found = {start: (seed.mask(0), 1.0)}
    for direction in (1, -1):
        mask, logits, index = seed.mask(0), seed.low_res_logits[0, 0], start + direction
        while 0 <= index < len(slices) and mask.any():
            prompts = Prompts.for_object(box_xyxy=box_of(mask, BASELINE_MARGIN), mask_logits=logits)
            answer = predict_masks(slices.model, slices.embedding(index), prompts)
            overlap = iou(answer.mask(0), mask)
            if overlap < min(BASELINE_THRESHOLDS):
                break
            mask, logits = answer.mask(0), answer.low_res_logits[0, 0]
            found[index] = (mask, overlap)
            index += direction
    return found


def projected_volume(
    found: dict[int, tuple[BoolArray, float]], start: int, least: float, shape: tuple[int, ...]
) -> BoolArray:
    """Return what a projection finds that stops where the overlap is below a threshold."""
    volume = np.zeros(shape, bool)
    volume[start] = found[start][0]
    for direction in (1, -1):
        index = start + direction
        while index in found and found[index][1] >= least:
            volume[index] = found[index][0]
            index += direction
    return volume


def as_prediction(slices: SliceEmbeddings, index: int, mask: BoolArray) -> MaskPrediction:
    """Return a mask as an answer of the model, with logits of 6 inside and -6 outside."""
    import torch

    embedding = slices.embedding(index)
    height, width = embedding.input_size_hw
    whole = torch.zeros(1, 1, *embedding.padded_size_hw)
    pixels = torch.from_numpy(mask)[None, None].float()
    whole[..., :height, :width] = torch.nn.functional.interpolate(pixels, size=(height, width))
    low = torch.nn.functional.interpolate(whole, size=embedding.low_res_hw, mode="area")
    return MaskPrediction(
        (12 * low - 6).numpy(),
        np.ones((1, 1), np.float32),
        embedding.original_size_hw,
        embedding.input_size_hw,
        embedding.padded_size_hw,
    )


def ceiling(
    slices: SliceEmbeddings, truth: BoolArray, ask: Callable[[BoolArray], Prompts]
) -> float:
    """Return the IoU over some slices that are each asked for with the truth's prompt."""
    there = np.flatnonzero(truth.any(axis=(1, 2)))
    shared = union = 0
    for index in there[:: max(1, len(there) // MAX_ORACLE_SLICES)]:
        answer = predict_masks(slices.model, slices.embedding(int(index)), ask(truth[index]))
        mask = answer.best().mask(0)
        shared += np.count_nonzero(mask & truth[index])
        union += np.count_nonzero(mask | truth[index])
    return shared / union


def measure_object(
    slices: SliceEmbeddings, stack: Stack, number: int, start: int, ours: Propagation
) -> dict[str, float]:
    """Measure one object on all sides."""
    truth = stack.labels == number
    shape = stack.labels.shape
    mask = ours.mask(number)
    each = [iou(m, t) for m, t in zip(mask, truth, strict=True) if m.any() or t.any()]
    figures = {"ours": iou(mask, truth), "ours, mean of slices": float(np.mean(each))}
    first = ours[number].slices[start].found if start in ours[number].slices else None
    prompts = Prompts.for_object([click_in(truth[start])])
    trusted = predict_masks(slices.model, slices.embedding(start), prompts).best()
    figures["first mask, most trusted"] = iou(trusted.mask(0), truth[start])
    seeds = {"projection": trusted}
    if first is not None:
        drawn = np.zeros(shape[1:], bool)
        drawn[first.window] = first.mask
        figures["first mask, ours"] = iou(drawn, truth[start])
        seeds["projection from our first mask"] = as_prediction(slices, start, drawn)
    for name, seed in seeds.items():
        found = project(slices, start, seed)
        for least in BASELINE_THRESHOLDS:
            volume = projected_volume(found, start, least, shape)
            figures[f"{name}, IoU {least}"] = iou(volume, truth)
    figures["true boxes"] = ceiling(
        slices, truth, lambda mask: Prompts.for_object(box_xyxy=box_of(mask))
    )
    figures["true points"] = ceiling(
        slices, truth, lambda mask: Prompts.for_object([click_in(mask)])
    )
    return figures


def calibration(stack: Stack, ours: Propagation) -> dict[str, float]:
    """Say what confidence is worth: its rank correlation with the IoU on the slices."""
    pairs = []
    for one in ours.objects:
        for index, found in one.slices.items():
            if not found.is_prompted:
                drawn = found.drawn(ours.plane_hw)
                pairs.append((found.confidence, iou(drawn, stack.labels[index] == one.object_id)))
    if len(pairs) < 3:
        return {}
    confidence, truth = np.array(pairs).T
    doubted = confidence < DOUBTFUL
    figures = {
        "slices": float(len(pairs)),
        "rank correlation": float(stats.spearmanr(confidence, truth).statistic),
        "doubted": float(doubted.mean()),
        "IoU of trusted": float(truth[~doubted].mean()) if (~doubted).any() else float("nan"),
        "IoU of doubted": float(truth[doubted].mean()) if doubted.any() else float("nan"),
    }
    return {name: round(value, 3) for name, value in figures.items()}


def automatic(slices: SliceEmbeddings, stack: Stack) -> dict[str, float]:
    """Segment the volume without a click; return how many objects are found at IoU 0.5."""
    link = LinkOptions(min_slices=MIN_SLICES, min_voxels=MIN_VOXELS, split_waist=0.5)
    found = segment_volume(slices, link=link)
    hits = 0
    truths = [n for n in np.unique(stack.labels) if n]
    for number in truths:
        inside = found.labels[stack.labels == number]
        if (inside > 0).any():
            best = int(np.bincount(inside[inside > 0]).argmax())
            hits += iou(found.labels == best, stack.labels == number) >= 0.5
    return {
        "true objects": len(truths),
        "found objects": len(found),
        "found at IoU 0.5": int(hits),
    }


def main() -> None:
    """Measure the named sets, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("sets", nargs="+", help="SET, or SET:SPLIT")
    parser.add_argument("--objects", type=int, default=24, help="at most so many a set; 0 for all")
    parser.add_argument("--model", default="default")
    parser.add_argument("--automatic", action="store_true", help="segment without clicks, too")
    parser.add_argument("--output", type=Path, help="also write all figures as JSON")
    args = parser.parse_args()
    model = load_model(args.model)
    report: dict[str, Any] = {"model": model.model_id}
    for name in args.sets:
        stack = read_stack(args.data, name)
        cache = EmbeddingCache(embeddings_directory(), max_memory_bytes=1 << 30)
        slices = SliceEmbeddings(model, stack.volume, cache=cache)
        chosen = list(objects_of(stack, args.objects))
        seeds = [
            Seed(
                number,
                start,
                prompts=Prompts.for_object([click_in(stack.labels[start] == number)]),
            )
            for number, start in chosen
        ]
        begin = time.perf_counter()
        ours = propagate(slices, seeds, options=FILM if stack.from_first else PropagationOptions())
        seconds = time.perf_counter() - begin
        rows = [measure_object(slices, stack, number, start, ours) for number, start in chosen]
        means = {
            key: round(float(np.mean([row.get(key, 0.0) for row in rows])), 3) for key in rows[0]
        }
        report[name] = {
            "split": stack.split,
            "objects": len(rows),
            "means": means,
            "calibration": calibration(stack, ours),
            "stops": _stops(ours),
            "decodes": ours.decodes,
            "seconds": round(seconds, 1),
            "each": [round(row["ours"], 3) for row in rows],
        }
        if args.automatic:
            report[name]["automatic"] = automatic(slices, stack)
        print(json.dumps({name: report[name]}, indent=1), flush=True)
        if args.output:
            args.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(table_of(report))


def _stops(ours: Propagation) -> dict[str, int]:
    """Count the reasons to stop."""
    reasons = [stop.reason.name.lower() for one in ours.objects for stop in one.stops]
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}


def table_of(report: dict[str, Any]) -> str:
    """Return the means as a Markdown table."""
    sets = [name for name in report if name != "model"]
    columns = list(report[sets[0]]["means"])
    lines = [
        "| set | split | objects | " + " | ".join(columns) + " |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for name in sets:
        one = report[name]
        cells = [f"{one['means'].get(column, float('nan')):.3f}" for column in columns]
        lines.append(f"| {name} | {one['split']} | {one['objects']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
