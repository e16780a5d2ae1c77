"""Prompts that a person might give for a known object: a first point or box, then corrections.

After SAM (Kirillov et al. 2023, appendix A, "Training algorithm"): the first prompt is a point
inside or a noised box; further points are drawn from the region where the last mask is wrong, and
come with that mask. What differs: half of the first points lean to the middle of the object, where
people click and where tests click.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from sam_plugins.model.io.windows import tight_window


@dataclass(frozen=True)
class PromptOptions:
    """How prompts are drawn.

    Parameters
    ----------
    box_share : float
        Share of objects that are first asked for with a box, the others with a point.
    central_share : float
        Share of first points that lie near the middle; the others are anywhere inside.
    box_noise : float
        Standard deviation of a box's corner, as a share of its side.
    max_box_noise : float
        Limit of that in pixels.
    exact_box_share : float
        Share of boxes without noise.
    clicked_box_share : float
        Share of boxes that come with a point inside: a network that never saw both answers worse to
        both than to the box.
    rounds : tuple of float
        Probabilities of one, two, three, ... answers for each object.
    max_corrected : int, optional
        Of the objects that are asked for in one way, so many go on after the second answer: long
        sessions are learned from few objects, because each answer costs time. None for all.
    corrections : int, optional
        Exactly so many corrections follow the first prompt, and ``rounds`` is not read.
    idle_rounds : int
        With ``corrections``: rounds in which only the last logits are fed back, nothing else is
        new. The last is at the end, the others anywhere among the corrections.
    is_box_ambiguous : bool
        Whether a lone box is answered by three masks, as a lone point is.
    even_errors : bool
        Draw corrections evenly from the wrong region, not rather deep within it.
    """

    box_share: float = 0.35
    central_share: float = 0.6
    box_noise: float = 0.08
    max_box_noise: float = 20.0
    exact_box_share: float = 0.4
    clicked_box_share: float = 0.25
    rounds: tuple[float, ...] = (0.55, 0.2, 0.1, 0.08, 0.07)
    max_corrected: int | None = 8
    corrections: int | None = None
    idle_rounds: int = 0
    is_box_ambiguous: bool = False
    even_errors: bool = False

    def draw_rounds(self, rng: np.random.Generator) -> tuple[bool, ...]:
        """Draw what follows the first answer: True for a correction, False for nothing new.

        Examples
        --------
        >>> options = PromptOptions(corrections=3, idle_rounds=2)
        >>> options.draw_rounds(np.random.default_rng(0))
        (True, True, True, False, False)
        >>> PromptOptions(rounds=(0, 1)).draw_rounds(np.random.default_rng(0))
        (True,)
        """
        if self.corrections is None:
            return (True,) * int(rng.choice(len(self.rounds), p=self.rounds))
        rounds = [True] * self.corrections
        for _ in range(self.idle_rounds - 1):
            rounds.insert(int(rng.integers(self.corrections + 1)), False)
        return (*rounds, *[False] * min(1, self.idle_rounds))


def first_points_xy(
    masks: NDArray[np.uint8], rng: np.random.Generator, central_share: float
) -> NDArray[np.float32]:
    """Draw one point inside each object.

    Parameters
    ----------
    masks : ndarray of shape (N, H, W)
        Objects, not empty.
    rng : Generator
    central_share : float
        Probability that a pixel's chance grows with the cube of its distance from the border.

    Returns
    -------
    ndarray of shape (N, 2), float32
        x and y of pixel centres.
    """
    points = np.zeros((len(masks), 2), np.float32)
    for index, mask in enumerate(masks):
        window = tight_window(mask)
        assert window is not None
        rows, columns = window
        inside = mask[rows, columns] > 0
        if rng.random() < central_share:
            chance = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1] ** 3
        else:
            chance = inside.astype(np.float64)
        cumulated = np.cumsum(chance)
        chosen = int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))
        y, x = divmod(min(chosen, chance.size - 1), chance.shape[1])
        points[index] = x + columns.start, y + rows.start
    return points


def boxes_xyxy(
    masks: NDArray[np.uint8], rng: np.random.Generator, options: PromptOptions
) -> NDArray[np.float32]:
    """Draw a box for each object: tight, or with corners moved as people's hands move them.

    Parameters
    ----------
    masks : ndarray of shape (N, H, W)
        Objects, not empty.
    rng : Generator
    options : PromptOptions

    Returns
    -------
    ndarray of shape (N, 4), float32
        Centres of the outermost pixels, noised; at least a pixel wide and high, inside the picture.
    """
    height, width = masks.shape[1:]
    boxes = np.zeros((len(masks), 4), np.float32)
    for index, mask in enumerate(masks):
        window = tight_window(mask)
        assert window is not None
        rows, columns = window
        box = np.array([columns.start, rows.start, columns.stop - 1, rows.stop - 1], np.float32)
        if rng.random() >= options.exact_box_share:
            sides = np.array([columns.stop - columns.start, rows.stop - rows.start] * 2)
            spread = np.minimum(options.box_noise * sides, options.max_box_noise)
            limit = np.minimum(sides / 3, options.max_box_noise)
            box += np.clip(rng.normal(0, 1, 4) * spread, -limit, limit)
        box = np.clip(box, 0, [width - 1, height - 1] * 2)
        box[2:] = np.maximum(box[2:], np.minimum(box[:2] + 1, [width - 1, height - 1]))
        boxes[index] = box
    return boxes


def correction_points(
    logits: Tensor,
    target: Tensor,
    known: Tensor,
    generator: torch.Generator,
    *,
    even: bool = False,
) -> tuple[Tensor, Tensor]:
    """Draw one point for each object from the region where the last mask is wrong.

    Parameters
    ----------
    logits : Tensor of shape (N, h, w)
        Last masks, a quarter of the input's resolution.
    target, known : Tensor of shape (N, h, w)
        Share of each cell that the object covers, and where that is known.
    generator : torch.Generator
        On the same device.
    even : bool
        Every wrong cell is as likely as any other.

    Returns
    -------
    points_xy : Tensor of shape (N, 2)
        Input pixels. Cells deep within an error are likelier than those at its rim, unless
        ``even``. Where nothing is wrong, a point inside the object.
    labels : Tensor of shape (N,), int64
        1 where something is missing, 0 where there is too much.
    """
    truth = target > 0.5
    wrong = ((logits > 0) != truth).float() * known
    if even:
        chance = wrong.flatten(1)
    else:
        depth = functional.avg_pool2d(wrong[:, None], 5, stride=1, padding=2)[:, 0]
        chance = (wrong * depth.square()).flatten(1)
    nothing_wrong = chance.sum(1) == 0
    chance = torch.where(nothing_wrong[:, None], (target * known).flatten(1) + 1e-9, chance)
    cells = torch.multinomial(chance, 1, generator=generator)[:, 0]
    width = logits.shape[-1]
    x, y = cells % width, torch.div(cells, width, rounding_mode="floor")
    points = torch.stack([x, y], dim=1).float() * 4 + 1.5
    labels = truth.flatten(1).gather(1, cells[:, None])[:, 0] | nothing_wrong
    return points, labels.long()
