"""Models behind the protocol of text to mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sam_plugins.model.evaluation.text_to_mask import BoolArray
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
