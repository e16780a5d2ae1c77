"""Our masks as regions of Label Studio."""

from __future__ import annotations

import base64
import io
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_plugins.labelstudio_backend.outline import box_of, ellipse_of, polygons_of
from sam_plugins.labelstudio_backend.target import Target
from sam_plugins.model.io.brush_rle import encode_brush

BoolArray = npt.NDArray[np.bool_]
Value = dict[str, Any]

_ID_BYTES = 12


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How regions are drawn.

    Parameters
    ----------
    tolerance, min_area
        As :func:`~sam_plugins.labelstudio_backend.outline.polygons_of` takes them.
    rotation : int
        Degrees by which the picture is turned in the editor. Places are told on the picture as it
        is, whatever this says.
    page : int or None
        Which of several pages.
    """

    tolerance: float = 1.0
    min_area: int = 16
    rotation: int = 0
    page: int | None = None


def new_id() -> str:
    """Return a name for a region: 96 bits of chance, so that no two regions ever share one.

    A region that comes with the id of an existing one replaces it in the editor.
    """
    return secrets.token_urlsafe(_ID_BYTES)


def region_items(
    mask: BoolArray,
    target: Target,
    *,
    score: float,
    region_id: str | None = None,
    drawing: Drawing | None = None,
) -> list[dict[str, Any]]:
    """Return the items of a region: one, a pair of shape and label, or one for each part.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool
        At the size of the picture; nothing is returned for an empty one.
    target : Target
        The control and the label.
    score : float
        0 to 1.
    region_id : str, optional
        Of a region that is to be replaced.
    drawing : Drawing, optional

    Returns
    -------
    list of dict
    """
    if not mask.any():
        return []
    drawing = drawing or Drawing()
    values = _VALUES[target.shape.kind](mask, drawing)
    first = region_id or new_id()
    items: list[dict[str, Any]] = []
    for number, value in enumerate(values):
        common: dict[str, Any] = {
            "id": first if number == 0 else new_id(),
            "to_name": target.to_name,
            "original_width": mask.shape[1],
            "original_height": mask.shape[0],
            "image_rotation": drawing.rotation,
            "score": finite_score(score),
        }
        if drawing.page is not None:
            common["item_index"] = drawing.page
        if number:
            common["parentID"] = first
        items += _labelled(common, value, target)
    return items


def finite_score(score: float) -> float:
    """Return a score that Label Studio takes: a plain finite number from 0 to 1.

    Examples
    --------
    >>> finite_score(float("nan")), finite_score(1.2)
    (0.0, 1.0)
    """
    return round(min(1.0, max(0.0, float(score))), 4) if math.isfinite(score) else 0.0


def _labelled(common: dict[str, Any], value: Value, target: Target) -> list[dict[str, Any]]:
    """Return a shape with its label, in one item or in two."""
    shape = target.shape
    labels = [target.label] if target.label else []
    if shape.has_labels:
        kind = f"{shape.kind}labels"
        return [{**common, "type": kind, "from_name": shape.name, "value": {**value, kind: labels}}]
    items = [{**common, "type": shape.kind, "from_name": shape.name, "value": value}]
    if target.label_control is not None and labels:
        name = target.label_control.name
        labelled = {**value, "labels": labels}
        items.append({**common, "type": "labels", "from_name": name, "value": labelled})
    return items


def _brush(mask: BoolArray, _: Drawing) -> list[Value]:
    """Return a mask in Label Studio's run-length encoding."""
    return [{"format": "rle", "rle": encode_brush(mask)}]


def _bitmask(mask: BoolArray, _: Drawing) -> list[Value]:
    """Return a mask as a PNG of one bit a pixel, transparent outside."""
    picture = Image.fromarray(mask.astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, 255, 255, 255])
    file = io.BytesIO()
    picture.save(file, "PNG", bits=1, transparency=b"\x00\xff", compress_level=6)
    encoded = base64.b64encode(file.getvalue()).decode()
    return [{"imageDataURL": f"data:image/png;base64,{encoded}"}]


def _polygon(mask: BoolArray, drawing: Drawing) -> list[Value]:
    """Return the outline of each part."""
    found = polygons_of(mask, tolerance=drawing.tolerance, min_area=drawing.min_area)
    scale = 100 / np.array(mask.shape[::-1], np.float64)
    return [{"points": (points * scale).round(4).tolist(), "closed": True} for points in found]


def _rectangle(mask: BoolArray, _: Drawing) -> list[Value]:
    """Return the upright box around a mask."""
    height, width = mask.shape
    x0, y0, x1, y1 = box_of(mask)
    x, y, w, h = x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height
    return [{"x": 100 * x, "y": 100 * y, "width": 100 * w, "height": 100 * h, "rotation": 0}]


def _ellipse(mask: BoolArray, _: Drawing) -> list[Value]:
    """Return the ellipse with a mask's moments."""
    height, width = mask.shape
    found = ellipse_of(mask)
    return [
        {
            "x": 100 * found.centre_xy[0] / width,
            "y": 100 * found.centre_xy[1] / height,
            "radiusX": 100 * found.radii_xy[0] / width,
            "radiusY": 100 * found.radii_xy[1] / height,
            "rotation": found.degrees,
        }
    ]


_VALUES: dict[str, Callable[[BoolArray, Drawing], list[Value]]] = {
    "brush": _brush,
    "bitmask": _bitmask,
    "polygon": _polygon,
    "rectangle": _rectangle,
    "ellipse": _ellipse,
}
