"""CLIP behind its interface: from files, and what it says of phrases and crops."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.model.inference.tiny_clip import CROP, DIM, write_tiny_clip

from sam_plugins.errors import CheckpointError, DownloadError, MissingExtraError, UnknownModelError
from sam_plugins.model.inference.clip import Clip, clip_folder, load_clip

pytest.importorskip("transformers", reason="transformers is not installed (extra: text)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Clip:
    return load_clip(folder, device="cpu")


@pytest.fixture
def crops() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (CROP, CROP, 3), dtype=np.uint8) for _ in range(18)]


def test_what_it_says_of_itself(clip: Clip) -> None:
    assert (clip.encoder_id, clip.dim, clip.crop_size) == ("tiny-clip", DIM, CROP)
    assert clip.fill == (128, 128, 128)
    assert clip.std == (0.25, 0.25, 0.25)
    assert clip.logit_scale == pytest.approx(float(clip.network.logit_scale.exp()))


def test_phrases_have_vectors_of_length_1_that_do_not_depend_on_their_company(clip: Clip) -> None:
    together = clip.embed_texts(["red circle", "a much longer phrase than the other", "x"])
    assert together.shape == (3, DIM)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(together[0], clip.embed_texts(["red circle"])[0], atol=1e-5)
    assert abs(together[0] - together[2]).max() > 1e-3
    assert np.isfinite(clip.embed_texts(["far too long " * 20])).all()


def test_phrases_go_through_the_network_as_transformers_would_send_them(clip: Clip) -> None:
    tokens = clip.tokenizer(["red star"], return_tensors="pt")
    found = clip.network.text_model(**tokens)
    expected = clip.network.text_projection(found.pooler_output)[0].detach()
    expected = expected / expected.norm()
    np.testing.assert_allclose(clip.embed_texts(["red star"])[0], expected.numpy(), atol=1e-5)


def test_crops_are_normalised_and_taken_some_at_a_time(clip: Clip, crops: list[np.ndarray]) -> None:
    together = clip.embed_crops(crops)
    pixels = torch.from_numpy(crops[17]).permute(2, 0, 1)[None].float()
    pixels = (pixels / 255 - 0.5) / 0.25
    seen = clip.network.vision_model(pixel_values=pixels).pooler_output
    expected = clip.network.visual_projection(seen)[0].detach()
    np.testing.assert_allclose(together[17], (expected / expected.norm()).numpy(), atol=1e-5)
    assert clip.embed_crops([]).shape == (0, DIM)


def test_refused_phrases_and_crops(clip: Clip) -> None:
    with pytest.raises(ValueError, match="there must be at least one phrase, got none"):
        clip.embed_texts([])
    with pytest.raises(ValueError, match="a phrase must say what to look for, got '  '"):
        clip.embed_texts(["a cat", "  "])
    with pytest.raises(TypeError, match=r"must be a sequence of texts, got one text: pass \['cat'"):
        clip.embed_texts("cat")
    with pytest.raises(TypeError, match="a phrase must be a text, got int"):
        clip.embed_texts([3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"crops must have shape \(32, 32, 3\), got \(5, 5, 3\)"):
        clip.embed_crops([np.zeros((5, 5, 3), np.uint8)])


def test_a_name_is_found_in_its_folder() -> None:
    write_tiny_clip(clip_folder("lab/tiny"))
    assert load_clip("lab/tiny", device="cpu").encoder_id == "lab/tiny"


def test_nothing_is_downloaded_unasked() -> None:
    with pytest.raises(
        UnknownModelError,
        match=r"the CLIP 'lab/absent' is not on this machine: put its files \(config.json, .* into "
        r".*clip/lab--absent, name another folder .* or allow the download with download=True",
    ):
        load_clip("lab/absent", device="cpu")


def test_offline_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM_PLUGINS_OFFLINE", "1")
    with pytest.raises(UnknownModelError, match="take back SAM_PLUGINS_OFFLINE to download it"):
        load_clip("lab/absent", device="cpu", download=True)


def test_a_failed_download_names_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, **options: Any) -> str:
        raise OSError("the hub is closed")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(DownloadError, match="'lab/absent': the hub is closed; put its files"):
        load_clip("lab/absent", device="cpu", download=True)


def test_a_download_lies_in_the_folder_and_is_read_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []

    def deliver(name: str, **options: Any) -> str:
        if options.get("local_files_only"):
            raise OSError("not here")
        asked.append(options)
        return str(write_tiny_clip(Path(options["local_dir"])))

    monkeypatch.setattr("huggingface_hub.snapshot_download", deliver)
    assert load_clip("lab/far", device="cpu", download=True).dim == DIM
    assert len(asked) == 1
    assert asked[0]["local_dir"] == clip_folder("lab/far")
    load_clip("lab/far", device="cpu")
    assert len(asked) == 1


def test_folders_that_hold_no_clip(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"must hold a CLIP .*, but has no config.json"):
        load_clip(tmp_path, device="cpu")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match=r"says model_type 'bert', and not 'clip'"):
        load_clip(tmp_path, device="cpu")
    write_tiny_clip(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"cannot read the CLIP .*; get its files again"):
        load_clip(tmp_path, device="cpu")


def test_a_missing_library_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "transformers":
            raise ImportError("No module named 'transformers'")
        return original(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r'pip install "sam-plugins\[text\]"'):
        load_clip(folder, device="cpu")
