"""Data sets with a manifest, and folder pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_plugins.errors import DatasetError, UnreadableImageError
from sam_plugins.model.io.labelled import (
    LabelledFile,
    list_manifest_files,
    list_sets,
    read_each,
    split_off,
)


def test_a_set_is_listed_and_read(data_dir: Path) -> None:
    files = list_manifest_files(data_dir, ["cells"])
    assert [(file.id, file.set_name, file.split) for file in files] == [
        ("a", "cells", "val"),
        ("b", "cells", "val"),
    ]
    first, second = read_each(files)
    assert first.image.shape == first.labels.shape == (48, 64)
    assert first.labels.dtype == np.uint16
    assert np.unique(first.labels).tolist() == [0, 1, 2, 3]
    assert first.complete
    assert first.ignore is None
    assert len(first.whole_masks) == 0
    assert second.ignore is not None
    assert second.ignore.dtype == bool
    assert second.ignore[:, 40:].all()
    assert not second.ignore[:, :40].any()


def test_reading_is_lazy(data_dir: Path) -> None:
    files = list_manifest_files(data_dir, ["cells"])
    files[1].image_path.unlink()
    images = read_each(files)
    assert next(images).id == "a"
    with pytest.raises(UnreadableImageError, match=r"b\.png"):
        next(images)


def test_completeness_is_the_pictures_own_or_else_the_sets(data_dir: Path) -> None:
    files = list_manifest_files(data_dir, ["photos"])
    assert {file.id: file.complete for file in files} == {"p": False, "q": True}


def test_whole_masks_are_decoded(data_dir: Path) -> None:
    image = list_manifest_files(data_dir, ["photos"])[0].read()
    assert list(image.whole_masks) == [2]
    assert image.whole_masks[2].sum() == 16 * 24
    assert 1 not in image.whole_masks


def test_all_sets_and_splits(data_dir: Path) -> None:
    assert list_sets(data_dir) == ["cells", "photos"]
    assert {file.set_name for file in list_manifest_files(data_dir)} == {"cells", "photos"}
    assert [file.id for file in list_manifest_files(data_dir, split="train")] == ["t"]


def test_volumes_are_left_out_or_cut_into_planes(data_dir: Path) -> None:
    files = list_manifest_files(data_dir, ["cells"], volume_step=4)
    planes = [file for file in files if file.plane is not None]
    assert [file.id for file in planes] == ["v:z0002", "v:z0006"]
    assert [int(file.read().labels.max()) for file in planes] == [3, 7]
    assert planes[0].read().image.shape == (48, 64)
    one = list_manifest_files(data_dir, ["cells"], volume_step=100)
    assert [file.plane for file in one if file.plane is not None] == [9]
    with pytest.raises(ValueError, match="volume_step must be 1 or more, got 0"):
        list_manifest_files(data_dir, volume_step=0)


def test_what_is_missing_is_named(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no data set 'cell' in .*; there is cells$"):
        list_manifest_files(data_dir, ["cell"])
    with pytest.raises(DatasetError, match=r"there is cells, photos$"):
        list_manifest_files(data_dir, ["quite different"])
    with pytest.raises(DatasetError, match=r"no labelled picture of the split 'test' in the sets"):
        list_manifest_files(data_dir, split="test")
    with pytest.raises(DatasetError, match=r"choose the split train or val, or choose other sets"):
        list_manifest_files(data_dir, split="test")
    with pytest.raises(DatasetError, match=r"expected data sets SET/manifest\.json in .*none"):
        list_sets(tmp_path)
    with pytest.raises(DatasetError, match=r"there is no folder .*nowhere; check the name"):
        list_sets(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"is one data set; name .*, and choose sets=cells"):
        list_sets(data_dir / "cells")


@pytest.mark.parametrize("text", ["{", "[]", '{"files": [{"id": 1}]}', '{"files": [1]}', "{}"])
def test_a_damaged_manifest_is_named(data_dir: Path, text: str) -> None:
    (data_dir / "cells" / "manifest.json").write_text(text)
    with pytest.raises(DatasetError, match=r"cells/manifest\.json is no manifest that we can read"):
        list_manifest_files(data_dir)


def test_sizes_that_differ_are_named(data_dir: Path) -> None:
    file = list_manifest_files(data_dir, ["cells"])[1]
    assert file.ignore_path is not None
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(file.ignore_path)
    with pytest.raises(DatasetError, match=r"ignored region must have the same size.*\(5, 5\)"):
        file.read()
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(file.image_path)
    with pytest.raises(DatasetError, match=r"picture and labels must have the same size, got \(5"):
        file.read()
    colours = np.arange(75, dtype=np.uint8).reshape(5, 5, 3)
    Image.fromarray(colours).save(file.label_path)
    with pytest.raises(DatasetError, match=r"one channel of integers, got shape \(5, 5, 3\)"):
        file.read()


def test_categories_come_from_the_manifest(data_dir: Path) -> None:
    path = data_dir / "photos" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][0]["objects"][1]["category"] = "cell"
    path.write_text(json.dumps(manifest))
    first, second = list_manifest_files(data_dir, ["photos"])
    assert first.read().categories == {2: "cell"}
    assert second.read().categories == {}


def test_binary_labels_are_one_object(tmp_path: Path) -> None:
    for name in ("image", "label"):
        Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / f"{name}.png")
    file = LabelledFile("x", "", "", tmp_path / "image.png", tmp_path / "label.png")
    assert file.read().labels.max() == 1


def test_the_real_sets(test_data: Path) -> None:
    files = list_manifest_files(test_data)
    assert len(files) > 300
    expected = {}
    for name in ("dsb2018", "coco_open", "usiigaci_phase"):
        manifest = json.loads((test_data / name / "manifest.json").read_text())
        expected[name] = {e["id"]: e["n_objects"] for e in manifest["files"] if e["split"] == "val"}
    for name, counts in expected.items():
        own = [file for file in files if file.set_name == name]
        assert {file.id for file in own} == set(counts)
        for image in read_each(own[:4]):
            assert np.unique(image.labels[image.labels > 0]).size == counts[image.id]
            for object_id, whole in image.whole_masks.items():
                # Smaller objects lie before it: of the visible part nothing is outside the whole.
                visible = image.labels == object_id
                assert (whole & visible).sum() >= 0.98 * visible.sum()


def listed(count: int) -> list[LabelledFile]:
    return [
        LabelledFile(str(number), "cells", "", Path(f"{number}.png"), Path(f"{number}_l.png"))
        for number in range(count)
    ]


def test_a_picture_stays_on_its_side_when_there_are_more() -> None:
    train, held_out = split_off(listed(40), 0.25)
    assert len(train) + len(held_out) == 40
    assert 4 <= len(held_out) <= 16
    more_train, more_held_out = split_off(listed(80), 0.25)
    assert {file.id for file in train} <= {file.id for file in more_train}
    assert {file.id for file in held_out} <= {file.id for file in more_held_out}


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_each_side_has_a_picture(share: float) -> None:
    train, held_out = split_off(listed(3), share)
    assert train
    assert held_out


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"two labelled pictures are the least, .* got 1"):
        split_off(listed(1), 0.5)
    with pytest.raises(ValueError, match="share must lie between 0 and 1, got 1"):
        split_off(listed(3), 1)
