"""Which items of an annotation are objects, of which picture; what is left out is counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sam_plugins.errors import DatasetError
from sam_plugins.labelstudio_backend.label_config import (
    LEARNED,
    ConfigError,
    ImageTag,
    LabelConfig,
    read_config,
)
from sam_plugins.model.io.label_studio import ANSWERS

Item = Mapping[str, Any]

_PROMPTS = ("keypoint", "rectangle")
_POINT = "key points are prompts"
_BOX = "a rectangle is no mask"
_NO_SUCH_PICTURE = "the labelling interface has no such picture"
_NO_LIST = "the result of its annotation is no list"


@dataclass(frozen=True)
class SortedItems:
    """The items of an annotation.

    Attributes
    ----------
    by_image : mapping of str to list of mapping
        Those that draw or name objects, by the name of their picture.
    left_out : mapping of str to int
        Why regions are no objects, and how many.
    """

    by_image: Mapping[str, list[Item]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)


def read_interface(config: str, data: Mapping[str, Any] | None = None) -> LabelConfig:
    """Read a labelling interface.

    Parameters
    ----------
    config : str
        XML.
    data : mapping, optional
        Of a task: what stands in a repeater is then there for each of its entries.

    Raises
    ------
    DatasetError
        If it cannot be used, or shows no picture.
    """
    try:
        found = read_config(config)
        found = found if data is None else found.for_data(data)
    except ConfigError as error:
        raise DatasetError(str(error)) from error
    if not any(image.key for image in found.images):
        raise DatasetError(
            'the labelling interface shows no picture; its Image tag needs value="$image"'
        )
    return found


def sort_items(result: Sequence[Any], interface: LabelConfig) -> SortedItems:
    """Return the items that draw or name objects, each with its picture.

    Brush strokes, bitmasks, polygons and ellipses do. Key points never do, nor do rectangles: what
    is learned from are masks. Items that repeat a mask under the type of its prompt, as the editor
    adds them to accepted suggestions while labels are kept selected, go with their region.

    Parameters
    ----------
    result : sequence
        Of an annotation.
    interface : LabelConfig
    """
    together: dict[str, list[Item]] = defaultdict(list)
    for number, item in enumerate(result):
        if isinstance(item, Mapping):
            together[str(item.get("id", f"number {number}"))].append(item)
    by_image: dict[str, list[Item]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for items in together.values():
        reason = _reason_against(items)
        if reason is not None:
            left_out.update([reason] if reason else [])
            continue
        image = _image_of(items, interface)
        if image is None:
            left_out[_NO_SUCH_PICTURE] += 1
        else:
            by_image[image.name] += [one for one in items if _kind(one) not in _PROMPTS]
    return SortedItems(by_image, left_out)


def chosen_annotation(annotations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the annotation of a task that counts.

    Two people's masks of one object are not two objects: one annotation counts, that with a star
    (ground truth), else the one that was changed last. Skipped ones never do, nor do those whose
    result cannot be read.
    """
    whole = [one for one in annotations if not one.get("was_cancelled") and _is_readable(one)]
    return max(whole, key=_rank, default=None)


def count_others(
    annotations: Sequence[Mapping[str, Any]],
    chosen: Mapping[str, Any] | None,
    interface: LabelConfig,
) -> Counter[str]:
    """Return how many objects stand in annotations that do not count, and why these do not."""
    left_out: Counter[str] = Counter()
    for one in annotations:
        if one is chosen:
            continue
        if not _is_readable(one):
            left_out[_NO_LIST] += 1
            continue
        found = sort_items(one.get("result") or [], interface)
        reason = (
            "its annotation was skipped"
            if one.get("was_cancelled")
            else "another annotation of the task counts"
        )
        count = sum(count_regions(items) for items in found.by_image.values())
        left_out.update({reason: count} if count else {})
    return left_out


def count_regions(items: Sequence[Item]) -> int:
    """Return how many regions items draw."""
    return len({str(one.get("id", id(one))) for one in items if _kind(one) in LEARNED})


def _is_readable(annotation: Mapping[str, Any]) -> bool:
    """Return whether the result of an annotation is a list, or none is told."""
    return isinstance(annotation.get("result") or [], list)


def _rank(annotation: Mapping[str, Any]) -> tuple[bool, str, int]:
    """Return what orders annotations, the one that counts last."""
    changed = str(annotation.get("updated_at") or annotation.get("created_at") or "")
    return bool(annotation.get("ground_truth")), changed, int(annotation["id"])


def _reason_against(items: Sequence[Item]) -> str | None:
    """Return why items of one id are no object; empty where they are no region, None if they are.

    A label, a choice or a text that belongs to a region has its id.
    """
    kinds = [_kind(one) for one in items]
    if any(kind in LEARNED for kind in kinds):
        return None
    drawn = [kind for kind in kinds if kind not in ANSWERS and kind != "labels"]
    if not drawn:
        return "a label without a shape is no mask" if "labels" in kinds else ""
    return {"keypoint": _POINT, "rectangle": _BOX}.get(drawn[0], f"a {drawn[0]} is no mask")


def _image_of(items: Sequence[Item], interface: LabelConfig) -> ImageTag | None:
    """Return the picture that a region is drawn on."""
    if len(interface.images) == 1:
        return interface.images[0]
    (name,) = [str(one.get("to_name")) for one in items if _kind(one) in LEARNED][:1]
    return interface.image(name)


def _kind(item: Item) -> str:
    """Return what an item is: ``brushlabels`` is a ``brush``; nothing where it has no value."""
    if not isinstance(item.get("value"), Mapping):
        return "relation"
    kind = str(item.get("type", ""))
    return "labels" if kind == "labels" else kind.removesuffix("labels")
