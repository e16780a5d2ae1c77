"""The label store: what people and models labelled, how it came to be, and what is held out.

:class:`LabelStore` is the way in. Each format for import and export has a module of its own.
"""

from sam_plugins.model.engine.label_store.store import LabelStore
from sam_plugins.model.engine.label_store.types import (
    TRUSTED,
    ImageRecord,
    ImageSource,
    LabelledObject,
    PaintedObjects,
    PromptEvent,
    PromptKind,
    Review,
    ReviewState,
    Split,
    Stage,
)

__all__ = [
    "TRUSTED",
    "ImageRecord",
    "ImageSource",
    "LabelStore",
    "LabelledObject",
    "PaintedObjects",
    "PromptEvent",
    "PromptKind",
    "Review",
    "ReviewState",
    "Split",
    "Stage",
]
