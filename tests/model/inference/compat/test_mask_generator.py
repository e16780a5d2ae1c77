"""The mask generator gives segment_anything's records."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.model.inference.compat.small_sam import assert_same

from sam_plugins import SamAutomaticMaskGenerator, sam_model_registry
from sam_plugins.model.inference.compat import SamModel
from sam_plugins.model.inference.compat.refusals import Refusals
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.io.rle import decode_mask

Picture = npt.NDArray[np.uint8]

KEYS = [
    "segmentation",
    "area",
    "bbox",
    "predicted_iou",
    "point_coords",
    "stability_score",
    "crop_box",
]
FEW: dict[str, Any] = {"points_per_side": 6, "pred_iou_thresh": 0.85, "stability_score_thresh": 0.5}
CROPS = FEW | {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}

CASES: dict[str, dict[str, Any]] = {
    "plain": FEW,
    "strict": {"points_per_side": 6},
    "no thresholds": {
        "points_per_side": 3,
        "pred_iou_thresh": 0.0,
        "stability_score_thresh": 0.0,
    },
    "small batches": FEW | {"points_per_batch": 3},
    "another offset": FEW | {"stability_score_offset": 5.0},
    "keep duplicates": FEW | {"box_nms_thresh": 1.0},
    "few of the overlapping": FEW | {"box_nms_thresh": 0.2},
    "crops": CROPS,
    "crops without overlap": CROPS | {"crop_overlap_ratio": 0.0, "crop_nms_thresh": 0.3},
    "two layers of crops": FEW | {"points_per_side": 2, "crop_n_layers": 2},
    "own grids": FEW
    | {
        "points_per_side": None,
        "point_grids": [np.random.default_rng(1).random((n, 2)) for n in (9, 5)],
        "crop_n_layers": 1,
    },
    "small regions": FEW | {"min_mask_region_area": 150},
    "small regions of crops": CROPS | {"min_mask_region_area": 40},
    "uncompressed": FEW | {"output_mode": "uncompressed_rle"},
    "coco": CROPS | {"output_mode": "coco_rle", "min_mask_region_area": 40},
}


Records = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(
    official: ModuleType, checkpoint: Path, theirs: Any
) -> Callable[[str, str, Picture], Records]:
    """Ask for the records of one generator and one case; they are made once."""
    ours = sam_model_registry["default"](checkpoint=checkpoint)
    known: dict[tuple[str, str, int], Records] = {}

    def make(whose: str, name: str, picture: Picture) -> Records:
        key = (whose, name, id(picture))
        if key not in known:
            generator = (
                SamAutomaticMaskGenerator(ours, **CASES[name])
                if whose == "ours"
                else official.SamAutomaticMaskGenerator(theirs, **CASES[name])
            )
            known[key] = generator.generate(picture)
        return known[key]

    return make


Found = Callable[[str, str, Picture], Records]


def test_signature_and_defaults_are_the_official_ones(official: ModuleType) -> None:
    mine, other = (
        inspect.signature(cls).parameters
        for cls in (SamAutomaticMaskGenerator, official.SamAutomaticMaskGenerator)
    )
    assert [(p.name, p.default) for p in mine.values()] == [
        (p.name, p.default) for p in other.values()
    ]


@pytest.mark.parametrize("name", CASES)
def test_records(found: Found, landscape: Picture, name: str) -> None:
    mine = found("ours", name, landscape)
    assert len(mine) >= 3
    assert list(mine[0]) == KEYS
    compare(mine, found("theirs", name, landscape))


def compare(mine: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    """Compare records; a pixel on the very threshold may move what counts pixels."""
    assert len(mine) == len(other)
    for ours, theirs in zip(mine, other, strict=True):
        masks = [pixels(record["segmentation"]) for record in (ours, theirs)]
        assert_same(masks[0], masks[1])
        if np.array_equal(masks[0], masks[1]):
            assert_same(ours["segmentation"], theirs["segmentation"])
        assert ours["area"] == pytest.approx(theirs["area"], abs=2)
        assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=1)
        assert all(type(value) is int for value in [*ours["bbox"], *ours["crop_box"]])
        assert ours["crop_box"] == theirs["crop_box"]
        assert_same(ours["predicted_iou"], theirs["predicted_iou"])
        assert_same(ours["point_coords"], theirs["point_coords"])
        assert ours["stability_score"] == pytest.approx(
            theirs["stability_score"], abs=2 / max(theirs["area"], 1) + 1e-4, nan_ok=True
        )


def pixels(segmentation: Any) -> npt.NDArray[np.bool_]:
    """The mask of any output mode."""
    if isinstance(segmentation, dict):
        return decode_mask(segmentation)
    assert isinstance(segmentation, np.ndarray)
    return segmentation


def test_portrait(found: Found, portrait: Picture) -> None:
    mine = found("ours", "small regions of crops", portrait)
    assert len(mine) >= 3
    compare(mine, found("theirs", "small regions of crops", portrait))


def test_every_step_has_something_to_do(found: Found, landscape: Picture) -> None:
    """The options of the comparison above change the result, so they were compared."""
    records = {name: found("ours", name, landscape) for name in CASES}
    plain = records["plain"]
    assert len(records["strict"]) < len(plain) < len(records["keep duplicates"])
    assert len(records["few of the overlapping"]) < len(plain)
    assert len({tuple(record["crop_box"]) for record in records["crops"]}) >= 3
    areas = {record["area"] for record in plain}
    assert {record["area"] for record in records["small regions"]} - areas
    unfiltered = records["no thresholds"]
    assert any(np.isnan(record["stability_score"]) for record in unfiltered)
    assert min(record["predicted_iou"] for record in unfiltered) < 0.85


def test_masks_are_measured_alike_on_a_gpu(
    found: Found, ours: SamModel, landscape: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sam_plugins.model.inference.compat import measure

    expected = found("ours", "plain", landscape)
    monkeypatch.setattr(measure, "_measure_windows", measure._measure_whole)
    compare(SamAutomaticMaskGenerator(ours, **FEW).generate(landscape), expected)


def test_only_masks_with_a_good_score_are_enlarged(
    ours: SamModel, landscape: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sam_plugins.model.inference.full_size import SizeChain

    enlarged: list[object] = []
    original = SizeChain.enlarge_cut

    def counted(self: SizeChain, cut: Any) -> Any:
        enlarged.append(cut)
        return original(self, cut)

    monkeypatch.setattr(SizeChain, "enlarge_cut", counted)
    monkeypatch.setattr(SizeChain, "enlarge", None)
    records = SamAutomaticMaskGenerator(ours, **FEW | {"pred_iou_thresh": 0.95}).generate(landscape)
    assert records
    assert len(enlarged) < 6 * 6 * 3 / 3


def test_any_of_our_models(any_model: Model, picture: Picture) -> None:
    records = SamAutomaticMaskGenerator(
        any_model,
        points_per_side=3,
        pred_iou_thresh=-1,
        stability_score_thresh=-1,
        crop_n_layers=1,
        output_mode="coco_rle",
    ).generate(picture)
    assert records
    assert all(decode_mask(record["segmentation"]).shape == (60, 90) for record in records)
    assert all(decode_mask(r["segmentation"]).sum() == r["area"] for r in records)


def test_nothing_found(ours: SamModel, landscape: Picture) -> None:
    generator = SamAutomaticMaskGenerator(
        ours, 2, pred_iou_thresh=9.0, crop_n_layers=1, min_mask_region_area=5
    )
    with pytest.warns(UserWarning, match="pred_iou_thresh=9 refused all 60 masks") as told:
        assert generator.generate(landscape) == []
    assert not generator.predictor.is_image_set
    assert [one.filename for one in told] == [__file__]


def test_a_threshold_that_refuses_every_mask_is_named(
    ours: SamModel, landscape: Picture, recwarn: pytest.WarningsRecorder
) -> None:
    strict = SamAutomaticMaskGenerator(ours, 4, stability_score_thresh=0.9999)
    said = (
        r"^no mask is left: stability_score_thresh=0\.9999 refused all \d+ masks whose predicted "
        r"IoU is high enough; the most stable of them has 0\.9\d\d; for such masks set "
        r"stability_score_thresh=0\.[89] \(SAM's thresholds are too strict for some models, such "
        r"as 'default'\)$"
    )
    with pytest.warns(UserWarning, match=said) as told:
        assert strict.generate(landscape) == []
    assert len(told) == 1
    obeyed = SamAutomaticMaskGenerator(ours, 4, stability_score_thresh=0.8)
    assert obeyed.generate(landscape)
    assert not recwarn


def test_what_is_advised_lets_more_than_the_best_pass() -> None:
    for ious, stability, advice in (
        ([0.9, 0.2], [0.93], "stability_score_thresh=0.8"),
        ([0.9, 0.2], [0.61, np.nan], "stability_score_thresh=0.5"),
        ([0.02, 0.01], [], "pred_iou_thresh=0 "),
        ([0.9], [np.nan], "all 1 are empty"),
    ):
        refusals = Refusals()
        values = np.array(stability, np.float32)
        refusals.add(np.array(ious, np.float32), values, values > 1)
        with pytest.warns(UserWarning, match=advice):
            refusals.warn(0.88, 0.95, stacklevel=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points_per_side": None}, "exactly one of points_per_side and point_grids.*got neither"),
        ({"point_grids": [np.zeros((1, 2))]}, "got both; set points_per_side=None"),
        (
            {"output_mode": "png"},
            "must be one of binary_mask, uncompressed_rle, coco_rle, got 'png'",
        ),
        ({"points_per_batch": 0}, "points_per_batch must be 1 or more, got 0"),
        ({"crop_n_layers": -1}, "crop_n_layers must be 0 or more, got -1"),
        (
            {"points_per_side": None, "point_grids": [np.zeros((1, 2))], "crop_n_layers": 1},
            "one for each of 1 crop layers, got 1",
        ),
        (
            {"points_per_side": None, "point_grids": [np.zeros(2)]},
            r"must hold arrays of shape \(n, 2\), got \(2,\)",
        ),
        (
            {"points_per_side": None, "point_grids": [np.array([[0.5, np.nan]])]},
            "point_grids must be finite, got NaN",
        ),
        (
            {"crop_n_points_downscale_factor": 0},
            "crop_n_points_downscale_factor must be more than 0, .*got 0",
        ),
        (
            {"crop_n_points_downscale_factor": -2, "crop_n_layers": 2},
            "crop_n_points_downscale_factor must be more than 0, .*got -2",
        ),
    ],
)
def test_wrong_options(ours: SamModel, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamAutomaticMaskGenerator(ours, **options)


def test_wrong_pictures_and_models(ours: SamModel, theirs: Any) -> None:
    with pytest.raises(ValueError, match=r"shape \(H, W, 3\), got \(9, 9\)"):
        SamAutomaticMaskGenerator(ours).generate(np.zeros((9, 9), np.uint8))
    with pytest.raises(TypeError, match="got segment_anything"):
        SamAutomaticMaskGenerator(theirs)
    assert torch.is_grad_enabled()
