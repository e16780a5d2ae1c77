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
    left_out,
    of_config,
    picture,
    square,
    stored,
    told,
    url_of,
)

from sam_plugins.errors import DatasetError, UnreadableImageError
from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.labelstudio_backend.learning.cleaning import (
    chosen_annotation,
    read_interface,
    sort_items,
)
from sam_plugins.labelstudio_backend.learning.database import SCHEMA_VERSION, Database
from sam_plugins.labelstudio_backend.learning.keys import model_name_of
from sam_plugins.labelstudio_backend.learning.pictures import Pictures, suffix_of
from sam_plugins.labelstudio_backend.learning.splits import divide, place_of, require_enough
from sam_plugins.model.engine.label_store import LabelledObject, LabelStore, ReviewState, Split
from sam_plugins.model.engine.project.project import Project


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


DETECTION = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="box" toName="image">'
    '<Label value="Cell"/></RectangleLabels></View>'
)
LEFT_AND_RIGHT = (
    '<View><Image name="left" value="$a"/><Image name="right" value="$b.url"/>'
    '<BrushLabels name="label" toName="left,right"><Label value="Cell"/></BrushLabels></View>'
)


def drawn(kind: str, value: dict[str, Any], region: str = "dddddddddd") -> dict[str, Any]:
    """A region of some kind."""
    return {
        **box(region),
        "type": f"{kind}labels",
        "from_name": "shape",
        "value": {**value, f"{kind}labels": ["Cell"]},
    }


@pytest.mark.parametrize("smart", ["true", "false"])
def test_a_project_of_rectangles_learns_nothing_and_says_so(
    learning: BackendLearning, smart: str
) -> None:
    config = DETECTION.replace('toName="image">', f'toName="image" smart="{smart}">')
    result = [box("qqqqqqqqqq"), box("rrrrrrrrrr")]
    told(learning, of_config(event("ANNOTATION_CREATED", annotation(1, 5, result)), config))
    assert stored(learning) == []
    status = learning.status()["projects"][KEY]
    assert status["objects"] == 0
    assert status["regions_left_out"] == {"a rectangle is no mask": 2}
    assert (
        "learns nothing from it: a rectangle is no mask; add <BrushLabels>"
        in (status["learns_from"])
    )


@pytest.mark.parametrize(
    ("kind", "value", "pixels"),
    [
        ("ellipse", {"x": 50, "y": 50, "radiusX": 25, "radiusY": 12.5, "rotation": 0}, 75),
        ("ellipse", {"x": 50, "y": 50, "radiusX": 25, "radiusY": 12.5, "rotation": 90}, 75),
        ("polygon", {"points": [[25, 25], [50, 25], [50, 50], [25, 50]], "closed": True}, 48),
    ],
)
def test_ellipses_and_polygons_are_masks(
    learning: BackendLearning, kind: str, value: dict[str, Any], pixels: int
) -> None:
    config = DETECTION.replace("RectangleLabels", f"{kind.title()}Labels")
    one = annotation(1, 5, [drawn(kind, value)])
    told(learning, of_config(event("ANNOTATION_CREATED", one), config))
    (made,) = stored(learning)
    assert np.count_nonzero(made.mask()) == pytest.approx(pixels, rel=0.1)
    rows, columns = np.nonzero(made.mask())
    is_wide = np.ptp(columns) > np.ptp(rows)
    assert is_wide == (value.get("rotation") == 0 or kind == "polygon")
    assert left_out(learning) == {}


def test_everything_that_is_no_object_is_counted(learning: BackendLearning) -> None:
    answers = [
        {"id": "c", "type": "choices", "value": {"choices": ["good"]}},
        {"type": "relation", "from_id": "a", "to_id": "b"},
    ]
    result = [
        brush("aaaaaaaaaa", square(2, 2)),
        brush("eeeeeeeeee", np.zeros_like(square(0, 0))),
        key_point("pppppppppp"),
        box("qqqqqqqqqq"),
        drawn("vector", {"vertices": [{"x": 1, "y": 1}], "closed": False}),
        *answers,
    ]
    theirs = [brush("bbbbbbbbbb", square(9, 9)), box("rrrrrrrrrr")]
    skipped = annotation(3, 5, [brush("ssssssssss", square(9, 9))], was_cancelled=True)
    told(
        learning,
        event("ANNOTATION_CREATED", annotation(1, 5, result, minute=9)),
        event("ANNOTATION_CREATED", annotation(2, 5, theirs)),
        event("ANNOTATION_CREATED", skipped),
    )
    assert len(stored(learning)) == learning.status()["projects"][KEY]["objects"] == 1
    assert left_out(learning) == {
        "its mask is empty": 1,
        "key points are prompts": 1,
        "a rectangle is no mask": 1,
        "a vector is no mask": 1,
        "another annotation of the task counts": 1,
        "its annotation was skipped": 1,
    }
    told(learning, event("TASKS_DELETED", tasks=[{"id": 5}]))
    assert left_out(learning) == {}


def test_regions_go_to_the_picture_that_they_are_drawn_on(learning: BackendLearning) -> None:
    result = [
        {**brush("aaaaaaaaaa", square(2, 2)), "to_name": "left"},
        {**brush("bbbbbbbbbb", square(9, 9)), "to_name": "right"},
        {**brush("cccccccccc", square(3, 3)), "to_name": "right"},
        {**brush("dddddddddd", square(5, 5)), "to_name": "gone"},
    ]
    payload = of_config(event("ANNOTATION_CREATED", annotation(1, 5, result)), LEFT_AND_RIGHT)
    payload["task"]["data"] = {"a": url_of(1), "b": {"url": url_of(2)}}
    told(learning, payload)
    objects = stored(learning)
    assert [one.seconds for one in objects] == [4.0, 4.0, 4.0]
    assert len({one.image_id for one in objects}) == 2
    by_picture = {tuple(map(int, np.argwhere(one.mask())[0])): one.image_id for one in objects}
    assert by_picture[9, 9] == by_picture[3, 3] != by_picture[2, 2]
    assert left_out(learning) == {"the labelling interface has no such picture": 1}
    only_left = annotation(1, 5, result[:2], minute=1)
    payload = of_config(event("ANNOTATION_UPDATED", only_left), LEFT_AND_RIGHT)
    payload["task"]["data"] = {"a": url_of(1)}
    told(learning, payload)
    assert len(stored(learning)) == 1
    assert left_out(learning) == {"the task has no picture 'b.url'": 1}


def test_entries_of_a_repeater_are_pictures_of_their_own(learning: BackendLearning) -> None:
    config = (
        '<View><Repeater on="$scans"><Image name="p_{{idx}}" value="$scans[{{idx}}].url"/>'
        '<BrushLabels name="m_{{idx}}" toName="p_{{idx}}"><Label value="Cell"/></BrushLabels>'
        "</Repeater></View>"
    )
    result = [
        {**brush("aaaaaaaaaa", square(2, 2)), "to_name": "p_0"},
        {**brush("bbbbbbbbbb", square(9, 9)), "to_name": "p_1"},
        {**brush("cccccccccc", square(9, 9)), "to_name": "p_2"},
    ]
    payload = of_config(event("ANNOTATION_CREATED", annotation(1, 5, result)), config)
    payload["task"]["data"] = {"scans": [{"url": url_of(1)}, {"url": url_of(2)}]}
    told(learning, payload)
    assert len({one.image_id for one in stored(learning)}) == 2
    assert left_out(learning) == {"the labelling interface has no such picture": 1}
    payload = of_config(event("ANNOTATION_UPDATED", annotation(1, 5, result, minute=1)), config)
    payload["task"]["data"] = {"scans": []}
    told(learning, payload)
    assert "must be a list with entries" in (learning.status()["projects"][KEY]["task_notes"]["5"])


def test_tables_of_the_first_version_are_brought_up_to_date(tmp_path: Path) -> None:
    learning = learning_at(tmp_path / "state")
    told(learning, event("ANNOTATION_CREATED", annotation(1, 5, [key_point("p")])))
    learning.close()
    with Database(tmp_path / "state").writing() as connection:
        connection.execute("DROP TABLE left_out")
        connection.execute("PRAGMA user_version = 1")
    again = learning_at(tmp_path / "state")
    again.work()
    assert left_out(again) == {"key points are prompts": 1}
    with Database(tmp_path / "state").reading() as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION


def test_a_text_or_a_choice_of_a_region_goes_with_it() -> None:
    kept = brush("a", square(2, 2))
    choice = {"id": "a", "type": "choices", "value": {"choices": ["sharp"]}}
    found = sort_items([choice, kept, box("q"), "nonsense"], read_interface(CONFIG))
    assert found.by_image == {"image": [choice, kept]}
    assert found.left_out == {"a rectangle is no mask": 1}


def test_skipped_annotations_do_not_count() -> None:
    skipped = annotation(9, 5, [], minute=9, was_cancelled=True)
    assert chosen_annotation([skipped]) is None
    assert chosen_annotation([skipped, annotation(1, 5, [])]) == annotation(1, 5, [])


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("<View><Image", "is no XML: .*correct it there"),
        ("<View/>", r"shows no picture; it needs <Image"),
        (
            '<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>',
            "have a document type",
        ),
    ],
)
def test_a_broken_interface_is_told(config: str, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        read_interface(config)


def test_another_interface_is_read_anew(learning: BackendLearning) -> None:
    told(learning, event("ANNOTATION_CREATED", annotation(1, 5, [brush("a" * 10, square(2, 2))])))
    assert len(stored(learning)) == 1
    two = CONFIG.replace("</View>", '<Image name="second" value="$other"/></View>')
    two = two.replace('name="image" value="$image"', 'name="first" value="$image"')
    told(learning, {"action": "PROJECT_UPDATED", "project": {**PROJECT, "label_config": two}})
    assert stored(learning) == []


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
