from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_plugins.errors import DatasetError
from sam_plugins.model.io.rle import decode_mask, encode_mask
from sam_plugins.model.training.packing import (
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


def test_a_file_that_is_no_pack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no packed training data"):
        load_pack(tmp_path / "missing.zip")
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(DatasetError, match="pack it again"):
        load_pack(tmp_path / "text.zip")
