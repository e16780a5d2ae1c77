"""The values between the steps: prompts, embedding, masks, segmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam_plugins.model.inference.coordinates import CELL, SizeHW
from sam_plugins.model.inference.full_size import SizeChain, WindowMask
from sam_plugins.model.inference.memory import memory_limits, require_memory
from sam_plugins.model.inference.prompts import Prompts
from sam_plugins.model.networks.features import ImageFeatures

__all__ = ["ImageEmbedding", "MaskPrediction", "Prompts", "Segmentation"]


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """An encoded picture: all that a model needs to answer prompts about it.

    Parameters
    ----------
    features : Tensor of shape (1, D, h, w)
        The image embedding.
    skips : tuple of Tensor
        Finer maps for models that have them, coarse to fine.
    original_size_hw, input_size_hw, padded_size_hw : (int, int)
        Height and width of the picture, of the network's input, and of the input with its padding.
    model_id : str
        Of the model that made it; no other can read it.
    is_blank : bool
        Whether all pixels of the picture were the same, so that nothing can be found in it.

    Examples
    --------
    >>> ImageEmbedding(torch.zeros(1, 256, 4, 6), (), (40, 60), (64, 96), (64, 96), "tiny-0f")
    ImageEmbedding(model_id='tiny-0f', original_size_hw=(40, 60),
    features=(1, 256, 4, 6) float32 on cpu)
    """

    features: Tensor
    skips: tuple[Tensor, ...]
    original_size_hw: SizeHW
    input_size_hw: SizeHW
    padded_size_hw: SizeHW
    model_id: str
    is_blank: bool = False

    def __repr__(self) -> str:
        """Return which picture and model it is of, and not the numbers."""
        finer = f", skips={len(self.skips)}" if self.skips else ""
        return (
            f"ImageEmbedding(model_id={self.model_id!r}, original_size_hw={self.original_size_hw}, "
            f"features={tuple(self.features.shape)} {str(self.features.dtype).rpartition('.')[2]} "
            f"on {self.features.device}{finer})"
        )

    @property
    def image_features(self) -> ImageFeatures:
        """The tensors as the networks take them."""
        return ImageFeatures(self.features, self.skips)

    def with_features(self, features: ImageFeatures) -> ImageEmbedding:
        """Return an embedding of the same picture with other tensors."""
        return replace(self, features=features.embedding, skips=features.skips)

    @property
    def low_res_hw(self) -> SizeHW:
        """Height and width of the low-resolution masks: a quarter of the padded input."""
        return 4 * int(self.features.shape[-2]), 4 * int(self.features.shape[-1])

    @property
    def valid_cells_hw(self) -> SizeHW:
        """Rows and columns of the low-resolution masks that are not padding."""
        height, width = self.input_size_hw
        return math.ceil(height / CELL), math.ceil(width / CELL)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.image_features.named_tensors().values())

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> ImageEmbedding:
        """Return the embedding on another device, or as another floating type.

        Parameters
        ----------
        device : device, optional
        dtype : torch.dtype, optional
            Half precision halves the size; models convert it back.
        """
        return self.with_features(
            self.image_features.map(lambda tensor: tensor.to(device=device, dtype=dtype))
        )


@dataclass(frozen=True, eq=False)
class MaskPrediction:
    """C masks for each of N objects, and how good the model thinks they are.

    Masks at the picture's size are drawn when they are asked for.

    Parameters
    ----------
    low_res_logits : ndarray of shape (N, C, h, w), float32
        Positive inside; ``low_res_logits[:, c : c + 1]`` can be fed back as
        ``Prompts(mask_logits=...)``.
    iou_predictions : ndarray of shape (N, C), float32
        The IoU that the model expects of each mask, about 0 to 1.
    original_size_hw, input_size_hw, padded_size_hw : (int, int)
        As those of the embedding.
    mask_threshold : float
        Logits above are inside.

    Examples
    --------
    >>> logits, ious = np.zeros((2, 3, 16, 16), np.float32), np.zeros((2, 3), np.float32)
    >>> MaskPrediction(logits, ious, (40, 60), (64, 64), (64, 64))
    MaskPrediction(2 objects, 3 masks each, original_size_hw=(40, 60), low_res=(16, 16))
    """

    low_res_logits: npt.NDArray[np.float32]
    iou_predictions: npt.NDArray[np.float32]
    original_size_hw: SizeHW
    input_size_hw: SizeHW
    padded_size_hw: SizeHW
    mask_threshold: float = 0.0

    def __repr__(self) -> str:
        """Return how many masks of what size, and not the numbers."""
        objects, masks, *low_res = self.low_res_logits.shape
        return (
            f"MaskPrediction({_counted(objects, 'object')}, {_counted(masks, 'mask')} each, "
            f"original_size_hw={self.original_size_hw}, low_res={tuple(low_res)})"
        )

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.low_res_logits)

    @property
    def sizes(self) -> SizeChain:
        """The way from the low-resolution masks to the picture."""
        height, width = self.low_res_logits.shape[-2:]
        return SizeChain(
            (height, width), self.padded_size_hw, self.input_size_hw, self.original_size_hw
        )

    @cached_property
    def masks(self) -> npt.NDArray[np.bool_]:
        """Masks of shape (N, C, H, W) at the picture's size.

        Raises
        ------
        MemoryLimitError
            If so many do not fit into memory.
        """
        count, per_object = self.low_res_logits.shape[:2]
        height, width = self.original_size_hw
        each = per_object * height * width

        def remedy(free: int) -> str:
            return (
                f"masks of {free // (2 * each)} objects would fit: ask for fewer at a time, for "
                "best(), or for one mask after the other with mask()"
            )

        what = f"drawing {per_object} masks of {height} x {width} pixels for {count} objects"
        require_memory(count * each, what, remedy)
        with memory_limits(what, lambda: remedy(each)):
            drawn = np.zeros((count, per_object, height, width), bool)
            for index in range(count):
                for which in range(per_object):
                    window, mask = self.window_mask(index, which)
                    drawn[(index, which, *window)] = mask
        return drawn

    def mask(self, index: int, which: int = 0) -> npt.NDArray[np.bool_]:
        """Return one mask of one object at the picture's size.

        Parameters
        ----------
        index : int
            The object, 0 to N - 1.
        which : int
            The mask, 0 to C - 1.

        Returns
        -------
        ndarray of shape (H, W), bool

        Raises
        ------
        IndexError
            If there is no such object or mask.
        """
        window, mask = self.window_mask(index, which)
        drawn = np.zeros(self.original_size_hw, bool)
        drawn[window] = mask
        return drawn

    def window_mask(self, index: int, which: int = 0) -> WindowMask:
        """Return one mask of one object within the part of the picture that it can reach.

        Parameters and errors are those of :meth:`mask`.

        Returns
        -------
        WindowMask
            Rows and columns of the picture, and the mask there; nothing is elsewhere.
        """
        return self.sizes.draw(self.low_res_logits[index, which], self.mask_threshold)

    def best(self) -> MaskPrediction:
        """Return only the mask of each object that the model trusts most (C is 1)."""
        return self.choose(self.iou_predictions.argmax(axis=1))

    def choose(self, which: Sequence[int] | npt.NDArray[np.integer]) -> MaskPrediction:
        """Return one mask of each object.

        Parameters
        ----------
        which : array_like of shape (N,), integer
            Index of the mask for each object, 0 to C - 1.

        Returns
        -------
        MaskPrediction
            Of the same N objects; C is 1.

        Raises
        ------
        ValueError
            If there is not one index for each object.
        IndexError
            If an object has no such mask.
        """
        index = np.asarray(which)
        if index.shape != (len(self),):
            raise ValueError(
                f"which must have one index for each of {len(self)} objects, got {index.shape}"
            )
        each = np.arange(len(self))
        return replace(
            self,
            low_res_logits=self.low_res_logits[each, index][:, None],
            iou_predictions=self.iou_predictions[each, index][:, None],
        )


@dataclass(frozen=True, eq=False)
class Segmentation:
    """All objects of a picture: label ``i + 1`` has the score and the point at place ``i``.

    Parameters
    ----------
    labels : ndarray of shape (H, W), int32
        0 is background; labels are consecutive, the best object first.
    scores : ndarray of shape (n,), float32
        How sure the model is of each object, 0 to 1.
    points_xy : ndarray of shape (n, 2), float32
        The point that each object was found from.

    Examples
    --------
    >>> labels = np.array([[1, 1, 0], [0, 0, 2]], np.int32)
    >>> Segmentation(labels, np.array([0.9, 0.5], np.float32), np.zeros((2, 2), np.float32))
    Segmentation(2 objects in 2 x 3 pixels, scores 0.50 to 0.90)
    """

    labels: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    points_xy: npt.NDArray[np.float32]

    def __repr__(self) -> str:
        """Return how many objects there are, and not the arrays."""
        height, width = self.labels.shape
        scores = f", scores {self.scores.min():.2f} to {self.scores.max():.2f}" if len(self) else ""
        objects = _counted(len(self), "object")
        return f"{type(self).__name__}({objects} in {height} x {width} pixels{scores})"

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.scores)

    @cached_property
    def areas(self) -> npt.NDArray[np.int64]:
        """Pixels of each object, shape (n,)."""
        return np.bincount(self.labels.ravel(), minlength=len(self.scores) + 1)[1:]


def _counted(count: int, what: str) -> str:
    """Return a count in words."""
    return f"{count} {what}{'' if count == 1 else 's'}"
