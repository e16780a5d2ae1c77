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

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sam_plugins.errors import SamPluginsError
    from sam_plugins.model.inference.automatic import segment
    from sam_plugins.model.inference.compat import (
        ResizeLongestSide,
        SamAutomaticMaskGenerator,
        SamPredictor,
        sam_model_registry,
    )
    from sam_plugins.model.inference.predict import encode_image, load_model, predict_masks
    from sam_plugins.model.inference.types import (
        ImageEmbedding,
        MaskPrediction,
        Prompts,
        Segmentation,
    )

__version__ = "0.1.0.dev0"

__all__ = [
    "ImageEmbedding",
    "MaskPrediction",
    "Prompts",
    "ResizeLongestSide",
    "SamAutomaticMaskGenerator",
    "SamPluginsError",
    "SamPredictor",
    "Segmentation",
    "__version__",
    "encode_image",
    "load_model",
    "predict_masks",
    "sam_model_registry",
    "segment",
]

_HOME_OF_NAME = {
    "ImageEmbedding": "sam_plugins.model.inference.types",
    "MaskPrediction": "sam_plugins.model.inference.types",
    "Prompts": "sam_plugins.model.inference.types",
    "ResizeLongestSide": "sam_plugins.model.inference.compat",
    "SamAutomaticMaskGenerator": "sam_plugins.model.inference.compat",
    "SamPluginsError": "sam_plugins.errors",
    "SamPredictor": "sam_plugins.model.inference.compat",
    "Segmentation": "sam_plugins.model.inference.types",
    "encode_image": "sam_plugins.model.inference.predict",
    "load_model": "sam_plugins.model.inference.predict",
    "predict_masks": "sam_plugins.model.inference.predict",
    "sam_model_registry": "sam_plugins.model.inference.compat",
    "segment": "sam_plugins.model.inference.automatic",
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
