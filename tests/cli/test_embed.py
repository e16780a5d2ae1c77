"""``sam-plugins embed``: what is cached is found by whoever asks next, and not made again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.labelled_sets import discs, picture_of

from sam_plugins.cli import embed, main
from sam_plugins.model.inference import predict
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.inference.volume import SliceEmbeddings, Volume
from sam_plugins.model.weights.paths import embeddings_directory

Run = Callable[..., Any]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tiny: Path) -> Run:
    """Run ``embed`` with the tiny model; return its code and its JSON."""

    def call(*arguments: object) -> tuple[int, Any]:
        capsys.readouterr()
        code = main(["embed", *map(str, arguments), "--model", str(tiny), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(picture_of(discs(seed))).save(folder / f"cells-{seed}.png")
    return folder


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.tif"
    slices = np.stack([picture_of(discs(seed)) for seed in range(4)])
    tifffile.imwrite(path, slices, photometric="minisblack", metadata={"axes": "ZYX"})
    return path


def no_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where anything is encoded."""

    def fail(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(predict, "encode_rgb", fail)


def test_a_folder_is_encoded_once(
    run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, document = run(pictures)
    assert (code, document["encoded"], document["cached_before"]) == (0, 3, 0)
    assert document["bytes"] == EmbeddingCache(embeddings_directory()).disk_bytes > 0
    no_encoding(monkeypatch)
    code, document = run(pictures)
    assert (code, document["encoded"], document["cached_before"]) == (0, 0, 3)


def test_what_was_interrupted_goes_on(run: Run, pictures: Path) -> None:
    assert run(pictures / "cells-1.png")[1]["encoded"] == 1
    assert run(pictures)[1]["encoded"] == 2


def test_segment_finds_it(
    run: Run, pictures: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sam_plugins.cli import torch_core

    run(pictures)

    def fail(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(torch_core, "encode_rgb", fail)
    command = ["segment", str(pictures), "--model", str(tiny), "--box", "10,10,40,40"]
    assert main([*command, "-o", str(tmp_path / "out")]) == 0


def test_slices_are_those_of_a_volume(
    run: Run, stack: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [stack, "--stack", "--along", "z", "--along", "x", "--voxel-size", "2,1,1"]
    code, document = run(*command, "--scheduler", "none")
    volume = Volume(tifffile.imread(stack), voxel_size_zyx=(2.0, 1.0, 1.0))
    assert code == 0
    assert document["encoded"] + document["cached_before"] == 4 + volume.shape_zyx[2]
    for axis in (0, 2):
        slices = SliceEmbeddings(load_model(tiny), volume, axis=axis)
        assert all(slices.is_ready(index) for index in range(len(slices)))
    slices = SliceEmbeddings(load_model(tiny), volume, axis=1)
    assert not all(slices.is_ready(index) for index in range(len(slices)))


def test_a_plain_picture_is_no_stack(run: Run, pictures: Path) -> None:
    code, document = run(pictures / "cells-0.png", "--stack")
    assert code == 1
    assert "must have one axis of slices, it has none" in document["failed"][0]["error"]


def test_one_that_cannot_be_read_stops_no_other(run: Run, pictures: Path) -> None:
    (pictures / "broken.png").write_bytes(b"no picture")
    code, document = run(pictures)
    assert (code, document["encoded"]) == (1, 3)
    assert "broken.png" in document["failed"][0]["error"]


def test_large_pictures_are_named_for_their_parts_are_not_prepared(
    run: Run, pictures: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    side = 2 * load_model(tiny).preprocessing.max_long_side + 1
    for name in "abcd":
        Image.new("L", (side, 20)).save(pictures / f"{name}.png")
    code, document = run(pictures)
    assert (code, document["encoded"]) == (0, 4)  # the large ones look the same
    assert document["large"] == [str(pictures / f"{name}.png") for name in "abcd"]
    assert main(["embed", str(pictures), "--model", str(tiny)]) == 0
    said = capsys.readouterr().err
    assert "segment looks at large pictures in parts, of which nothing is prepared" in said
    assert "c.png and 1 more: encoded as a whole, for segment --no-tiles" in said


def test_exact_embeddings_are_float16(run: Run, pictures: Path, tiny: Path) -> None:
    from sam_plugins.model.inference.predict import encode_rgb
    from sam_plugins.model.inference.rgb import to_rgb
    from sam_plugins.model.io.images import read_image

    run(pictures, "--exact")
    path = pictures / "cells-0.png"
    rgb = to_rgb(read_image(path))
    model = load_model(tiny)
    from sam_plugins.model.inference.cache import embedding_key

    key = embedding_key(rgb, model.preprocessing, model.model_id)
    found = EmbeddingCache(embeddings_directory()).get(key)
    assert found is not None
    assert (found.features == encode_rgb(model, rgb).features.half().float()).all()


def test_more_than_the_cache_keeps_is_said(
    tiny: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sam_plugins.model.inference import cache

    monkeypatch.setattr(cache, "DEFAULT_DISK_BYTES", 1000)
    assert main(["embed", str(pictures), "--model", str(tiny)]) == 0
    assert "those used longest ago go again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name pictures, or a project with --label-studio"),
        (["a.png", "--label-studio", "1"], "name pictures, or a project"),
        (["a.png", "--url", "http://localhost"], "--url belongs to --label-studio"),
        (["a.png", "--along", "z"], "belong to --stack"),
        (["a.tif", "--stack", "--plane", "1"], "--stack encodes every plane"),
        (["a.tif", "--stack", "--voxel-size", "0,1,1"], "expected lengths as z,y,x"),
        (["--label-studio", "1", "--scheduler", "local"], "leave out --scheduler"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["embed", *arguments])
    assert message in capsys.readouterr().err


def test_a_project_is_prepared_by_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    from sam_plugins.cli import labelstudio

    asked: list[object] = []

    def prepare(url: str | None, project: int, *, is_json: bool) -> int:
        asked.append((url, project, is_json))
        return 0

    monkeypatch.setattr(labelstudio, "prepare", prepare)
    assert main(["embed", "--label-studio", "7", "--url", "http://localhost:8080", "--json"]) == 0
    assert asked == [("http://localhost:8080", 7, True)]


def test_a_slice_is_named_by_file_and_place() -> None:
    assert str(embed.Part(Path("a.tif"), 2, 5)) == "a.tif:x5"


def test_a_folder_for_the_cache_that_cannot_be_made_names_the_setting(
    run: Run,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    for home in [tmp_path / "file" / "home", *[Path("/proc/no/home")] * Path("/proc").is_dir()]:
        monkeypatch.setenv("SAM_PLUGINS_HOME", str(home))
        capsys.readouterr()
        assert main(["embed", str(pictures)]) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert f"cannot keep embeddings in {home / 'embeddings'} (" in said
        assert "choose another folder with the environment variable SAM_PLUGINS_HOME" in said
