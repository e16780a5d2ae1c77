"""Many objects of what is seen at once: those like some, and those that words name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.coordinates import RegionPixels
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.values import Answer, Sight

if TYPE_CHECKING:
    from sam_plugins.model.inference.clip import Clip
    from sam_plugins.model.inference.loading import Model
    from sam_plugins.napari_plugin.answering import Answerer

Progress = Callable[[int, int], None]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Words:
    """What to find.

    Parameters
    ----------
    phrases : tuple of str
    others : tuple of str
        What else may be in the picture; by default background and the like.
    clip : str
        Folder or name of the CLIP that understands them.
    """

    phrases: tuple[str, ...]
    others: tuple[str, ...] = ()
    clip: str = ""


def find_like(
    answerer: Answerer, sight: Sight, masks: Sequence[MaskCrop], *, progress: Progress
) -> list[Answer]:
    """Return all objects of a sight that are like some of it, the most similar first.

    Parameters
    ----------
    answerer : Answerer
    sight : Sight
    masks : sequence of MaskCrop
        The objects that they shall be like, in pixels of the plane.
    progress : callable
        Called with steps done and steps in all.

    Returns
    -------
    list of Answer
        Of one mask each, in pixels of the plane; the score is the chance of being one of them.
    """
    from sam_plugins.model.inference.similar import find_similar

    seen, model = answerer.encode(sight), answerer.model
    marked = np.stack([_to_picture(mask, seen.pixels) for mask in masks])
    found = find_similar(model, seen.embedding, marked, mode=_mode(model), progress=progress)
    return _answers(found.labels, found.scores, seen.pixels, model.model_id)


def find_named(
    answerer: Answerer, sight: Sight, words: Words, *, progress: Progress
) -> list[Answer]:
    """Return the objects of a sight that words name.

    A model that was trained with texts takes each phrase as a prompt, for one object; of any other
    one, CLIP ranks all masks.

    Raises
    ------
    SamPluginsError
        If there is no such CLIP on this machine, or ``transformers`` is not installed.
    """
    from sam_plugins.model.inference.predict import predict_masks
    from sam_plugins.model.inference.text import NEGATIVES, find_by_text, text_dim, text_prompts

    model = answerer.model
    clip = _clip(words.clip, str(model.device))
    seen = answerer.encode(sight)
    if text_dim(model) is not None:
        prompts = text_prompts(model, clip, words.phrases)
        best = predict_masks(model, seen.embedding, prompts).best()
        labels = np.zeros(seen.embedding.original_size_hw, np.int32)
        for index in reversed(range(len(best))):
            labels[best.mask(index)] = index + 1
        scores = best.iou_predictions[:, 0]
        return _answers(labels, scores, seen.pixels, model.model_id)
    found = find_by_text(
        model,
        answerer.picture(sight),
        clip,
        words.phrases,
        negatives=words.others or NEGATIVES,
        mode=_mode(model),
        embedding=seen.embedding,
        progress=progress,
    ).segmentation
    return _answers(found.labels, found.scores, seen.pixels, model.model_id)


@lru_cache(maxsize=1)
def _clip(name: str, device: str) -> Clip:
    """Return a CLIP, which is loaded once."""
    from sam_plugins.model.inference.clip import load_clip

    return load_clip(name, device=device)


def _mode(model: Model) -> str:
    """Return where places to ask at come from."""
    return "auto" if model.has_instance_decoder else "grid"


def _nearest(pixels: RegionPixels) -> tuple[IntArray, IntArray]:
    """Return which row and column of the picture each row and column of the region lies in."""
    rows, columns = (
        (np.arange(length) * size // length).astype(np.int64)
        for length, size in zip(pixels.region.shape, pixels.size_hw, strict=True)
    )
    return rows, columns


def _to_picture(mask: MaskCrop, pixels: RegionPixels) -> BoolArray:
    """Return a mask of the plane on the picture that the model is shown; never an empty one."""
    drawn = np.zeros(pixels.size_hw, bool)
    rows, columns = _nearest(pixels)
    inside = np.nonzero(mask.on(pixels.region))
    drawn[rows[inside[0]], columns[inside[1]]] = True
    return drawn


def _answers(
    labels: npt.NDArray[Any],
    scores: npt.NDArray[np.floating],
    pixels: RegionPixels,
    model_id: str,
) -> list[Answer]:
    """Return the objects of a picture as answers in pixels of the plane."""
    from scipy.ndimage import find_objects

    rows, columns = _nearest(pixels)
    region = pixels.region
    answers = []
    for number, box in enumerate(find_objects(labels, max_label=len(scores)), start=1):
        if box is None:
            continue
        top, bottom = np.searchsorted(rows, (box[0].start, box[0].stop))
        left, right = np.searchsorted(columns, (box[1].start, box[1].stop))
        mask = labels[np.ix_(rows[top:bottom], columns[left:right])] == number
        crop = MaskCrop.of(mask, (region.top + int(top), region.left + int(left)))
        answers.append(Answer((crop,), (float(scores[number - 1]),), model_id))
    return answers
