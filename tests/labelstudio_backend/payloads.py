"""Requests as Label Studio 1.23.2 sends them."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

OWN_LABELS = """<View><Image name="image" value="$image"/>
<KeyPointLabels name="kp" toName="image" smart="true">
  <Label value="Cell"/><Label value="Debris"/></KeyPointLabels>
<RectangleLabels name="rect" toName="image" smart="true">
  <Label value="Cell"/><Label value="Debris"/></RectangleLabels>
<{tag} name="mask" toName="image"><Label value="Cell"/><Label value="Debris"/></{tag}></View>"""

SHARED_LABELS = """<View><Image name="image" value="$image"/>
<Labels name="lab" toName="image"><Label value="Cell"/><Label value="Debris"/></Labels>
<KeyPoint name="kp" toName="image" smart="true"/>
<Rectangle name="rect" toName="image" smart="true"/>
<{tag} name="mask" toName="image"/></View>"""


def own(tag: str = "BrushLabels") -> str:
    """Return a config in which each control has labels of its own."""
    return OWN_LABELS.replace("{tag}", tag)


def shared(tag: str = "Brush") -> str:
    """Return a config with one list of labels."""
    return SHARED_LABELS.replace("{tag}", tag)


def click(
    x: float, y: float, *, size_hw: tuple[int, int] = (240, 320), label: str = "Cell", **more: Any
) -> dict[str, Any]:
    """Return a smart key point at a pixel, as the editor sends it."""
    height, width = size_hw
    value = {
        "x": 100 * (x + 0.5) / width,
        "y": 100 * (y + 0.5) / height,
        "width": 0.26,
        "labels": [label],
        "keypointlabels": [label],
    }
    return {
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
        "is_positive": True,
        "id": f"k{x:g}-{y:g}",
        "from_name": "kp",
        "to_name": "image",
        "type": "keypointlabels",
        "origin": "manual",
        **more,
    }


def box(
    x0: float,
    y0: float,
    x1: float,
    y1: float,
    *,
    size_hw: tuple[int, int] = (240, 320),
    label: str = "Cell",
    **more: Any,
) -> dict[str, Any]:
    """Return a smart rectangle between edges in pixels, as the editor sends it."""
    height, width = size_hw
    value = {
        "x": 100 * x0 / width,
        "y": 100 * y0 / height,
        "width": 100 * (x1 - x0) / width,
        "height": 100 * (y1 - y0) / height,
        "rotation": 0,
        "rectanglelabels": [label],
    }
    return {
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
        "id": f"r{x0:g}-{y0:g}",
        "from_name": "rect",
        "to_name": "image",
        "type": "rectanglelabels",
        "origin": "manual",
        **more,
    }


def in_two(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a prompt as a shared label list sends it: shape and label with one id."""
    kind = item["type"].removesuffix("labels")
    value = {key: one for key, one in item["value"].items() if not key.endswith("labels")}
    label = item["value"][f"{kind}labels"]
    first = {**item, "type": kind, "value": value}
    second = {
        **item,
        "type": "labels",
        "from_name": "lab",
        "value": {**value, "labels": label},
    }
    return [first, second]


def request(
    items: list[dict[str, Any]] | None,
    config: str,
    *,
    url: str | list[str],
    task: int = 1,
    project: str = "1.1795421754",
    **more: Any,
) -> dict[str, Any]:
    """Return the body of a predict request; ``items`` None for a batch."""
    context = None if items is None else {"result": items}
    return {
        "tasks": [
            {"id": task, "data": {"image": url}, "annotations": [], "predictions": [], **more}
        ],
        "project": project,
        "label_config": config,
        "params": {"login": None, "password": None, "context": context},
    }


def data_url(pixels: npt.NDArray[np.uint8]) -> str:
    """Return a picture as a ``data:`` address."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def disk(
    size_hw: tuple[int, int], centre_xy: tuple[float, float], radius: float
) -> npt.NDArray[np.bool_]:
    """Return the mask of a disk."""
    y, x = np.ogrid[: size_hw[0], : size_hw[1]]
    inside: npt.NDArray[np.bool_] = (x - centre_xy[0]) ** 2 + (y - centre_xy[1]) ** 2 <= radius**2
    return inside


def picture_of(mask: npt.NDArray[np.bool_], seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return a picture of a bright object on dark ground, with some noise."""
    noise = np.random.default_rng(seed).normal(0, 6, mask.shape)
    grey = np.clip(np.where(mask, 190, 40) + noise, 0, 255).astype(np.uint8)
    return np.stack([grey] * 3, axis=-1)


def iou(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Return the intersection over the union."""
    return float(np.count_nonzero(first & second) / max(1, np.count_nonzero(first | second)))
