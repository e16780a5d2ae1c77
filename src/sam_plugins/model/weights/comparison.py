"""Whether a model is better than another, as far as held-out pictures can tell."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_PICTURES = 5
"""Held-out pictures that a promotion needs."""

TOO_FEW = f"fewer than the {LEAST_PICTURES} that tell a difference"
"""What is said of fewer."""


@dataclass(frozen=True)
class Comparison:
    """How a version did beside another model on the same held-out pictures.

    Parameters
    ----------
    parent : str
        Id of the other model.
    metric : str
        What was measured, such as ``"mSA"``; more is better.
    value, parent_value : float
        Means over the pictures.
    low, high : float or None
        Interval of the mean difference, from a paired bootstrap over pictures; None where there
        are too few for one.
    pictures : int
        How many were held out.
    worse : tuple of str
        Parts of the metric that are worse beyond what other pictures might give, whatever the rest
        gained: a mean can hide that every correction costs people more.
    """

    parent: str
    metric: str
    value: float
    parent_value: float
    low: float | None
    high: float | None
    pictures: int
    worse: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Take lists, as they come from JSON."""
        object.__setattr__(self, "worse", tuple(self.worse))

    @property
    def is_better(self) -> bool:
        """Whether the difference is beyond what other pictures of the same kind might give.

        A bootstrap of fewer than five pictures would find differences where there are none.
        """
        is_beyond_doubt = self.low is not None and self.low > 0
        return is_beyond_doubt and self.pictures >= LEAST_PICTURES and not self.worse

    def __str__(self) -> str:
        """Say it in a line."""
        text = (
            f"{self.metric} {self.value:.3f} against {self.parent_value:.3f} of {self.parent} on "
            f"{self.pictures} held-out pictures"
        )
        if self.low is None or self.high is None or self.pictures < LEAST_PICTURES:
            return f"{text} ({TOO_FEW})"
        text = f"{text} (difference {self.low:+.3f} to {self.high:+.3f})"
        return f"{text}, but worse in: {', '.join(self.worse)}" if self.worse else text
