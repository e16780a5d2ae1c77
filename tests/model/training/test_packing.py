from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam_plugins.errors import DatasetError, UnreadableImageError
from sam_plugins.model.io.rle import decode_mask, encode_mask
from sam_plugins.model.networks.config import Preprocessing
from sam_plugins.model.training.batches import pictures_digest
from sam_plugins.model.training.packing import (
    INDEX,
    MAX_BYTES,
    is_pack_of,
    load_pack,
    pack_folder,
    pack_sources,
)
from sam_plugins.model.training.synthetic import synthetic_picture


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Two sets with a manifest: a large picture with an ignored region, and a photograph."""
    root = tmp_path / "data"
    for name, size, modality in (("cells", 1500, "phase_contrast"), ("street", 200, "natural")):
        files = []
        for number, split in enumerate(("train", "val")):
            picture = synthetic_picture(np.random.default_rng(number), 200)
            scale = size // 200
            for kind, pixels in (
                ("images", picture.rgb),
                ("labels", picture.labels),
                ("ignore", (picture.labels == 1).astype(np.uint8)),
            ):
                path = root / name / split / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                large = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
                Image.fromarray(large).save(path)
            side = 200 * scale
            whole = np.zeros((side, side), bool)
            whole[: side // 2] = True
            files.append(
                {
                    "id": str(number),
                    "split": split,
                    "image": f"{split}/images/{number}.png",
                    "label": f"{split}/labels/{number}.png",
                    "ignore": f"{split}/ignore/{number}.png",
                    "image_shape": [side, side, 3],
                    "modality": modality,
                    "objects": [{"id": 1, "rle_full": encode_mask(whole)}],
                }
            )
        manifest = {"name": name, "licence": "CC0", "annotation_complete": True, "files": files}
        (root / name / "manifest.json").write_text(json.dumps(manifest))
    return root


def test_what_is_packed_comes_back(data_dir: Path, tmp_path: Path) -> None:
    path = pack_folder(data_dir, tmp_path / "pack.zip")
    pictures = load_pack(path)
    assert [(one.set_name, one.id) for one in pictures] == [("cells", "0"), ("street", "0")]
    cells, street = pictures
    assert max(cells.rgb.shape) == 1024  # larger than the network sees: reduced
    assert cells.network_scale == 1
    assert street.rgb.shape == (200, 200, 3)
    assert street.network_scale == 3  # enlarged, by no more than three
    assert (cells.is_upright, street.is_upright) == (False, True)
    truth = synthetic_picture(np.random.default_rng(0), 200)
    np.testing.assert_array_equal(street.labels, truth.labels)
    assert np.abs(street.rgb.astype(int) - truth.rgb).mean() < 12
    assert cells.ignore is not None
    np.testing.assert_array_equal(cells.ignore, cells.labels == 1)
    assert decode_mask(cells.whole_rles[1]).sum() == 512 * 1024


def test_sources_tell_what_was_read(data_dir: Path, tmp_path: Path) -> None:
    path = pack_folder(data_dir, tmp_path / "pack.zip")
    cells, street = pack_sources(path)
    assert (cells.name, cells.pictures, cells.licence) == ("cells/train", 1, "CC0")
    assert cells.objects == len(np.unique(load_pack(path)[0].labels)) - 1
    assert len(cells.sha256) == 64
    assert cells.sha256 != street.sha256


def test_a_pack_is_of_the_folder_until_a_training_picture_changes(
    data_dir: Path, tmp_path: Path
) -> None:
    path = pack_folder(data_dir, tmp_path / "pack.zip")
    assert is_pack_of(path, data_dir)
    for split, expected in (("val", True), ("train", False)):
        number = "0" if split == "train" else "1"
        changed = data_dir / "street" / split / "images" / f"{number}.png"
        Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(changed)
        assert is_pack_of(path, data_dir) == expected


def _turn_ignored(folder: Path, manifest: dict[str, Any]) -> None:
    path = folder / manifest["files"][0]["ignore"]
    Image.fromarray(1 - np.array(Image.open(path))).save(path)


def _change(key: str, value: object) -> Callable[[Path, dict[str, Any]], None]:
    """Change what a manifest says of its training picture."""
    return lambda _, manifest: manifest["files"][0].update({key: value})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_turn_ignored, id="ignored region"),
        pytest.param(_change("ignore", None), id="no ignored region"),
        pytest.param(_change("annotation_complete", False), id="complete"),
        pytest.param(lambda _, manifest: manifest.update(annotation_complete=False), id="set"),
        pytest.param(_change("modality", "fluorescence"), id="upright"),
        pytest.param(_change("objects", []), id="whole masks"),
        pytest.param(_change("id", "another"), id="id"),
    ],
)
def test_what_a_pack_is_of_and_its_digest_change_with_all_that_teaches(
    change: Callable[[Path, dict[str, Any]], None], data_dir: Path, tmp_path: Path
) -> None:
    path = pack_folder(data_dir, tmp_path / "pack.zip")
    cells, street = pack_sources(path)
    folder = data_dir / "street"
    manifest = json.loads((folder / "manifest.json").read_text())
    change(folder, manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert not is_pack_of(path, data_dir)
    again = pack_sources(pack_folder(data_dir, tmp_path / "again.zip"))
    assert again[0] == cells
    assert again[1].sha256 != street.sha256
    assert is_pack_of(tmp_path / "again.zip", data_dir)


def test_a_pack_is_of_one_way_to_see_pictures_and_of_one_licence(
    data_dir: Path, tmp_path: Path
) -> None:
    path = pack_folder(data_dir, tmp_path / "pack.zip")
    assert not is_pack_of(path, data_dir, preprocessing=Preprocessing())
    manifest = json.loads((data_dir / "street" / "manifest.json").read_text())
    manifest["licence"] = "CC BY 4.0"
    (data_dir / "street" / "manifest.json").write_text(json.dumps(manifest))
    assert not is_pack_of(path, data_dir)


def test_a_picture_that_is_gone_is_named(data_dir: Path, tmp_path: Path) -> None:
    path = pack_folder(data_dir, tmp_path / "pack.zip")
    (data_dir / "street" / "train" / "ignore" / "0.png").unlink()
    with pytest.raises(UnreadableImageError, match=r"cannot read .*0\.png: No such file"):
        is_pack_of(path, data_dir)


def test_a_pack_of_an_older_version_is_refused(data_dir: Path, tmp_path: Path) -> None:
    path = pack_folder(data_dir, tmp_path / "pack.zip")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    index = json.loads(members[INDEX])
    del index["format"], index["made"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {INDEX: json.dumps(index).encode()}).items():
            archive.writestr(name, content)
    assert not is_pack_of(path, data_dir)
    for read in (load_pack, pack_sources):
        with pytest.raises(DatasetError, match=r"packed by another version .* \(format 1, .*again"):
            read(path)


def test_damage_is_found_wherever_it_is(tmp_path: Path) -> None:
    """A flipped byte is told, or changes nothing that is read."""
    folder = tmp_path / "data" / "cells"
    folder.mkdir(parents=True)
    picture = synthetic_picture(np.random.default_rng(0), 32)
    Image.fromarray(picture.rgb).save(folder / "image.png")
    Image.fromarray((picture.labels > 0).astype(np.uint8)).save(folder / "label.png")
    entry = {"id": "0", "split": "train", "image": "image.png", "label": "label.png",
             "image_shape": [32, 32, 3]}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"files": [entry]}))
    path = pack_folder(folder.parent, tmp_path / "pack.zip")
    digest, sources = pictures_digest(load_pack(path)), pack_sources(path)
    content = path.read_bytes()
    told = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert pictures_digest(load_pack(path)) == digest
            assert pack_sources(path) == sources
        except DatasetError as error:
            assert "pack it again" in str(error)  # noqa: PT017
            told += 1
    assert told > len(content) / 2
    for length in range(0, len(content), 40):
        path.write_bytes(content[:length])
        with pytest.raises(DatasetError, match=r"no packed training data .*pack it again"):
            load_pack(path)


def test_a_pack_that_is_too_large_to_be_carried_is_told(data_dir: Path, tmp_path: Path) -> None:
    size = pack_folder(data_dir, tmp_path / "pack.zip").stat().st_size
    assert pack_folder(data_dir, tmp_path / "same.zip", max_bytes=size).is_file()
    with pytest.warns(
        UserWarning, match=rf"large\.zip takes {size:,} bytes, and the limit .* is {size - 1:,}: "
    ):
        pack_folder(data_dir, tmp_path / "large.zip", max_bytes=size - 1)
    assert len(load_pack(tmp_path / "large.zip")) == 2


@pytest.mark.slow
def test_the_training_pictures_of_the_shipped_model_can_be_carried(
    test_data: Path, tmp_path: Path
) -> None:
    path = pack_folder(test_data, tmp_path / "pack.zip")  # a warning would be an error
    assert 40 * 2**20 < path.stat().st_size <= MAX_BYTES == 55 * 2**20


def test_a_file_that_is_no_pack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no packed training data"):
        load_pack(tmp_path / "missing.zip")
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(DatasetError, match="pack it again"):
        load_pack(tmp_path / "text.zip")
