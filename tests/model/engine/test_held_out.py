"""Whether one model does better than another on the same held-out pictures."""

from __future__ import annotations

import numpy as np

from sam_plugins.model.engine.held_out import MAX_LOSS, Round, best_round, compare_rounds


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


def corrected(step: int, value: float, after_clicks: float) -> Round:
    """A round with so good corrections."""
    figures = {"3 clicks": after_clicks, "5 clicks": after_clicks}
    return Round(step, {"a": value}, figures)


def test_weights_that_are_worse_when_corrected_are_never_the_best() -> None:
    parent = corrected(0, 0.5, 0.8)
    costly, fair = corrected(1, 0.9, 0.79), corrected(2, 0.6, 0.8 - MAX_LOSS / 2)
    assert best_round([parent, costly]) is parent
    assert best_round([parent, costly, fair]) is fair
    assert best_round([parent, corrected(3, 0.5, 0.9)]) is parent  # of equals the earlier one
    assert best_round([Round(0, {"a": 0.5}, {}), Round(1, {"a": 0.6}, {})]).step == 1


def test_a_part_that_is_worse_beyond_doubt_is_named_and_stops_a_promotion() -> None:
    names = [str(number) for number in range(8)]
    noise = np.random.default_rng(0).normal(0, 0.01, 8)

    def round_of(step: int, msa: float, clicks: float) -> Round:
        details = {
            name: {"mSA": msa + wobble * step, "5 clicks": clicks - wobble * step}
            for name, wobble in zip(names, noise, strict=True)
        }
        pictures = {name: float(np.mean(list(own.values()))) for name, own in details.items()}
        return Round(step, pictures, {}, details)

    parent = round_of(0, 0.5, 0.9)
    better = compare_rounds(parent, round_of(1, 0.7, 0.9), "parent", chosen_of=1)
    assert (better.worse, better.is_better) == ((), True)
    costly = compare_rounds(parent, round_of(1, 0.7, 0.8), "parent", chosen_of=1)
    assert costly.low is not None
    assert costly.low > 0
    assert (costly.worse, costly.is_better) == (("5 clicks",), False)
    assert str(costly).endswith("but worse in: 5 clicks")
