"""Find all objects like a few exemplars: where objects may be, asked there, judged by likeness.

The points of the instance decoder propose objects, more of them than automatic segmentation would
ask at. On training pictures, peaks of the likeness map alone missed a quarter of the embryos that
the decoder's points found all. Each mask is judged by how good the model thinks it is, by how much
its embedding is like the nearest exemplar's, and by its size beside theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.automatic import propose, put_together, segmenting_memory
from sam_plugins.model.inference.candidates import (
    Candidates,
    Progress,
    pixels_per_cell,
)
from sam_plugins.model.inference.checks import require_type
from sam_plugins.model.inference.exemplars import Exemplars, check_exemplars, describe_exemplars
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.pooling import MaskDescriber, covers_of_packed
from sam_plugins.model.inference.predict import check_model, encode_image
from sam_plugins.model.inference.seeds import SeedOptions
from sam_plugins.model.inference.segment_options import AUTO, Mode, SegmentOptions, usual_options
from sam_plugins.model.inference.types import ImageEmbedding, Prompts, Segmentation

_MORE_SEEDS = SeedOptions(min_foreground=0.3, min_strength=0.1, min_prominence=0.05)
"""Fainter places than automatic segmentation asks at: the exemplars tell what is none of them."""

# each mask of a point on its own: the exemplars tell whether a part or a whole is meant
_AUTO_SIMILAR = replace(
    AUTO, asks_with="point",  # three masks of each point, to choose among
    seeds=_MORE_SEEDS,
    masks=replace(AUTO.masks, min_predicted_iou=0.1, min_stability=0.0, best_per_point=False),
)  # fmt: skip


@dataclass(frozen=True)
class Likeness:
    """When a mask is an object like the exemplars.

    The chance that it is one is a logistic function of three values. The weights were chosen on
    pictures of training splits and on drawn shapes of several kinds: with one kind of object in a
    picture quality alone would do best, with several likeness must have a say. How well they do on
    other pictures, says ``docs/how-to/find-similar.md``.

    Parameters
    ----------
    quality : float
        Weight of the mask's quality, 0 to 1: what automatic segmentation would score it with.
    likeness : float
        Weight of the cosine of the mask's embedding with the nearest exemplar's, less that of the
        objects of the picture in general. More where several kinds of objects, all equally clear,
        are to be told apart.
    size : float
        Weight of the distance of the logarithms of the areas, from the nearest exemplar, over 0.5
        and the standard deviation of the exemplars' logarithms: those of many sizes allow many. 0
        where size means nothing.
    bias : float
        Value of the function where all three are 0.
    """

    quality: float = 8.0
    likeness: float = 3.0
    size: float = 0.75
    bias: float = -4.0

    def chances(
        self,
        qualities: npt.NDArray[np.floating],
        likenesses: npt.NDArray[np.floating],
        size_distances: npt.NDArray[np.floating],
    ) -> npt.NDArray[np.float64]:
        """Return the chance of each of n masks, 0 to 1.

        Examples
        --------
        >>> Likeness(4, 2, 1, bias=-3).chances(np.array([0.5]), np.array([0.5]), np.array([0.0]))
        array([0.5])
        """
        evidence = self.quality * np.asarray(qualities, np.float64) + self.bias
        evidence = evidence + self.likeness * likenesses - self.size * size_distances
        chances: npt.NDArray[np.float64] = 1 / (1 + np.exp(-evidence))
        return chances


_JUDGES: dict[str, Likeness] = {"auto": Likeness(), "grid": Likeness(likeness=6.0, bias=-6.5)}


@dataclass(frozen=True)
class SimilarOptions:
    """Everything that can be set about finding similar objects.

    Parameters
    ----------
    min_score : float
        Least chance of being an object like the exemplars: less finds more, and more that are none.
    judge : Likeness, optional
        What that chance depends on; by default as suits the mode. The one for "grid", whose masks
        are all trusted by the model, is an estimate and was not tuned.
    segmentation : SegmentOptions, optional
        How places are found, what a duplicate is and what a plausible object; by default as suits
        the mode.

    Raises
    ------
    ValueError
        If ``min_score`` does not lie in [0, 1].
    """

    min_score: float = 0.5
    judge: Likeness | None = None
    segmentation: SegmentOptions | None = None

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score must lie in [0, 1], got {self.min_score}")


def find_similar(
    model: Model,
    image_or_embedding: npt.ArrayLike | ImageEmbedding,
    exemplars: Exemplars | Prompts | npt.ArrayLike,
    *,
    mode: Mode | str = "auto",
    options: SimilarOptions | None = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Find all objects of a picture that are like a few exemplars; needs no words and no training.

    Parameters
    ----------
    model : Model
        From :func:`~sam_plugins.load_model`.
    image_or_embedding : array_like or ImageEmbedding
        The picture to search, or its embedding, which saves the time to encode it.
    exemplars : Exemplars, Prompts or array_like
        From :func:`~sam_plugins.describe_exemplars`, which carry over from another picture; or what
        that takes, about this picture: masks, a label image, or prompts.
    mode : {"auto", "grid"}
        Where places to ask at come from, as for :func:`~sam_plugins.segment`.
    options : SimilarOptions, optional
    progress : callable, optional
        Called often, with the steps done and the steps in all. An exception that it raises stops
        the work.

    Returns
    -------
    Segmentation
        The most similar object first, the exemplars themselves among them where the model finds
        them; ``scores`` are chances of being an object of that kind.

    Raises
    ------
    ValueError
        If an exemplar is empty or does not fit the picture, or another model described it, or
        ``mode`` is unknown.
    UnsuitableModelError
        If the model has no instance decoder and ``mode`` is "auto".
    UnusableImageError
        If the array is no picture.
    MemoryLimitError
        If memory runs out.
    TypeError
        If an argument is of another type.

    Examples
    --------
    ``find_similar(model, image, Prompts.single_points([[105, 44]]))`` finds all objects like the
    one at x = 105, y = 44.
    """
    chosen = options or SimilarOptions()
    require_type("options", chosen, SimilarOptions, "leave it out for the defaults")
    if isinstance(image_or_embedding, ImageEmbedding):
        embedding = image_or_embedding
        check_model(model, embedding)
    else:
        embedding = encode_image(model, image_or_embedding)
    if not isinstance(exemplars, Exemplars):
        exemplars = describe_exemplars(model, embedding, exemplars)
    check_exemplars(model, exemplars)
    how = chosen.segmentation or (_AUTO_SIMILAR if mode == "auto" else usual_options(model, mode))
    with segmenting_memory(embedding, mode):
        proposals = propose(model, embedding, mode=mode, options=how, progress=progress)
        judge = chosen.judge or _JUDGES[mode]
        scores = _chances(embedding, proposals.found, exemplars, judge)
        kept = np.flatnonzero(scores >= chosen.min_score)
        return put_together(
            proposals.choose(kept, scores[kept]), embedding, how, progress=progress
        ).segmentation


def _chances(
    embedding: ImageEmbedding, found: Candidates, exemplars: Exemplars, judge: Likeness
) -> npt.NDArray[np.float64]:
    """Return for each mask the chance that it is an object like the exemplars."""
    descriptors = MaskDescriber(embedding).describe(covers_of_packed(found.packed))
    likenesses = (descriptors @ exemplars.descriptors.T).max(axis=1)
    if len(found):
        likenesses = likenesses - _usual(likenesses, found.scores)
    logs = np.log(exemplars.areas)
    areas = np.log(np.maximum(found.packed.areas, 1) * pixels_per_cell(embedding))
    distances = abs(areas[:, None] - logs[None]).min(axis=1) / (0.5 + _spread(logs))
    return judge.chances(found.scores, likenesses, distances)


def _usual(
    likenesses: npt.NDArray[np.floating], qualities: npt.NDArray[np.floating]
) -> np.floating:
    """Return the median likeness of the masks that are surely objects, of whatever kind.

    How alike objects of one kind are, differs from picture to picture: in a dense one hardly, on
    plain ground very much. What counts is being more like the exemplars than other objects are.
    """
    limit = min(max(np.quantile(qualities, 0.7), 0.5), qualities.max())
    usual: np.floating = np.median(likenesses[qualities >= limit])
    return usual


def _spread(logs: npt.NDArray[np.float64]) -> float:
    """Return how much the exemplars' sizes differ; that of one is not known."""
    return float(logs.std()) if len(logs) > 1 else 0.5
