"""What people choose in **Segment**: default, check, label and tooltip of each, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal

from sam_plugins.napari_plugin.images import Contrast
from sam_plugins.napari_plugin.session.editing import OVERLAPS, Overlap

Tool = Literal["points", "box", "scribble", "lasso", "polygon"]
TOOLS: tuple[Tool, ...] = ("points", "box", "scribble", "lasso", "polygon")

_COLOURS = ("grey", "red", "green", "blue", "cyan", "magenta", "yellow")


@dataclass(frozen=True)
class SegmentParams:
    """How prompts are understood, and how objects are written.

    Parameters
    ----------
    model : str
        Name or path of the model.
    device : str
        Where it computes; ``auto`` takes a GPU where there is one.
    tool : {"points", "box", "scribble", "lasso", "polygon"}
        What dragging the mouse does; a click is always a point.
    is_positive : bool
        Whether a click says where the object is, or where it is not.
    each_is_new : bool
        Whether each click on an object begins another one.
    overlap : {"keep", "replace"}
        Whether pixels of older objects stay or are taken over.
    is_semantic : bool
        Whether the class is written to the labels instead of a number for each object.
    class_name : str
        What the objects are.
    class_label : int
        Number of the class, for semantic labels.
    contrast : {"robust", "layer"}
        Where black and white come from for the model.
    channel_axis : int
        Axis of the channels in the image, -1 for none.
    channels : str
        Which channels the model sees, such as ``red=0, green=2``; empty for the first three.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    model: Annotated[str, "Model", "Name of a model, or a file of weights"] = "default"
    device: Annotated[str, "Device", "Where it computes: auto, cpu, cuda, mps"] = "auto"
    tool: Annotated[
        Tool, "Drag draws", "What dragging does with the tool on; a click is always a point"
    ] = "points"
    is_positive: Annotated[
        bool,
        "Click adds",
        "Clicks say where the object is; off: where it is not (T, or Ctrl-click)",
    ] = True
    each_is_new: Annotated[
        bool, "Each click a new object", "Many clicks are many objects, committed together"
    ] = False
    overlap: Annotated[
        Overlap, "Older objects", "Whether their pixels are kept, or replaced by the new object"
    ] = "keep"
    is_semantic: Annotated[
        bool, "Write the class", "All objects of a class get its number (semantic labels)"
    ] = False
    class_name: Annotated[str, "Class", "What the objects are"] = "object"
    class_label: Annotated[int, "Class number", "Value that is written for the class"] = 1
    contrast: Annotated[
        Contrast, "Contrast", "robust: percentiles of the plane; layer: the limits that you see"
    ] = "robust"
    channel_axis: Annotated[
        int, "Channel axis", "Axis of the image that holds channels; -1: none"
    ] = -1
    channels: Annotated[
        str, "Channels", "Colour=index pairs, such as red=0, green=2; empty: the first three"
    ] = ""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.tool not in TOOLS:
            raise ValueError(f"tool must be one of {', '.join(TOOLS)}, got {self.tool!r}")
        if self.overlap not in OVERLAPS:
            raise ValueError(f"overlap must be one of {', '.join(OVERLAPS)}, got {self.overlap!r}")
        if self.contrast not in {"robust", "layer"}:
            raise ValueError(f"contrast must be robust or layer, got {self.contrast!r}")
        if self.class_label < 1:
            raise ValueError(f"class_label must be 1 or more, got {self.class_label}")
        if self.channel_axis < -1:
            raise ValueError(f"channel_axis must be -1 or more, got {self.channel_axis}")
        parse_channels(self.channels)

    def document(self) -> dict[str, Any]:
        """Return the parameters for a session file."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> SegmentParams:
        """Return the parameters of a session file; what is unknown is left out."""
        known = {entry.name for entry in fields(cls)}
        return cls(**{name: value for name, value in document.items() if name in known})


def parse_channels(text: str) -> tuple[tuple[str, int], ...]:
    """Return a choice of channels that was typed.

    Raises
    ------
    ValueError
        If it cannot be understood.

    Examples
    --------
    >>> parse_channels("red=0, cyan = 3"), parse_channels("2"), parse_channels("")
    ((('red', 0), ('cyan', 3)), (('grey', 2),), ())
    """
    pairs = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        colour, equals, index = (piece.strip() for piece in part.rpartition("="))
        colour = colour if equals else "grey"
        if colour not in _COLOURS or not index.isdigit():
            raise ValueError(
                f"channels must be pairs such as red=0, green=2 with the colours "
                f"{', '.join(_COLOURS)}, got {part!r}"
            )
        pairs.append((colour, int(index)))
    if len({colour for colour, _ in pairs}) < len(pairs):
        raise ValueError(f"channels must have a colour of their own each, got {text!r}")
    return tuple(pairs)
