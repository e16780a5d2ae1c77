"""COCO: read by pycocotools, and what other programs write."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from tests.model.engine.label_store.helpers import SIZE_HW, accepted, square, write_picture

from sam_plugins.model.engine.label_store import ImageRecord, LabelStore, ReviewState, Stage
from sam_plugins.model.engine.label_store.coco import export_coco, import_coco
from sam_plugins.model.io.rle import encode_mask

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""pycocotools with NumPy 2."""


def write_document(folder: Path, *annotations: dict[str, Any], **image: object) -> Path:
    """Write a document about one picture, ``a.png``."""
    write_picture(folder / "a.png")
    document = {
        "images": [{"id": 7, "file_name": "a.png", "height": 20, "width": 30} | image],
        "annotations": [
            {"id": number, "image_id": 7, "category_id": 5} | one
            for number, one in enumerate(annotations)
        ],
        "categories": [{"id": 5, "name": "cell"}],
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(document))
    return path


def test_pycocotools_reads_what_we_write(
    store: LabelStore, image: ImageRecord, tmp_path: Path
) -> None:
    masks = [square(1, 2, 5), np.eye(*SIZE_HW, dtype=bool), square(10, 20, 6)]
    names = ["dog", "cat", "dog"]
    store.put_objects(
        accepted(image.image_id, mask, class_name=name, is_crowd=name == "cat")
        for mask, name in zip(masks, names, strict=True)
    )
    export_coco(store, tmp_path / "a.json")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "a.json"))
    annotations = coco.loadAnns(coco.getAnnIds())
    assert [one["iscrowd"] for one in annotations] == [0, 1, 0]
    assert [coco.cats[one["category_id"]]["name"] for one in annotations] == names
    for one, mask in zip(annotations, masks, strict=True):
        np.testing.assert_array_equal(coco.annToMask(one), mask)
        assert one["area"] == mask.sum()
    assert annotations[0]["bbox"] == [2, 1, 5, 5]
    assert coco.imgs[1]["file_name"] == "project/a.png"


def test_polygons_and_both_kinds_of_rle_are_read(store: LabelStore, tmp_path: Path) -> None:
    path = write_document(
        tmp_path,
        {"segmentation": [[2, 1, 7, 1, 7, 6, 2, 6], [10, 10, 12, 10, 12, 12, 10, 12]]},
        {"segmentation": encode_mask(square(3, 3), compressed=False), "iscrowd": 1},
        {
            "segmentation": encode_mask(square(9, 9)),
            "score": 0.5,
            "category_id": 99,
            "sam_plugins": {"said_by_a_later_version": 1, "author": "ada"},
        },
    )
    report = import_coco(store, path)
    assert (report.added, report.skipped) == (3, ())
    polygon, crowd, scored = store.objects()
    np.testing.assert_array_equal(polygon.mask(), square(1, 2, 5) | square(10, 10, 2))
    np.testing.assert_array_equal(crowd.mask(), square(3, 3))
    assert (polygon.is_crowd, crowd.is_crowd) == (False, True)
    assert (polygon.class_name, scored.class_name, scored.score) == ("cell", "99", 0.5)
    assert scored.author == "ada"
    assert (polygon.stage, polygon.review) == (Stage.IMPORTED, ReviewState.ACCEPTED)


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ({"bbox": [0, 0, 4, 4]}, "has no segmentation, at most a box; give the box to a model"),
        ({"segmentation": []}, "has no segmentation"),
        ({"segmentation": [[0, 0, 1, 1]]}, r"a polygon must have shape \(3 or more, 2\), got"),
        ({"segmentation": [[0, 0, 1, 1, 2]]}, "cannot reshape"),
        ({"segmentation": [[90, 90, 99, 90, 99, 99]]}, "its mask is empty"),
        ({"segmentation": encode_mask(np.ones((2, 3), bool))}, r"of size \(2, 3\), the picture of"),
        ({"segmentation": {"size": [20, 30], "counts": [3]}}, "must add up to 20 x 30"),
        ({"segmentation": {"size": [20, 30]}}, "must have 'size'"),
        ({"segmentation": "text"}, "could not convert"),
    ],
)
def test_annotations_without_a_mask_are_told(
    annotation: dict[str, Any], reason: str, store: LabelStore, tmp_path: Path
) -> None:
    path = write_document(tmp_path, annotation, {"segmentation": encode_mask(square(9, 9))})
    report = import_coco(store, path)
    assert report.added == 1
    (skipped,) = report.skipped
    assert skipped.where == "annotation 0 of a.png"
    with pytest.raises(ValueError, match=reason):
        raise ValueError(skipped.reason)
    assert str(report).startswith("1 pictures, 1 objects added, 1 skipped (annotation 0 of a.png: ")


def test_a_picture_of_another_size_is_told(store: LabelStore, tmp_path: Path) -> None:
    path = write_document(
        tmp_path, {"segmentation": encode_mask(square(9, 9))}, height=30, width=20
    )
    document = json.loads(path.read_text())
    document["images"] += [{"id": 8, "file_name": "sub/a.png"}, {"id": 9, "file_name": "none.png"}]
    path.write_text(json.dumps(document))
    report = import_coco(store, path)
    assert [one.where for one in report.skipped] == ["a.png", "none.png"]
    assert "for a picture of (30, 20) (height, width), got (20, 30) of" in report.skipped[0].reason
    assert report.skipped[1].reason == "no such picture"
    assert len(report.image_ids) == 1


@pytest.mark.slow
def test_real_polygons_are_as_pycocotools_draws_them(test_data: Path) -> None:
    """Outlines of real objects, drawn by both."""
    from skimage.measure import find_contours

    from sam_plugins.model.io.labelled import list_manifest_files
    from sam_plugins.model.io.outlines import fill_polygons

    ious = []
    for file in list_manifest_files(test_data, ["coco_open"])[:10]:
        read = file.read()
        for number in np.unique(read.labels)[1:]:
            for contour in find_contours(np.pad(read.labels == number, 1), 0.5):
                ring = contour[:, ::-1] - 0.5
                area = fill_polygons([ring], read.labels.shape)
                coco = COCO()
                coco.imgs = {1: {"height": read.labels.shape[0], "width": read.labels.shape[1]}}
                theirs = coco.annToMask(
                    {"image_id": 1, "segmentation": [ring.ravel().tolist()]}
                ).astype(bool)
                if area.sum() >= 400:
                    ious.append((area & theirs).sum() / (area | theirs).sum())
    assert len(ious) > 20
    assert np.mean(ious) > 0.97
