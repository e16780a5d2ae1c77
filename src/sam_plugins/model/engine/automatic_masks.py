"""The fully automatic stage: every object that a model is sure of, without a person.

With a grid of points it is the paper's way (Kirillov et al. 2023, appendix B): 32 x 32 points on
the picture, fewer on overlapping crops of it, masks whose predicted IoU is 0.88 and whose stability
at plus and minus delta is 0.95, no mask that covers nearly everything, small regions cleaned,
duplicates suppressed at 0.7. Here masks are compared with masks and not boxes with boxes, so that
slanted neighbours do not suppress each other. A model with an instance decoder is asked where that
sees objects, which takes a hundredth of the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sam_plugins.model.engine.proposals import MIN_SCORE, propose
from sam_plugins.model.inference.automatic import require_instance_decoder
from sam_plugins.model.inference.checks import count
from sam_plugins.model.inference.compat.mask_generator import SamAutomaticMaskGenerator
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.suppression import PackedMasks, suppress
from sam_plugins.model.io.rle import decode_mask, encode_mask
from sam_plugins.model.large.sizing import Encode

AutomaticMode = Literal["decoder", "grid"]
AUTOMATIC_MODES: tuple[AutomaticMode, ...] = ("decoder", "grid")

_COMPARED_SIDE = 1024
_PACKED_AT_ONCE = 64


@dataclass(frozen=True)
class AutomaticOptions:
    """How pictures are segmented without a person.

    Parameters
    ----------
    mode : {"decoder", "grid"}
        Where points come from.
    min_score : float
        Of mode "decoder", see :func:`~sam_plugins.model.engine.proposals.propose`.
    points_per_side, crop_layers, crop_points_factor : int
        Of mode "grid": points along a side, layers of 4, 16, ... crops, and by what the points
        along a side of a crop become fewer with each.
    min_predicted_iou, min_stability, stability_offset : float
        Of mode "grid": the least of both, and delta in logits.
    max_iou : float
        A mask is a duplicate when its IoU with a better one is larger.
    min_region : int
        Smaller holes are filled, smaller islands dropped; in pixels.
    max_area_share : float
        Masks that cover a larger share of the picture are no objects.
    """

    mode: AutomaticMode = "decoder"
    min_score: float = MIN_SCORE
    points_per_side: int = 32
    crop_layers: int = 2
    crop_points_factor: int = 2
    min_predicted_iou: float = 0.88
    min_stability: float = 0.95
    stability_offset: float = 1.0
    max_iou: float = 0.7
    min_region: int = 100
    max_area_share: float = 0.95

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.mode not in AUTOMATIC_MODES:
            raise ValueError(f"mode must be one of {', '.join(AUTOMATIC_MODES)}, got {self.mode!r}")
        for name in ("points_per_side", "crop_points_factor"):
            count(name, getattr(self, name))
        for name in ("min_score", "min_predicted_iou", "min_stability", "max_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not 0 < self.max_area_share <= 1:
            raise ValueError(f"max_area_share must lie in (0, 1], got {self.max_area_share}")
        for name in ("crop_layers", "min_region", "stability_offset"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class AutomaticMask:
    """An object that was found without a person.

    Attributes
    ----------
    rle : dict
        COCO RLE of its mask.
    score : float
        0 to 1.
    point_xy : (float, float)
        The point that it was found from.
    stability : float or None
        Of mode "grid".
    """

    rle: dict[str, Any]
    score: float
    point_xy: tuple[float, float]
    stability: float | None = None


def require_mode(model: Model, options: AutomaticOptions) -> None:
    """Refuse a model that cannot say by itself where objects are, where that is asked for.

    Raises
    ------
    UnsuitableModelError
        With the remedy.
    """
    if options.mode == "decoder":
        require_instance_decoder(model)


def masks_of_decoder(
    model: Model,
    rgb: npt.NDArray[np.uint8],
    options: AutomaticOptions,
    encode: Encode | None = None,
) -> list[AutomaticMask]:
    """Return the objects of a picture from the points of the instance decoder, best first.

    ``rgb`` and ``encode`` are as for :func:`~sam_plugins.model.engine.proposals.propose`.
    """
    size_hw = (int(rgb.shape[0]), int(rgb.shape[1]))
    found = []
    for one in propose(model, rgb, min_score=options.min_score, encode=encode):
        (rows, columns), mask = one.window_mask
        if np.count_nonzero(mask) <= options.max_area_share * size_hw[0] * size_hw[1]:
            rle = encode_mask(mask, offset_yx=(rows.start, columns.start), size_hw=size_hw)
            found.append(AutomaticMask(rle, one.score, one.point_xy))
    return found


def masks_of_grid(
    model: Model, rgb: npt.NDArray[np.uint8], options: AutomaticOptions
) -> list[AutomaticMask]:
    """Return the objects of a picture from points of a grid, in the picture and in crops of it.

    Masks of smaller crops are preferred, as in the paper; within a crop, better ones.

    Parameters
    ----------
    model : Model
    rgb : ndarray of shape (H, W, 3), uint8
        What the model sees.
    options : AutomaticOptions
    """
    generator = SamAutomaticMaskGenerator(
        model,
        points_per_side=options.points_per_side,
        pred_iou_thresh=options.min_predicted_iou,
        stability_score_thresh=options.min_stability,
        stability_score_offset=options.stability_offset,
        box_nms_thresh=1.0,  # masks decide, below
        crop_n_layers=options.crop_layers,
        crop_nms_thresh=1.0,
        crop_n_points_downscale_factor=options.crop_points_factor,
        min_mask_region_area=options.min_region,
        output_mode="coco_rle",
    )
    limit = options.max_area_share * rgb.shape[0] * rgb.shape[1]
    records = [one for one in generator.generate(rgb) if 0 < one["area"] <= limit]
    if not records:
        return []
    packed = _packed([one["segmentation"] for one in records], max(rgb.shape[:2]))
    predicted = np.array([one["predicted_iou"] for one in records])
    # A crop's side is at least half as long as that of the crop around it.
    sizes = np.array([one["crop_box"][2] * one["crop_box"][3] for one in records], np.float64)
    kept = suppress(packed, predicted - np.log2(sizes), max_iou=options.max_iou)
    order = kept[np.argsort(-predicted[kept], kind="stable")]
    return [
        AutomaticMask(
            rle=records[index]["segmentation"],
            score=float(np.clip(predicted[index], 0, 1)),
            point_xy=(
                float(records[index]["point_coords"][0][0]),
                float(records[index]["point_coords"][0][1]),
            ),
            stability=records[index]["stability_score"],
        )
        for index in order
    ]


def _packed(rles: list[dict[str, Any]], long_side: int) -> PackedMasks:
    """Return masks for comparison, thinned out where the picture is large."""
    step = -(-long_side // _COMPARED_SIDE)
    parts = []
    for start in range(0, len(rles), _PACKED_AT_ONCE):
        some = [decode_mask(rle) for rle in rles[start : start + _PACKED_AT_ONCE]]
        parts.append(PackedMasks.pack(np.stack([mask[::step, ::step] for mask in some])))
    return PackedMasks.concatenate(parts)
