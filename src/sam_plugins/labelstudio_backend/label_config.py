"""The labelling config: which controls draw what on which picture, with which labels.

A small reader of our own: that of label-studio-sdk takes a second to import, which ``/health`` does
not have. Entities and document types are refused, so that no config can read files or grow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from xml.parsers import expat

from sam_plugins.labelstudio_backend.config_values import Repeat, fillings, value_in

SHAPES = ("brush", "bitmask", "polygon", "ellipse", "rectangle")
"""What regions can be answered as, best first: what says most about a mask."""

LEARNED = ("brush", "bitmask", "polygon", "ellipse")
"""What is learned from: these say which pixels are of an object. A rectangle does not."""

PROMPTS = ("keypoint", "rectangle", "brush", "bitmask", "polygon", "ellipse")
"""What can be drawn to ask."""

SMART = ("keypoint", "rectangle")
"""What the editor of Label Studio 1.23 sends while it is being drawn."""

_TAGS = {
    "brush": "Brush",
    "bitmask": "Bitmask",
    "polygon": "Polygon",
    "ellipse": "Ellipse",
    "rectangle": "Rectangle",
    "keypoint": "KeyPoint",
}
_KINDS = {tag.lower() + end: shape for shape, tag in _TAGS.items() for end in ("", "labels")}
_OFF = {"false", "0"}
_MAX_BYTES = 2 * 2**20
_MAX_DEPTH = 200


class ConfigError(ValueError):
    """A labelling config cannot be used."""


@dataclass(frozen=True)
class Label:
    """A label of a control.

    Parameters
    ----------
    value : str
        As it stands in results.
    others : tuple of str
        ``alias`` and ``predicted_values``: other words for it.
    is_selected : bool
        Whether the editor begins with it (``selected="true"``).
    """

    value: str
    others: tuple[str, ...] = ()
    is_selected: bool = False


@dataclass(frozen=True)
class Control:
    """A tag that makes regions.

    Parameters
    ----------
    name : str
        ``from_name`` of its results.
    kind : str
        ``brush``, ``bitmask``, ``polygon``, ``ellipse``, ``rectangle``, ``keypoint``, ``labels`` or
        ``textarea``.
    tag : str
        As written.
    to_names : tuple of str
        Of the pictures that it is for.
    labels : tuple of Label
        Of its own; none for a bare shape.
    attributes : mapping
        All others.
    repeat : Repeat, optional
        What it stands in.
    """

    name: str
    kind: str
    tag: str
    to_names: tuple[str, ...]
    labels: tuple[Label, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    repeat: Repeat | None = None

    @property
    def has_labels(self) -> bool:
        """Whether shape and label are one tag."""
        return self.tag.lower().endswith("labels")

    @property
    def knows_its_labels(self) -> bool:
        """Whether all its labels are in the config, and none come with the task's data."""
        return bool(self.labels) and "$" not in self.attributes.get("value", "")

    @property
    def is_smart(self) -> bool:
        """Whether the editor offers a smart tool of it: it does unless told otherwise."""
        is_on = self.attributes.get("smart", "true").strip().lower() not in _OFF
        return is_on and self.kind in SMART

    @property
    def is_said_to_be_smart(self) -> bool:
        """Whether the config says so, rather than leaving it open."""
        return self.attributes.get("smart", "").strip().lower() in {"true", "1"}

    @property
    def is_of_region(self) -> bool:
        """Whether it is about a single region, not the picture."""
        return self.attributes.get("perRegion", "").strip().lower() in {"true", "1"}

    def label(self, name: str) -> str | None:
        """Return the value of the label that a word means, None where there is none.

        Examples
        --------
        >>> labels = (Label("Cell", ("cell nucleus",)),)
        >>> Control("b", "brush", "BrushLabels", ("image",), labels).label("cell Nucleus")
        'Cell'
        """
        for label in self.labels:
            if label.value == name:
                return label.value
        wanted = name.strip().casefold()
        for label in self.labels:
            if wanted in {other.strip().casefold() for other in (label.value, *label.others)}:
                return label.value
        return None


@dataclass(frozen=True)
class ImageTag:
    """A picture of the config.

    Parameters
    ----------
    name : str
        ``to_name`` of its results.
    key : str
        Of the task's data, such as ``scan`` or ``scans[1].url``; as it stands where more than that
        is written, as in ``https://host/$file``.
    is_list : bool
        Whether the data holds a list: pages.
    repeat : Repeat, optional
        What it stands in.
    """

    name: str
    key: str
    is_list: bool = False
    repeat: Repeat | None = None

    def named_in(self, data: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Return what a task's data hold for it: an address, or a list of them for pages.

        Examples
        --------
        >>> ImageTag("image", "scan.url").named_in({"scan": {"url": "/data/upload/1/a.png"}})
        '/data/upload/1/a.png'
        """
        return value_in(data, self.key)


@dataclass(frozen=True)
class LabelConfig:
    """A labelling config.

    Parameters
    ----------
    images : tuple of ImageTag
    controls : tuple of Control
        As written, those of other data left out.
    names : tuple of str
        Of all tags, in their order.
    lost : tuple of Control
        Those that are for what no tag is called.
    """

    images: tuple[ImageTag, ...]
    controls: tuple[Control, ...]
    names: tuple[str, ...] = ()
    lost: tuple[Control, ...] = ()

    def image(self, name: str) -> ImageTag | None:
        """Return a picture by name."""
        return next((image for image in self.images if image.name == name), None)

    def control(self, name: str) -> Control | None:
        """Return a control by name."""
        return next((control for control in self.controls if control.name == name), None)

    def for_data(self, data: Mapping[str, Any]) -> LabelConfig:
        """Return the config of a task: what stands in a repeater, once for each of its entries.

        Raises
        ------
        ConfigError
            If no picture is left.
        """
        repeats = [one.repeat for one in self.images] + [one.repeat for one in self.controls]
        if not any(repeats):
            return self
        images = [
            replace(one, name=fill(one.name), key=fill(one.key), repeat=None)
            for one in self.images
            for fill in fillings(one.repeat, data)
        ]
        controls = [
            replace(one, name=fill(one.name), to_names=tuple(map(fill, one.to_names)), repeat=None)
            for one in self.controls
            for fill in fillings(one.repeat, data)
        ]
        if not images:
            keys = {one.repeat.key for one in self.images if one.repeat}
            raise ConfigError(
                f"the task shows no picture: data[{', '.join(sorted(keys))!r}], which the "
                "labelling config repeats, must be a list with entries"
            )
        return LabelConfig(tuple(images), tuple(controls))

    def of(self, to_name: str, *kinds: str) -> Iterator[Control]:
        """Yield the controls of some kinds for a picture."""
        for control in self.controls:
            if to_name in control.to_names and control.kind in kinds:
                yield control

    def takes_words(self, name: str) -> bool:
        """Return whether what is typed into a text area is a prompt, and no comment.

        The editor sends the texts of all areas, smart or not. Where none says ``smart="true"``, all
        count that do not say "false"; what is written about a single region never does.
        """
        areas = [control for control in self.controls if control.kind == "textarea"]
        if any(area.name == name and area.is_of_region for area in areas):
            return False
        smart = [control.name for control in areas if control.is_said_to_be_smart]
        if smart:
            return name in smart
        area = next((control for control in areas if control.name == name), None)
        return area is None or area.attributes.get("smart", "").strip().lower() not in _OFF


@lru_cache(maxsize=128)
def read_config(text: str) -> LabelConfig:
    """Read a labelling config.

    Parameters
    ----------
    text : str
        XML.

    Raises
    ------
    ConfigError
        If it is no XML, holds a document type or an entity of its own, is too large, or shows no
        picture.
    """
    if not text.strip():
        raise ConfigError("the labelling config is empty; save one in the project's settings")
    if len(text) > _MAX_BYTES:
        raise ConfigError(f"the labelling config has {len(text)} bytes, at most {_MAX_BYTES} do")
    reader = _Reader()
    try:
        reader.parse(text)
    except (expat.ExpatError, UnicodeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"the labelling config is no XML: {error}; correct it there") from error
    images = tuple(reader.images)
    if not images:
        raise ConfigError(
            'the labelling config shows no picture; it needs <Image name="image" value="$image"/>'
        )
    shown = {image.name for image in images}
    made = [_made(started) for started in reader.controls]
    controls = tuple(control for control in made if shown & set(control.to_names))
    names = tuple(reader.names)
    lost = tuple(
        control for control in made if not control.to_names or set(control.to_names) - set(names)
    )
    return LabelConfig(images, controls, names, lost)


@dataclass
class _Started:
    """A control while its labels are being read."""

    tag: str
    attributes: dict[str, str]
    labels: list[Label] = field(default_factory=list)
    repeat: Repeat | None = None


class _Reader:
    """Collects pictures and controls from the events of expat."""

    def __init__(self) -> None:
        self.images: list[ImageTag] = []
        self.controls: list[_Started] = []
        self.names: list[str] = []
        self._open: list[_Started | None] = []
        self._repeats: list[tuple[int, Repeat]] = []

    def parse(self, text: str) -> None:
        """Read a document."""
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.ExternalEntityRefHandler = self._refuse
        parser.Parse(text.encode("utf-8"), True)

    def _refuse(self, *_: Any) -> int:  # noqa: ANN401
        raise ConfigError(
            "the labelling config must not have a document type or entities of its own; remove "
            "<!DOCTYPE ...>"
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= _MAX_DEPTH:
            raise ConfigError(f"the labelling config is nested deeper than {_MAX_DEPTH} tags")
        kind = tag.lower()
        if attributes.get("name"):
            self.names.append(attributes["name"])
        started = None
        repeat = self._repeats[-1][1] if self._repeats else None
        if kind == "repeater" and attributes.get("on"):
            flag = attributes.get("indexFlag") or Repeat.flag
            self._repeats.append((len(self._open), Repeat(_key(attributes["on"]), flag)))
        elif kind == "image" and attributes.get("name"):
            is_list = bool(attributes.get("valueList"))
            key = _key(attributes.get("valueList") or attributes.get("value") or "")
            self.images.append(ImageTag(attributes["name"], key, is_list, repeat))
        elif kind == "label" and attributes.get("value"):
            owner = next((one for one in reversed(self._open) if one is not None), None)
            if owner is not None:
                owner.labels.append(_label(attributes))
        elif (kind in _KINDS or kind in {"labels", "textarea"}) and attributes.get("name"):
            started = _Started(tag, attributes, repeat=repeat)
            self.controls.append(started)
        self._open.append(started)

    def _end(self, _: str) -> None:
        self._open.pop()
        if self._repeats and self._repeats[-1][0] == len(self._open):
            self._repeats.pop()


def _label(attributes: Mapping[str, str]) -> Label:
    """Return a label with its other words."""
    others = [attributes.get("alias", ""), *attributes.get("predicted_values", "").split(",")]
    return Label(
        attributes["value"],
        tuple(other.strip() for other in others if other.strip()),
        is_selected=attributes.get("selected", "").strip().lower() in {"true", "1"},
    )


def _made(started: _Started) -> Control:
    """Return a control that was read."""
    attributes = started.attributes
    kind = started.tag.lower()
    names = tuple(name.strip() for name in attributes.get("toName", "").split(",") if name.strip())
    kept = {key: value for key, value in attributes.items() if key not in {"name", "toName"}}
    return Control(
        attributes["name"],
        _KINDS.get(kind, kind),
        started.tag,
        names,
        tuple(started.labels),
        kept,
        started.repeat,
    )


def _key(value: str) -> str:
    """Return the key that a value names, or the value where it holds more than that.

    Examples
    --------
    >>> _key("$image"), _key("$scans[0].url"), _key("https://host/$file")
    ('image', 'scans[0].url', 'https://host/$file')
    """
    return value.removeprefix("$") if "$" not in value[1:] else value
