"""What is written to labels when drafts are committed or objects edited.

Each function writes, and returns the state after it and the pixels that have changed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from sam_plugins.model.io.windows import tight_window
from sam_plugins.napari_plugin.session.changes import LabelChange
from sam_plugins.napari_plugin.session.editing import (
    Overlap,
    fill_object,
    find_object,
    require_label,
    split_mask,
    write_mask,
)
from sam_plugins.napari_plugin.session.followed import Followed, masks_of
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import LabelArray, LabelCanvas, Plane, Window
from sam_plugins.napari_plugin.session.values import Draft, SegmentedObject, State

Changes = list[LabelChange]


def commit_drafts(
    canvas: LabelCanvas,
    before: State,
    *,
    overlap: Overlap,
    class_name: str,
    class_label: int | None,
    keys: Collection[int] | None,
) -> tuple[State, Changes, tuple[int, ...]]:
    """Write all drafts that have a mask to the labels, and return their numbers too.

    Parameters and errors are those of :meth:`~.session.Session.commit`.
    """
    ready = [
        draft
        for draft in before.drafts
        if draft.mask and not draft.mask.is_empty and (keys is None or draft.key in keys)
    ]
    through = {
        one.key: one
        for one in before.followed
        if one.slices and (keys is None or any(d.object_key == one.key for d in ready))
    }
    ready += [d for d in before.drafts if d.object_key in through and d not in ready]
    if not ready:
        return before, [], ()
    state = replace(
        before,
        drafts=tuple(draft for draft in before.drafts if draft not in ready),
        followed=tuple(one for one in before.followed if one.key not in through),
    )
    labels: dict[int, int] = {}
    for draft in ready:
        followed = through.get(draft.object_key)
        known = draft.object_key if followed else draft.key
        edited = _edited_label(ready, known) if followed else draft.label
        label = labels.get(known) or edited or class_label or state.next_label
        require_label(label, canvas.dtype)
        is_first = known not in labels
        labels[known] = label
        finished = _finished(draft, label, class_name, followed if is_first else None)
        state = replace(
            state,
            objects=(*_without(state, draft), finished),
            next_label=max(state.next_label, label + 1),
        )
    changes: Changes = []
    with canvas.together():
        for draft in ready:
            if draft.object_key not in through:
                changes += _write(canvas, draft, labels[draft.key], overlap)
        for key in through:
            edited, cleared = _edited_label(ready, key), set[Plane]()
            for plane, mask in masks_of(before, key):
                old = None if plane in cleared else edited
                cleared.add(plane)
                changes += _write_mask(canvas, plane, mask, labels[key], overlap, old)
    return state, changes, tuple(labels.values())


def _edited_label(drafts: Sequence[Draft], object_key: int) -> int | None:
    """Return the number of the object that is being edited, None for a new one."""
    known = (d.label for d in drafts if d.object_key == object_key and d.label is not None)
    return next(known, None)


def _write(canvas: LabelCanvas, draft: Draft, label: int, overlap: Overlap) -> Changes:
    """Write the mask of a draft."""
    assert draft.mask is not None
    return _write_mask(canvas, draft.sight.plane, draft.mask, label, overlap, draft.label)


def _write_mask(
    canvas: LabelCanvas, plane: Plane, mask: MaskCrop, label: int, overlap: Overlap, old: int | None
) -> Changes:
    """Write a mask of an object; one that is edited loses what it had in this plane, as ``old``."""
    window = mask.window
    was = None
    if old is not None:
        was = canvas.read(plane) == old
        inside = tight_window(was)
        if inside is not None:
            rows, columns = inside
            window = window.union(Window(rows.start, columns.start, rows.stop, columns.stop))
        was = was[window.slices]
    before = canvas.read(plane, window)
    cleared = before if was is None else np.where(was, 0, before).astype(before.dtype)
    return put(
        canvas, plane, window, before, write_mask(cleared, mask.on(window), label, overlap=overlap)
    )


def delete_object(
    canvas: LabelCanvas, state: State, label: int, planes: Sequence[Plane]
) -> tuple[State, Changes]:
    """Remove an object from all of several planes.

    Raises
    ------
    ValueError
        If it is in none of them.
    """
    changes: Changes = []
    with canvas.together():
        for plane in planes:
            whole = canvas.read(plane)
            if not label or label not in whole:
                continue
            mask = find_object(whole, label)
            before = canvas.read(plane, mask.window)
            after = np.where(mask.mask, 0, before).astype(before.dtype)
            state = _forget(state, label, plane)
            changes += put(canvas, plane, mask.window, before, after)
    if not changes:
        raise ValueError(f"there must be pixels of the object {label} to delete, got none")
    return state, changes


def merge_objects(
    canvas: LabelCanvas, state: State, labels: Sequence[int], planes: Sequence[Plane]
) -> tuple[State, Changes, int]:
    """Give objects of all of several planes the number of the first one, and return it, too.

    Raises
    ------
    ValueError
        If there are fewer than two, or one of them is in none of the planes.
    """
    wanted = list(dict.fromkeys(labels))
    if len(wanted) < 2:
        raise ValueError(f"merging needs two objects or more, got {len(wanted)}")
    found: set[int] = set()
    parts: list[tuple[Plane, Window]] = []
    for plane in planes:
        whole = canvas.read(plane)
        mask = np.isin(whole, wanted)
        inside = tight_window(mask)
        if inside is not None:
            rows, columns = inside
            window = Window(rows.start, columns.start, rows.stop, columns.stop)
            parts.append((plane, window))
            found.update(np.unique(whole[mask]).tolist())
    missing = [label for label in wanted if label not in found or label == 0]
    if missing:
        raise ValueError(f"there must be pixels of the object {missing[0]} to merge, got none")
    changes: Changes = []
    with canvas.together():
        for plane, window in parts:
            before = canvas.read(plane, window)
            after = np.where(np.isin(before, wanted), wanted[0], before).astype(before.dtype)
            changes += put(canvas, plane, window, before, after)
            for label in wanted[1:]:
                state = _forget(state, label, plane)
    return state, changes, wanted[0]


def split_object(
    canvas: LabelCanvas,
    state: State,
    label: int,
    plane: Plane,
    seeds_xy: Sequence[tuple[float, float]],
) -> tuple[State, Changes, tuple[int, ...]]:
    """Split an object of a plane, and return the numbers of its parts, too.

    Parameters and errors are those of :meth:`~.session.Session.split`.
    """
    mask = find_object(canvas.read(plane), label)
    top, left = mask.window.top, mask.window.left
    parts = split_mask(mask.mask, [(x - left, y - top) for x, y in seeds_xy])
    count = int(parts.max())
    first = max(state.next_label, label + 1)
    numbers = (label, *range(first, first + count - 1))
    require_label(numbers[-1], canvas.dtype)
    before = canvas.read(plane, mask.window)
    values = np.array((0, *numbers), before.dtype)[parts]
    after = np.where(parts > 0, values, before).astype(before.dtype)
    state = replace(state, next_label=numbers[-1] + 1)
    return state, put(canvas, plane, mask.window, before, after), numbers


def fill_holes(canvas: LabelCanvas, label: int, planes: Sequence[Plane]) -> Changes:
    """Fill the holes that an object has in each of several planes; other objects in them stay.

    Raises
    ------
    ValueError
        If it is in none of them.
    """
    changes: Changes = []
    is_there = False
    with canvas.together():
        for plane in planes:
            whole = canvas.read(plane)
            if not label or label not in whole:
                continue
            is_there = True
            mask = find_object(whole, label)
            before = canvas.read(plane, mask.window)
            after = write_mask(before, fill_object(mask.mask), label)
            changes += put(canvas, plane, mask.window, before, after)
    if not is_there:
        raise ValueError(f"there must be pixels of the object {label} to fill, got none")
    return changes


def put(
    canvas: LabelCanvas, plane: Plane, window: Window, before: LabelArray, after: LabelArray
) -> Changes:
    """Write a window, and return what changed."""
    change = LabelChange.between(plane, window, before, after)
    if change is None:
        return []
    change.redo(canvas)
    return [change]


def _forget(state: State, label: int, plane: Plane) -> State:
    """Return the state without what is known of an object of a plane."""
    return replace(state, objects=tuple(o for o in state.objects if not is_in(o, label, plane)))


def is_in(known: SegmentedObject, label: int, plane: Plane) -> bool:
    """Return whether this is an object of some number in a plane."""
    return known.label == label and known.sight.plane == plane


def _without(state: State, draft: Draft) -> tuple[SegmentedObject, ...]:
    """Return the objects without the one that a draft is an edited form of."""
    if draft.label is None:
        return state.objects
    plane = draft.sight.plane
    return tuple(o for o in state.objects if not is_in(o, draft.label, plane))


def _finished(
    draft: Draft, label: int, class_name: str, followed: Followed | None
) -> SegmentedObject:
    """Return a draft as a committed object."""
    mask = draft.mask
    return SegmentedObject(
        key=draft.key,
        label=label,
        sight=draft.sight,
        turns=draft.turns,
        mask=MaskCrop(Window(0, 0, 0, 0), b"") if mask is None else mask,
        score=draft.score or 0.0,
        model_id="" if draft.answer is None else draft.answer.model_id,
        class_name=class_name,
        followed=followed,
    )
