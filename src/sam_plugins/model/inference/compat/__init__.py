"""The names, signatures and output formats of segment_anything, on top of our core.

Programs that were written for it run with the import changed. The facts (names, defaults, keys,
formulas) are those of Kirillov et al. 2023 and their published code; the way there is ours.
"""

from sam_plugins.model.inference.compat.mask_generator import SamAutomaticMaskGenerator
from sam_plugins.model.inference.compat.model import SamModel
from sam_plugins.model.inference.compat.onnx_export import SamOnnxModel
from sam_plugins.model.inference.compat.predictor import SamPredictor
from sam_plugins.model.inference.compat.registry import (
    build_sam,
    build_sam_vit_b,
    build_sam_vit_h,
    build_sam_vit_l,
    sam_model_registry,
)
from sam_plugins.model.inference.compat.transforms import ResizeLongestSide

__all__ = [
    "ResizeLongestSide",
    "SamAutomaticMaskGenerator",
    "SamModel",
    "SamOnnxModel",
    "SamPredictor",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "sam_model_registry",
]
