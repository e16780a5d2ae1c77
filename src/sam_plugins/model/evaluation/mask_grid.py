"""The masks of a regular grid of points, without duplicates: what edges and proposals come from.

Unlike automatic segmentation nothing is painted, and nothing filtered by quality unless that is
asked for: a proposal may be wrong, a part of another one, or the background.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.inference.candidates import chain_of
from sam_plugins.model.inference.full_size import CutLogits, SizeChain, WindowMask
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.postprocess import stability_scores
from sam_plugins.model.inference.predict import decode_prompts
from sam_plugins.model.inference.suppression import PackedMasks, suppress
from sam_plugins.model.inference.types import ImageEmbedding, Prompts

_STABILITY_OFFSET = 1.0  # logits; SAM, appendix B


@dataclass(frozen=True, eq=False)
class GridMasks:
    """Masks that are no duplicates of better ones, best first.

    Attributes
    ----------
    scores : ndarray of shape (n,), float32
        Mean of predicted IoU and stability.
    cuts : tuple of CutLogits
        Low-resolution logits, half precision, of the window that each reaches.
    sizes : SizeChain
        From there to the picture.
    """

    scores: NDArray[np.float32]
    cuts: tuple[CutLogits, ...]
    sizes: SizeChain

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.cuts)

    def draw(self) -> Iterator[WindowMask]:
        """Yield the masks at the picture's size, each within its window."""
        for cut in self.cuts:
            yield self.sizes.draw_cut(_in_single(cut))

    def enlarge(self) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float32], float]]:
        """Yield the window of each mask that is not empty, its logits there, and its score."""
        for cut, score in zip(self.cuts, self.scores, strict=True):
            values = self.sizes.enlarge_cut(_in_single(cut))
            if values.size:
                yield cut.window, values, float(score)


def square_grid(size_hw: tuple[int, int], points_per_side: int) -> NDArray[np.float32]:
    """Return as many points along each side, in the middle of equal cells.

    Parameters
    ----------
    size_hw : (int, int)
        Height and width of the picture.
    points_per_side : int
        1 or more.

    Returns
    -------
    ndarray of shape (points_per_side ** 2, 2), float32
        Pixels (x, y), in rows. The paper's grid; the distance differs along the two sides, unlike
        in :func:`~sam_plugins.model.inference.grid.grid_points`.

    Raises
    ------
    ValueError
        If ``points_per_side`` is below 1.

    Examples
    --------
    >>> square_grid((2, 4), 2).tolist()
    [[0.5, 0.0], [2.5, 0.0], [0.5, 1.0], [2.5, 1.0]]
    """
    if points_per_side < 1:
        raise ValueError(f"points_per_side must be 1 or more, got {points_per_side}")
    steps = (np.arange(points_per_side) + 0.5) / points_per_side
    y, x = (side * steps - 0.5 for side in size_hw)
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)


def grid_masks(
    model: Model,
    embedding: ImageEmbedding,
    points_per_side: int,
    *,
    max_iou: float,
    least_logit: float = 0.0,
    min_predicted_iou: float = 0.0,
) -> GridMasks:
    """Ask with every point of a square grid and drop duplicates among the three masks of each.

    Parameters
    ----------
    model : Model
    embedding : ImageEmbedding
    points_per_side : int
        1 or more.
    max_iou : float
        A mask goes when its IoU with a better one is larger.
    least_logit : float
        The window of each mask reaches as far as its logits are larger; 0 or less.
    min_predicted_iou : float
        Masks of which the model thinks less are left out.
    """
    points = square_grid(embedding.original_size_hw, points_per_side)
    sizes = chain_of(embedding)
    rows, columns = embedding.valid_cells_hw
    scores: list[float] = []
    cuts: list[CutLogits] = []
    packed: list[PackedMasks] = []
    for output in decode_prompts(model, embedding, Prompts.single_points(points), multimask=True):
        logits = output.logits.float().cpu().numpy()
        logits = logits.reshape(-1, *logits.shape[-2:])
        predicted: NDArray[np.float32] = output.iou_predictions.float().cpu().numpy().ravel()
        is_good = predicted >= min_predicted_iou
        logits, predicted = logits[is_good], predicted[is_good]
        valid = logits[:, :rows, :columns]
        inner, outer = (
            np.count_nonzero(valid > limit, axis=(1, 2))
            for limit in (_STABILITY_OFFSET, -_STABILITY_OFFSET)
        )
        stability = np.asarray(stability_scores(inner, outer))
        scores += ((predicted + stability) / 2).tolist()
        packed.append(PackedMasks.pack(valid > 0))
        # Half precision: thousands of masks, of which only the shape matters.
        cuts += [_in_half(sizes.cut(one, least_logit)) for one in logits]
    values = np.array(scores, np.float32)
    kept = suppress(PackedMasks.concatenate(packed), values, max_iou=max_iou)
    return GridMasks(values[kept], tuple(cuts[index] for index in kept), sizes)


def _in_half(cut: CutLogits) -> CutLogits:
    """Return logits as half precision."""
    return cut._replace(logits=cut.logits.astype(np.float16))


def _in_single(cut: CutLogits) -> CutLogits:
    """Return logits as single precision."""
    return cut._replace(logits=cut.logits.astype(np.float32))
