"""Models behind the protocol of text to mask, and data sets as it takes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.evaluation.text_to_mask import BoolArray, PhrasedImage
from sam_plugins.model.inference.clip import TextImageEncoder
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_image, predict_masks
from sam_plugins.model.inference.text import (
    NEGATIVES,
    TEMPLATES,
    TextOptions,
    find_by_text,
    text_prompts,
)
from sam_plugins.model.io.categories import read_categories
from sam_plugins.model.io.labelled import LabelledFile


@dataclass(frozen=True)
class PromptedFinder:
    """Ask a model that was trained with texts: one mask for each phrase.

    It is a :data:`~sam_plugins.model.evaluation.text_to_mask.Finder`.
    """

    model: Model
    encoder: TextImageEncoder
    templates: Sequence[str] = TEMPLATES

    def __call__(self, image: NDArray[Any], phrases: Sequence[str]) -> list[BoolArray]:
        """Return one mask for each phrase."""
        prompts = text_prompts(self.model, self.encoder, phrases, templates=self.templates)
        answer = predict_masks(self.model, encode_image(self.model, image), prompts)
        return [answer.mask(index) for index in range(len(phrases))]


@dataclass(frozen=True)
class RankedFinder:
    """Rank the masks of any model by words: all objects of each phrase, which compete.

    It is a :data:`~sam_plugins.model.evaluation.text_to_mask.Finder`.
    """

    model: Model
    encoder: TextImageEncoder
    negatives: Sequence[str] = NEGATIVES
    mode: str = "auto"
    options: TextOptions | None = None

    def __call__(self, image: NDArray[Any], phrases: Sequence[str]) -> list[BoolArray]:
        """Return one mask for each phrase."""
        found = find_by_text(
            self.model,
            image,
            self.encoder,
            phrases,
            negatives=self.negatives,
            mode=self.mode,
            options=self.options,
        )
        return [found.mask_of(index) for index in range(len(phrases))]


def phrased_images(
    data_dir: str | os.PathLike[str], files: Iterable[LabelledFile]
) -> Iterator[PhrasedImage]:
    """Yield labelled pictures with the categories of their objects as phrases.

    Parameters
    ----------
    data_dir : path-like
        Folder of sets, whose manifests say what the objects are.
    files : iterable of LabelledFile
        Read one at a time; pictures without categories are left out.

    Raises
    ------
    DatasetError
        If no object of a set has a category.
    UnreadableImageError
        If a picture cannot be read.
    """
    known: dict[str, dict[str, dict[int, str]]] = {}
    for file in files:
        if file.set_name not in known:
            known[file.set_name] = read_categories(data_dir, file.set_name)
        phrase_of = known[file.set_name].get(file.id)
        if phrase_of:
            image = file.read()
            labels = image.labels.astype(np.int64)
            yield PhrasedImage.from_labels(
                f"{file.set_name}/{file.id}", image.image, labels, phrase_of, image.ignore
            )
