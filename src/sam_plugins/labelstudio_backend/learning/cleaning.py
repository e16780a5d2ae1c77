"""Which items of an annotation are objects: prompts and doubled items are left out."""

from __future__ import annotations

import xml.etree.ElementTree as ET  # of Label Studio, without a document type, see below
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sam_plugins.errors import DatasetError

_MASK_TAGS = ("Brush", "Bitmask", "Polygon", "Ellipse")
_PROMPTS = ("keypoint", "rectangle")
_SHAPES = ("brush", "bitmask", "polygon", "ellipse")


@dataclass(frozen=True)
class Interface:
    """What a labelling interface says about the pictures and the objects in them.

    Attributes
    ----------
    data_key : str
        Under which a task's data name the picture, or its pages.
    shapes : tuple of str
        Which regions are objects. Rectangles are, where masks cannot be drawn and the rectangle
        is no smart tool; elsewhere they are prompts.
    """

    data_key: str
    shapes: tuple[str, ...]

    @classmethod
    def of(cls, config: str) -> Interface:
        """Read a labelling interface.

        Raises
        ------
        DatasetError
            If it is no XML, or shows no picture.
        """
        if "<!" in config.replace("<!--", ""):
            raise DatasetError(
                "the labelling interface must hold tags only, got a document type or entities; "
                "take them out in the project's settings"
            )
        try:
            root = ET.fromstring(config)  # noqa: S314  # neither document type nor entities
        except ET.ParseError as error:
            raise DatasetError(
                f"the labelling interface is no XML ({error}); mend it in the project's settings"
            ) from error
        named = [
            value.removeprefix("$")
            for tag in root.iter("Image")
            for value in (tag.get("value"), tag.get("valueList"))
            if value
        ]
        if not named:
            raise DatasetError(
                "the labelling interface shows no picture; it needs an Image tag with "
                'value="$image"'
            )
        drawn = [tag for tag in root.iter() if tag.tag.startswith(_MASK_TAGS)]
        smart = [
            tag
            for tag in root.iter()
            if tag.tag.startswith("Rectangle") and tag.get("smart", "true").lower() != "false"
        ]
        shapes = _SHAPES if drawn or smart else (*_SHAPES, "rectangle")
        return cls(named[0], shapes)


def without_prompts(
    result: Sequence[Mapping[str, Any]], interface: Interface
) -> list[Mapping[str, Any]]:
    """Return the items that draw or name objects.

    Key points never do, rectangles where the interface says so; nor do items that repeat a mask
    under the type of its prompt, as the editor adds them to accepted suggestions while labels are
    kept selected.

    Parameters
    ----------
    result : sequence of mapping
        Of an annotation.
    interface : Interface
    """
    return [item for item in result if _is_of_object(item, interface)]


def chosen_annotation(annotations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the annotation of a task that counts.

    Two people's masks of one object are not two objects: one annotation counts, that with a star
    (ground truth), else the one that was changed last. Skipped ones never do.
    """
    whole = [one for one in annotations if not one.get("was_cancelled")]
    return max(whole, key=_rank, default=None)


def _rank(annotation: Mapping[str, Any]) -> tuple[bool, str, int]:
    """Return what orders annotations, the one that counts last."""
    changed = str(annotation.get("updated_at") or annotation.get("created_at") or "")
    return bool(annotation.get("ground_truth")), changed, int(annotation["id"])


def _is_of_object(item: Mapping[str, Any], interface: Interface) -> bool:
    """Return whether an item draws or names an object."""
    kind = str(item.get("type", "")).removesuffix("labels")
    value = item.get("value")
    if not isinstance(value, Mapping):
        return False
    if kind in _PROMPTS:
        return kind in interface.shapes and "rle" not in value
    return True
