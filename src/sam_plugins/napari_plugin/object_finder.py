"""Many objects at once: those like others, or named by words; what is found becomes drafts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.coordinates import Place
from sam_plugins.napari_plugin.errors import NothingThereError
from sam_plugins.napari_plugin.finding import Words, find_like, find_named
from sam_plugins.napari_plugin.jobs import Job
from sam_plugins.napari_plugin.notifications import show_info
from sam_plugins.napari_plugin.params import parse_phrases
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import Window
from sam_plugins.napari_plugin.session.values import Answer, Sight
from sam_plugins.napari_plugin.viewpoint import Position

if TYPE_CHECKING:
    from sam_plugins.napari_plugin.segmenter import Segmenter

_MOST_LIKE = 64
"""Committed objects that others shall be like: more tell nothing new."""


class ObjectFinder:
    """Looks for objects in the image of a segmenter; used on the GUI thread.

    Parameters
    ----------
    segmenter : Segmenter
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    def similar(self, position: Position | None = None) -> Job:
        """Find all objects like some: the drafts, or the one at a position, or those committed.

        What is found becomes drafts, but for what is covered by objects or drafts already.

        Raises
        ------
        NothingThereError
            If there is no object yet that others could be like.
        """
        sight, like = self._exemplars(position)
        return self._segmenter.asker.find(
            lambda answerer, progress: find_like(answerer, sight, like, progress=progress),
            lambda answers: self._take_found(answers, sight, "find similar"),
            "Finding similar objects",
        )

    def words(self) -> Job:
        """Find the objects that the words of the parameters name in what is seen.

        Raises
        ------
        NothingThereError
            If there are no words, or no image is seen.
        """
        words = Words(
            parse_phrases(self._segmenter.params.words),
            parse_phrases(self._segmenter.params.other_words),
            self._segmenter.params.clip,
        )
        found = self._segmenter.viewpoint.centre()
        if not words.phrases or found is None:
            raise NothingThereError(
                "type into Words what to find, with the image in view; several phrases are "
                "separated by commas"
            )
        sight = self._segmenter.sight(found)
        return self._segmenter.asker.find(
            lambda answerer, progress: find_named(answerer, sight, words, progress=progress),
            lambda answers: self._take_found(answers, sight, "find by words"),
            "Finding objects by words",
        )

    def _exemplars(self, position: Position | None) -> tuple[Sight, list[MaskCrop]]:
        """Return the objects that others shall be like, and where they are seen."""
        drafts = self._segmenter.session.state.drafts
        if drafts:
            sight = drafts[-1].sight
            masks = [draft.mask for draft in drafts if draft.sight == sight and draft.mask]
            like = [mask for mask in masks if not mask.is_empty]
            if like:
                return sight, like
        label = 0 if position is None else self._segmenter.edits.label_at(position)
        if label and position is not None:
            found: Place | None = self._segmenter.viewpoint.place(position)
        else:
            found = self._segmenter.viewpoint.centre()
        if found is not None:
            sight = self._segmenter.sight(found)
            labels = self._segmenter.session.canvas.read(sight.plane, sight.region)
            offset = (sight.region.top, sight.region.left)
            chosen = [label] if label else np.unique(labels[labels > 0]).tolist()
            if chosen:
                like = [MaskCrop.of(labels == number, offset) for number in chosen[:_MOST_LIKE]]
                return sight, like
        raise NothingThereError(
            "there is no object yet that others could be like; click on one first"
        )

    def _take_found(self, answers: Sequence[Answer], sight: Sight, title: str) -> None:
        """Make drafts of what was found and is not covered yet."""
        region = sight.region
        covered = self._segmenter.session.canvas.read(sight.plane, region) > 0
        for draft in self._segmenter.session.state.drafts:
            if draft.sight.plane == sight.plane and draft.mask:
                covered |= draft.mask.on(region)
        fresh = [answer for answer in answers if not _is_covered(answer.masks[0], covered, region)]
        if fresh:
            self._segmenter.session.add_found(fresh, sight, title=title)
            self._segmenter.found_last = True
        else:
            show_info("Nothing else was found; another model, or more examples, may find more.")


def _is_covered(mask: MaskCrop, covered: npt.NDArray[np.bool_], region: Window) -> bool:
    """Return whether more than half of a mask is covered; ``covered`` is that of a region."""
    seen = mask.on(region)
    return bool(2 * np.count_nonzero(seen & covered) > np.count_nonzero(seen))
