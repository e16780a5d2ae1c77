"""Which picture to label next: numbers that say what a model would learn from it.

Two numbers come from asking the model about a picture: how far its answers to the same prompts lie
apart (query by committee, Seung et al. 1992, with the masks as the committee), and how good the
model itself expects them to be. A third one compares the picture with those that are labelled: how
far it is from the nearest of them (k-centre, Sener and Savarese 2018). Each is a fact about a
picture that people can look at; :func:`choose_next` says how they become one number.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from sam_plugins.model.inference.automatic import instance_maps
from sam_plugins.model.inference.coordinates import points_to_original
from sam_plugins.model.inference.grid import grid_points
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import predict_masks
from sam_plugins.model.inference.seeds import find_seeds
from sam_plugins.model.inference.types import ImageEmbedding, MaskPrediction, Prompts

FloatArray = npt.NDArray[np.float32]

MAX_PROMPTS = 12
"""Prompts that a picture is judged by: more change the order of pictures little."""

_GRID = 8


@dataclass(frozen=True, eq=False)
class Signals:
    """What a model says about a picture that nobody labelled.

    Parameters
    ----------
    image_id : str
    disagreement : float
        See :func:`mask_disagreement`.
    expected_error : float
        See :func:`expected_error`.
    vector : ndarray of shape (D,), float32
        See :func:`pooled_embedding`.
    prompts : int
        How many prompts are behind the first two; 0 where the model saw nothing to ask about.
    """

    image_id: str
    disagreement: float
    expected_error: float
    vector: FloatArray
    prompts: int

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing to ask about and nothing to miss: see :func:`shows_nothing`."""
        return self.prompts == 0 and self.expected_error == 0


@dataclass(frozen=True)
class GainWeights:
    """How much each number counts in :func:`choose_next`; 0 leaves it out.

    Parameters
    ----------
    disagreement, expected_error, novelty : float
        0 or more, one of them above.
    """

    disagreement: float = 1.0
    expected_error: float = 1.0
    novelty: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        values = (self.disagreement, self.expected_error, self.novelty)
        if not all(0 <= value < np.inf for value in values) or not any(values):
            raise ValueError(
                "weights must be 0 or more and one of them above, got "
                f"{', '.join(f'{value:g}' for value in values)}"
            )


@dataclass(frozen=True)
class Gain:
    """Why a picture was chosen.

    Attributes
    ----------
    image_id : str
    disagreement, expected_error, novelty : float
        The numbers themselves.
    total : float
        0 to 1, the weighted mean of the ranks of the three among the pictures that were left when
        it was chosen; 0 for a blank one.
    """

    image_id: str
    disagreement: float
    expected_error: float
    novelty: float
    total: float


def shows_nothing(pixels: npt.NDArray[np.generic]) -> bool:
    """Return whether a picture, shape (H, W) or (H, W, C), has one colour everywhere.

    Examples
    --------
    >>> shows_nothing(np.zeros((2, 3))), shows_nothing(np.eye(2))
    (True, False)
    """
    return bool((pixels == pixels[:1, :1]).all())


def measure_signals(
    model: Model,
    image_id: str,
    embedding: ImageEmbedding,
    *,
    max_prompts: int = MAX_PROMPTS,
    is_blank: bool = False,
) -> Signals:
    """Ask a model about a picture, and return what its answers say of its own uncertainty.

    The prompts are the most promising ones: the strongest maxima of the instance decoder, or, for a
    model without one, the points of an 8 x 8 grid whose masks the model trusts most.

    Parameters
    ----------
    model : Model
    image_id : str
    embedding : ImageEmbedding
        Of the picture, by the same model.
    max_prompts : int
        At most so many.
    is_blank : bool
        Whether the picture :func:`shows_nothing`; whatever a model answers there is about nothing.
    """
    vector = pooled_embedding(embedding)
    if is_blank:
        return Signals(image_id, 0.0, 0.0, vector, 0)
    points_xy = promising_points(model, embedding, max_prompts)
    if not len(points_xy):
        return Signals(image_id, 0.0, 1.0, vector, 0)
    answer = predict_masks(model, embedding, Prompts.single_points(points_xy), multimask=True)
    return Signals(
        image_id,
        disagreement=mask_disagreement(answer),
        expected_error=expected_error(answer),
        vector=vector,
        prompts=len(points_xy),
    )


def promising_points(model: Model, embedding: ImageEmbedding, count: int) -> FloatArray:
    """Return the points, shape (n, 2), of what the model is most sure to be objects."""
    size_hw = embedding.original_size_hw
    if model.has_instance_decoder:
        seeds = find_seeds(instance_maps(model, embedding)).points_xy[:count]
        points = points_to_original(seeds, size_hw, embedding.input_size_hw)
        return np.clip(points, 0, np.array([size_hw[1] - 1, size_hw[0] - 1], np.float32))
    points = grid_points(size_hw, _GRID)
    answer = predict_masks(model, embedding, Prompts.single_points(points), multimask=True)
    trust = answer.iou_predictions.max(axis=1)
    best: FloatArray = points[np.argsort(-trust, kind="stable")[:count]]
    return best


def mask_disagreement(answer: MaskPrediction) -> float:
    """Return how far the masks that answer the same prompt lie apart, 0 to 1.

    1 minus the IoU of two of the three masks, mean over pairs and objects. The three may differ by
    intention, as whole and part do. But where a model knows an object, they agree: of what could be
    had for free, this foretold best which pictures would take work (see the docs).

    Parameters
    ----------
    answer : MaskPrediction
        Of N objects, 2 masks or more each; N may be 0, which is 0.

    Examples
    --------
    >>> logits = np.full((1, 3, 4, 4), 1, np.float32)
    >>> logits[:, 2] *= -1
    >>> mask_disagreement(MaskPrediction(logits, np.ones((1, 3)), (4, 4), (4, 4), (4, 4)))
    0.666...
    """
    inside = answer.low_res_logits > 0
    apart = []
    for first, second in itertools.combinations(range(inside.shape[1]), 2):
        shared = np.count_nonzero(inside[:, first] & inside[:, second], axis=(1, 2))
        either = np.count_nonzero(inside[:, first] | inside[:, second], axis=(1, 2))
        # Masks that are empty alike agree.
        apart.append(1 - np.where(either > 0, shared / np.maximum(either, 1), 1))
    return float(np.mean(apart)) if len(answer) else 0.0


def expected_error(answer: MaskPrediction) -> float:
    """Return 1 minus the IoU that the model expects of its best masks, mean over objects, 0 to 1.

    A picture in which the model sees nothing has 1: whatever is there, it would all be missed.

    Parameters
    ----------
    answer : MaskPrediction
        Of N objects; N may be 0.
    """
    if not len(answer):
        return 1.0
    best = np.clip(answer.iou_predictions.max(axis=1), 0, 1)
    return float(1 - best.mean())


def pooled_embedding(embedding: ImageEmbedding) -> FloatArray:
    """Return the mean of an embedding's features over the picture, shape (D,), of length 1.

    The padding is left out. Two pictures are as far apart as the angle between their vectors says.
    """
    rows, columns = (
        -(-side * cells // padded)
        for side, cells, padded in zip(
            embedding.input_size_hw,
            embedding.features.shape[-2:],
            embedding.padded_size_hw,
            strict=True,
        )
    )
    mean = embedding.features[0, :, :rows, :columns].float().mean(dim=(1, 2)).cpu().numpy()
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)


def novelty(vector: FloatArray, known: Sequence[FloatArray]) -> float:
    """Return the distance to the nearest of the labelled pictures: 1 minus the cosine, 0 to 2.

    1 where nothing is labelled yet.
    """
    if not len(known):
        return 1.0
    return max(0.0, float(1 - (np.stack(list(known)) @ vector).max()))


def choose_next(
    candidates: Iterable[Signals],
    known: Iterable[FloatArray] = (),
    count: int = 1,
    weights: GainWeights | None = None,
) -> list[Gain]:
    """Return the pictures that are best labelled next, best first.

    Each number becomes a rank among the pictures that are left, 0 for the least and 1 for the
    greatest, equal ones share theirs; the gain is the weighted mean of the ranks. Ranks, because
    the numbers have different scales, which change with the model. A picture that was chosen counts
    as labelled for the novelty of the next one (greedy k-centre), so that several pictures do not
    repeat each other. Blank pictures come last, for there is nothing to label in them: they are
    unlike all others, and would be first.

    Parameters
    ----------
    candidates : iterable of Signals
    known : iterable of ndarray of shape (D,)
        Vectors of the pictures that are labelled already, by the same model.
    count : int
        How many; fewer where there are fewer.
    weights : GainWeights, optional
        All three alike by default.

    Raises
    ------
    ValueError
        If ``count`` is below 1.

    Examples
    --------
    >>> plain, odd = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    >>> pool = [Signals("a", 0.1, 0.1, plain, 3), Signals("b", 0.2, 0.3, odd, 3)]
    >>> [one.image_id for one in choose_next(pool, [plain], 2)]
    ['b', 'a']
    """
    if count < 1:
        raise ValueError(f"count must be 1 or more, got {count}")
    chosen_weights = weights or GainWeights()
    every, seen = sorted(candidates, key=lambda one: one.image_id), list(known)
    left = [one for one in every if not one.is_blank]
    shares = np.array(
        [chosen_weights.disagreement, chosen_weights.expected_error, chosen_weights.novelty],
        np.float64,
    )
    shares /= shares.sum()
    chosen: list[Gain] = []
    while left and len(chosen) < count:
        values = np.array(
            [(one.disagreement, one.expected_error, novelty(one.vector, seen)) for one in left]
        )
        totals = _ranks(values) @ shares
        best = int(totals.argmax())
        taken = left.pop(best)
        seen.append(taken.vector)
        apart, error, new = (float(value) for value in values[best])
        chosen.append(Gain(taken.image_id, apart, error, new, float(totals[best])))
    blank = [one for one in every if one.is_blank]
    chosen += [
        Gain(one.image_id, one.disagreement, one.expected_error, novelty(one.vector, seen), 0.0)
        for one in blank[: count - len(chosen)]
    ]
    return chosen


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the rank of each value in its column, from 0 to 1; 1/2 for a single one."""
    if len(values) == 1:
        return np.full(values.shape, 0.5)
    ranks = rankdata(values, axis=0) - 1
    scaled: npt.NDArray[np.float64] = ranks / (len(values) - 1)
    return scaled
