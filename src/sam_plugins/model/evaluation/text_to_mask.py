"""From words to masks: whether a phrase finds what it names.

The measure is the IoU of all that a phrase finds with all that it names, phrase by phrase in every
picture, so that many small objects and one large one count alike. Chance is what the same model
finds for another phrase, measured against the objects of this one: a model that does not listen
scores the same for both, however good its masks are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.evaluation.bootstrap import Interval, bootstrap_mean
from sam_plugins.model.evaluation.metrics import mask_iou

BoolArray = NDArray[np.bool_]

Finder = Callable[[NDArray[Any], Sequence[str]], Sequence[BoolArray]]
"""From a picture as it comes from a file, and phrases, to one mask (H, W) for each phrase."""


@dataclass(frozen=True, eq=False)
class PhrasedImage:
    """A picture, and what phrases name in it.

    Attributes
    ----------
    id : str
        Name of the picture.
    image : ndarray of shape (H, W), (H, W, S) or (C, H, W)
    masks : mapping of str to ndarray of shape (H, W), bool
        All pixels of the objects that each phrase names; where there are none, or all of them are
        ignored, the phrase is not asked for.
    ignore : ndarray of shape (H, W), bool, optional
        True where nothing should be scored.
    """

    id: str
    image: NDArray[Any]
    masks: Mapping[str, BoolArray]
    ignore: BoolArray | None = None

    @classmethod
    def from_labels(
        cls,
        id: str,  # noqa: A002
        image: NDArray[Any],
        labels: NDArray[Any],
        phrase_of: Mapping[int, str],
        ignore: BoolArray | None = None,
    ) -> PhrasedImage:
        """Collect the objects of each phrase from a label image.

        Parameters
        ----------
        id, image, ignore
            See :class:`PhrasedImage`.
        labels : ndarray of shape (H, W), integer
        phrase_of : mapping of int to str
            Phrase of each object, such as its category; objects without one are not asked for.
        """
        present = {int(label) for label in np.unique(labels)} & set(phrase_of)
        masks: dict[str, BoolArray] = {}
        for label in sorted(present):
            mask = labels == label
            phrase = phrase_of[label]
            masks[phrase] = masks[phrase] | mask if phrase in masks else mask
        return cls(id, image, masks, ignore)


@dataclass(frozen=True, slots=True)
class PhraseScore:
    """How one phrase was answered in one picture.

    Attributes
    ----------
    image_id, phrase : str
    iou : float
        Of what it found with what it names.
    chance : float
        Of what another phrase found with what this one names; NaN where there is no other.
    found : bool
        Whether it found anything.
    """

    image_id: str
    phrase: str
    iou: float
    chance: float
    found: bool


@dataclass(frozen=True)
class TextSummary:
    """Means over the phrases, each of which counts once.

    Attributes
    ----------
    iou, chance : Interval
        Mean over phrases of the mean over their pictures.
    by_phrase : mapping of str to (float, float, int)
        IoU, chance and pictures of each phrase.
    n_pictures : int
    """

    iou: Interval
    chance: Interval
    by_phrase: Mapping[str, tuple[float, float, int]] = field(default_factory=dict)
    n_pictures: int = 0


def evaluate_text_to_mask(
    finder: Finder, images: Iterable[PhrasedImage], *, seed: int = 0
) -> Iterator[PhraseScore]:
    """Ask for every phrase of every picture.

    Parameters
    ----------
    finder : callable
        See :data:`Finder`; asked once for each picture, with all of its phrases.
    images : iterable of PhrasedImage
        Read one at a time.
    seed : int
        Draws the other phrase of each.

    Yields
    ------
    PhraseScore

    Raises
    ------
    ValueError
        If there is not one mask of the picture's size for each phrase.
    """
    for number, image in enumerate(images):
        seen = True if image.ignore is None else ~image.ignore
        phrases = sorted(phrase for phrase, mask in image.masks.items() if (mask & seen).any())
        if not phrases:
            continue
        found = list(finder(image.image, phrases))
        if len(found) != len(phrases):
            raise ValueError(
                f"the finder must return one mask for each of {len(phrases)} phrases of "
                f"{image.id}, got {len(found)}"
            )
        # Shifted by a random step, every phrase stands for exactly one other one.
        rng = np.random.default_rng([seed, number])
        step = int(rng.integers(1, len(phrases))) if len(phrases) > 1 else 0
        for index, phrase in enumerate(phrases):
            truth = image.masks[phrase]
            other = found[(index + step) % len(phrases)]
            yield PhraseScore(
                image.id,
                phrase,
                mask_iou(found[index], truth, ignore=image.ignore),
                mask_iou(other, truth, ignore=image.ignore) if step else float("nan"),
                bool(found[index].any()),
            )


def summarise_text(scores: Sequence[PhraseScore], *, seed: int = 0) -> TextSummary:
    """Return the means over phrases, with intervals.

    Parameters
    ----------
    scores : sequence of PhraseScore
        From :func:`evaluate_text_to_mask`; at least one.
    seed : int
        Of the bootstrap, which draws phrases.

    Raises
    ------
    ValueError
        If there is no score.
    """
    if not scores:
        raise ValueError("there must be at least one phrase to measure, got none")
    by_phrase: dict[str, tuple[float, float, int]] = {}
    for phrase in sorted({score.phrase for score in scores}):
        some = [score for score in scores if score.phrase == phrase]
        chances = [score.chance for score in some if not np.isnan(score.chance)]
        by_phrase[phrase] = (
            float(np.mean([score.iou for score in some])),
            float(np.mean(chances)) if chances else float("nan"),
            len(some),
        )
    ious = [iou for iou, _, _ in by_phrase.values()]
    known = [chance for _, chance, _ in by_phrase.values() if not np.isnan(chance)]
    return TextSummary(
        bootstrap_mean(ious, seed=seed),
        bootstrap_mean(known or [float("nan")], seed=seed),
        by_phrase,
        len({score.image_id for score in scores}),
    )
