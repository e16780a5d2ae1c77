"""Boxes as prompts, and COCO's mask AP."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.labelled_sets import SIZE_HW, discs

from sam_plugins.errors import DatasetError, MissingExtraError, UnreadableImageError
from sam_plugins.model.evaluation.detections import (
    Boxes,
    Detections,
    noised_boxes,
    read_detections,
)
from sam_plugins.model.evaluation.instances import (
    PictureInstances,
    ask_boxes,
    filled_boxes,
    mask_ap,
)
from sam_plugins.model.evaluation.prompts import true_objects
from sam_plugins.model.evaluation.tasks.instances import Instances
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.io.labelled import LabelledFile, LabelledImage

pytest.importorskip("pycocotools")

MakeImage = Callable[..., LabelledImage]


def boxes_of(
    labels: np.ndarray, scores: list[float] | None = None, categories: Any = None
) -> Boxes:
    tight = np.array([one.box_xyxy for one in true_objects(labels)], np.float32)
    names = categories or (None,) * len(tight)
    return Boxes(tight, None if scores is None else np.array(scores), names)


class Exact:
    """Answers with the true objects, or with nothing, one for each box."""

    def __init__(self, labels: np.ndarray, right: list[bool]) -> None:
        self.masks = [WindowMask(one.window, one.mask) for one in true_objects(labels)]
        self.right = right

    def __call__(
        self, image: LabelledImage, boxes_xyxy: np.ndarray
    ) -> tuple[list[WindowMask], np.ndarray]:
        corner = WindowMask((slice(0, 3), slice(0, 3)), np.ones((3, 3), bool))
        masks = [
            mask if is_right else corner
            for mask, is_right in zip(self.masks, self.right, strict=True)
        ]
        return masks, np.linspace(0.9, 0.5, len(masks))


def value(pictures: list[PictureInstances], figure: str, weights: Any = None) -> float:
    counts = np.ones((1, len(pictures))) if weights is None else np.array([weights], float)
    return float(mask_ap(pictures).figures[figure](counts)[0])


def test_exact_masks_have_ap_1(image_of: MakeImage) -> None:
    labels = discs()
    picture = ask_boxes(Exact(labels, [True] * 3), image_of(labels), boxes_of(labels)).picture
    assert value([picture], "ap") == pytest.approx(1)
    assert value([picture], "ap_small") == pytest.approx(1)
    assert np.isnan(value([picture], "ap_large"))
    assert (picture.mean_iou, picture.found) == (1, 3)


def test_the_order_of_right_and_wrong_masks_decides(image_of: MakeImage) -> None:
    labels = discs()
    image = image_of(labels)

    def ap(right: list[bool]) -> float:
        return value([ask_boxes(Exact(labels, right), image, boxes_of(labels)).picture], "ap50")

    # 101 recalls: two of three found reach 0, 0.01, ..., 0.66.
    assert ap([True, True, False]) == pytest.approx(67 / 101)
    # The wrong one first: precision 1/2, then 2/3 for all recalls that are reached.
    assert ap([False, True, True]) == pytest.approx(67 / 101 * 2 / 3)


def test_figures_are_those_of_pycocotools_itself(image_of: MakeImage) -> None:
    pictures = []
    rng = np.random.default_rng(0)
    for shift in range(4):
        labels = discs(shift)
        found = filled_boxes if shift % 2 else Exact(labels, [True, False, True])
        names = tuple(rng.choice(["cell", "dot"], 3))
        image = image_of(labels, categories={1: "cell", 2: "dot", 3: "cell"})
        boxes = boxes_of(labels, rng.random(3).tolist(), names)
        pictures.append(ask_boxes(found, image, boxes).picture)
    result = mask_ap(pictures)
    assert result.with_classes
    one = np.ones((1, 4))
    assert result.figures["ap"](one)[0] == pytest.approx(result.by_threshold.mean())
    assert result.figures["ap50"](one)[0] == pytest.approx(result.by_threshold[0])
    assert result.precision.mean() == pytest.approx(result.by_threshold[0])
    assert 0.1 < result.by_threshold[0] < 1
    # A picture that counts twice is a picture that is there twice.
    twice = mask_ap([*pictures, pictures[0]]).by_threshold.mean()
    assert result.figures["ap"](np.array([[2.0, 1, 1, 1]]))[0] == pytest.approx(twice)
    assert not mask_ap(pictures, with_classes=False).with_classes


def test_the_wrong_class_is_no_match(image_of: MakeImage) -> None:
    labels = discs()
    image = image_of(labels, categories={1: "cell", 2: "cell", 3: "cell"})
    exact = Exact(labels, [True] * 3)
    right = ask_boxes(exact, image, boxes_of(labels, [0.9, 0.8, 0.7], ("cell",) * 3)).picture
    wrong = ask_boxes(exact, image, boxes_of(labels, [0.9, 0.8, 0.7], ("dot",) * 3)).picture
    assert value([right], "ap") == pytest.approx(1)
    assert value([wrong], "ap") == 0
    assert mask_ap([wrong], with_classes=False).by_threshold.mean() == pytest.approx(1)


def test_masks_that_match_nothing_count_where_all_is_annotated(image_of: MakeImage) -> None:
    labels = discs()
    part = np.where(labels == 1, 0, labels)
    for complete, expected in ((True, False), (False, True)):
        image = image_of(part, complete=complete)
        picture = ask_boxes(Exact(labels, [True] * 3), image, boxes_of(labels)).picture
        assert (value([picture], "ap") == pytest.approx(1)) is expected


def test_ignored_pixels_count_on_neither_side(image_of: MakeImage) -> None:
    labels = discs()
    ignore = np.zeros(SIZE_HW, bool)
    ignore[:, :12] = True
    picture = ask_boxes(filled_boxes, image_of(labels, ignore=ignore), boxes_of(labels)).picture
    areas = [entry["area"] for entry in picture.objects]
    assert areas == [int((labels[:, 12:] == number).sum()) for number in (1, 2, 3)]


def test_moved_boxes(image_of: MakeImage) -> None:
    objects = list(true_objects(discs()))
    tight = np.array([one.box_xyxy for one in objects])
    still = noised_boxes(objects, SIZE_HW, name="a", noise=0)
    assert np.array_equal(still.boxes_xyxy, tight)
    first = noised_boxes(objects, SIZE_HW, name="a", categories={2: "cell"})
    again = noised_boxes(objects, SIZE_HW, name="a")
    other = noised_boxes(objects, SIZE_HW, name="b")
    assert np.array_equal(first.boxes_xyxy, again.boxes_xyxy)
    assert not np.array_equal(first.boxes_xyxy, other.boxes_xyxy)
    assert first.categories == (None, "cell", None)
    assert first.scores is None
    far = noised_boxes(objects, SIZE_HW, name="a", noise=50).boxes_xyxy
    assert np.abs(far - tight).max() <= 60  # 20 pixels, and sides that changed places
    assert (far >= 0).all()
    assert (far <= [63, 47, 63, 47]).all()
    assert (far[:, :2] <= far[:, 2:]).all()
    with pytest.raises(ValueError, match="noise must be 0 or more, got -1"):
        noised_boxes(objects, SIZE_HW, name="a", noise=-1)


def test_noise_is_a_tenth_of_the_side() -> None:
    labels = np.zeros((600, 600), np.uint16)
    labels[200:300, 100:300] = 1
    objects = list(true_objects(labels))
    moves = np.array(
        [noised_boxes(objects, (600, 600), name=str(n)).boxes_xyxy[0] for n in range(400)]
    ) - [100, 200, 299, 299]
    assert moves[:, 1].std() == pytest.approx(10, rel=0.15)  # height 100
    assert np.abs(moves[:, 0]).max() <= 20  # width 200: the limit is reached
    assert np.abs(moves.mean(axis=0)).max() < 2


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_results_of_a_detector_are_read(tmp_path: Path) -> None:
    entries = [
        {"image_id": 7, "category_id": 2, "bbox": [10, 5, 20, 10], "score": 0.5},
        {"image_id": 7, "category_id": 9, "bbox": [100, 5, 20, 10], "score": 0.25},
        {"image_id": "cells/a", "bbox": [-5, -5, 10, 10], "score": 1},
    ]
    found = read_detections(write(tmp_path / "r.json", entries), {2: "cell"})
    seven = found.of("photos", "7", SIZE_HW)
    # A box from 10 to 30 covers the pixels 10 to 29; one outside of the picture is none.
    assert seven.boxes_xyxy.tolist() == [[9.5, 4.5, 29.5, 14.5]]
    assert seven.scores is not None
    assert seven.scores.tolist() == [0.5]
    assert seven.categories == ("cell",)
    assert found.of("cells", "a", SIZE_HW).boxes_xyxy.tolist() == [[-0.5, -0.5, 4.5, 4.5]]
    assert len(found.of("cells", "b", SIZE_HW).boxes_xyxy) == 0


def test_results_of_other_pictures_are_refused(tmp_path: Path) -> None:
    entries = [{"image_id": 7, "bbox": [1, 1, 2, 2], "score": 1}]
    found = read_detections(write(tmp_path / "r.json", entries))
    known = LabelledFile("7", "s", "", tmp_path / "7.png", tmp_path / "7.png")
    found.require_pictures([known])
    other = LabelledFile("8", "s", "", tmp_path / "8.png", tmp_path / "8.png")
    with pytest.raises(DatasetError, match=r"no box for any of the 1 pictures: .* 7, theirs .* 8;"):
        found.require_pictures([other])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ({"images": []}, r"must hold a list of COCO results .*, got an object with \['images'\]"),
        ([{"image_id": 1, "bbox": [1, 2, 3], "score": 1}], "must hold a list of COCO results"),
        ([{"bbox": [1, 2, 3, 4], "score": 1}], "with image_id, bbox and score"),
        ([3], "must hold a list of COCO results"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_detections(write(tmp_path / "r.json", content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"cannot read .*r\.json: No such file"):
        read_detections(tmp_path / "r.json")


def test_the_task_with_moved_boxes(image_of: MakeImage, truth_model: type[Any]) -> None:
    task = Instances(truth_model(), noise=0)
    measured = task.measure(image_of(discs()))
    concluded = task.conclude(measured.scores, seed=0)
    mine, floor = concluded.summaries["model"], concluded.summaries["filled box"]
    assert mine.sets["s"]["ap"].mean > 0.95
    assert 0.7 < floor.sets["s"]["ap"].mean < 0.9  # a disc in its box: IoU 0.8
    assert concluded.settings == {"by_class": False}
    assert [len(picture.shape) for _, picture in measured.draw()] == [3, 3]
    assert concluded.pictures[0]["found_50"] == 3
    assert [row["object_id"] for row in concluded.objects[:3]] == [1, 2, 3]
    with pytest.raises(ValueError, match="noise must be 0 or more, got -1"):
        Instances(truth_model(), noise=-1)


def test_pictures_without_boxes_are_told(image_of: MakeImage, truth_model: type[Any]) -> None:
    task = Instances(truth_model(), Detections({}, "r.json"))
    image = image_of(discs(), complete=False)
    concluded = task.conclude(task.measure(image).scores, seed=0)
    assert concluded.notes == [
        "r.json has no box for 1 of 1 pictures.",
        "Where not every object is annotated, masks that match nothing do not count.",
    ]
    assert concluded.summaries["model"].sets["s"]["ap"].mean == 0


def test_without_pycocotools_nothing_begins(
    truth_model: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **more: Any) -> Any:
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match=r'pycocotools, .* pip install "sam-plugins\[eval'):
        Instances(truth_model())
