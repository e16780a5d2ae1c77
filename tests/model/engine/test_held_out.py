"""Whether one model does better than another on the same held-out pictures."""

from __future__ import annotations

import numpy as np

from sam_plugins.model.engine.held_out import Round, compare_rounds


def test_the_interval_is_wider_for_the_best_of_many_rounds() -> None:
    names = [str(number) for number in range(8)]
    gains = np.random.default_rng(0).normal(0.02, 0.03, 8)
    parent = Round(0, dict.fromkeys(names, 0.5), {})
    best = Round(9, dict(zip(names, 0.5 + gains, strict=True)), {})
    one, six = (compare_rounds(parent, best, "parent", chosen_of=rounds) for rounds in (1, 6))
    assert one.low is not None
    assert six.low is not None
    assert one.high is not None
    assert six.high is not None
    assert six.low < one.low < one.high < six.high
    single = compare_rounds(
        Round(0, {"a": 0.5}, {}), Round(1, {"a": 0.6}, {}), "parent", chosen_of=1
    )
    assert (single.low, single.high, single.is_better) == (None, None, False)
