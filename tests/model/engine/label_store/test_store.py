"""Pictures, objects, reviews, label images."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.model.engine.label_store.helpers import SIZE_HW, accepted, square, write_picture

from sam_plugins.errors import LabelStoreError, UnreadableImageError, UnusableImageError
from sam_plugins.model.engine.label_store import (
    ImageRecord,
    ImageSource,
    LabelledObject,
    LabelStore,
    PromptEvent,
    ReviewState,
    Split,
    Stage,
)
from sam_plugins.model.io.rle import encode_mask

RLE = encode_mask(square(1, 1))


def everything(image_id: str) -> LabelledObject:
    """An object with a value in every field."""
    return LabelledObject(
        image_id=image_id,
        rle=RLE,
        object_id="first",
        class_name="Zelle, groß",
        prompts=(
            PromptEvent.box(1, 2, 8.5, 9),
            PromptEvent.point(3, 4, is_positive=False),
            PromptEvent.mask(RLE),
            PromptEvent.words("nucleus"),
            PromptEvent.seed(0, 0),
        ),
        author="ada@example.org",
        created_at=datetime(2026, 5, 4, 3, 2, 1, 123456, UTC),
        seconds=12.5,
        model_id="xxh128:00ff",
        stage=Stage.SEMI_AUTOMATIC,
        review=ReviewState.CORRECTED,
        score=0.93,
        extra={"stability_score": 0.97, "note": "µ"},
    )


def test_an_object_comes_back_as_it_was(store: LabelStore, image: ImageRecord) -> None:
    stored = everything(image.image_id)
    store.put_objects([stored])
    store.close()
    with LabelStore.open(store.folder) as again:
        assert again.objects(image.image_id) == [stored]
        assert again.object("first") == stored
        np.testing.assert_array_equal(again.object("first").mask(), square(1, 1))


def test_an_object_is_replaced_with_its_prompts(store: LabelStore, image: ImageRecord) -> None:
    store.put_objects([everything(image.image_id), accepted(image.image_id, square(9, 9))])
    changed = replace(
        everything(image.image_id),
        rle=encode_mask(square(2, 2)),
        prompts=(PromptEvent.point(2, 2),),
    )
    store.put_objects([changed])
    assert store.objects(image.image_id)[0] == changed
    assert len(store.objects(image.image_id)) == 2


def test_times_are_stored_in_utc(store: LabelStore, image: ImageRecord) -> None:
    east = datetime(2026, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    store.put_objects([accepted(image.image_id, square(0, 0), object_id="a", created_at=east)])
    assert store.object("a").created_at == east
    assert store.object("a").created_at.utcoffset() == timedelta(0)


def test_uncompressed_masks_are_taken(store: LabelStore, image: ImageRecord) -> None:
    counts = encode_mask(square(1, 1), compressed=False)
    store.put_objects([LabelledObject(image.image_id, counts, "a")])
    assert store.object("a").rle == RLE


def test_objects_are_chosen_by_review(store: LabelStore, image: ImageRecord) -> None:
    for review in ReviewState:
        one = LabelledObject(image.image_id, RLE, object_id=str(review), review=review)
        store.put_objects([one, replace(one, object_id=f"{review} crowd", is_crowd=True)])
    found = store.objects(image.image_id, reviews=["accepted", "corrected"], crowds=False)
    assert [one.object_id for one in found] == ["accepted", "corrected"]
    assert len(store.objects()) == 8


def test_reviews_are_remembered(store: LabelStore, image: ImageRecord) -> None:
    proposed = LabelledObject(image.image_id, RLE, "a", model_id="m", score=0.5)
    store.put_objects([proposed])
    store.set_review("a", ReviewState.ACCEPTED, author="ada", seconds=1.5)
    store.set_review("a", "rejected", author="bob", seconds=2)
    assert store.object("a").review == ReviewState.REJECTED
    assert (store.object("a").author, store.object("a").seconds) == ("bob", 3.5)
    history = store.history("a")
    assert [(one.review, one.author, one.seconds) for one in history] == [
        ("proposed", "", None),
        ("accepted", "ada", 1.5),
        ("rejected", "bob", 2.0),
    ]
    assert history[1].reviewed_at <= history[2].reviewed_at
    store.delete_object("a")
    assert store.objects() == []
    for use in (store.object, store.delete_object, store.history):
        with pytest.raises(LabelStoreError, match="no object 'a'; it was deleted, or never stored"):
            use("a")
    with pytest.raises(LabelStoreError, match="no object 'a'"):
        store.set_review("a", "accepted")


def test_negative_seconds_change_nothing(store: LabelStore, image: ImageRecord) -> None:
    store.put_objects([LabelledObject(image.image_id, RLE, "a", seconds=9)])
    with pytest.raises(ValueError, match="seconds must be 0 or more, got -1"):
        store.set_review("a", "accepted", seconds=-1)
    assert store.object("a").review == ReviewState.PROPOSED


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stage": "late"}, "stage must be one of 'assisted-manual', .*, got 'late'"),
        ({"review": "perhaps"}, "review must be one of 'proposed', .*, got 'perhaps'"),
        ({"seconds": -1.0}, "seconds must be 0 or more, got -1.0"),
        ({"score": float("nan")}, "score must be finite or None, got nan"),
        ({"created_at": datetime(2026, 1, 1)}, "created_at must have a time zone"),
        ({"class_name": ""}, "object_id and class_name must not be empty"),
        ({"rle": {"counts": ""}}, r"rle must have 'size' and 'counts', got \['counts'\]"),
    ],
)
def test_impossible_objects_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelledObject(**({"image_id": "a", "rle": RLE} | values))


@pytest.mark.parametrize(
    ("kind", "others", "message"),
    [
        ("point", {"values": (1,)}, r"a point needs 2 finite values, got \(1,\)"),
        ("box", {"values": (1, 2, 3, float("inf"))}, "a box needs 4 finite values"),
        ("text", {}, "text is for a text prompt and no other, got '' of text"),
        ("mask", {}, "rle is for a mask prompt and no other, got None of a mask"),
        ("scribble", {}, "kind must be one of 'point', .*, got 'scribble'"),
    ],
)
def test_impossible_prompts_are_refused(kind: str, others: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PromptEvent(kind, **others)


def test_masks_must_be_of_their_pictures_size(store: LabelStore, image: ImageRecord) -> None:
    with pytest.raises(ValueError, match=r"its picture's size \(20, 30\) .* got \(30, 20\)"):
        store.put_objects([accepted(image.image_id, np.ones((30, 20), bool))])
    cut = {"size": list(SIZE_HW), "counts": [3, 4]}
    with pytest.raises(ValueError, match="must add up to 20 x 30 = 600, got 7"):
        store.put_objects([LabelledObject(image.image_id, cut)])


def test_a_picture_is_recorded(store: LabelStore, image: ImageRecord, tmp_path: Path) -> None:
    assert image.path == tmp_path / "project" / "a.png"
    assert image.size_hw == SIZE_HW
    assert (image.split, image.is_complete, image.plane) == (None, False, None)
    assert image.group == "project/a"
    np.testing.assert_array_equal(
        store.read_image(image.image_id), np.asarray(Image.open(image.path))
    )
    store.set_complete(image.image_id)
    assert store.image(image.image_id).is_complete
    store.set_complete(image.image_id, False)
    assert store.images() == [image]


def test_the_same_picture_is_one_record(
    store: LabelStore, image: ImageRecord, tmp_path: Path
) -> None:
    pixels = np.asarray(Image.open(image.path))
    copy = tmp_path / "copy.png"
    copy.write_bytes(image.path.read_bytes())
    other_format = tmp_path / "other.tif"
    tifffile.imwrite(other_format, pixels.astype(">u1"))
    other = write_picture(tmp_path / "b.png", 1)
    records = store.add_images([copy, other_format, other, str(other)])
    assert records[0] == records[1] == image
    assert records[2] == records[3]
    assert len(store.images()) == 2


def test_a_project_may_be_moved(store: LabelStore, image: ImageRecord, tmp_path: Path) -> None:
    store.close()
    (tmp_path / "project").rename(tmp_path / "elsewhere")
    with LabelStore.open(tmp_path / "elsewhere" / "store") as moved:
        assert moved.image(image.image_id).path == tmp_path / "elsewhere" / "a.png"
        assert moved.read_image(image.image_id).shape == SIZE_HW


def test_a_picture_that_moved_is_found_by_adding_it_again(
    store: LabelStore, image: ImageRecord, tmp_path: Path
) -> None:
    moved = image.path.rename(tmp_path / "moved.png")
    with pytest.raises(UnreadableImageError, match=r"cannot read .*a\.png: no such file"):
        store.read_image(image.image_id)
    assert store.add_images([moved])[0].path == moved
    assert store.read_image(image.image_id).shape == SIZE_HW


def test_a_picture_that_changed_is_refused(store: LabelStore, image: ImageRecord) -> None:
    store.put_objects([accepted(image.image_id, square(0, 0))])
    write_picture(image.path, 5, (40, 50))
    for use in (lambda: store.read_image(image.image_id), store.as_labelled_files):
        with pytest.raises(LabelStoreError, match=r"a\.png has changed since .*; put the old file"):
            use()


def test_planes_of_a_stack_are_pictures_of_one_group(store: LabelStore, tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (4, 12, 16), np.uint8)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack, metadata={"axes": "ZYX"}, photometric="minisblack")
    with pytest.raises(UnusableImageError, match="is a stack along Z"):
        store.add_images([path])
    sources = [ImageSource(path, plane) for plane in (1, 3)]
    records = store.add_images(sources, group_of=lambda _: f"{len(store.images())}")
    assert [one.plane for one in records] == [1, 3]
    assert records[0].name == "stack.tif:1"
    assert len({one.group for one in records}) == 1
    assert len({one.image_id for one in records}) == 2
    np.testing.assert_array_equal(store.read_image(records[1].image_id), stack[3])
    store.put_objects([accepted(records[1].image_id, square(2, 2, size_hw=(12, 16)))])
    (file,) = store.as_labelled_files()
    read = file.read()
    np.testing.assert_array_equal(read.image, stack[3])
    np.testing.assert_array_equal(read.labels, square(2, 2, size_hw=(12, 16)))


def test_an_unreadable_picture_adds_none(store: LabelStore, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UnreadableImageError, match=r"text\.png"):
        store.add_images([write_picture(tmp_path / "b.png"), tmp_path / "text.png"])
    assert store.images() == []


def test_a_picture_with_objects_is_not_forgotten(store: LabelStore, image: ImageRecord) -> None:
    store.put_objects([accepted(image.image_id, square(0, 0), object_id="a")])
    with pytest.raises(LabelStoreError, match=r"a\.png has 1 objects in the store; delete them"):
        store.remove_image(image.image_id)
    store.delete_object("a")
    store.remove_image(image.image_id)
    with pytest.raises(LabelStoreError, match=r"has no picture .*; add it first"):
        store.image(image.image_id)


def test_smaller_objects_lie_on_larger_ones(store: LabelStore, image: ImageRecord) -> None:
    whole, part, hidden = square(2, 2, 10), square(4, 4, 3), square(4, 4, 3)
    store.put_objects(
        [
            accepted(image.image_id, part, object_id="part"),
            accepted(image.image_id, whole, object_id="whole"),
            accepted(image.image_id, hidden, object_id="twin"),
            LabelledObject.of_mask(image.image_id, square(0, 20), object_id="proposed"),
            accepted(image.image_id, square(14, 14, 6), object_id="crowd", is_crowd=True),
        ]
    )
    labels, objects = store.paint(image.image_id)
    assert [one.object_id for one in objects] == ["whole", "twin"]
    np.testing.assert_array_equal(labels == 1, whole & ~part)
    np.testing.assert_array_equal(labels == 2, part)
    np.testing.assert_array_equal(store.label_image(image.image_id), labels)

    (file,) = store.as_labelled_files()
    read = file.read()
    np.testing.assert_array_equal(read.labels, labels)
    assert set(read.whole_masks) == {1}
    np.testing.assert_array_equal(read.whole_masks[1], whole)
    np.testing.assert_array_equal(read.ignore, square(14, 14, 6))
    assert not read.complete
    assert read.id == image.image_id


def test_labelled_files_are_those_with_labels(store: LabelStore, tmp_path: Path) -> None:
    paths = [write_picture(tmp_path / f"{name}.png", ord(name)) for name in "abcd"]
    first, second, _, fourth = store.add_images(paths)
    store.put_objects([accepted(first.image_id, square(0, 0))])
    store.put_objects([LabelledObject(second.image_id, RLE)])
    store.set_complete(fourth.image_id)
    assert [file.id for file in store.as_labelled_files()] == [first.image_id, fourth.image_id]
    store.set_split(first.group, Split.HELD_OUT)
    assert [file.id for file in store.as_labelled_files("held-out")] == [first.image_id]
    assert store.as_labelled_files(Split.TRAIN) == []


def test_what_a_training_began_with_stays(store: LabelStore, image: ImageRecord) -> None:
    store.put_objects([accepted(image.image_id, square(0, 0), object_id="a")])
    (before,) = store.as_labelled_files()
    assert store.as_labelled_files() == [before]
    store.put_objects([accepted(image.image_id, square(9, 9), object_id="a")])
    (after,) = store.as_labelled_files()
    assert before.label_path != after.label_path
    np.testing.assert_array_equal(before.read().labels, square(0, 0))
    np.testing.assert_array_equal(after.read().labels, square(9, 9))
