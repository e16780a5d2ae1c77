"""Promptable segmentation where people already label images.

The public names are listed in ``__all__`` and load on first use (:pep:`562`), so
``import sam_plugins`` imports neither torch nor numpy.

Examples
--------
>>> import sam_plugins
>>> "segment" in dir(sam_plugins)
True
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# PyTorch's OpenMP on Linux reads it when torch is imported. Threads that wait for work keep a core
# busy for 300,000 turns by default, which on a busy machine the others, and they themselves, wait
# for; after 10,000 they sleep. See docs/explanation/performance.md.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if TYPE_CHECKING:
    from sam_plugins.errors import SamPluginsError
    from sam_plugins.model.inference.cache import EmbeddingCache, embedding_key
    from sam_plugins.model.inference.clip import load_clip
    from sam_plugins.model.inference.compat import (
        ResizeLongestSide,
        SamAutomaticMaskGenerator,
        SamOnnxModel,
        SamPredictor,
        build_sam,
        build_sam_vit_b,
        build_sam_vit_h,
        build_sam_vit_l,
        sam_model_registry,
    )
    from sam_plugins.model.inference.compat.amg import (
        area_from_rle,
        batched_mask_to_box,
        build_all_layer_point_grids,
        coco_encode_rle,
        mask_to_rle_pytorch,
        remove_small_regions,
        rle_to_mask,
    )
    from sam_plugins.model.inference.compat.crops import build_point_grid
    from sam_plugins.model.inference.compat.measure import calculate_stability_score
    from sam_plugins.model.inference.exemplars import Exemplars, describe_exemplars
    from sam_plugins.model.inference.overlay import draw_overlay
    from sam_plugins.model.inference.predict import (
        encode_image,
        encode_rgb,
        load_model,
        predict_masks,
    )
    from sam_plugins.model.inference.rgb import to_rgb
    from sam_plugins.model.inference.segment_options import AUTO, GRID, SegmentOptions
    from sam_plugins.model.inference.similar import SimilarOptions, find_similar
    from sam_plugins.model.inference.text import TextMatches, find_by_text
    from sam_plugins.model.inference.types import (
        ImageEmbedding,
        MaskPrediction,
        Prompts,
        Segmentation,
    )
    from sam_plugins.model.io.images import read_image
    from sam_plugins.model.io.labels import write_labels
    from sam_plugins.model.large.automatic import segment_large
    from sam_plugins.model.large.embedding import TiledEmbedding
    from sam_plugins.model.large.masks import LargePrediction
    from sam_plugins.model.large.prompts import predict_large
    from sam_plugins.model.large.results import LargeSegmentation
    from sam_plugins.model.large.stack import segment_large_stack
    from sam_plugins.model.large.volume import segment_volume
    from sam_plugins.model.large.whole import segment

__version__ = "0.1.0.dev0"

__all__ = [
    "AUTO",
    "GRID",
    "EmbeddingCache",
    "Exemplars",
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

_HOME_OF_NAME = {
    "AUTO": "sam_plugins.model.inference.segment_options",
    "EmbeddingCache": "sam_plugins.model.inference.cache",
    "Exemplars": "sam_plugins.model.inference.exemplars",
    "GRID": "sam_plugins.model.inference.segment_options",
    "ImageEmbedding": "sam_plugins.model.inference.types",
    "LargePrediction": "sam_plugins.model.large.masks",
    "LargeSegmentation": "sam_plugins.model.large.results",
    "MaskPrediction": "sam_plugins.model.inference.types",
    "Prompts": "sam_plugins.model.inference.types",
    "ResizeLongestSide": "sam_plugins.model.inference.compat",
    "SamAutomaticMaskGenerator": "sam_plugins.model.inference.compat",
    "SamOnnxModel": "sam_plugins.model.inference.compat",
    "SamPluginsError": "sam_plugins.errors",
    "SamPredictor": "sam_plugins.model.inference.compat",
    "SegmentOptions": "sam_plugins.model.inference.segment_options",
    "Segmentation": "sam_plugins.model.inference.types",
    "SimilarOptions": "sam_plugins.model.inference.similar",
    "TextMatches": "sam_plugins.model.inference.text",
    "TiledEmbedding": "sam_plugins.model.large.embedding",
    "area_from_rle": "sam_plugins.model.inference.compat.amg",
    "batched_mask_to_box": "sam_plugins.model.inference.compat.amg",
    "build_all_layer_point_grids": "sam_plugins.model.inference.compat.amg",
    "build_point_grid": "sam_plugins.model.inference.compat.crops",
    "build_sam": "sam_plugins.model.inference.compat",
    "build_sam_vit_b": "sam_plugins.model.inference.compat",
    "build_sam_vit_h": "sam_plugins.model.inference.compat",
    "build_sam_vit_l": "sam_plugins.model.inference.compat",
    "calculate_stability_score": "sam_plugins.model.inference.compat.measure",
    "coco_encode_rle": "sam_plugins.model.inference.compat.amg",
    "describe_exemplars": "sam_plugins.model.inference.exemplars",
    "draw_overlay": "sam_plugins.model.inference.overlay",
    "embedding_key": "sam_plugins.model.inference.cache",
    "encode_image": "sam_plugins.model.inference.predict",
    "encode_rgb": "sam_plugins.model.inference.predict",
    "find_by_text": "sam_plugins.model.inference.text",
    "find_similar": "sam_plugins.model.inference.similar",
    "load_clip": "sam_plugins.model.inference.clip",
    "load_model": "sam_plugins.model.inference.predict",
    "mask_to_rle_pytorch": "sam_plugins.model.inference.compat.amg",
    "predict_large": "sam_plugins.model.large.prompts",
    "predict_masks": "sam_plugins.model.inference.predict",
    "read_image": "sam_plugins.model.io.images",
    "remove_small_regions": "sam_plugins.model.inference.compat.amg",
    "rle_to_mask": "sam_plugins.model.inference.compat.amg",
    "sam_model_registry": "sam_plugins.model.inference.compat",
    "segment": "sam_plugins.model.large.whole",
    "segment_large": "sam_plugins.model.large.automatic",
    "segment_large_stack": "sam_plugins.model.large.stack",
    "segment_volume": "sam_plugins.model.large.volume",
    "to_rgb": "sam_plugins.model.inference.rgb",
    "write_labels": "sam_plugins.model.io.labels",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for, and keep it."""
    home = _HOME_OF_NAME.get(name)
    if home is None:
        message = f"module 'sam_plugins' has no attribute {name!r}; it offers {', '.join(__all__)}"
        raise AttributeError(message)
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
