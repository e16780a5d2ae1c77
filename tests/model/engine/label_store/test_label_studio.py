"""Label Studio: what its server and editor send, and what it makes of our tasks."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from tests.model.engine.label_store.helpers import SIZE_HW, accepted, square, write_picture

from sam_plugins.model.engine.label_store import (
    ImageRecord,
    LabelledObject,
    LabelStore,
    PromptEvent,
    ReviewState,
)
from sam_plugins.model.engine.label_store.exporting import ExportOptions
from sam_plugins.model.engine.label_store.label_studio import import_label_studio
from sam_plugins.model.engine.label_store.label_studio_export import (
    export_label_studio,
    labelling_interface,
)
from sam_plugins.model.engine.label_store.label_studio_regions import LabelStudioNames
from sam_plugins.model.io.brush_rle import encode_brush

ABOUT = {"original_width": 30, "original_height": 20, "image_rotation": 0, "to_name": "image"}


def item(kind: str, value: dict[str, Any], **others: object) -> dict[str, Any]:
    """An item of a result, as the editor writes it."""
    return (
        ABOUT
        | {
            "id": f"{kind}-0123456789",
            "type": kind,
            "from_name": "label",
            "origin": "manual",
            "value": value,
        }
        | others
    )


def brush(mask: np.ndarray, label: str = "Cell", **others: object) -> dict[str, Any]:
    """A brush region."""
    value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": [label]}
    return item("brushlabels", value, **others)


def task(
    *result: dict[str, Any], image: object = "/data/upload/3/0a1b2c3d-a.png", **others: Any
) -> dict:
    """A task with one annotation, as the server exports it."""
    annotation = {
        "id": 1001,
        "result": list(result),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-03-09T22:16:08.728353Z",
        "updated_at": "2026-03-09T22:17:00Z",
        "lead_time": 12.0,
        "completed_by": {"id": 4, "email": "ada@example.org"},
    }
    return {"id": 1, "data": {"image": image}, "annotations": [annotation | others]}


def read(store: LabelStore, folder: Path, *tasks: dict[str, Any], **options: Any) -> Any:
    """Write tasks and import them."""
    write_picture(folder / "a.png")
    (folder / "export.json").write_text(json.dumps(tasks))
    return import_label_studio(store, folder / "export.json", **options)


def bitmask(mask: np.ndarray) -> str:
    """A bitmask as the editor stores it: a palette PNG of 1 bit in which 0 is transparent."""
    picture = (
        Image.fromarray(mask.astype(np.uint8), mode="P")
        if False
        else Image.new("P", mask.shape[::-1])
    )
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.putdata(mask.astype(np.uint8).ravel().tolist())
    file = io.BytesIO()
    picture.save(file, format="PNG", bits=1, transparency=0)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_every_shape_becomes_its_mask(store: LabelStore, tmp_path: Path) -> None:
    rows, columns = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
    result = [
        brush(square(2, 2)),
        item(
            "rectanglelabels",
            {"x": 10, "y": 20, "width": 20, "height": 30, "rotation": 0, "rectanglelabels": ["R"]},
        ),
        item(
            "ellipselabels",
            {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10, "rotation": 0, "ellipselabels": ["E"]},
        ),
        item(
            "polygonlabels",
            {
                "points": [[10, 10], [50, 10], [50, 50], [10, 50]],
                "closed": True,
                "polygonlabels": ["P"],
            },
        ),
        item("bitmasklabels", {"imageDataURL": bitmask(square(7, 7)), "bitmasklabels": ["B"]}),
    ]
    report = read(store, tmp_path, task(*result))
    assert (report.added, report.skipped) == (5, ())
    found = store.objects()
    assert [one.class_name for one in found] == ["Cell", "R", "E", "P", "B"]
    wanted = [
        square(2, 2),
        (columns > 3) & (columns < 9) & (rows > 4) & (rows < 10),
        ((columns - 15) / 6) ** 2 + ((rows - 10) / 2) ** 2 <= 1,
        (columns > 3) & (columns < 15) & (rows > 2) & (rows < 10),
        square(7, 7),
    ]
    for one, mask in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.mask(), mask)
    assert {one.author for one in found} == {"ada@example.org"}
    assert sum(one.seconds for one in found) == pytest.approx(12)
    assert found[0].created_at == datetime(2026, 3, 9, 22, 17, tzinfo=UTC)
    assert found[0].review == ReviewState.ACCEPTED


def test_a_turned_rectangle_is_turned_in_pixels(store: LabelStore, tmp_path: Path) -> None:
    """A quarter turn about its corner: what was its width goes down the picture."""
    value = {"x": 50, "y": 10, "width": 20, "height": 20, "rotation": 90, "rectanglelabels": ["R"]}
    read(store, tmp_path, task(item("rectanglelabels", value)))
    wanted = np.zeros(SIZE_HW, bool)
    wanted[2:8, 11:15] = True
    np.testing.assert_array_equal(store.objects()[0].mask(), wanted)


def test_shape_and_label_in_two_items_are_one_region(store: LabelStore, tmp_path: Path) -> None:
    shape = brush(square(2, 2), id="twin")
    shape = shape | {"type": "brush", "value": {"format": "rle", "rle": shape["value"]["rle"]}}
    label = item("labels", {"rle": shape["value"]["rle"], "labels": ["Debris"]}, id="twin")
    kept = brush(square(9, 9), id="kept")
    again = item(
        "keypointlabels",
        {"rle": kept["value"]["rle"], "keypointlabels": ["Other"]},
        id="kept",
    )
    read(store, tmp_path, task(label, shape, again, kept))
    assert [one.class_name for one in store.objects()] == ["Debris", "Cell"]


def test_prompts_texts_and_cancelled_annotations_are_no_objects(
    store: LabelStore, tmp_path: Path
) -> None:
    point = item("keypointlabels", {"x": 1, "y": 2, "width": 1, "keypointlabels": ["Cell"]})
    text = {"type": "textarea", "id": "t", "value": {"text": ["nucleus"]}, "to_name": "image"}
    box = item("rectanglelabels", {"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": []})
    cancelled = task(brush(square(5, 5)), was_cancelled=True)
    report = read(
        store,
        tmp_path,
        task(point, text, box, brush(square(2, 2))),
        cancelled,
        shapes=("brush",),
    )
    assert (report.added, report.skipped) == (1, ())
    assert store.objects()[0].seconds == 12
    with pytest.raises(ValueError, match=r"shapes must be some of brush, .*, got \['scribble'\]"):
        read(store, tmp_path, task(), shapes=("scribble",))


def test_a_region_of_a_kind_without_a_mask_is_told(store: LabelStore, tmp_path: Path) -> None:
    vector = item("vectorlabels", {"vertices": [], "closed": False}, id="v")
    report = read(store, tmp_path, task(vector, brush(square(2, 2), id="b")))
    assert report.added == 1
    assert report.skipped == (("region v of annotation 1001", "a vector is no mask"),)


def test_of_several_pictures_the_named_one_is_imported(store: LabelStore, tmp_path: Path) -> None:
    both = task(brush(square(2, 2), id="b"), brush(square(9, 9), id="c", to_name="right"))
    names = LabelStudioNames(to_name="right")
    assert read(store, tmp_path, both, names=names).added == 1
    np.testing.assert_array_equal(store.objects()[0].mask(), square(9, 9))
    assert read(store, tmp_path, both).added == 1


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_turning_the_picture_on_the_screen_turns_no_region(
    degrees: int, store: LabelStore, tmp_path: Path
) -> None:
    report = read(store, tmp_path, task(brush(square(2, 2), image_rotation=degrees)))
    assert (report.added, report.skipped) == (1, ())
    (labelled,) = store.objects()
    np.testing.assert_array_equal(labelled.mask(), square(2, 2))


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        (brush(square(1, 1), original_width=31), "of a picture of (20, 31) (height, width), this"),
        (brush(np.zeros(SIZE_HW, bool)), "its mask is empty"),
        (brush(square(1, 1)[:10]), "must hold 2400 values of 8 bits, got 1200 of 8"),
        (item("brushlabels", {"brushlabels": ["Cell"]}), "lacks 'rle'"),
        (item("polygonlabels", {"points": [[1, 1]]}), "(3 or more, 2), got (1, 2)"),
        (item("bitmasklabels", {"imageDataURL": "data:image/png;base64,AAAA"}), "cannot be read"),
        (item("bitmasklabels", {"imageDataURL": "http://x"}), "must be a PNG in a data URL, got"),
        (item("bitmasklabels", {"imageDataURL": bitmask(square(1, 1)[:9])}), "of size (9, 30)"),
        (item("ellipselabels", {"x": 1, "y": 1, "radiusX": 0, "radiusY": 1}), "radii of more than"),
    ],
)
def test_regions_without_a_mask_are_told(
    region: dict[str, Any], reason: str, store: LabelStore, tmp_path: Path
) -> None:
    report = read(store, tmp_path, task(region, brush(square(2, 2), id="good")))
    assert report.added == 1
    (skipped,) = report.skipped
    assert reason in skipped.reason
    assert skipped.where.endswith("of annotation 1001")


@pytest.mark.parametrize(
    "url",
    [
        "/data/upload/3/0a1b2c3d-a.png",
        "/data/local-files/?d=folder/a.png",
        "https://example.org/files/a.png?token=1",
        "s3://bucket/deep/a.png",
        "a.png",
        "../../a.png",
    ],
)
def test_pictures_are_found_by_their_urls(url: str, store: LabelStore, tmp_path: Path) -> None:
    assert read(store, tmp_path, task(brush(square(2, 2)), image=url)).added == 1


def test_pictures_are_found_as_the_caller_says(store: LabelStore, tmp_path: Path) -> None:
    found = write_picture(tmp_path / "elsewhere.png")
    tasks = task(brush(square(2, 2)), image="id:77")
    assert read(store, tmp_path, tasks, find_image={"id:77": found}.get).added == 1


def test_pages_of_a_task_are_pictures(store: LabelStore, tmp_path: Path) -> None:
    write_picture(tmp_path / "b.png", 1)
    pages = task(
        brush(square(1, 1), id="first", item_index=0),
        brush(square(2, 2), id="second", item_index=1),
        image=["a.png", "b.png"],
    )
    read(store, tmp_path, pages)
    first, second = store.images()
    np.testing.assert_array_equal(store.label_image(first.image_id), square(1, 1))
    np.testing.assert_array_equal(store.label_image(second.image_id), square(2, 2))


def test_predictions_are_proposed(store: LabelStore, tmp_path: Path) -> None:
    predicted = {
        "id": 1,
        "data": {"image": "a.png"},
        "predictions": [
            {"id": 5, "model_version": "sam@2", "score": 0.7, "result": [brush(square(2, 2))]}
        ],
    }
    assert read(store, tmp_path, predicted).added == 0
    assert read(store, tmp_path, predicted, with_predictions=True).added == 1
    (one,) = store.objects()
    assert (one.review, one.model_id, one.score) == ("proposed", "sam@2", 0.7)


def test_what_was_proposed_comes_back_judged(
    store: LabelStore, image: ImageRecord, tmp_path: Path
) -> None:
    """Proposals go to Label Studio; there one is accepted, one changed, one left alone."""
    early = datetime(2026, 1, 1, tzinfo=UTC)
    proposed = [
        LabelledObject.of_mask(
            image.image_id,
            square(0, 5 * number),
            object_id=f"{number}" * 32,
            model_id="sam@2",
            score=0.9,
            created_at=early,
            prompts=(PromptEvent.seed(1, 1),),
        )
        for number in range(3)
    ]
    store.put_objects(proposed)
    options = ExportOptions(reviews=(ReviewState.PROPOSED,))
    assert export_label_studio(store, tmp_path / "tasks.json", options) == 3
    (exported,) = json.loads((tmp_path / "tasks.json").read_text())
    assert exported["annotations"] == []
    (prediction,) = exported["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("sam@2", pytest.approx(0.9))

    first, second, _ = prediction["result"]
    changed = second | {"value": brush(square(9, 9), "Other")["value"]}
    judged = task(first, changed, image=exported["data"]["image"])
    report = read(store, tmp_path / "project", judged)
    assert (report.added, report.changed, report.known) == (0, 2, 0)
    kept, corrected, untouched = store.objects()
    assert kept == replace(
        proposed[0],
        review=ReviewState.ACCEPTED,
        author="ada@example.org",
        seconds=6.0,
        created_at=datetime(2026, 3, 9, 22, 17, tzinfo=UTC),
    )
    np.testing.assert_array_equal(corrected.mask(), square(9, 9))
    assert (corrected.review, corrected.class_name) == ("corrected", "Other")
    assert corrected.prompts == proposed[1].prompts
    assert untouched == proposed[2]

    again = read(store, tmp_path / "project", judged)
    assert (again.added, again.changed, again.known) == (0, 0, 2)
    store.set_review(corrected.object_id, "rejected")
    later = task(first, changed, image=exported["data"]["image"], updated_at="2026-03-10T00:00:00Z")
    assert read(store, tmp_path / "project", later).changed == 0, "more was made of it here since"


def test_a_region_that_is_changed_there_is_changed_here(store: LabelStore, tmp_path: Path) -> None:
    read(store, tmp_path, task(brush(square(2, 2))))
    later = task(brush(square(3, 3)), updated_at="2026-04-01T00:00:00Z")
    report = read(store, tmp_path, later)
    assert (report.added, report.changed) == (0, 1)
    assert str(report).endswith("1 pictures, 0 objects added, 1 changed")
    (one,) = store.objects()
    np.testing.assert_array_equal(one.mask(), square(3, 3))


def test_tasks_are_as_label_studio_takes_them(
    store: LabelStore, image: ImageRecord, tmp_path: Path
) -> None:
    store.put_objects(
        [
            accepted(image.image_id, square(0, 0), author="ada", seconds=3, class_name="a < b"),
            accepted(image.image_id, square(9, 9), author="ada", seconds=4),
            accepted(image.image_id, square(5, 5), author="bob"),
            accepted(image.image_id, square(5, 9), is_crowd=True),
        ]
    )
    names = LabelStudioNames(data_key="picture", from_name="brush", to_name="img")
    assert export_label_studio(store, tmp_path / "tasks.json", names=names) == 3
    (written,) = json.loads((tmp_path / "tasks.json").read_text())
    assert written["data"] == {"picture": "/data/local-files/?d=a.png"}
    ada, bob = written["annotations"]
    assert (ada["lead_time"], bob["lead_time"]) == (7, None)
    region = ada["result"][0]
    assert region["type"] == "brushlabels"
    assert (region["from_name"], region["to_name"]) == ("brush", "img")
    assert (region["original_width"], region["original_height"]) == (30, 20)
    assert region["value"]["brushlabels"] == ["a < b"]
    interface = ET.fromstring(labelling_interface(store, names))
    assert [one.get("value") for one in interface.iter("Label")] == ["a < b", "object"]
    assert interface.find("Image").get("value") == "$picture"
    assert interface.find("BrushLabels").get("toName") == "img"
