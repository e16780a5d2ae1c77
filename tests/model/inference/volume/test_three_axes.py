from __future__ import annotations

import numpy as np
from tests.model.inference.volume.seeing import seeing_model
from tests.model.inference.volume.shapes3d import balls, iou, picture

from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.types import Prompts
from sam_plugins.model.inference.volume import (
    PropagationOptions,
    Seed,
    SliceEmbeddings,
    Volume,
    propagate_three_axes,
)

BALL = balls((24, 40, 36), [(12, 20, 16)], [8])
TRUSTING = PropagationOptions(min_overlap=0.4, min_similarity=-1, min_confidence=0)


def test_two_of_three_ways_outvote_a_slice_on_which_an_object_leaks() -> None:
    values = picture(BALL)
    values[15, 20, 16:34] = 220  # a bright thread on one slice
    values[15, 14:26, 22:34] = 220
    volume = Volume(values, limits=(0.0, 255.0))
    slices = SliceEmbeddings(seeing_model(), volume, cache=EmbeddingCache())
    told: list[tuple[int, int]] = []
    seed = Seed(1, 12, prompts=Prompts.for_object([[16, 20]]))
    found = propagate_three_axes(
        slices, [seed], options=TRUSTING, progress=lambda *step: told.append(step)
    )
    assert iou(found.mask(1), BALL) >= iou(found.along[0].mask(1), BALL)
    assert iou(found.mask(1), BALL) > 0.93
    assert [way.axis for way in found.along if way is not None] == [0, 1, 2]
    agreement = found.agreement(1)
    assert agreement.shape == (24,)
    assert agreement[12] > 0.9
    assert np.isnan(agreement[0])
    assert np.nanargmin(agreement[10:17]) == 5
    assert told[-1] == (200, 200)
    assert [step[0] for step in told] == sorted(step[0] for step in told)


def test_an_object_without_pixels_has_no_vote() -> None:
    slices = SliceEmbeddings(seeing_model(), Volume(picture(BALL)), cache=EmbeddingCache())
    found = propagate_three_axes(slices, [Seed(1, 12, np.zeros((40, 36), bool))])
    assert found.along[1:] == (None, None)
    assert not found.mask(1).any()
    assert np.isnan(found.agreement(1)).all()
