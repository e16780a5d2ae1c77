"""A loaded model behind the protocols of the evaluation: what people get is what is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_plugins.model.evaluation.click_curve import Dialogue
from sam_plugins.model.evaluation.single_point import LowResMasks
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import decode_prompts, encode_image
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.inference.segment_options import Mode, SegmentOptions
from sam_plugins.model.inference.types import ImageEmbedding, Prompts
from sam_plugins.model.large.whole import segment_rgb


@dataclass(frozen=True)
class LoadedModel:
    """Ask a loaded model as the evaluation does.

    It is a :class:`~sam_plugins.model.evaluation.single_point.PromptableModel`.

    Parameters
    ----------
    model : Model
        From :func:`~sam_plugins.load_model`.
    steady : bool
        Whether corrections change little beside what they ask for, see
        :func:`~sam_plugins.predict_masks`.
    """

    model: Model
    steady: bool = True

    def encode(self, image: NDArray[Any]) -> ImageEmbedding:
        """Return the embedding of a picture as it comes from a file."""
        return encode_image(self.model, image)

    def predict_points(
        self, embedding: ImageEmbedding, points_xy: NDArray[np.float32]
    ) -> LowResMasks:
        """Return three masks for each of N points of shape (N, 2)."""
        return self._answer(embedding, Prompts.single_points(points_xy), multimask=True)

    def predict_boxes(
        self, embedding: ImageEmbedding, boxes_xyxy: NDArray[np.float32]
    ) -> LowResMasks:
        """Return one mask for each of N boxes of shape (N, 4).

        The tight box of an object one pixel wide or high has no area, which prompts must have: such
        a box is widened to the edges of its pixels.
        """
        boxes = with_area(boxes_xyxy, embedding.original_size_hw)
        return self._answer(embedding, Prompts(boxes_xyxy=boxes), multimask=False)

    def answer(self, embedding: ImageEmbedding, dialogue: Dialogue) -> LowResMasks:
        """Return the mask that a user would see after some clicks on one object."""
        clicks, box, logits = dialogue.clicks, None, None
        if dialogue.box_xyxy is not None:
            corners = np.array([dialogue.box_xyxy], np.float32)
            box = with_area(corners, embedding.original_size_hw)[0]
        if dialogue.logits is not None:
            logits = dialogue.logits[0, 0].float().cpu().numpy()
        prompts = Prompts.for_object(
            [(click.x, click.y) for click in clicks] or None,
            [int(click.is_positive) for click in clicks] or None,
            box,
            logits,
        )
        (output,) = decode_prompts(self.model, embedding, prompts, steady=self.steady)
        best = int(output.iou_predictions[0].argmax())
        which = slice(best, best + 1)
        return LowResMasks(output.logits[:, which], output.iou_predictions[:, which])

    def _answer(
        self, embedding: ImageEmbedding, prompts: Prompts, *, multimask: bool
    ) -> LowResMasks:
        """Decode some at a time and join the answers."""
        answers = list(decode_prompts(self.model, embedding, prompts, multimask=multimask))
        return LowResMasks(
            torch.cat([answer.logits for answer in answers]),
            torch.cat([answer.iou_predictions for answer in answers]),
        )


def with_area(boxes_xyxy: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return boxes with those that have no width or no height widened by half a pixel each way.

    Parameters
    ----------
    boxes_xyxy : ndarray of shape (N, 4), float32
        Left, top, right, bottom, within the picture; integers are pixel centres.
    size_hw : (int, int)
        Height and width of the picture, whose edges no widened box crosses.

    Returns
    -------
    ndarray of shape (N, 4), float32
        The boxes themselves where all have area.

    Examples
    --------
    >>> with_area(np.array([[50, 30, 50, 39], [1, 2, 3, 4]], np.float32), (40, 60)).tolist()
    [[49.5, 30.0, 50.5, 39.0], [1.0, 2.0, 3.0, 4.0]]
    """
    corners = boxes_xyxy.reshape(-1, 2, 2)
    is_flat = corners[:, 0] == corners[:, 1]  # (N, 2): in x, in y
    if not is_flat.any():
        return boxes_xyxy
    last_xy = np.array([size_hw[1], size_hw[0]], np.float32) - 0.5
    widened = np.clip(corners + np.array([[-0.5], [0.5]], np.float32), -0.5, last_xy)
    chosen: NDArray[np.float32] = np.where(is_flat[:, None], widened, corners).astype(np.float32)
    return chosen.reshape(-1, 4)


@dataclass(frozen=True)
class AutomaticSegmenter:
    """Segment whole pictures with a loaded model.

    It is a :data:`~sam_plugins.model.evaluation.automatic.Segmenter`.

    Parameters
    ----------
    model : Model
    mode : {"auto", "grid"}
    options : SegmentOptions, optional
        Those of the mode by default.
    """

    model: Model
    mode: Mode = "auto"
    options: SegmentOptions | None = None

    def __call__(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the label image of a picture as it comes from a file."""
        rgb = to_rgb(image)
        # Large pictures are measured as people get them.
        found = segment_rgb(self.model, rgb, mode=self.mode, options=self.options, stacklevel=None)
        return found.labels
