"""Annotations reach the label store: added, changed, taken away; prompts and doubles do not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.labelstudio_backend.learning.helpers import (
    CONFIG,
    KEY,
    PROJECT,
    annotation,
    box,
    brush,
    event,
    fetch,
    key_point,
    learning_at,
    picture,
    square,
    url_of,
)

from sam_plugins.errors import DatasetError, UnreadableImageError
from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.labelstudio_backend.learning.cleaning import (
    Interface,
    chosen_annotation,
    without_prompts,
)
from sam_plugins.labelstudio_backend.learning.keys import model_name_of
from sam_plugins.labelstudio_backend.learning.pictures import Pictures, suffix_of
from sam_plugins.labelstudio_backend.learning.splits import divide, place_of, require_enough
from sam_plugins.model.engine.label_store import LabelledObject, LabelStore, ReviewState, Split
from sam_plugins.model.engine.project.project import Project


@pytest.fixture
def learning(tmp_path: Path) -> BackendLearning:
    return learning_at(tmp_path / "state")


def told(learning: BackendLearning, *payloads: dict[str, Any]) -> None:
    """Send events and let them be worked on."""
    for payload in payloads:
        learning.on_webhook(payload)
    learning.work()


def stored(learning: BackendLearning) -> list[LabelledObject]:
    """The objects in the label store."""
    folder = learning.status()["projects"][KEY]["folder"]
    with Project.open(folder) as project:
        return project.labels.objects()


def test_an_annotation_becomes_objects_with_annotator_and_time(learning: BackendLearning) -> None:
    masks = [square(2, 2), square(12, 20)]
    result = [brush("aaaaaaaaaa", masks[0]), brush("bbbbbbbbbb", masks[1], "Debris")]
    told(learning, event("ANNOTATION_CREATED", annotation(1, 5, result)))
    objects = stored(learning)
    assert [one.class_name for one in objects] == ["Cell", "Debris"]
    assert [one.seconds for one in objects] == [6.0, 6.0]
    assert {one.author for one in objects} == {"3"}
    assert {one.review for one in objects} == {ReviewState.ACCEPTED}
    for one, mask in zip(objects, masks, strict=True):
        np.testing.assert_array_equal(one.mask(), mask)


def test_what_is_changed_there_is_changed_here(learning: BackendLearning) -> None:
    first = [brush("aaaaaaaaaa", square(2, 2)), brush("bbbbbbbbbb", square(12, 20))]
    then = [brush("aaaaaaaaaa", square(3, 3)), brush("cccccccccc", square(12, 2))]
    told(learning, event("ANNOTATION_CREATED", annotation(1, 5, first)))
    before = {one.object_id for one in stored(learning)}
    told(learning, event("ANNOTATION_UPDATED", annotation(1, 5, then, minute=1, lead_time=20.0)))
    objects = stored(learning)
    assert len(objects) == 2
    assert len(before & {one.object_id for one in objects}) == 1
    np.testing.assert_array_equal(objects[0].mask(), square(3, 3))
    assert objects[0].seconds == 10.0


@pytest.mark.parametrize(
    "gone",
    [
        event("ANNOTATIONS_DELETED", annotations=[{"id": 1}]),
        event("TASKS_DELETED", tasks=[{"id": 5}]),
    ],
)
def test_what_is_deleted_there_is_deleted_here(learning: BackendLearning, gone: dict) -> None:
    one = annotation(1, 5, [brush("aaaaaaaaaa", square(2, 2))])
    other = annotation(2, 6, [brush("bbbbbbbbbb", square(2, 2))])
    told(learning, event("ANNOTATION_CREATED", one), event("ANNOTATION_CREATED", other))
    assert len(stored(learning)) == 2
    told(learning, gone)
    assert len(stored(learning)) == 1


def test_the_same_again_changes_nothing(learning: BackendLearning) -> None:
    payload = event("ANNOTATION_CREATED", annotation(1, 5, [brush("aaaaaaaaaa", square(2, 2))]))
    told(learning, payload)
    before = stored(learning)
    told(learning, payload, payload)
    assert stored(learning) == before


def test_two_peoples_masks_of_one_task_are_not_two_objects(learning: BackendLearning) -> None:
    mine = annotation(1, 5, [brush("aaaaaaaaaa", square(2, 2))])
    yours = annotation(2, 5, [brush("bbbbbbbbbb", square(3, 3))], minute=5, completed_by=4)
    told(learning, event("ANNOTATION_CREATED", mine), event("ANNOTATION_CREATED", yours))
    assert [one.author for one in stored(learning)] == ["4"]
    starred = {**mine, "ground_truth": True, "updated_at": "2026-11-28T08:09:00Z"}
    told(learning, event("ANNOTATION_UPDATED", starred))
    assert [one.author for one in stored(learning)] == ["3"]


def test_prompts_and_doubled_items_are_left_out(learning: BackendLearning) -> None:
    mask = square(2, 2)
    kept = brush("aaaaaaaaaa", mask)
    doubled = {**kept, "type": "keypointlabels", "from_name": "kp",
               "value": {**kept["value"], "keypointlabels": ["Cell"]}}  # fmt: skip
    boxed = {**kept, "type": "rectanglelabels", "from_name": "box",
             "value": {**kept["value"], "rectanglelabels": ["Cell"]}}  # fmt: skip
    result = [doubled, boxed, kept, key_point("pppppppppp"), box("qqqqqqqqqq")]
    told(learning, event("ANNOTATION_CREATED", annotation(1, 5, result)))
    (only,) = stored(learning)
    np.testing.assert_array_equal(only.mask(), mask)


def test_rectangles_are_objects_only_where_nothing_else_could_be() -> None:
    alone = CONFIG.replace("BrushLabels", "Choices").replace('smart="true"', 'smart="false"')
    assert "rectangle" in Interface.of(alone).shapes
    assert "rectangle" not in Interface.of(CONFIG).shapes
    smart = CONFIG.replace("BrushLabels", "Choices")
    assert "rectangle" not in Interface.of(smart).shapes
    assert without_prompts([box("q")], Interface.of(alone)) == [box("q")]
    assert without_prompts([box("q"), {"id": "r", "type": "choices"}], Interface.of(CONFIG)) == []


def test_skipped_annotations_do_not_count() -> None:
    skipped = annotation(9, 5, [], minute=9, was_cancelled=True)
    assert chosen_annotation([skipped]) is None
    assert chosen_annotation([skipped, annotation(1, 5, [])]) == annotation(1, 5, [])


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("<View><Image", "is no XML .*mend it in the project's settings"),
        ("<View/>", r"shows no picture; it needs an Image tag"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "got a document type or entities"),
    ],
)
def test_a_broken_interface_is_told(config: str, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        Interface.of(config)


def test_another_interface_is_read_anew(learning: BackendLearning) -> None:
    result = [box("qqqqqqqqqq")]
    told(learning, event("ANNOTATION_CREATED", annotation(1, 5, result)))
    assert stored(learning) == []
    plain = CONFIG.replace("BrushLabels", "Choices").replace('smart="true"', 'smart="false"')
    told(learning, {"action": "PROJECT_UPDATED", "project": {**PROJECT, "label_config": plain}})
    assert len(stored(learning)) == 1


def test_pages_are_pictures_of_their_own(learning: BackendLearning) -> None:
    config = CONFIG.replace('value="$image"', 'valueList="$images"')
    pages = [
        {**brush("aaaaaaaaaa", square(2, 2)), "item_index": 0},
        {**brush("bbbbbbbbbb", square(9, 9)), "item_index": 1},
    ]
    payload = event("ANNOTATION_CREATED", annotation(1, 5, pages))
    payload["project"] = {**PROJECT, "label_config": config}
    payload["task"]["data"] = {"images": [url_of(1), url_of(2)]}
    told(learning, payload)
    objects = stored(learning)
    assert len({one.image_id for one in objects}) == 2
    np.testing.assert_array_equal(objects[1].mask(), square(9, 9))


def test_an_unreadable_picture_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [b"<html>not found</html>"]
    learning = learning_at(tmp_path / "state")
    learning._fetch = lambda *asked: answers.pop() if answers else fetch(*asked)
    told(learning, event("ANNOTATION_CREATED", annotation(1, 5, [brush("a" * 10, square(2, 2))])))
    status = learning.status()
    assert "is no picture" in status["projects"][KEY]["task_notes"]["5"]
    assert status["projects"][KEY]["tasks_waiting"] == 1
    later = time.time() + 60
    monkeypatch.setattr("sam_plugins.labelstudio_backend.learning.mirror.now", lambda: later)
    learning.work()
    assert learning.status()["projects"][KEY]["tasks_waiting"] == 0
    assert len(stored(learning)) == 1


def test_objects_made_in_napari_are_rejected_not_lost(learning: BackendLearning) -> None:
    told(learning, event("ANNOTATION_CREATED", annotation(1, 5, [brush("a" * 10, square(2, 2))])))
    (made,) = stored(learning)
    folder = learning.status()["projects"][KEY]["folder"]
    with Project.open(folder) as project:
        ours = LabelledObject.of_mask(
            made.image_id, square(12, 20), author="napari", review=ReviewState.ACCEPTED
        )
        project.labels.put_objects([ours])
    # Exported to Label Studio, it comes back with its own id; then somebody deletes its region.
    both = [brush("a" * 10, square(2, 2)), brush(ours.object_id, square(12, 20))]
    told(learning, event("ANNOTATION_UPDATED", annotation(1, 5, both, minute=1)))
    assert len(stored(learning)) == 2
    told(learning, event("ANNOTATION_UPDATED", annotation(1, 5, both[:1], minute=2)))
    by_id = {one.object_id: one for one in stored(learning)}
    assert by_id[ours.object_id].review == ReviewState.REJECTED
    told(learning, event("ANNOTATIONS_DELETED", annotations=[{"id": 1}]))
    assert [one.object_id for one in stored(learning)] == [ours.object_id]


def test_complete_pictures_are_complete_as_long_as_somebody_says_so(tmp_path: Path) -> None:
    learning = learning_at(tmp_path / "state", is_complete=True)
    told(learning, event("ANNOTATION_CREATED", annotation(1, 5, [])))
    folder = learning.status()["projects"][KEY]["folder"]
    with Project.open(folder) as project:
        assert [one.is_complete for one in project.labels.images()] == [True]
    told(learning, event("ANNOTATIONS_DELETED", annotations=[{"id": 1}]))
    with Project.open(folder) as project:
        assert [one.is_complete for one in project.labels.images()] == [False]


def test_a_file_that_is_no_picture_is_refused() -> None:
    assert suffix_of(picture()) == ".png"
    with pytest.raises(UnreadableImageError, match=r"is no picture .*open the task"):
        suffix_of(b"{}", "http://host/x.png")


def test_neighbouring_crops_are_one_group(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path, lambda url: picture(len(url)))
    urls = ["/data/upload/1/0a1b2c3d-slide_x0_y0.png", "/data/upload/1/99999999-slide_x0_y512.png"]
    groups = [pictures.group_of(pictures.find(url)) for url in urls]
    assert groups == ["1/slide", "1/slide"]


# ------------------------------------------------------------------------------------- held out


def labelled_store(folder: Path, count: int) -> LabelStore:
    """A store of labelled pictures, each a group."""
    store = LabelStore.create(folder / "labels")
    for number in range(count):
        path = folder / f"{number}.png"
        path.write_bytes(picture(number))
        (record,) = store.add_images([path], group_of=lambda path: f"g/{path.stem}")
        store.put_objects(
            [LabelledObject.of_mask(record.image_id, square(2, 2), review=ReviewState.ACCEPTED)]
        )
    return store


def held_out(store: LabelStore) -> set[str]:
    """Names of the pictures that are held out."""
    return {one.name for one in store.images(split=Split.HELD_OUT)}


def test_held_out_pictures_follow_from_their_hash(tmp_path: Path) -> None:
    with labelled_store(tmp_path / "a", 40) as store:
        divided = divide(store, is_first=True)
        expected = {f"{number}.png" for number in range(40) if place_of(f"g/{number}") < 0.25}
        assert held_out(store) == expected
        assert (divided.train, divided.held_out) == (40 - len(expected), len(expected))
        assert divide(store, is_first=False) == divided
    with labelled_store(tmp_path / "b", 20) as store:  # Fewer pictures, the same ones held out.
        divide(store, is_first=True)
        assert held_out(store) & expected == {one for one in expected if int(one[:-4]) < 20}


def test_as_many_are_held_out_as_a_promotion_needs(tmp_path: Path) -> None:
    with labelled_store(tmp_path, 16) as store:
        divided = divide(store, is_first=True)
        assert divided.held_out >= 5
        assert divided.train >= divided.held_out
        require_enough(divided)


def test_nothing_that_was_learned_from_is_held_out_later(tmp_path: Path) -> None:
    with labelled_store(tmp_path, 6) as store:
        first = divide(store, is_first=True)
        before = held_out(store)
        assert (first.train, first.held_out) == (3, 3)
        with pytest.raises(
            DatasetError, match=r"6 labelled pictures, of which 3 .* at least 4 more"
        ):
            require_enough(first)
        divide(store, is_first=False)
        assert held_out(store) == before


def test_models_are_named_after_projects() -> None:
    assert model_name_of(KEY) == f"label-studio-{KEY}"
