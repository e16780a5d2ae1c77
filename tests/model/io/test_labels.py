"""Results on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from sam_plugins.errors import OutputError
from sam_plugins.model.io.labels import (
    describe_objects,
    write_labels,
    write_objects,
    write_picture,
)
from sam_plugins.model.io.rle import decode_mask

LABELS = np.array([[0, 1, 1, 0], [3, 3, 1, 0], [3, 0, 0, 0]], np.int32)


@pytest.mark.parametrize(
    ("largest", "dtype"), [(0, "u2"), (255, "u2"), (65_535, "u2"), (65_536, "u4"), (2**31, "u4")]
)
def test_the_type_follows_the_count(tmp_path: Path, largest: int, dtype: str) -> None:
    labels = np.array([[0, largest]], np.int64)
    write_labels(tmp_path / "l.tif", labels)
    back = tifffile.imread(tmp_path / "l.tif")
    assert back.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(back, labels)


def test_labels_are_compressed(tmp_path: Path) -> None:
    write_labels(tmp_path / "l.tif", np.zeros((1000, 1000), np.int32))
    assert (tmp_path / "l.tif").stat().st_size < 20_000


@pytest.mark.parametrize(("shape", "axes"), [((3, 4, 5), "ZYX"), ((2, 3, 4, 5), "TZYX")])
def test_volumes_keep_their_axes(tmp_path: Path, shape: tuple[int, ...], axes: str) -> None:
    write_labels(tmp_path / "l.tif", np.ones(shape, np.uint8))
    with tifffile.TiffFile(tmp_path / "l.tif") as file:
        assert file.series[0].axes == axes
        assert file.series[0].shape == shape


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2)), "labels must be integers, got float64"),
        (np.zeros((2, 2), bool), "labels must be integers, got bool"),
        (np.zeros(3, int), r"labels must have 2 or 3 or 4 axes, got \(3,\)"),
        (np.array([[-1, 0]]), "labels must not be negative, got -1"),
        (np.array([[2**40]]), "labels must not exceed 4294967295, got 1099511627776"),
    ],
)
def test_arrays_that_are_no_labels(tmp_path: Path, labels: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_labels(tmp_path / "l.tif", labels)
    assert not list(tmp_path.iterdir())


def test_labels_may_be_a_list(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.tif", [[1, 2]])  # type: ignore[arg-type]
    assert tifffile.imread(tmp_path / "a.tif").tolist() == [[1, 2]]
    assert describe_objects([[1, 2]])[1]["box_xyxy"] == [1, 0, 1, 0]  # type: ignore[arg-type]


def test_labels_without_a_pixel_are_no_file(tmp_path: Path) -> None:
    message = r"labels must have at least one pixel, got the shape \(0, 5\)"
    with pytest.raises(ValueError, match=message):
        write_labels(tmp_path / "a.tif", np.zeros((0, 5), np.uint8))
    assert not list(tmp_path.iterdir())


def test_objects_are_described() -> None:
    objects = describe_objects(LABELS, [0.5, 0.25, 0.75], [[1, 0], [9, 9], [0, 1.5]])
    assert [o["label"] for o in objects] == [1, 3]
    assert [o["area"] for o in objects] == [3, 3]
    assert [o["score"] for o in objects] == [0.5, 0.75]
    assert [o["point_xy"] for o in objects] == [[1.0, 0.0], [0.0, 1.5]]
    assert objects[0]["box_xyxy"] == [1, 0, 2, 1]
    for described in objects:
        np.testing.assert_array_equal(
            decode_mask(described["segmentation"]), described["label"] == LABELS
        )


def test_without_scores_and_points() -> None:
    assert set(describe_objects(LABELS)[0]) == {"label", "area", "box_xyxy", "segmentation"}
    assert describe_objects(np.zeros((3, 3), int)) == []


@pytest.mark.parametrize("name", ["scores", "points_xy"])
def test_too_few_entries(name: str) -> None:
    arguments: dict[str, Any] = {name: np.zeros((2, 2)) if name == "points_xy" else np.zeros(2)}
    with pytest.raises(ValueError, match=f"{name} must have one entry per label, 3, got 2"):
        describe_objects(LABELS, **arguments)


def test_volumes_are_not_described() -> None:
    with pytest.raises(ValueError, match=r"labels must have 2 axes, got \(1, 2, 2\)"):
        describe_objects(np.zeros((1, 2, 2), int))


def test_the_table_is_plain_json(tmp_path: Path) -> None:
    objects = describe_objects(LABELS, np.array([0.5, np.nan, np.nan], np.float32))
    write_objects(tmp_path / "o.json", objects, size_hw=LABELS.shape, source={"image": "a.png"})
    table = json.loads((tmp_path / "o.json").read_text())
    assert table["image"] == "a.png"
    assert table["size_hw"] == [3, 4]
    assert [o["score"] for o in table["objects"]] == [0.5, None]


def test_pictures(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_picture(tmp_path / "p.png", rgb)
    with Image.open(tmp_path / "p.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), rgb)


def test_pictures_must_be_rgb(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rgb must be of shape \(H, W, 3\) and type uint8, got"):
        write_picture(tmp_path / "p.png", np.zeros((3, 3), np.uint8))


def test_all_writers_report_a_missing_folder(tmp_path: Path) -> None:
    for write in (
        lambda p: write_labels(p, LABELS),
        lambda p: write_picture(p, np.zeros((3, 3, 3), np.uint8)),
        lambda p: write_objects(p, [], size_hw=(1, 1)),
    ):
        with pytest.raises(OutputError, match=r"cannot write .*x: the folder does not exist"):
            write(tmp_path / "no" / "x")
