"""The fully automatic stage: the paper's settings, and masks that suppress masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.labelled_sets import discs, picture_of
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model

from sam_plugins.errors import UnsuitableModelError
from sam_plugins.model.engine import automatic_masks
from sam_plugins.model.engine.automatic_masks import (
    AutomaticOptions,
    masks_of_decoder,
    masks_of_grid,
    require_mode,
)
from sam_plugins.model.engine.proposals import Proposal
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.io.rle import decode_mask, encode_mask

WHOLE = [0, 0, 60, 40]


def record(mask: np.ndarray, iou: float, crop: list[int] = WHOLE) -> dict[str, Any]:
    """What the mask generator says of a mask."""
    return {
        "segmentation": encode_mask(mask),
        "area": int(mask.sum()),
        "predicted_iou": iou,
        "point_coords": [[3.0, 4.0]],
        "stability_score": 0.97,
        "crop_box": crop,
    }


def box(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((40, 60), bool)
    mask[rows, columns] = True
    return mask


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the generator finds, and how it was made."""
    said: dict[str, Any] = {"records": []}

    class Generator:
        def __init__(self, model: Any, **options: Any) -> None:
            said["options"] = options

        def generate(self, rgb: np.ndarray) -> list[dict[str, Any]]:
            return list(said["records"])

    monkeypatch.setattr(automatic_masks, "SamAutomaticMaskGenerator", Generator)
    return said


def run(options: AutomaticOptions | None = None) -> list[automatic_masks.AutomaticMask]:
    rgb = np.zeros((40, 60, 3), np.uint8)
    chosen = options or AutomaticOptions(mode="grid")
    return masks_of_grid(make_model(TINY_VIT, "tiny"), rgb, chosen)


def test_the_settings_are_the_papers(generated: dict[str, Any]) -> None:
    assert run() == []
    wanted = {
        "points_per_side": 32,
        "pred_iou_thresh": 0.88,
        "stability_score_thresh": 0.95,
        "stability_score_offset": 1.0,
        "crop_n_layers": 2,
        "crop_n_points_downscale_factor": 2,
        "min_mask_region_area": 100,
    }
    assert {name: generated["options"][name] for name in wanted} == wanted
    assert AutomaticOptions().max_iou == 0.7


def test_masks_suppress_masks_and_not_boxes(generated: dict[str, Any]) -> None:
    square = box(slice(5, 25), slice(5, 25))
    diagonal = np.zeros((40, 60), bool)
    for offset in range(20):
        diagonal[5 + offset, 5 + offset] = True  # its box is the square's
    twin = box(slice(5, 25), slice(5, 24))
    generated["records"] = [record(square, 0.9), record(diagonal, 0.95), record(twin, 0.92)]
    found = run()
    assert [one.score for one in found] == [0.95, 0.92]
    assert np.array_equal(decode_mask(found[0].rle), diagonal)
    assert found[0].point_xy == (3.0, 4.0)
    assert found[0].stability == 0.97
    every = run(AutomaticOptions(mode="grid", max_iou=1.0))
    assert len(every) == 3


def test_a_mask_of_a_smaller_crop_is_preferred(generated: dict[str, Any]) -> None:
    square = box(slice(5, 25), slice(5, 25))
    generated["records"] = [
        record(square, 0.99),
        record(box(slice(5, 25), slice(5, 24)), 0.89, [0, 0, 35, 25]),
    ]
    (found,) = run()
    assert found.score == 0.89


def test_what_covers_the_picture_is_no_object(generated: dict[str, Any]) -> None:
    generated["records"] = [record(np.ones((40, 60), bool), 0.99)]
    assert run() == []
    assert len(run(AutomaticOptions(mode="grid", max_area_share=1.0))) == 1


def test_a_real_model_on_a_grid_and_its_crops() -> None:
    model = make_model(TINY_VIT, "tiny")
    rgb = np.repeat(picture_of(discs())[..., None], 3, axis=2)
    options = AutomaticOptions(
        "grid", points_per_side=3, crop_layers=1, min_predicted_iou=0, min_stability=0
    )
    found = masks_of_grid(model, rgb, options)
    assert found
    masks = [decode_mask(one.rle) for one in found]
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for index, mask in enumerate(masks):
        assert mask.shape == (48, 64)
        for other in masks[:index]:
            assert np.count_nonzero(mask & other) <= 0.7 * np.count_nonzero(mask | other)


def test_the_decoder_needs_a_model_that_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsuitableModelError, match="needs a model with an instance decoder"):
        require_mode(make_model(TINY_VIT, "tiny"), AutomaticOptions())
    require_mode(make_model(TINY_VIT, "tiny"), AutomaticOptions(mode="grid"))
    model = make_model(TINY_PYRAMID, "tiny")
    require_mode(model, AutomaticOptions())
    small = Proposal(WindowMask((slice(3, 5), slice(6, 9)), np.ones((2, 3), bool)), 0.8, (7, 4))
    whole = Proposal(WindowMask((slice(0, 48), slice(0, 64)), np.ones((48, 64), bool)), 0.9, (1, 1))
    monkeypatch.setattr(automatic_masks, "propose", lambda *_, **__: [whole, small])
    (found,) = masks_of_decoder(model, to_rgb(picture_of(discs())), AutomaticOptions())
    assert (found.score, found.point_xy, found.stability) == (0.8, (7, 4), None)
    assert np.argwhere(decode_mask(found.rle)).min(axis=0).tolist() == [3, 6]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "auto"}, "mode must be one of decoder, grid, got 'auto'"),
        ({"points_per_side": 0}, "points_per_side must be 1 or more"),
        ({"min_stability": 1.2}, r"min_stability must lie in \[0, 1\], got 1.2"),
        ({"max_area_share": 0}, r"max_area_share must lie in \(0, 1\], got 0"),
        ({"crop_layers": -1}, "crop_layers must be 0 or more, got -1"),
    ],
)
def test_impossible_options_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AutomaticOptions(**values)
