"""What people look at of a run: curves, and what a model does with pictures that it did not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sam_plugins.model.engine.held_out import Round
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_rgb, predict_masks
from sam_plugins.model.inference.preprocess import resize_rgb
from sam_plugins.model.inference.prompts import Prompts
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.io.atomic import atomic_path
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.training.pictures import resize_nearest
from sam_plugins.model.training.prompt_simulation import first_points_xy

BoolArray = NDArray[np.bool_]

_SIDE = 256  # Longer side of a panel in pixels.
_ROWS = 4
_GAP = 4
_CAPTION = 14
_TRUTH = (40, 200, 80)
_ANSWER = (250, 170, 30)
_POINT = (230, 30, 60)


def write_samples(path: Path, model: Model, files: Sequence[LabelledFile]) -> bool:
    """Draw for some pictures a click, the object that was meant, and the answer.

    Parameters
    ----------
    path : Path
        A PNG file.
    model : Model
    files : sequence of LabelledFile
        The first few with an object are shown; the object is the one of median size, the click lies
        in its middle.

    Returns
    -------
    bool
        Whether there was anything to draw.

    Raises
    ------
    OutputError
        If the file cannot be written.
    UnreadableImageError
        If a picture cannot be read.
    """
    rows = []
    for file in files:
        row = _row(model, file)
        if row is not None:
            rows.append(row)
        if len(rows) == _ROWS:
            break
    if not rows:
        return False
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width, sum(row.height + _GAP for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + _GAP
    with atomic_path(path, flush=False) as temporary:
        sheet.save(temporary, format="PNG")
    return True


def write_curves(path: Path, log: Sequence[Mapping[str, str]], rounds: Sequence[Round]) -> bool:
    """Draw the loss by step, and the figures on held-out pictures by round.

    Parameters
    ----------
    path : Path
        A PNG file.
    log : sequence of mapping
        Rows with ``step`` and ``loss``.
    rounds : sequence of Round

    Returns
    -------
    bool
        False where matplotlib is not installed, and nothing is drawn.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    steps = [int(row["step"]) for row in log]
    losses = np.array([float(row["loss"]) for row in log])
    left.plot(steps, losses, color="0.8", linewidth=0.8)
    left.plot(steps, _smooth(losses), color="tab:blue")
    left.set(xlabel="step", title="loss")
    whole = [one for one in rounds if one.share == 1]  # the others are of no other step
    for name in sorted({name for one in whole for name in one.figures}):
        own = [one for one in whole if name in one.figures]
        values = [one.figures[name] for one in own]
        right.plot([one.step for one in own], values, "o-", markersize=3, label=name)
    right.plot([one.step for one in whole], [one.value for one in whole], "k--", label="mean")
    right.set(xlabel="step", title="held-out pictures", ylim=(0, 1))
    right.legend(fontsize="small")
    with atomic_path(path, flush=False) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return True


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over the last twentieth of a run."""
    width = max(1, len(values) // 20)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    averaged: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return averaged


def _row(model: Model, file: LabelledFile) -> Image.Image | None:
    """Draw three panels: the click, the object, the answer; None without an object."""
    image = file.read()
    labels = image.labels if image.ignore is None else np.where(image.ignore, 0, image.labels)
    areas = np.bincount(labels.ravel().astype(np.int64))
    present = np.flatnonzero(areas[1:]) + 1
    if not len(present):
        return None
    label = present[np.argsort(areas[present])[len(present) // 2]]
    truth = labels == label
    rgb = to_rgb(image.image)
    (point,) = first_points_xy(truth[None].astype(np.uint8), np.random.default_rng(0), 1.0)
    prompts = Prompts.for_object(points_xy=[point])
    answer = predict_masks(model, encode_rgb(model, rgb), prompts).best().masks[0, 0]
    union = int(np.count_nonzero(truth | answer))
    overlap = int(np.count_nonzero(truth & answer)) / max(1, union)
    window = _window(truth | answer)
    panels = [
        _panel(rgb, None, point, "click", _POINT, window),
        _panel(rgb, truth, point, "truth", _TRUTH, window),
        _panel(rgb, answer, point, f"answer, IoU {overlap:.2f}", _ANSWER, window),
    ]
    row = Image.new("RGB", (sum(panel.width + _GAP for panel in panels), panels[0].height), "white")
    left = 0
    for panel in panels:
        row.paste(panel, (left, 0))
        left += panel.width + _GAP
    return row


def _window(mask: BoolArray) -> tuple[slice, slice]:
    """Return the part of a picture around a mask, three times as large, within the picture."""
    slices = []
    for axis in (1, 0):
        hits = np.flatnonzero(mask.any(axis=axis))
        first, last = int(hits[0]), int(hits[-1]) + 1
        margin = max(last - first, 24)
        full = mask.shape[1 - axis]
        slices.append(slice(max(0, first - margin), min(full, last + margin)))
    return slices[0], slices[1]


def _panel(
    rgb: NDArray[np.uint8],
    mask: BoolArray | None,
    point_xy: NDArray[np.float32],
    caption: str,
    colour: tuple[int, int, int],
    window: tuple[slice, slice],
) -> Image.Image:
    """Draw a part of a picture with a mask and a click on it, a caption above."""
    part = np.ascontiguousarray(rgb[window])
    height, width = part.shape[:2]
    scale = _SIDE / max(int(height), int(width))
    size_hw = (max(1, round(height * scale)), max(1, round(width * scale)))
    shown = np.array(resize_rgb(part, size_hw))
    if mask is not None:
        inside = resize_nearest(mask[window], size_hw).astype(bool)
        rim = inside & ~_shrunk(inside)
        shown[inside] = (0.7 * shown[inside] + 0.3 * np.array(colour)).astype(np.uint8)
        shown[rim] = colour
    panel = Image.new("RGB", (size_hw[1], size_hw[0] + _CAPTION), "white")
    panel.paste(Image.fromarray(shown), (0, _CAPTION))
    draw = ImageDraw.Draw(panel)
    draw.text((2, 1), caption, fill="black")
    x = (float(point_xy[0]) + 0.5 - window[1].start) * scale
    y = (float(point_xy[1]) + 0.5 - window[0].start) * scale + _CAPTION
    draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_POINT, outline="white")
    return panel


def _shrunk(mask: BoolArray) -> BoolArray:
    """Return a mask without its outermost pixels."""
    padded = np.pad(mask, 1)
    inner: BoolArray = (
        padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:] & mask
    )
    return inner
