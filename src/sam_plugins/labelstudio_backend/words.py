"""Regions by words, and by example: what a text area of the config asks for.

=====================  ======================================================================
the text is            what is found
=====================  ======================================================================
``*`` or ``all``       every object, by automatic segmentation
a label of the config  every object like the accepted regions with that label, where there are
anything else          the objects that CLIP, or a model trained with texts, finds under it
=====================  ======================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.errors import SamPluginsError
from sam_plugins.labelstudio_backend.context import PageAsk, drawn_mask
from sam_plugins.labelstudio_backend.engine import Engine
from sam_plugins.labelstudio_backend.images import Source, decode_rgb
from sam_plugins.labelstudio_backend.label_config import LabelConfig
from sam_plugins.labelstudio_backend.lanes import Priority
from sam_plugins.labelstudio_backend.payload import Task
from sam_plugins.labelstudio_backend.problems import PayloadError
from sam_plugins.labelstudio_backend.projects import Project
from sam_plugins.labelstudio_backend.results import new_id
from sam_plugins.labelstudio_backend.target import target_of_found
from sam_plugins.model.inference.automatic import segment_embedding
from sam_plugins.model.inference.candidates import Progress
from sam_plugins.model.inference.exemplars import describe_exemplars
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.similar import find_similar
from sam_plugins.model.inference.types import ImageEmbedding, Segmentation
from sam_plugins.model.io.label_studio import Region, regions_of

BoolArray = npt.NDArray[np.bool_]
Found = tuple[BoolArray, float, str]

ALL = ("*", "all", "everything")
_NOTE = "sam-plugins: "
_MOST_EXEMPLARS = 20
_MAX_OVERLAP = 0.5


def find(
    engine: Engine,
    project: Project,
    config: LabelConfig,
    page: PageAsk,
    task: Task,
    model: Model,
    embedding: ImageEmbedding,
    phrase: str,
) -> list[Found]:
    """Return the masks that a text asks for, with scores and labels; accepted ones left out.

    Raises
    ------
    SamPluginsError
        If nothing here understands the text; says what would.
    """
    label = label_of(config, page.to_name, phrase)
    settings = project.settings
    presumed = target_of_found(
        config, page.to_name, label=settings.auto_label, output=settings.output
    ).label
    regions = accepted_regions(task, page)
    masks = [
        (region.class_name, mask)
        for region in regions
        if (mask := _mask(region, embedding.original_size_hw)) is not None
    ]

    def let_pass(_done: int, _total: int) -> None:
        engine.lane.let_pass(Priority.OPEN)

    if phrase.casefold() in ALL:
        # As a whole at any size, while predictions may look at windows: a person waits for this.
        segmentation = engine.lane.run(
            lambda: segment_embedding(model, embedding, mode=_mode(model), progress=let_pass),
            Priority.OPEN,
        )
        return _new(segmentation, masks, presumed)
    same = [mask for name, mask in masks if label and name == label]
    if same:
        segmentation = engine.lane.run(
            lambda: find_similar(
                model,
                embedding,
                describe_exemplars(model, embedding, np.stack(same[-_MOST_EXEMPLARS:])),
                mode=_mode(model),
                progress=let_pass,
            ),
            Priority.OPEN,
        )
        return _new(segmentation, masks, label)
    image = config.image(page.to_name) or config.images[0]
    source = engine.source(project, task, task.urls(image)[page.page or 0])
    found = _by_words(engine, source, model, embedding, phrase, let_pass)
    return _new(found, masks, label or presumed)


def is_note(text: str) -> bool:
    """Return whether a text is one of ours, sent back by the editor."""
    return text.startswith(_NOTE)


def note_item(
    page: PageAsk, control: str, understood: Sequence[str], reasons: Sequence[str]
) -> dict[str, Any]:
    """Return what a text area is to hold instead of what was typed into it.

    The editor shows no error. It does show what a text area holds: the texts that were understood,
    and why the others were not.
    """
    notes = [f"{_NOTE}{reason}" for reason in reasons]
    item: dict[str, Any] = {
        "id": new_id(),
        "from_name": control,
        "to_name": page.to_name,
        "type": "textarea",
        "value": {"text": [*understood, *notes]},
    }
    return item if page.page is None else {**item, "item_index": page.page}


def label_of(config: LabelConfig, to_name: str, phrase: str) -> str:
    """Return the label that a text means: its value, an alias or a predicted value; or none."""
    for control in config.of(to_name, "labels", "brush", "bitmask", "polygon", "ellipse"):
        found = control.label(phrase)
        if found is not None:
            return found
    return ""


def accepted_regions(task: Task, page: PageAsk) -> list[Region]:
    """Return the regions that people stand by on a page: drawn or accepted, no prompts."""
    items = [item for item in task.drawn() if item.get("to_name") == page.to_name]
    found = regions_of(items, page.page)
    return [region for region in found if region.shape not in {"", "rectangle"}]


def _mask(region: Region, size_hw: tuple[int, int]) -> BoolArray | None:
    """Return the mask of a region, None where it cannot be drawn."""
    try:
        return drawn_mask(region.item, size_hw)
    except PayloadError:
        return None


def _mode(model: Model) -> str:
    """Return how objects are found: by the instance decoder where the model has one."""
    return "auto" if model.has_instance_decoder else "grid"


def _by_words(
    engine: Engine,
    source: Source,
    model: Model,
    embedding: ImageEmbedding,
    phrase: str,
    progress: Progress,
) -> Segmentation:
    """Return the objects that CLIP finds under a phrase."""
    name = engine.settings.text_model
    if not name:
        raise SamPluginsError(
            f"the text {phrase!r} is no label with accepted regions, and no CLIP is set: accept "
            "one region of a label and type its name to find more like it, type 'all' for every "
            "object, or set SAM_PLUGINS_LS_TEXT_MODEL"
        )
    from sam_plugins.model.inference.text import find_by_text

    rgb = decode_rgb(engine.files.get(source).content, engine.settings)
    try:
        clip = engine.clips.get(name)
    except SamPluginsError as error:
        raise SamPluginsError(
            f"the text {phrase!r} needs the CLIP that SAM_PLUGINS_LS_TEXT_MODEL names, which "
            f"cannot be used: {error}"
        ) from error
    matches = engine.lane.run(
        lambda: find_by_text(
            model,
            rgb,
            clip,
            [phrase],
            mode=_mode(model),
            embedding=embedding,
            progress=progress,
        ),
        Priority.OPEN,
    )
    return matches.segmentation


def _new(
    segmentation: Segmentation, masks: Sequence[tuple[str, BoolArray]], label: str
) -> list[Found]:
    """Return the objects that nobody has accepted yet."""
    taken = np.zeros(segmentation.labels.shape, bool)
    for _, mask in masks:
        taken |= mask
    found: list[Found] = []
    windows = ndimage.find_objects(segmentation.labels, len(segmentation.scores))
    for index, (score, window) in enumerate(zip(segmentation.scores, windows, strict=False)):
        if window is None:
            continue
        inside = segmentation.labels[window] == index + 1
        if np.count_nonzero(inside & taken[window]) <= _MAX_OVERLAP * np.count_nonzero(inside):
            mask = np.zeros(taken.shape, bool)
            mask[window] = inside
            found.append((mask, float(score), label))
    return found
