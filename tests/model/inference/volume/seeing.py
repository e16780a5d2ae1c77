"""A network that really sees: what is bright, within the box or under the click that asks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from scipy import ndimage
from tests.model.inference.tiny_models import TINY_PYRAMID
from torch import Tensor, nn

from sam_plugins.model.inference.loading import Model
from sam_plugins.model.networks.config import Preprocessing
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.networks.mask_decoder import MaskOutput


class _Prepared(NamedTuple):
    features: ImageFeatures


class SeeingNetwork(nn.Module):
    """Sam's interface; counts what it is asked.

    Pictures are enlarged four times, so that low-resolution masks have the picture's pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.config = replace(
            TINY_PYRAMID,
            preprocessing=Preprocessing(
                min_long_side=4096, max_long_side=4096, max_enlargement=4.0, pad_to=16
            ),
        )
        self.anything = nn.Parameter(torch.zeros(1))
        self.instance_decoder = None
        self.encodes = 0
        self.decodes = 0
        self.masks_given = 0

    def encode(self, pixels: Tensor) -> ImageFeatures:
        self.encodes += 1
        brightness = nn.functional.avg_pool2d(pixels.mean(dim=1, keepdim=True), 4)
        return ImageFeatures(nn.functional.avg_pool2d(brightness, 4), (brightness,))

    def prepare(self, features: ImageFeatures) -> _Prepared:
        return _Prepared(features)

    def decode(
        self,
        image: _Prepared,
        *,
        points_xy: Tensor | None,
        boxes_xyxy: Tensor | None,
        mask_logits: Tensor | None,
        which: slice,
        **_: Any,
    ) -> MaskOutput:
        self.masks_given += 0 if mask_logits is None else len(mask_logits)
        bright = image.features.skips[0][0, 0].numpy() > 0
        prompts = points_xy if boxes_xyxy is None else boxes_xyxy
        assert prompts is not None
        self.decodes += len(prompts)
        masks = [
            _blob(bright, points_xy[i, 0])
            if boxes_xyxy is None and points_xy is not None
            else _boxed(bright, cast("Tensor", boxes_xyxy)[i])
            for i in range(len(prompts))
        ]
        logits = torch.from_numpy(np.where(np.stack(masks), 8.0, -8.0).astype(np.float32))
        expected = torch.full((len(prompts), 4), 0.95)
        return MaskOutput(logits[:, None].expand(-1, 4, -1, -1)[:, which], expected[:, which])


def _blob(bright: np.ndarray[Any, Any], point_xy: Tensor) -> np.ndarray[Any, Any]:
    pieces, _ = ndimage.label(bright)
    x, y = (int(v) // 4 for v in point_xy)
    return np.asarray((pieces == pieces[y, x]) & bright)


def _boxed(bright: np.ndarray[Any, Any], box_xyxy: Tensor) -> np.ndarray[Any, Any]:
    left, top, right, bottom = (float(v) / 4 for v in box_xyxy)
    margin = 1.5 + 0.1 * max(right - left, bottom - top)
    rows, columns = np.indices(bright.shape)
    inside = (columns >= left - margin) & (columns <= right + margin)
    inside &= (rows >= top - margin) & (rows <= bottom + margin)
    return np.asarray(bright & inside)


def seeing_model() -> Model:
    return Model(cast("Any", SeeingNetwork().eval()), "seeing-000000000000")


def network_of(model: Model) -> SeeingNetwork:
    return cast("SeeingNetwork", cast("Any", model.network))
