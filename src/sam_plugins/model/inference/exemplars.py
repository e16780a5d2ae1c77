"""Exemplars: what a few objects look like to the model, so that others like them can be found.

They are values that carry over: what was described in one picture finds objects in another one of
the same kind, at the same magnification.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.checks import require_type
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.pooling import MaskDescriber, cover_of_mask
from sam_plugins.model.inference.predict import check_model, predict_masks
from sam_plugins.model.inference.types import ImageEmbedding, Prompts

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Exemplars:
    """A few objects, as the model sees them.

    Parameters
    ----------
    descriptors : ndarray of shape (k, D), float32
        From :class:`~sam_plugins.model.inference.pooling.MaskDescriber`.
    areas : ndarray of shape (k,), float64
        Pixels of each object in its picture.
    model_id : str
        Of the model that described them; no other can read them.

    Raises
    ------
    ValueError
        If there is none, or the lengths differ.
    """

    descriptors: npt.NDArray[np.float32]
    areas: npt.NDArray[np.float64]
    model_id: str

    def __post_init__(self) -> None:
        """Check the lengths."""
        if self.descriptors.ndim != 2 or self.areas.shape != self.descriptors.shape[:1]:
            raise ValueError(
                "exemplars must have one descriptor and one area each, got shapes "
                f"{self.descriptors.shape} and {self.areas.shape}"
            )
        if not len(self):
            raise ValueError("there must be at least one exemplar, got none; mark an object")

    def __len__(self) -> int:
        """Return the number of exemplars."""
        return len(self.areas)

    def __add__(self, others: Exemplars) -> Exemplars:
        """Return these and others, such as those of another picture.

        Raises
        ------
        ValueError
            If another model described them.
        """
        if others.model_id != self.model_id:
            raise ValueError(
                "exemplars can be joined when one model described them, got those of "
                f"{self.model_id} and of {others.model_id}"
            )
        return Exemplars(
            np.concatenate([self.descriptors, others.descriptors]),
            np.concatenate([self.areas, others.areas]),
            self.model_id,
        )


def describe_exemplars(
    model: Model, embedding: ImageEmbedding, marked: npt.ArrayLike | Prompts
) -> Exemplars:
    """Describe a few objects of a picture.

    Parameters
    ----------
    model : Model
        The one that made the embedding.
    embedding : ImageEmbedding
        Of the picture that the objects are in.
    marked : array_like of shape (k, H, W) or (H, W), bool; or of shape (H, W), integer; or Prompts
        Masks of the objects; or a label image, each of whose labels is one object; or prompts,
        which are answered with masks first, the most confident one of each.

    Returns
    -------
    Exemplars

    Raises
    ------
    ValueError
        If a mask is empty or not of the picture's size, nothing is marked, a prompt does not fit
        the picture, or the embedding is another model's.
    TypeError
        If masks are not bool or integer, or an argument is of another type.

    Examples
    --------
    ``describe_exemplars(model, embedding, Prompts.single_points([[105, 44]]))`` describes the
    object under one click.
    """
    check_model(model, embedding)
    masks = (
        _answered(model, embedding, marked)
        if isinstance(marked, Prompts)
        else _masks(marked, embedding.original_size_hw)
    )
    covers = [cover_of_mask(mask, embedding) for mask in masks]
    return Exemplars(
        MaskDescriber(embedding).describe(covers),
        np.array([np.count_nonzero(mask) for mask in masks], np.float64),
        embedding.model_id,
    )


def check_exemplars(model: Model, exemplars: Exemplars) -> None:
    """Refuse exemplars of another model.

    Raises
    ------
    ValueError
        With both names.
    TypeError
        If they are something else.
    """
    require_type("exemplars", exemplars, Exemplars, "describe_exemplars makes them of masks")
    if exemplars.model_id != model.model_id:
        raise ValueError(
            f"exemplars must come from the model that reads them, {model.model_id}, got those of "
            f"{exemplars.model_id}; describe them again"
        )


def _answered(model: Model, embedding: ImageEmbedding, prompts: Prompts) -> list[BoolArray]:
    """Return the mask of each prompted object."""
    answer = predict_masks(model, embedding, prompts).best()
    masks = []
    for index in range(len(answer)):
        mask = answer.mask(index)
        if not mask.any():
            raise ValueError(
                f"the prompt of exemplar {index + 1} must mark an object, got an empty mask; click "
                "into the middle of it, or draw a box around it"
            )
        masks.append(mask)
    return masks


def _masks(marked: npt.ArrayLike, size_hw: tuple[int, int]) -> list[BoolArray]:
    """Return the masks that arrays hold, checked."""
    array: npt.NDArray[Any] = np.asarray(marked)
    if array.dtype != bool and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(
            f"exemplar masks must be bool, or integer labels, got {array.dtype}; cut probabilities "
            "at a threshold first"
        )
    if array.ndim not in {2, 3} or array.shape[-2:] != size_hw:
        raise ValueError(
            f"exemplar masks must have the picture's size, shape {size_hw} or (k, {size_hw[0]}, "
            f"{size_hw[1]}), got {array.shape}"
        )
    if array.dtype != bool:
        if array.ndim == 3:
            array = array > 0
        else:
            array = np.stack([array == label for label in np.unique(array[array > 0])] or [array])
    masks = list(array.astype(bool).reshape(-1, *size_hw))
    for index, mask in enumerate(masks):
        if not mask.any():
            raise ValueError(
                f"exemplar masks must hold at least one pixel each, got none in mask {index + 1} "
                f"of {len(masks)}"
            )
    return masks
