"""Sets in COCO's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam_plugins.errors import DatasetError, UnreadableImageError
from sam_plugins.model.io.coco import draw_segmentation, list_coco_files
from sam_plugins.model.io.rle import decode_mask, encode_mask

SIZE_HW = (40, 60)


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def annotation(number: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": number, "image_id": 7, "category_id": 3, "segmentation": segmentation, "iscrowd": 0,
    } | more  # fmt: skip


def write(folder: Path, annotations: list[dict[str, Any]], **more: Any) -> Path:
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros(SIZE_HW, np.uint8)).save(pictures / name)
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cell"}],
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(content | more))
    return path


def test_objects_are_drawn(tmp_path: Path) -> None:
    dot = np.zeros(SIZE_HW, bool)
    dot[30:34, 2:6] = True
    path = write(
        tmp_path,
        [
            annotation(1, rectangle(10, 5, 30, 25)),
            annotation(2, rectangle(15, 10, 20, 15)),
            annotation(3, encode_mask(dot), category_id=99),
            annotation(4, encode_mask(np.roll(dot, 20, 1), compressed=False), iscrowd=1),
            annotation(5, rectangle(100, 100, 110, 110)),
        ],
    )
    first, second = list_coco_files(path, tmp_path / "pictures")
    assert (first.id, first.set_name, first.complete) == ("7", "instances", True)
    image = first.read()
    expected = np.zeros(SIZE_HW, int)
    expected[5:25, 10:30] = 1
    expected[10:15, 15:20] = 2  # the smaller one lies above
    expected[dot] = 3
    assert np.array_equal(image.labels, expected)
    assert list(image.whole_masks) == [1]
    assert image.whole_masks[1].sum() == 20 * 20
    assert image.categories == {1: "cell", 2: "cell"}
    assert image.ignore is not None
    assert np.array_equal(image.ignore, np.roll(dot, 20, 1))
    empty = second.read()
    assert not empty.labels.any()
    assert empty.ignore is None


def test_polygons_are_drawn_as_by_pycocotools() -> None:
    coder = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(20, 60, 9)
        corners = np.stack([90 + radii * np.cos(angles), 70 + radii * np.sin(angles)], 1)
        polygon = [corners.ravel().tolist()]
        theirs = decode_mask(coder.merge(coder.frPyObjects(polygon, 140, 180)))
        mine = draw_segmentation(polygon, (140, 180))
        assert (mine & theirs).sum() / (mine | theirs).sum() > 0.97


def test_two_polygons_are_one_object() -> None:
    both = draw_segmentation(rectangle(0, 0, 5, 5) + rectangle(10, 10, 12, 12), SIZE_HW)
    assert both.sum() == 25 + 4


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3, 4]], r"annotation 1 of a\.png .* \(a polygon of 4 numbers; three corners"),
        (encode_mask(np.ones((3, 3), bool)), r"run-length code of 3 x 3 pixels.*export the set"),
        ({"size": [40, 60], "counts": [5]}, "must add up to"),
    ],
)
def test_what_cannot_be_drawn_is_named(tmp_path: Path, segmentation: Any, message: str) -> None:
    path = write(tmp_path, [annotation(1, segmentation)])
    with pytest.raises(DatasetError, match=message):
        list_coco_files(path, tmp_path / "pictures")[0].read()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path, pictures = write(tmp_path, []), tmp_path / "pictures"
    with pytest.raises(UnreadableImageError, match=r"cannot read .*nowhere\.json: No such file"):
        list_coco_files(tmp_path / "nowhere.json", pictures)
    with pytest.raises(DatasetError, match=r"2 of the 2 pictures .* such as a\.png, b\.png; name"):
        list_coco_files(path, tmp_path)
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "plate 1/a.png"  # the one of this name here is another
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"1 of the 2 pictures .* such as plate 1/a\.png; name"):
        list_coco_files(path, pictures)
    for content, message in (
        ("{", "is no JSON"),
        ("[]", r"must be a COCO file .*, got a list; a detector's results go with --detections"),
        ('{"images": []}', r"must be a COCO file with images, .* \(KeyError: 'annotations'\)"),
        ('{"images": [], "annotations": []}', "lists no picture; export the set again"),
    ):
        path.write_text(content)
        with pytest.raises(DatasetError, match=message):
            list_coco_files(path, pictures)
