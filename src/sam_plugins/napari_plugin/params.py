"""What people choose in **Segment**: default, check, label and tooltip of each, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Protocol

from sam_plugins.napari_plugin.images import CONTRASTS, Contrast
from sam_plugins.napari_plugin.session.editing import OVERLAPS, Overlap

Tool = Literal["points", "box", "scribble", "lasso", "polygon"]
TOOLS: tuple[Tool, ...] = ("points", "box", "scribble", "lasso", "polygon")

_COLOURS = ("grey", "red", "green", "blue", "cyan", "magenta", "yellow")

CONTRAST_CONTROL: dict[str, Any] = {
    "label": "Contrast",
    "choices": list(CONTRASTS),
    "tooltip": "What the model sees as black and white. robust: percentiles of the picture or the "
    "stack; layer: the limits that you see",
}
CHANNEL_AXIS_CONTROL: dict[str, Any] = {
    "label": "Channel axis",
    "min": -1,
    "max": 9,
    "tooltip": "The axis of the image that holds channels; -1: none, or what the layer says itself",
}
CHANNELS_CONTROL: dict[str, Any] = {
    "label": "Channels",
    "tooltip": "Pairs of colour and index, such as red=0, green=2; empty: the first three",
}


class ViewParams(Protocol):
    """What of an image the model is shown."""

    @property
    def contrast(self) -> Contrast:
        """Where black and white come from."""

    @property
    def channel_axis(self) -> int:
        """Axis of the channels, -1 for what the layer says of itself."""

    @property
    def channels(self) -> str:
        """Colours and indices, see :func:`parse_channels`."""


@dataclass(frozen=True)
class SegmentParams:
    """How prompts are understood, and how objects are written.

    Parameters
    ----------
    tool : {"points", "box", "scribble", "lasso", "polygon"}
        What dragging the mouse does; with ``"polygon"`` clicks are corners of an outline, otherwise
        always points.
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
        Which channels the model sees, such as ``red=0, green=2``; empty for the first three. Read
        by :func:`parse_channels`.
    words, other_words : str
        What to find, and what else is in the picture; phrases with commas between them.
    clip : str
        Folder or name of the CLIP that understands the words.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    tool: Tool = field(
        default="points",
        metadata={
            "label": "The mouse draws",
            "choices": list(TOOLS),
            "tooltip": "What dragging does on the image. With polygon, clicks are corners of an "
            "outline, and a double click closes it; otherwise a click is always a point. "
            "Shift-drag draws a box in any case",
        },
    )
    is_positive: bool = field(
        default=True,
        metadata={
            "label": "Clicks add",
            "tooltip": "Clicks are on the object; off: beside it (key T, or Ctrl-click)",
        },
    )
    each_is_new: bool = field(
        default=False,
        metadata={
            "label": "Each a new object",
            "tooltip": "Each click on an object begins another one; all are committed together",
        },
    )
    overlap: Overlap = field(
        default="keep",
        metadata={
            "label": "Older objects",
            "choices": list(OVERLAPS),
            "tooltip": "Whether their pixels are kept, or replaced by the new object",
        },
    )
    is_semantic: bool = field(
        default=False,
        metadata={
            "label": "Write the class",
            "tooltip": "All objects of a class get its number (semantic labels)",
        },
    )
    class_name: str = field(
        default="object", metadata={"label": "Class", "tooltip": "What the objects are"}
    )
    class_label: int = field(
        default=1,
        metadata={
            "label": "Class number",
            "min": 1,
            "max": 65535,
            "tooltip": "The value that is written for the class",
        },
    )
    contrast: Contrast = field(
        default="robust",
        metadata=CONTRAST_CONTROL,
    )
    channel_axis: int = field(
        default=-1,
        metadata=CHANNEL_AXIS_CONTROL,
    )
    channels: str = field(
        default="",
        metadata=CHANNELS_CONTROL,
    )
    words: str = field(
        default="",
        metadata={
            "label": "Words",
            "tooltip": "What to find, such as: a car, a bicycle. Find by words looks for it",
        },
    )
    other_words: str = field(
        default="",
        metadata={
            "label": "And not",
            "tooltip": "What else is in the picture and not meant, such as: road, house. "
            "Empty: background, texture and the like",
        },
    )
    clip: str = field(
        default="openai/clip-vit-base-patch32",
        metadata={
            "label": "CLIP",
            "tooltip": "Folder of the CLIP that understands the words, or its name. "
            "It is not downloaded from here",
        },
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, known in (("tool", TOOLS), ("overlap", OVERLAPS), ("contrast", CONTRASTS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        for name, least in (("class_label", 1), ("channel_axis", -1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")

    @property
    def lasting(self) -> SegmentParams:
        """What is worth keeping for other images and other days."""
        usual = SegmentParams()
        return replace(
            self,
            tool=usual.tool,
            is_positive=usual.is_positive,
            each_is_new=usual.each_is_new,
            channel_axis=usual.channel_axis,
            channels=usual.channels,
            words=usual.words,
            other_words=usual.other_words,
        )

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


def parse_phrases(text: str) -> tuple[str, ...]:
    """Return phrases that were typed with commas between them.

    Examples
    --------
    >>> parse_phrases("a car, , a red bicycle"), parse_phrases(" ")
    (('a car', 'a red bicycle'), ())
    """
    return tuple(filter(None, (piece.strip() for piece in text.split(","))))
