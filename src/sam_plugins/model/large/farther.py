"""Whether a picture of large objects is better looked at from farther: how sure the model is tells.

Crops of up to 768 pixels trained the shipped model, and of large objects it was shown fewer than of
small ones: in its instance maps they fall apart, above all in pictures that it sees at more pixels
than that. Seen at two thirds of the size they are one again, or they were one and lose their fine
outlines. The predicted IoU of the objects that are found, weighed by their areas, tells which.

Measured with version 9 of the shipped model on val pictures whose usual objects are large, mSA:
seen at more than 768 pixels (embryos, egg chambers, chloroplasts, stained nuclei), 10 better by
more than 0.01, 2 worse, and 1.55 more in sum; of the others, where there are no more than 30
objects, 7 better, 4 worse, and 1.46 more. Where there are more, scenes of many parts such as
facades and organs in CT became worse as often as better: the model was surer of fewer and larger
pieces.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.automatic import object_regions, report, segment_embedding
from sam_plugins.model.inference.candidates import Progress
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.segment_options import SegmentOptions
from sam_plugins.model.inference.types import ImageEmbedding, Segmentation
from sam_plugins.model.large.object_sizes import areas_of, usual_side

LARGE_SIDE = 18.0
"""Side in cells, the root of the area, from which on usual objects are large."""

_NEXT_SHARE = 2 / 3
"""Of the size at which the model saw the picture before."""

_SURER, _AS_SURE = 0.005, -0.02
"""By so much the model has to be surer of what it sees from farther; and where it saw the picture
larger than small ones are enlarged to, about as sure does."""

_FEW = 30
"""Objects: what the model finds more of is not looked at from farther for being surer."""

_MOST_STEPS = 3


def shows_large_objects(
    model: Model, embedding: ImageEmbedding, options: SegmentOptions | None = None
) -> bool:
    """Return whether usual objects of a picture are so large that it may be looked at from farther.

    Parameters
    ----------
    model : Model
    embedding : ImageEmbedding
        Of the whole picture.
    options : SegmentOptions, optional
        Of which the seeds count.
    """
    if not model.has_instance_decoder:
        return False
    areas = areas_of(object_regions(model, embedding, None if options is None else options.seeds))
    return len(areas) > 0 and usual_side(areas) >= LARGE_SIDE


def look_from_farther(
    model: Model,
    rgb: npt.NDArray[np.uint8],
    embedding: ImageEmbedding,
    found: Segmentation,
    options: SegmentOptions,
    *,
    progress: Progress | None = None,
) -> tuple[Model, Segmentation]:
    """Return the model as it sees a picture best, and the objects that it finds then.

    Parameters
    ----------
    model : Model
        With an instance decoder.
    rgb : ndarray of shape (H, W, 3), uint8
        The whole picture.
    embedding : ImageEmbedding
        Of it, as the model sees it usually.
    found : Segmentation
        The objects of that.
    options : SegmentOptions
    progress : callable, optional
        Called with the steps done and the steps in all; what it raises stops the work.

    Returns
    -------
    (Model, Segmentation)
        The model and the objects that were passed where nothing is better.
    """
    best = model
    for step in range(_MOST_STEPS):
        is_seen_large = max(embedding.input_size_hw) > model.preprocessing.min_long_side
        if not is_seen_large and len(found) > _FEW:
            break
        if not shows_large_objects(best, embedding, options):
            break
        farther = model.seeing(round(max(embedding.input_size_hw) * _NEXT_SHARE))
        embedding = encode_rgb(farther, rgb)
        tell = partial(_tell, progress, step)
        seen = segment_embedding(farther, embedding, options=options, progress=tell)
        if sureness(seen) < sureness(found) + (_AS_SURE if is_seen_large else _SURER):
            break
        best, found = farther, seen
    return best, found


def sureness(found: Segmentation) -> float:
    """Return the mean score of the objects, each weighing by its area, 0 to 1; 0 without any.

    Examples
    --------
    >>> labels = np.array([[1, 1, 1, 2, 0]], np.int32)
    >>> sureness(Segmentation(labels, np.array([1.0, 0.6], np.float32), np.zeros((2, 2))))
    0.9
    """
    areas = np.bincount(found.labels.ravel(), minlength=len(found) + 1)[1:]
    total = int(areas.sum())
    return round(float((areas * found.scores).sum()) / total, 6) if total else 0.0


def _tell(progress: Progress | None, step: int, done: int, total: int) -> None:
    """Tell how far the work is, if all views are looked at."""
    report(progress, step * total + done, _MOST_STEPS * total)
