"""Segment_anything's mask generator: a grid of points, every good and different mask."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam_plugins.model.inference.checks import count
from sam_plugins.model.inference.compat.box_suppression import suppress_boxes
from sam_plugins.model.inference.compat.crops import (
    Box,
    crop_boxes,
    is_cut_off,
    layer_grids,
)
from sam_plugins.model.inference.compat.measure import measure_masks
from sam_plugins.model.inference.compat.model import SamModel
from sam_plugins.model.inference.compat.predictor import SamPredictor, check_image
from sam_plugins.model.inference.compat.refusals import Refusals
from sam_plugins.model.inference.compat.regions import remove_small_regions
from sam_plugins.model.inference.coordinates import SizeHW, points_to_input
from sam_plugins.model.inference.full_size import CutLogits, SizeChain, WindowMask
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import usual_chunk_size
from sam_plugins.model.inference.suppression import mask_boxes
from sam_plugins.model.io.rle import encode_mask

_OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")


@dataclass(frozen=True, eq=False)
class _Found:
    """n masks of one or several crops, drawn only when they are wanted.

    ``boxes_xyxy`` (n, 4) and ``points_xy`` (n, 2) are in pixels of the picture.
    """

    cuts: list[CutLogits]
    chains: list[SizeChain]
    crops: npt.NDArray[np.int64]
    boxes_xyxy: npt.NDArray[np.int64]
    points_xy: npt.NDArray[np.float64]
    predicted_ious: npt.NDArray[np.float32]
    stability: npt.NDArray[np.float32]

    @classmethod
    def concatenate(cls, parts: Sequence[_Found]) -> _Found:
        """Return the masks of all parts as one."""
        return cls(
            [cut for part in parts for cut in part.cuts],
            [chain for part in parts for chain in part.chains],
            np.concatenate([np.zeros((0, 4), np.int64), *(part.crops for part in parts)]),
            np.concatenate([np.zeros((0, 4), np.int64), *(part.boxes_xyxy for part in parts)]),
            np.concatenate([np.zeros((0, 2)), *(part.points_xy for part in parts)]),
            np.concatenate([np.zeros(0, np.float32), *(part.predicted_ious for part in parts)]),
            np.concatenate([np.zeros(0, np.float32), *(part.stability for part in parts)]),
        )

    def __getitem__(self, which: npt.NDArray[np.int64]) -> _Found:
        """Return some of the masks."""
        return _Found(
            [self.cuts[index] for index in which],
            [self.chains[index] for index in which],
            self.crops[which],
            self.boxes_xyxy[which],
            self.points_xy[which],
            self.predicted_ious[which],
            self.stability[which],
        )

    def draw(self, index: int, threshold: float) -> WindowMask:
        """Return one mask within a window of the picture."""
        (rows, columns), mask = self.chains[index].draw_cut(self.cuts[index], threshold)
        left, top = (int(value) for value in self.crops[index, :2])
        window = (
            slice(rows.start + top, rows.stop + top),
            slice(columns.start + left, columns.stop + left),
        )
        return WindowMask(window, mask)


class SamAutomaticMaskGenerator:
    """Find every object of a picture with a promptable model.

    The defaults are segment_anything's, which suit SAM. Masks of the shipped model are less stable,
    because their edges are softer, and promise less: ``stability_score_thresh=0.8`` suits it on
    pictures that it sees well, and ``pred_iou_thresh=0.4, stability_score_thresh=0.5``, with which
    :func:`~sam_plugins.segment` asks it at the points of a grid, on others.

    Parameters
    ----------
    model : SamModel or Model
        From :data:`~sam_plugins.sam_model_registry`, or from :func:`~sam_plugins.load_model`.
    points_per_side : int or None
        Points of the grid along each side of the picture; None when ``point_grids`` is given.
    points_per_batch : int
        At most so many points are decoded at once; on a CPU it is fewer, which is faster there.
    pred_iou_thresh : float
        Masks must have a higher predicted IoU; 0 keeps all.
    stability_score_thresh : float
        Least stability: the IoU of the mask at a higher and at a lower threshold; 0 keeps all.
    stability_score_offset : float
        How far those thresholds lie from the usual one, in logits.
    box_nms_thresh : float
        A mask is a duplicate when its box has a larger IoU with that of a better one.
    crop_n_layers : int
        Layers of crops that are segmented as well; layer ``i`` has ``4 ** i`` of them.
    crop_nms_thresh : float
        As ``box_nms_thresh``, between crops; masks of smaller crops are preferred.
    crop_overlap_ratio : float
        By what part of the picture's shorter side the crops of the first layer overlap.
    crop_n_points_downscale_factor : int
        Points along a side become so many times fewer with each layer.
    point_grids : list of ndarray of shape (n, 2), optional
        Points of each layer, x before y, in the unit square, in place of regular grids.
    min_mask_region_area : int
        Smaller holes are filled and smaller islands dropped; in pixels.
    output_mode : {"binary_mask", "uncompressed_rle", "coco_rle"}
        What ``"segmentation"`` holds.

    Raises
    ------
    ValueError
        If not exactly one of ``points_per_side`` and ``point_grids`` is given, or a value is out
        of its range.
    TypeError
        If the model is another library's.
    """

    def __init__(
        self,
        model: SamModel | Model,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[npt.NDArray[Any]] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
    ) -> None:
        if (points_per_side is None) == (point_grids is None):
            raise ValueError(
                "exactly one of points_per_side and point_grids must be given, got "
                f"{'neither' if point_grids is None else 'both; set points_per_side=None'}"
            )
        if output_mode not in _OUTPUT_MODES:
            raise ValueError(
                f"output_mode must be one of {', '.join(_OUTPUT_MODES)}, got {output_mode!r}"
            )
        if crop_n_layers < 0:
            raise ValueError(f"crop_n_layers must be 0 or more, got {crop_n_layers}")
        if not crop_n_points_downscale_factor > 0:
            raise ValueError(
                "crop_n_points_downscale_factor must be more than 0, such as 1 for equally many "
                f"points in every layer, got {crop_n_points_downscale_factor}"
            )
        if points_per_side is not None:
            point_grids = layer_grids(
                points_per_side, crop_n_layers, crop_n_points_downscale_factor
            )
        assert point_grids is not None
        _check_grids(point_grids, crop_n_layers)
        self.predictor = SamPredictor(model)
        self.point_grids = point_grids
        self.points_per_batch = count("points_per_batch", points_per_batch)
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = crop_n_points_downscale_factor
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode

    @torch.no_grad()
    def generate(self, image: npt.NDArray[np.uint8]) -> list[dict[str, Any]]:
        """Segment a picture.

        Parameters
        ----------
        image : ndarray of shape (H, W, 3), uint8

        Returns
        -------
        list of dict
            For each mask: ``"segmentation"``, an array (H, W) of bool or an RLE, as
            ``output_mode`` says; ``"area"`` in pixels; ``"bbox"``, x, y, width, height;
            ``"predicted_iou"``; ``"point_coords"``, the point that it was found from, ``[[x, y]]``;
            ``"stability_score"``; ``"crop_box"``, as ``"bbox"``, the crop it was found in.

        Raises
        ------
        ValueError
            If the shape is no picture's.
        TypeError
            If the values are not uint8.

        Warns
        -----
        UserWarning
            If a threshold refuses every mask; names it and what to set.
        """
        picture = check_image(image)
        size_hw = (picture.shape[0], picture.shape[1])
        crops = crop_boxes(size_hw, self.crop_n_layers, self.crop_overlap_ratio)
        refusals = Refusals()
        found = _Found.concatenate(
            [self._find(picture, layer, crop, refusals) for layer, crop in crops]
        )
        # Two more levels: ours, and that of PyTorch's decorator.
        refusals.warn(self.pred_iou_thresh, self.stability_score_thresh, stacklevel=3)
        if len(crops) > 1:
            sides = (found.crops[:, 2:] - found.crops[:, :2]).astype(np.float32)
            smaller_first = 1 / sides.prod(axis=1)
            found = found[suppress_boxes(found.boxes_xyxy, smaller_first, self.crop_nms_thresh)]
        return [
            self._record(found, index, drawn, size_hw)
            for index, drawn in self._draw_all(found, size_hw)
        ]

    def _find(
        self, picture: npt.NDArray[np.uint8], layer: int, crop: Box, refusals: Refusals
    ) -> _Found:
        """Return the different good masks of one crop."""
        left, top, right, bottom = crop
        cropped = picture[top:bottom, left:right]
        self.predictor.set_image(cropped)
        points_xy = np.asarray(self.point_grids[layer]) * np.array([right - left, bottom - top])
        size = min(self.points_per_batch, usual_chunk_size(self.predictor.device))
        found = _Found.concatenate(
            [
                self._find_batch(points_xy[start : start + size], crop, picture.shape[:2], refusals)
                for start in range(0, len(points_xy), size)
            ]
        )
        self.predictor.reset_image()
        found = found[suppress_boxes(found.boxes_xyxy, found.predicted_ious, self.box_nms_thresh)]
        offset_xy = np.array([left, top])
        return replace(
            found,
            boxes_xyxy=found.boxes_xyxy + np.tile(offset_xy, 2),
            points_xy=found.points_xy + offset_xy,
        )

    def _find_batch(
        self,
        points_xy: npt.NDArray[np.float64],
        crop: Box,
        size_hw: tuple[int, ...],
        refusals: Refusals,
    ) -> _Found:
        """Return the good masks of some points, in pixels of the crop."""
        threshold = self.predictor.model.mask_threshold
        low_res, predicted, sizes = self._decode(points_xy)
        predicted_ious = predicted.flatten()
        if self.pred_iou_thresh > 0:
            good = (predicted_ious > self.pred_iou_thresh).nonzero()[:, 0]
        else:
            good = torch.arange(len(predicted_ious), device=predicted.device)
        logits = low_res.flatten(0, 1)[good]
        measured = measure_masks(
            logits,
            sizes,
            threshold=threshold,
            offset=self.stability_score_offset,
            min_stability=self.stability_score_thresh,
        )
        is_stable: npt.NDArray[np.bool_] = np.ones(len(logits), bool)
        if self.stability_score_thresh > 0:
            is_stable = measured.stability >= self.stability_score_thresh
        all_ious = predicted_ious.float().cpu().numpy()
        refusals.add(all_ious, measured.stability, is_stable)
        stays = is_stable & ~is_cut_off(measured.boxes_xyxy, crop, (size_hw[0], size_hw[1]))
        which = np.flatnonzero(stays)
        chosen = logits[torch.from_numpy(which).to(logits.device)].float().cpu().numpy()
        kept = good.cpu().numpy()[which]
        return _Found(
            cuts=[sizes.cut(one, threshold) for one in chosen],
            chains=[sizes] * len(which),
            crops=np.tile(np.array(crop, np.int64), (len(which), 1)),
            boxes_xyxy=measured.boxes_xyxy[which],
            points_xy=points_xy[kept // predicted.shape[1]],
            predicted_ious=all_ious[kept],
            stability=measured.stability[which],
        )

    def _decode(self, points_xy: npt.NDArray[np.float64]) -> tuple[Tensor, Tensor, SizeChain]:
        """Return low-resolution logits (n, C, h, w), predicted IoU (n, C) and the sizes."""
        predictor = self.predictor
        features, original_size, input_size = predictor.encoded()
        points = torch.from_numpy(points_to_input(points_xy, original_size, input_size))[:, None]
        labels = torch.ones(points.shape[:2], dtype=torch.int32)
        output = predictor.model.answer(
            features,
            (points, labels),
            None,
            None,
            multimask=True,
            min_predicted_iou=self.pred_iou_thresh if self.pred_iou_thresh > 0 else -math.inf,
        )
        sizes = predictor.model.sizes(output.logits, input_size, original_size)
        return output.logits, output.iou_predictions, sizes

    def _draw_all(self, found: _Found, size_hw: SizeHW) -> Iterator[tuple[int, WindowMask]]:
        """Draw every mask, small regions removed, and drop those that became duplicates."""
        threshold = self.predictor.model.mask_threshold
        if self.min_mask_region_area <= 0:
            yield from ((index, found.draw(index, threshold)) for index in range(len(found.cuts)))
            return
        cleaned = [
            remove_small_regions(found.draw(index, threshold), size_hw, self.min_mask_region_area)
            for index in range(len(found.cuts))
        ]
        for index, (drawn, changed) in enumerate(cleaned):
            if changed:
                found.boxes_xyxy[index] = _box_of(drawn)
        # Masks that needed no change are preferred.
        scores = np.array([float(not mask.changed) for mask in cleaned])
        max_iou = max(self.box_nms_thresh, self.crop_nms_thresh)
        for index in suppress_boxes(found.boxes_xyxy, scores, max_iou):
            yield int(index), cleaned[index].drawn

    def _record(
        self, found: _Found, index: int, drawn: WindowMask, size_hw: SizeHW
    ) -> dict[str, Any]:
        """Return what segment_anything says of a mask."""
        (rows, columns), mask = drawn
        segmentation: npt.NDArray[np.bool_] | dict[str, Any]
        if self.output_mode == "binary_mask":
            segmentation = np.zeros(size_hw, bool)
            segmentation[rows, columns] = mask
        else:
            segmentation = encode_mask(
                mask,
                compressed=self.output_mode == "coco_rle",
                offset_yx=(rows.start, columns.start),
                size_hw=size_hw,
            )
        return {
            "segmentation": segmentation,
            "area": int(np.count_nonzero(mask)),
            "bbox": _xywh(found.boxes_xyxy[index]),
            "predicted_iou": float(found.predicted_ious[index]),
            "point_coords": [found.points_xy[index].tolist()],
            "stability_score": float(found.stability[index]),
            "crop_box": _xywh(found.crops[index]),
        }


def _check_grids(grids: Sequence[npt.NDArray[Any]], n_layers: int) -> None:
    """Refuse grids that are none, or too few of them."""
    if len(grids) < n_layers + 1:
        raise ValueError(
            f"point_grids must have one grid for the picture and one for each of {n_layers} crop "
            f"layers, got {len(grids)}"
        )
    for grid in grids:
        if np.ndim(grid) != 2 or np.shape(grid)[1] != 2:
            raise ValueError(f"point_grids must hold arrays of shape (n, 2), got {np.shape(grid)}")
        if not np.isfinite(grid).all():
            raise ValueError("point_grids must be finite, got NaN or infinity")


def _box_of(drawn: WindowMask) -> npt.NDArray[np.int64]:
    """Return the box of a mask in pixels of the picture, zeros for none."""
    (rows, columns), mask = drawn
    if not mask.any():
        return np.zeros(4, np.int64)
    offset = np.array([columns.start, rows.start, columns.start, rows.start])
    box: npt.NDArray[np.int64] = mask_boxes(mask[None])[0] + offset
    return box


def _xywh(box_xyxy: npt.NDArray[np.int64]) -> list[int]:
    """Return x, y, width and height as segment_anything counts them: last minus first pixel."""
    left, top, right, bottom = (int(value) for value in box_xyxy)
    return [left, top, right - left, bottom - top]
