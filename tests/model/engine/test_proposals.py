"""What a model is sure of, as proposals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.labelled_sets import SIZE_HW, discs, picture_of
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model

from sam_plugins.model.engine import proposals
from sam_plugins.model.engine.proposals import propose
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.inference.types import Segmentation


@pytest.mark.parametrize(
    ("config", "mode"), [(TINY_PYRAMID, "auto"), (TINY_VIT, "grid")], ids=["decoder", "grid"]
)
def test_confident_objects_are_proposed(
    config: Any, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = discs().astype(np.int32)
    modes: list[str] = []

    def segmented(model: Any, embedding: Any, *, mode: str, options: Any) -> Segmentation:
        modes.append(mode)
        points = np.array([[12, 12], [20, 34], [46, 22]], np.float32)
        return Segmentation(labels, np.array([0.9, 0.6, 0.4], np.float32), points)

    monkeypatch.setattr(proposals, "segment_embedding", segmented)
    model = make_model(config, "tiny")
    embedding = encode_image(model, picture_of(discs()))
    found = propose(model, embedding)
    assert modes == [mode]
    assert [one.score for one in found] == pytest.approx([0.9, 0.6])
    assert found[1].point_xy == (20, 34)
    drawn = np.zeros(SIZE_HW, int)
    for number, one in enumerate(found, start=1):
        drawn[one.window_mask.window][one.window_mask.mask] = number
    assert np.array_equal(drawn, np.where(labels < 3, labels, 0))
    assert len(propose(model, embedding, min_score=0)) == 3
    with pytest.raises(ValueError, match=r"min_score must lie in \[0, 1\], got 1.5"):
        propose(model, embedding, min_score=1.5)
