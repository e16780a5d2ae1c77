"""The exported graph against the official one, in PyTorch and in ONNX Runtime."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import onnxruntime
import pytest
import torch
from tests.model.inference.compat.small_sam import assert_same
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins import SamOnnxModel
from sam_plugins.errors import UnsuitableModelError
from sam_plugins.model.inference.compat.model import SamModel

Inputs = dict[str, torch.Tensor]


def more_prompts(inputs: Inputs) -> Inputs:
    """A box, clicks on and beside the object, and an earlier mask."""
    points = torch.tensor([[[40.0, 90.0], [80, 70], [20, 30], [120, 140]]])
    mask = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    return inputs | {
        "point_coords": points,
        "point_labels": torch.tensor([[1.0, 0, 2, 3]]),
        "mask_input": mask,
        "has_mask_input": torch.ones(1),
        "orig_im_size": torch.tensor([150.0, 100.0]),
    }


@pytest.mark.parametrize("has_more", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"return_single_mask": True},
        {"return_single_mask": False},
        {"return_single_mask": True, "use_stability_score": True, "return_extra_metrics": True},
    ],
)
def test_answers_are_the_official_ones(
    official: ModuleType,
    ours: SamModel,
    theirs: Any,
    inputs: Inputs,
    options: dict[str, bool],
    has_more: bool,
) -> None:
    from segment_anything.utils.onnx import SamOnnxModel as OfficialOnnxModel

    given = more_prompts(inputs) if has_more else inputs
    mine, other = (
        SamOnnxModel(ours, **options)(**given),
        OfficialOnnxModel(theirs, **options)(**given),
    )
    assert len(mine) == len(other)
    for one, two in zip(mine, other, strict=True):
        assert_same(one, two)


def test_the_exported_graph_takes_other_sizes_and_prompts(
    ours: SamModel, inputs: Inputs, tmp_path: Path
) -> None:
    model, path = SamOnnxModel(ours, return_single_mask=True), tmp_path / "sam.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The older exporter says that it is older.
        torch.onnx.export(
            model,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=["masks", "iou_predictions", "low_res_masks"],
            dynamic_axes={"point_coords": {1: "points"}, "point_labels": {1: "points"}},
            opset_version=17,
            dynamo=False,
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for given in (inputs, more_prompts(inputs)):
        found = session.run(None, {name: value.numpy() for name, value in given.items()})
        for one, two in zip(found, model(**given), strict=True):
            assert_same(torch.from_numpy(one), two, 1e-4)


def test_a_decoder_that_takes_more_is_refused() -> None:
    model = SamModel(make_model(TINY_PYRAMID, "tiny"))
    with pytest.raises(UnsuitableModelError, match="only SAM's architecture can be exported so"):
        SamOnnxModel(model, return_single_mask=True)
