"""What a model is sure of, as proposals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.labelled_sets import SIZE_HW, discs, picture_of
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model

from sam_plugins.model.engine import proposals
from sam_plugins.model.engine.proposals import calibrated_min_score, propose
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.inference.types import Segmentation


@pytest.mark.parametrize(
    ("config", "mode"), [(TINY_PYRAMID, "auto"), (TINY_VIT, "grid")], ids=["decoder", "grid"]
)
def test_confident_objects_are_proposed(
    config: Any, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = discs().astype(np.int32)
    modes: list[str] = []

    def segmented(model: Any, rgb: Any, *, mode: str, **_: Any) -> Segmentation:
        modes.append(mode)
        points = np.array([[12, 12], [20, 34], [46, 22]], np.float32)
        return Segmentation(labels, np.array([0.9, 0.6, 0.4], np.float32), points)

    monkeypatch.setattr(proposals, "segment_rgb", segmented)
    model = make_model(config, "tiny")
    rgb = to_rgb(picture_of(discs()))
    found = propose(model, rgb)
    assert modes == [mode]
    assert [one.score for one in found] == pytest.approx([0.9, 0.6])
    assert found[1].point_xy == (20, 34)
    drawn = np.zeros(SIZE_HW, int)
    for number, one in enumerate(found, start=1):
        drawn[one.window_mask.window][one.window_mask.mask] = number
    assert np.array_equal(drawn, np.where(labels < 3, labels, 0))
    assert len(propose(model, rgb, min_score=0)) == 3
    with pytest.raises(ValueError, match=r"min_score must lie in \[0, 1\], got 1.5"):
        propose(model, rgb, min_score=1.5)


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        ([(0.6, False)] * 19, 0.5),  # too few
        ([(0.6, True)] * 30, 0.5),
        ([(0.6, False)] * 30, 1.0),
        ([(0.6, False)] * 15 + [(0.8, True)] * 10, 0.8),
        ([(0.6, False)] * 5 + [(0.6, True)] * 10 + [(0.8, True)] * 10, 0.5),
        ([(0.55, True)] * 9 + [(0.6, False)] * 12 + [(0.7, True), (0.9, True)], 0.7),
        # What lies below was proposed under other rules.
        ([(0.3, False)] * 40 + [(0.9, True)] * 20, 0.5),
    ],
)
def test_what_people_judged_says_what_pays(
    judged: list[tuple[float, bool]], expected: float
) -> None:
    assert calibrated_min_score(judged) == expected
    assert calibrated_min_score(judged[::-1]) == expected
