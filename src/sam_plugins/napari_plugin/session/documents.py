"""Values of a session as JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sam_plugins.napari_plugin.session.followed import (
    DoubtfulSlice,
    End,
    Followed,
    FollowedSlice,
)
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.session.values import (
    Answer,
    BoxPrompt,
    Draft,
    MaskPrompt,
    PointPrompt,
    Prompt,
    SegmentedObject,
    Sight,
    State,
    Turn,
)

Document = dict[str, Any]


def state_to_document(state: State) -> Document:
    """Return a state as what JSON can hold."""
    return {
        "drafts": [_draft(draft) for draft in state.drafts],
        "objects": [_object(known) for known in state.objects],
        "next_key": state.next_key,
        "next_label": state.next_label,
        "followed": [_followed(found) for found in state.followed],
    }


def state_from_document(document: Mapping[str, Any]) -> State:
    """Return the state of a document.

    Raises
    ------
    ValueError, KeyError, TypeError
        If it is none.
    """
    return State(
        tuple(_draft_from(entry) for entry in document["drafts"]),
        tuple(_object_from(entry) for entry in document["objects"]),
        int(document["next_key"]),
        int(document["next_label"]),
        tuple(_followed_from(entry) for entry in document.get("followed", ())),
    )


def plane_to_document(plane: Plane) -> Document:
    """Return a plane as what JSON can hold."""
    return {"axes": list(plane.axes), "at": list(plane.at)}


def plane_from_document(document: Mapping[str, Any]) -> Plane:
    """Return the plane of a document."""
    rows, columns = (int(axis) for axis in document["axes"])
    return Plane((rows, columns), tuple(int(at) for at in document["at"]))


def _draft(draft: Draft) -> Document:
    """Return a draft as a document."""
    answer = draft.answer
    return {
        "key": draft.key,
        "sight": _sight(draft.sight),
        "turns": [_turn(turn) for turn in draft.turns],
        "label": draft.label,
        "of": draft.of,
        "shown": None if draft.shown is None else draft.shown.document,
        "answer": None
        if answer is None
        else {
            "masks": [mask.document for mask in answer.masks],
            "scores": list(answer.scores),
            "model_id": answer.model_id,
        },
    }


def _draft_from(entry: Mapping[str, Any]) -> Draft:
    """Return the draft of a document."""
    answer = entry["answer"]
    return Draft(
        key=int(entry["key"]),
        sight=_sight_from(entry["sight"]),
        turns=_turns_from(entry["turns"]),
        answer=None
        if answer is None
        else Answer(
            tuple(MaskCrop.from_document(mask) for mask in answer["masks"]),
            tuple(float(score) for score in answer["scores"]),
            str(answer["model_id"]),
        ),
        label=None if entry["label"] is None else int(entry["label"]),
        shown=None if entry["shown"] is None else MaskCrop.from_document(entry["shown"]),
        of=None if entry.get("of") is None else int(entry["of"]),
    )


def _object(known: SegmentedObject) -> Document:
    """Return a committed object as a document."""
    return {
        "key": known.key,
        "label": known.label,
        "class_name": known.class_name,
        "score": known.score,
        "model_id": known.model_id,
        "sight": _sight(known.sight),
        "turns": [_turn(turn) for turn in known.turns],
        "mask": known.mask.document,
        "followed": None if known.followed is None else _followed(known.followed),
    }


def _object_from(entry: Mapping[str, Any]) -> SegmentedObject:
    """Return the committed object of a document."""
    return SegmentedObject(
        key=int(entry["key"]),
        label=int(entry["label"]),
        sight=_sight_from(entry["sight"]),
        turns=_turns_from(entry["turns"]),
        mask=MaskCrop.from_document(entry["mask"]),
        score=float(entry["score"]),
        model_id=str(entry["model_id"]),
        class_name=str(entry["class_name"]),
        followed=None if entry.get("followed") is None else _followed_from(entry["followed"]),
    )


def _followed(found: Followed) -> Document:
    """Return a followed object as a document."""
    return {
        "key": found.key,
        "axis": found.axis,
        "anchors": [[key, [_turn(turn) for turn in turns]] for key, turns in found.anchors],
        "slices": [
            {
                "plane": plane_to_document(one.plane),
                "mask": one.mask.document,
                "confidence": one.confidence,
                "is_prompted": one.is_prompted,
            }
            for one in found.slices
        ],
        "ends": [[end.index, end.reason] for end in found.ends],
        "doubts": [[doubt.index, doubt.confidence, doubt.reason] for doubt in found.doubts],
    }


def _followed_from(entry: Mapping[str, Any]) -> Followed:
    """Return the followed object of a document."""
    return Followed(
        key=int(entry["key"]),
        axis=int(entry["axis"]),
        anchors=tuple((int(key), _turns_from(turns)) for key, turns in entry["anchors"]),
        slices=tuple(
            FollowedSlice(
                plane_from_document(one["plane"]),
                MaskCrop.from_document(one["mask"]),
                float(one["confidence"]),
                bool(one["is_prompted"]),
            )
            for one in entry["slices"]
        ),
        ends=tuple(End(int(index), str(reason)) for index, reason in entry["ends"]),
        doubts=tuple(
            DoubtfulSlice(int(index), float(confidence), str(reason))
            for index, confidence, reason in entry["doubts"]
        ),
    )


def _sight(sight: Sight) -> Document:
    """Return a sight as a document."""
    return {
        "plane": plane_to_document(sight.plane),
        "region": list(sight.region),
        "level": sight.level,
        "channels": [list(pair) for pair in sight.channels],
        "limits": None if sight.limits is None else [list(pair) for pair in sight.limits],
    }


def _sight_from(entry: Mapping[str, Any]) -> Sight:
    """Return the sight of a document."""
    limits = entry["limits"]
    return Sight(
        plane_from_document(entry["plane"]),
        Window(*(int(value) for value in entry["region"])),
        int(entry["level"]),
        tuple((str(colour), int(channel)) for colour, channel in entry["channels"]),
        None if limits is None else tuple((float(low), float(high)) for low, high in limits),
    )


def _turn(turn: Turn) -> Document:
    """Return a turn as a document."""
    return {"prompts": [_prompt(prompt) for prompt in turn.prompts], "choice": turn.choice}


def _turns_from(entries: list[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """Return the turns of a document."""
    return tuple(
        Turn(tuple(_prompt_from(prompt) for prompt in entry["prompts"]), entry["choice"])
        for entry in entries
    )


def _prompt(prompt: Prompt) -> Document:
    """Return a prompt as a document."""
    if isinstance(prompt, PointPrompt):
        return {"point_xy": [prompt.x, prompt.y], "is_positive": prompt.is_positive}
    if isinstance(prompt, BoxPrompt):
        return {"box_xyxy": [prompt.x0, prompt.y0, prompt.x1, prompt.y1]}
    return {"mask": prompt.mask.document}


def _prompt_from(entry: Mapping[str, Any]) -> Prompt:
    """Return the prompt of a document."""
    if "point_xy" in entry:
        x, y = (float(value) for value in entry["point_xy"])
        return PointPrompt(x, y, bool(entry["is_positive"]))
    if "box_xyxy" in entry:
        return BoxPrompt(*(float(value) for value in entry["box_xyxy"]))
    return MaskPrompt(MaskCrop.from_document(entry["mask"]))
