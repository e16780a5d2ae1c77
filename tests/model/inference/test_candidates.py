"""Which masks of many points pass, and what is kept of them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from sam_plugins.model.inference.candidates import (
    Candidates,
    MaskFilter,
    decode_candidates,
)
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.networks.config import SamConfig
from sam_plugins.model.networks.features import ImageFeatures, PreparedImage
from sam_plugins.model.networks.mask_decoder import MaskOutput
from sam_plugins.model.networks.sam import Sam

ANY = MaskFilter(0, 0, best_per_point=False)
SIZE_HW = (20, 24)
"""Of the picture and of the input: 5 x 6 cells, padded to 8 x 8."""


class Script(nn.Module):
    """Stands where the network is: prompt ``i`` gets the masks ``i``."""

    def __init__(self, logits: npt.ArrayLike, predicted: npt.ArrayLike) -> None:
        super().__init__()
        self.config = SamConfig()
        self.weight = nn.Parameter(torch.zeros(1))
        self.logits = torch.tensor(np.asarray(logits, np.float32))
        self.predicted = torch.tensor(np.asarray(predicted, np.float32))
        self.asked = 0

    def prepare(self, features: ImageFeatures) -> PreparedImage:
        """Add nothing."""
        return PreparedImage(features, features.embedding)

    def decode(
        self, image: PreparedImage, *, points_xy: Tensor, which: slice, **_: object
    ) -> MaskOutput:
        """Return the masks of the next prompts, after a single mask that nobody wants."""
        these = slice(self.asked, self.asked + len(points_xy))
        self.asked += len(points_xy)
        logits, predicted = self.logits[these], self.predicted[these]
        single = torch.full_like(logits[:, :1], 9), torch.ones_like(predicted[:, :1])
        logits = torch.cat([single[0], logits], 1)[:, which]
        return MaskOutput(logits, torch.cat([single[1], predicted], 1)[:, which])


def decode(
    logits: npt.ArrayLike, predicted: npt.ArrayLike, mask_filter: MaskFilter, **more: Any
) -> Candidates:
    """Decode one point for each row of masks."""
    script = Script(logits, predicted)
    model = Model(cast("Sam", script), "script")
    embedding = ImageEmbedding(torch.zeros(1, 1, 2, 2), (), SIZE_HW, SIZE_HW, (32, 32), "script")
    points = np.ones((len(script.logits), 2), np.float32)
    return decode_candidates(model, embedding, points, mask_filter, **more)


def logits_of(area: int, height: float = 5, size: int = 8) -> npt.NDArray[np.float32]:
    """Return logits of so many cells of the first rows, six to a row."""
    logits = np.full((size, size), -5, np.float32)
    for cell in range(area):
        logits[cell // 6, cell % 6] = height
    return logits


def test_masks_are_counted_without_the_padding() -> None:
    everywhere, outside = np.full((8, 8), 5, np.float32), np.full((8, 8), -5, np.float32)
    outside[5:] = outside[:, 6:] = 5
    found = decode([[everywhere, outside]], [[0.9, 0.9]], ANY)
    assert len(found) == 1
    assert found.packed.areas.tolist() == [30]
    assert found.packed.boxes_xyxy.tolist() == [[0, 0, 5, 4]]


def test_masks_of_low_expected_quality_go() -> None:
    masks = [[logits_of(3), logits_of(4), logits_of(5)]]
    found = decode(masks, [[0.4, 0.5, np.nan]], MaskFilter(0.5, 0, best_per_point=False))
    assert found.packed.areas.tolist() == [4]
    assert found.scores.tolist() == found.predicted_ious.tolist() == [0.5]


def test_masks_that_hang_on_the_threshold_go() -> None:
    unsure = logits_of(6)
    unsure[0, :3] = 0.5
    masks = [[unsure, logits_of(6)]]
    for least, count in ((0.5, 2), (0.51, 1)):
        assert len(decode(masks, [[0.9, 0.9]], MaskFilter(0, least, best_per_point=False))) == count
    narrow = MaskFilter(0, 1, stability_offset=0.4, best_per_point=False)
    assert len(decode(masks, [[0.9, 0.9]], narrow)) == 2


def test_empty_masks_go() -> None:
    assert len(decode([[logits_of(0)]], [[1.0]], ANY)) == 0


def test_one_mask_for_each_point() -> None:
    masks = [[logits_of(2), logits_of(0), logits_of(4)], [logits_of(5), logits_of(6), logits_of(7)]]
    predicted = [[0.5, 0.9, 0.6], [0.8, 0.8, 0.7]]
    found = decode(masks, predicted, MaskFilter(0, 0))
    assert found.points.tolist() == [0, 1]
    assert found.packed.areas.tolist() == [4, 5]  # the best that passes; of equal ones the first
    assert decode(masks, predicted, ANY).points.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7])
def test_chunks_change_nothing(chunk_size: int) -> None:
    masks = [[logits_of(area), logits_of(area + 1)] for area in range(7)]
    predicted = np.linspace(0.2, 1, 14).reshape(7, 2)
    mask_filter = MaskFilter(0.4, 0.5)
    reports: list[tuple[int, int]] = []
    found = decode(
        masks,
        predicted,
        mask_filter,
        chunk_size=chunk_size,
        progress=lambda done, total: reports.append((done, total)),
    )
    assert found.points.tolist() == [2, 3, 4, 5, 6]
    assert found.packed.areas.tolist() == [3, 4, 5, 6, 7]
    assert len(found.cuts) == len(found) == 5
    assert reports == [(min(7, n), 7) for n in range(chunk_size, 7 + chunk_size, chunk_size)]


def test_nothing_may_pass_in_some_chunks_or_in_all() -> None:
    masks = [[logits_of(3)], [logits_of(0)], [logits_of(4)], [logits_of(5)]]
    predicted = [[0.9], [0.9], [0.1], [0.9]]
    assert decode(masks, predicted, MaskFilter(0.5, 0), chunk_size=1).points.tolist() == [0, 3]
    nothing = decode(masks, predicted, MaskFilter(1, 0), chunk_size=2)
    assert len(nothing) == len(nothing.packed) == len(nothing.cuts) == 0
    assert nothing.points.dtype == np.int64
    assert nothing.scores.dtype == np.float32


def test_agreement_with_the_instance_maps_decides_among_masks() -> None:
    regions = np.zeros((5, 6), np.int32)
    regions[0, :4] = 1
    masks = [[logits_of(8), logits_of(4), logits_of(2)]]
    predicted = [[0.9, 0.8, 0.7]]
    alone = decode(masks, predicted, MaskFilter(0, 0), regions=regions)
    assert alone.packed.areas.tolist() == [8]
    together = decode(masks, predicted, MaskFilter(0, 0, agreement_weight=0.5), regions=regions)
    assert together.packed.areas.tolist() == [4]
    np.testing.assert_allclose(together.scores, [0.5 * 0.8 + 0.5 * 1])
    np.testing.assert_allclose(together.predicted_ious, [0.8])
    every = MaskFilter(0, 0, agreement_weight=1, best_per_point=False)
    np.testing.assert_allclose(
        decode(masks, predicted, every, regions=regions).scores, [0.5, 1, 0.5]
    )
    np.testing.assert_allclose(decode(masks, predicted, every).scores, [0.9, 0.8, 0.7])


def test_the_masks_of_a_point_blend_into_one() -> None:
    wide, narrow = logits_of(8), logits_of(4)
    blend = MaskFilter(0, 0, blend_temperature=0.1)
    found = decode([[wide, narrow]], [[0.9, 0.8]], blend)
    weights = np.array([1, np.exp(-1)]) / (1 + np.exp(-1))
    np.testing.assert_allclose(found.predicted_ious, [weights @ [0.9, 0.8]], rtol=1e-6)
    mean = weights[0] * np.array(wide) + weights[1] * np.array(narrow)
    cut = found.cuts[0]
    rows, columns = cut.logits.shape
    np.testing.assert_allclose(cut.logits, mean[:rows, :columns], rtol=1e-5)
    assert found.packed.areas.tolist() == [8]
    regions = np.zeros((5, 6), np.int32)
    regions[0, :4] = 1
    maps_decide = MaskFilter(0, 0, agreement_weight=1, blend_temperature=0.1)
    agreed = decode([[wide, narrow]], [[0.9, 0.8]], maps_decide, regions=regions)
    assert agreed.packed.areas.tolist() == [4]
    assert agreed.scores.tolist() == [1]


def test_another_reading_of_a_point_has_no_vote_on_the_edge() -> None:
    whole, part = logits_of(20, height=5), logits_of(4, height=50)
    found = decode([[whole, part]], [[0.9, 0.85]], MaskFilter(0, 0, blend_temperature=0.1))
    np.testing.assert_allclose(found.predicted_ious, [0.9])
    rows, columns = found.cuts[0].logits.shape
    np.testing.assert_allclose(found.cuts[0].logits, whole[:rows, :columns])


def test_empty_masks_blend_into_none() -> None:
    blend = MaskFilter(0, 0, blend_temperature=0.1)
    assert len(decode([[logits_of(0), logits_of(4)]], [[0.9, 0.3]], blend)) == 0


def test_masks_below_the_least_predicted_iou_are_not_blended_in() -> None:
    masks = [[logits_of(8), logits_of(4)]]
    blend = MaskFilter(0.5, 0, blend_temperature=10)
    assert decode(masks, [[0.4, 0.6]], blend).packed.areas.tolist() == [4]
    np.testing.assert_allclose(decode(masks, [[0.4, 0.6]], blend).predicted_ious, [0.6])
    assert len(decode(masks, [[0.4, 0.3]], blend)) == 0


def test_points_and_boxes_ask_one_after_the_other(
    any_model: Model, picture: npt.NDArray[np.uint8]
) -> None:
    embedding = encode_image(any_model, picture)
    points = np.array([[25, 25], [80, 50], [40, 30]], np.float32)
    boxes = np.concatenate([points - 12, points + 12], axis=1)

    def masks(**asking: Any) -> list[tuple[int, int]]:
        found = decode_candidates(any_model, embedding, points, ANY, chunk_size=2, **asking)
        return sorted(zip(found.points.tolist(), found.packed.areas.tolist(), strict=True))

    once, twice = masks(), masks(boxes_xyxy=boxes)
    assert masks(boxes_xyxy=boxes, with_points=True) == sorted(once + twice)


def test_each_point_has_its_own_region_and_may_have_none() -> None:
    regions = np.zeros((5, 6), np.int32)
    regions[0, :4], regions[4] = 3, 1
    found = decode(
        [[logits_of(4)]] * 3, [[0.8]] * 3, MaskFilter(0, 0, agreement_weight=1), regions=regions,
        chunk_size=2,
    )  # fmt: skip
    assert found.scores.tolist() == [0, 0, 1]


def test_cuts_draw_the_masks() -> None:
    found = decode([[logits_of(8)]], [[0.9]], ANY)
    assert found.cuts[0].logits.size < 64
    rows, columns = found.cuts[0].window
    assert (rows.start, columns.start) == (0, 0)


def test_real_networks_pass_through(any_model: Model, picture: npt.NDArray[np.uint8]) -> None:
    embedding = encode_image(any_model, picture)
    points = np.array([[5, 5], [80, 50], [40, 30]], np.float32)
    found = decode_candidates(any_model, embedding, points, ANY)
    assert set(found.points.tolist()) <= {0, 1, 2}
    assert len(found) > 0
    rows, columns = embedding.valid_cells_hw
    assert (found.packed.boxes_xyxy[:, 2:] < [columns, rows]).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_predicted_iou": 1.2}, r"min_predicted_iou must lie in \[0, 1\], got 1.2"),
        ({"min_stability": -0.1}, r"min_stability must lie in \[0, 1\], got -0.1"),
        ({"agreement_weight": 2}, r"agreement_weight must lie in \[0, 1\], got 2"),
        ({"stability_offset": -1}, "stability_offset must be 0 or more, got -1"),
        ({"blend_temperature": -1}, "blend_temperature must be 0 or more, got -1"),
    ],
)
def test_a_filter_out_of_range_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskFilter(**{"min_predicted_iou": 0.5, "min_stability": 0.5, **values})


def test_points_in_a_mask_that_was_found_are_skipped() -> None:
    script = Script([[logits_of(18)]] * 9, [[0.9]] * 9)  # the first three rows of cells
    model = Model(cast("Sam", script), "script")
    embedding = ImageEmbedding(torch.zeros(1, 1, 2, 2), (), SIZE_HW, SIZE_HW, (32, 32), "script")
    points = np.array([[2, 2], [10, 6], [20, 11], [3, 13], [9, 18], [22, 15]], np.float32)
    steps: list[tuple[int, int]] = []
    found = decode_candidates(
        model,
        embedding,
        points,
        ANY,
        chunk_size=1,
        skip_found=True,
        progress=lambda *step: steps.append(step),
    )
    asked = set(found.points.tolist())
    assert {3, 4, 5} <= asked  # below the mask
    assert len(asked & {0, 1, 2}) <= 1
    assert script.asked == len(asked)
    assert steps[-1][0] == steps[-1][1] == 6
    everything = decode([[logits_of(18)]] * 6, [[0.9]] * 6, ANY)
    assert everything.points.tolist() == [0, 1, 2, 3, 4, 5]
