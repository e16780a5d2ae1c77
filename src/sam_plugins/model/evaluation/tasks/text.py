"""The task ``text``: what phrases find, beside what other phrases find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_plugins.errors import DatasetError
from sam_plugins.model.evaluation.gallery import Panels, with_labels
from sam_plugins.model.evaluation.summary import summarise_scores
from sam_plugins.model.evaluation.task_report import Plot
from sam_plugins.model.evaluation.tasks.task import (
    MODEL,
    Conclusion,
    Measured,
    Scores,
    mean_of,
    mean_rows,
    share_above,
)
from sam_plugins.model.evaluation.text_to_mask import (
    BoolArray,
    Finder,
    PhrasedImage,
    PhraseScore,
    evaluate_text_to_mask,
    summarise_text,
)
from sam_plugins.model.io.labelled import LabelledImage

TEXT_FIGURES: Mapping[str, str] = {"iou": "IoU", "found": "answered"}
"""Figure, heading of its column."""

CHANCE = "another phrase"
"""What stands beside the model: its answer to another phrase of the picture."""

_SHOWN = 3  # phrases of an example


@dataclass(frozen=True, slots=True)
class PhraseRow:
    """How one phrase of a picture was answered.

    Attributes
    ----------
    set_name, image_id, phrase : str
    iou, found : float
        Of what was found, and 1 where anything was; NaN where it was not measured.
    """

    set_name: str
    image_id: str
    phrase: str
    iou: float
    found: float


@dataclass(frozen=True, eq=False)
class Text:
    """Every phrase of every picture: the categories of its objects.

    Parameters
    ----------
    finder : callable
        See :data:`~sam_plugins.model.evaluation.text_to_mask.Finder`.
    encoder : str
        Of the words, for the report.
    seed : int
        Draws the other phrase of each.
    """

    finder: Finder
    encoder: str = ""
    seed: int = 0
    name: str = "text"
    title: str = "Text to mask: IoU of what phrases find"
    chosen_by: str = "mean IoU over phrases"
    needs_complete: bool = False
    score_types: Sequence[type] = (PhraseRow,)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The encoder of the words, and the draw of other phrases."""
        return {"clip": self.encoder, "seed": self.seed}

    def measure(self, image: LabelledImage) -> Measured:
        """Ask for the phrases of one picture; one whose objects have no names has none."""
        phrased = PhrasedImage.from_labels(
            image.id,
            image.image,
            image.labels.astype(np.int64),
            dict(image.categories),
            image.ignore,
        )
        answers: dict[str, BoolArray] = {}

        def find(picture: NDArray[Any], phrases: Sequence[str]) -> Sequence[BoolArray]:
            found = list(self.finder(picture, phrases))
            answers.update(zip(phrases, found, strict=True))
            return found

        scores = list(evaluate_text_to_mask(find, [phrased], seed=self.seed))
        rows = [_row(image, one, one.iou, found=float(one.found)) for one in scores]
        chance = [_row(image, one, one.chance, found=float("nan")) for one in scores]
        return Measured(
            {MODEL: rows, CHANCE: chance},
            mean_of(rows, "iou") if rows else float("nan"),
            lambda: _panels(phrased, answers),
        )

    def conclude(self, scores: Scores, *, seed: int) -> Conclusion:
        """Average over phrases of pictures, and say what each phrase came to.

        Raises
        ------
        DatasetError
            If no object has a name.
        """
        mine: Sequence[PhraseRow] = scores[MODEL]
        if not mine:
            raise DatasetError(
                "text needs pictures whose objects have a category, and none here has one; give a "
                "manifest with categories, or --coco"
            )
        chances = [one.iou for one in scores[CHANCE]]
        by_phrase = summarise_text(
            [
                PhraseScore(
                    f"{one.set_name}/{one.image_id}", one.phrase, one.iou, chance, bool(one.found)
                )
                for one, chance in zip(mine, chances, strict=True)
            ],
            seed=seed,
        )
        iou, chance = by_phrase.iou, by_phrase.chance
        note = (
            f"Each phrase counting once, {len(by_phrase.by_phrase)} of them: IoU {iou.mean:.3f} "
            f"[{iou.low:.2f}, {iou.high:.2f}], another phrase {chance.mean:.3f}."
        )
        plot = Plot(
            "found", "Phrases found", "IoU", "share of phrases with at least this IoU",
            (
                share_above(MODEL, [one.iou for one in mine]),
                share_above(CHANCE, chances, is_floor=True),
            ),
        )  # fmt: skip
        return Conclusion(
            {
                method: summarise_scores(own, TEXT_FIGURES, seed=seed)
                for method, own in scores.items()
            },
            mean_rows(scores, list(TEXT_FIGURES)),
            [
                {
                    "method": method,
                    "set_name": one.set_name,
                    "image_id": one.image_id,
                    "phrase": one.phrase,
                    "iou": one.iou,
                    "found": one.found,
                }
                for method, own in scores.items()
                for one in own
            ],
            [plot],
            [note],
        )


def _row(image: LabelledImage, score: PhraseScore, iou: float, *, found: float) -> PhraseRow:
    """Return a score with the names of its set and picture apart."""
    return PhraseRow(image.set_name, image.id, score.phrase, iou, found)


def _panels(image: PhrasedImage, answers: Mapping[str, BoolArray]) -> Panels:
    """Return what some phrases name, and what they found."""
    return [
        (caption, with_labels(image.image, mask.astype(np.int32)))
        for phrase in sorted(answers)[:_SHOWN]
        for caption, mask in (
            (f"“{phrase}”", image.masks[phrase]),
            (f"found for “{phrase}”", answers[phrase]),
        )
    ]
