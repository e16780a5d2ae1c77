"""The names that people import, and what their docstrings must hold."""

from __future__ import annotations

import inspect
import re

import pytest

import sam_plugins

PUBLIC_NAMES = [
    "AUTO",
    "EmbeddingCache",
    "Exemplars",
    "GRID",
    "ImageEmbedding",
    "LargePrediction",
    "LargeSegmentation",
    "MaskPrediction",
    "Prompts",
    "ResizeLongestSide",
    "SamAutomaticMaskGenerator",
    "SamOnnxModel",
    "SamPluginsError",
    "SamPredictor",
    "SegmentOptions",
    "Segmentation",
    "SimilarOptions",
    "TextMatches",
    "TiledEmbedding",
    "__version__",
    "area_from_rle",
    "batched_mask_to_box",
    "build_all_layer_point_grids",
    "build_point_grid",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "calculate_stability_score",
    "coco_encode_rle",
    "describe_exemplars",
    "draw_overlay",
    "embedding_key",
    "encode_image",
    "encode_rgb",
    "find_by_text",
    "find_similar",
    "load_clip",
    "load_model",
    "mask_to_rle_pytorch",
    "predict_large",
    "predict_masks",
    "read_image",
    "remove_small_regions",
    "rle_to_mask",
    "sam_model_registry",
    "segment",
    "segment_large",
    "segment_large_stack",
    "segment_volume",
    "to_rgb",
    "write_labels",
]


def test_public_names_are_exactly_these() -> None:
    assert sorted(sam_plugins.__all__) == PUBLIC_NAMES


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_name_resolves_and_is_listed(name: str) -> None:
    assert getattr(sam_plugins, name) is getattr(sam_plugins, name)
    assert name in dir(sam_plugins)


def test_unknown_name_is_an_attribute_error_that_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'segmemt'; it offers .*\bsegment\b"):
        _ = sam_plugins.segmemt  # type: ignore[attr-defined]


def test_version_is_a_pep_440_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|a\d+|b\d+|rc\d+)?", sam_plugins.__version__)


@pytest.mark.parametrize(
    "name",
    [
        "batched_mask_to_box",
        "build_all_layer_point_grids",
        "build_point_grid",
        "describe_exemplars",
        "draw_overlay",
        "encode_image",
        "encode_rgb",
        "find_by_text",
        "find_similar",
        "load_clip",
        "load_model",
        "mask_to_rle_pytorch",
        "predict_large",
        "predict_masks",
        "remove_small_regions",
        "segment",
        "segment_large",
        "segment_large_stack",
        "segment_volume",
        "to_rgb",
    ],
)
def test_public_functions_describe_their_arguments_results_and_errors(name: str) -> None:
    function = getattr(sam_plugins, name)
    doc = inspect.getdoc(function) or ""
    for section in ("Parameters", "Returns", "Raises"):
        assert f"{section}\n{'-' * len(section)}" in doc, f"{name} lacks the section {section}"
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"^\*{{0,2}}{parameter}\b.* :|\b{parameter} :", doc, re.MULTILINE), (
            f"{name} does not describe {parameter}"
        )


@pytest.mark.parametrize(
    "name",
    [
        "EmbeddingCache",
        "Exemplars",
        "ImageEmbedding",
        "LargePrediction",
        "LargeSegmentation",
        "MaskPrediction",
        "Prompts",
        "SamPredictor",
        "SegmentOptions",
        "Segmentation",
        "SimilarOptions",
        "TextMatches",
        "TiledEmbedding",
    ],
)
def test_public_classes_are_described(name: str) -> None:
    assert len((getattr(sam_plugins, name).__doc__ or "").split()) >= 5
