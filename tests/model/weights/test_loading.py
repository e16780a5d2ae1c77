"""From a name or a path to weights that fit a network, and from a checkpoint to a file of ours."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sam_plugins.errors import (
    CheckpointError,
    DownloadError,
    ForeignCheckpointError,
    HashMismatchError,
    OutputError,
    UnknownModelError,
    UnsafeCheckpointError,
    UnsuitableModelError,
    WeightsError,
)
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import SHIPPED, PyramidConfig, SamConfig
from sam_plugins.model.weights import registry
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.convert import convert_checkpoint
from sam_plugins.model.weights.loading import ModelFile, load_checkpoint, resolve
from sam_plugins.model.weights.passport import Passport
from sam_plugins.model.weights.paths import models_directory
from sam_plugins.model.weights.registry import ModelEntry, find_entry


@pytest.fixture
def sam_file(tmp_path: Path, tiny_state: dict[str, Tensor]) -> Path:
    """A checkpoint as SAM publishes them: a plain state dict."""
    torch.save(tiny_state, tmp_path / "my_sam.pth")
    return tmp_path / "my_sam.pth"


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModelEntry]:
    """Put an entry for a file of ours into the registry."""

    def add(file: Path, **changes: Any) -> ModelEntry:
        values: dict[str, Any] = {
            "name": "tiny_sam",
            "file_name": "tiny_sam.pth",
            "urls": ("https://example.org/tiny_sam.pth",),
            "digest": f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}",
            "size_bytes": file.stat().st_size,
            "licence": "CC0-1.0",
            "input_convention": "RGB",
            "good_for": "tests",
        }
        entry = ModelEntry(**{**values, **changes})
        monkeypatch.setattr(registry, "_ENTRIES", (*registry.model_entries(), entry))
        return entry

    return add


def test_a_checkpoint_is_read_without_a_model_type(
    sam_file: Path, tiny_config: SamConfig, tiny_state: dict[str, Tensor]
) -> None:
    loaded = load_checkpoint(sam_file)
    assert loaded.config == tiny_config
    assert loaded.preprocessing == tiny_config.preprocessing
    assert loaded.name == "my_sam"
    assert loaded.path == sam_file
    assert loaded.sha256 == hashlib.sha256(sam_file.read_bytes()).hexdigest()
    assert loaded.model_id == f"my_sam-{loaded.sha256[:12]}"
    assert loaded.passport is None
    assert loaded.left_aside == ()
    build_sam(loaded.config).load_state_dict(loaded.state_dict, strict=True)
    for name, tensor in tiny_state.items():
        torch.testing.assert_close(loaded.state_dict[name], tensor, rtol=0, atol=0)


def test_a_path_may_be_a_text(sam_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sam_file.parent)
    assert resolve("my_sam.pth") == ModelFile(Path("my_sam.pth"), "my_sam")
    assert resolve(str(sam_file)).path == sam_file
    monkeypatch.setenv("HOME", str(sam_file.parent))
    monkeypatch.setenv("USERPROFILE", str(sam_file.parent))
    assert resolve("~/my_sam.pth").path == sam_file


def test_what_micro_sam_exports_loads_and_its_decoder_is_named(
    tmp_path: Path, tiny_config: SamConfig, tiny_state: dict[str, Tensor]
) -> None:
    content = {"model_state": tiny_state, "decoder_state": {"out_conv.weight": torch.ones(1)}}
    torch.save(content, tmp_path / "exported.pt")
    loaded = load_checkpoint(tmp_path / "exported.pt")
    assert loaded.config == tiny_config
    assert loaded.left_aside == ("decoder_state (1 tensor)",)


def test_a_model_of_ours_says_itself_what_it_is(tmp_path: Path) -> None:
    config = dataclasses.replace(
        SHIPPED, image_encoder=PyramidConfig((8, 16, 24, 32), (1, 1, 1, 1), 1, (8, 8), out_dim=32)
    )
    state = build_sam(config).state_dict()
    passport = Passport(name="cells", config=config, version="3")
    path = save_model_file(tmp_path / "any.safetensors", state, passport)
    loaded = load_checkpoint(path)
    assert loaded.config == config
    assert loaded.passport == passport
    assert loaded.model_id.startswith("cells-")
    build_sam(loaded.config).load_state_dict(loaded.state_dict, strict=True)
    state.pop("mask_decoder.iou_token.weight")
    save_model_file(path, state, passport)
    with pytest.raises(CheckpointError, match=r"any.safetensors: .*\(pyramid\): 1 missing"):
        load_checkpoint(path)


@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_weights_of_a_training_that_diverged_are_refused(
    tmp_path: Path, tiny_config: SamConfig, tiny_state: dict[str, Tensor], form: str
) -> None:
    import safetensors.torch

    name = "mask_decoder.iou_token.weight"
    state = {**tiny_state, name: tiny_state[name].clone()}
    state[name][0, 1] = torch.nan
    path = tmp_path / f"diverged.{form}"
    if form == "pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    with pytest.raises(CheckpointError, match=rf"diverged\.{form} holds weights.*NaN.* \({name}\)"):
        load_checkpoint(path)


def test_a_named_model_is_taken_from_the_cache_and_checked(
    sam_file: Path, register: Callable[..., ModelEntry]
) -> None:
    entry = register(sam_file)
    cached = models_directory() / entry.file_name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(sam_file.read_bytes())
    loaded = load_checkpoint("Tiny-SAM")
    assert loaded.name == "tiny_sam"
    assert loaded.path == cached
    cached.write_bytes(sam_file.read_bytes()[:-1])
    with pytest.raises(HashMismatchError, match="is not the published file of model 'tiny_sam'"):
        load_checkpoint("tiny_sam")


def test_a_named_model_with_another_kind_of_digest(
    sam_file: Path, register: Callable[..., ModelEntry]
) -> None:
    md5 = hashlib.md5(sam_file.read_bytes()).hexdigest()
    entry = register(sam_file, digest=f"md5:{md5}")
    assert load_checkpoint(ModelFile(sam_file, entry.name, entry)).name == "tiny_sam"


def test_a_renamed_published_file_keeps_its_name_and_its_preprocessing(
    sam_file: Path, register: Callable[..., ModelEntry], tiny_config: SamConfig
) -> None:
    own = dataclasses.replace(tiny_config.preprocessing, pixel_mean=(0.0, 0.0, 0.0))
    register(sam_file, preprocessing=own)
    loaded = load_checkpoint(sam_file)
    assert loaded.name == "tiny_sam"
    assert loaded.preprocessing == own
    assert loaded.config == dataclasses.replace(tiny_config, preprocessing=own)


def test_medsam_sees_zero_to_one() -> None:
    preprocessing = find_entry("medsam").preprocessing
    assert preprocessing is not None
    assert preprocessing.pixel_mean == (0, 0, 0)
    assert preprocessing.pixel_std == (255, 255, 255)


def test_a_missing_model_cannot_be_downloaded_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM_PLUGINS_OFFLINE", "1")
    with pytest.raises(
        DownloadError, match=r"sam_vit_b_01ec64.pth \(375 MB, sha256:ec2df6.*save it"
    ):
        load_checkpoint("vit_b")


def test_the_shipped_model_is_read_from_the_package(
    tmp_path: Path,
    tiny_config: SamConfig,
    tiny_state: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry.importlib.resources, "files", lambda _: tmp_path)
    with pytest.raises(
        WeightsError, match=r"ships with sam-plugins is missing.*make train-default"
    ):
        load_checkpoint("default")
    passport = Passport(name="default", config=tiny_config)
    save_model_file(tmp_path / "default" / "default.safetensors", tiny_state, passport)
    assert load_checkpoint("default").passport == passport


def test_names_and_paths_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownModelError, match="did you mean mobile_sam"):
        load_checkpoint("mobile-sam2")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.weights").write_bytes(b"of another program")
    with pytest.raises(UnknownModelError, match=r"but a file here is: .* give \./mine\.weights"):
        load_checkpoint("mine.weights")
    with pytest.raises(CheckpointError, match=r"absent.pth does not exist: give the path"):
        load_checkpoint("absent.pth")
    with pytest.raises(CheckpointError, match="is a folder: give the path of a file"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="cannot read the file of weights"):
        load_checkpoint(ModelFile(tmp_path / "gone.pth", "gone"))


def test_foreign_and_malicious_files_are_told_apart(tmp_path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(ForeignCheckpointError, match=r"other.pth: expected the weights of a SAM"):
        load_checkpoint(tmp_path / "other.pth")
    torch.save({"model": torch.nn.ReLU()}, tmp_path / "pickled.pth")
    with pytest.raises(UnsafeCheckpointError, match=r"would run torch.nn"):
        load_checkpoint(tmp_path / "pickled.pth")


def test_any_checkpoint_becomes_a_model_file(
    sam_file: Path, tmp_path: Path, tiny_state: dict[str, Tensor]
) -> None:
    path = convert_checkpoint(sam_file, tmp_path / "new.safetensors", licence="CC0-1.0")
    source, loaded = load_checkpoint(sam_file), load_checkpoint(path)
    assert loaded.passport is not None
    assert (loaded.passport.name, loaded.passport.licence) == ("my_sam", "CC0-1.0")
    assert loaded.passport.parent == source.model_id
    assert loaded.config == source.config
    for name, tensor in tiny_state.items():
        torch.testing.assert_close(loaded.state_dict[name], tensor, rtol=0, atol=0)


def test_a_published_file_brings_its_licence(
    sam_file: Path, tmp_path: Path, register: Callable[..., ModelEntry]
) -> None:
    register(sam_file)
    loaded = load_checkpoint(convert_checkpoint(sam_file, tmp_path / "new.safetensors"))
    assert loaded.passport is not None
    assert loaded.passport.licence == "CC0-1.0"
    assert loaded.passport.description == "tests"


def test_a_converted_model_of_ours_keeps_its_passport(
    tmp_path: Path, tiny_config: SamConfig, tiny_state: dict[str, Tensor]
) -> None:
    passport = Passport(name="mine", config=tiny_config, metrics={"val": {"iou": 0.5}})
    source = save_model_file(tmp_path / "a.safetensors", tiny_state, passport)
    half = convert_checkpoint(source, tmp_path / "b.safetensors", dtype=torch.float16)
    assert load_checkpoint(half).passport == passport
    renamed = convert_checkpoint(source, tmp_path / "c.safetensors", name="yours")
    assert load_checkpoint(renamed).passport == dataclasses.replace(passport, name="yours")


def test_what_half_precision_cannot_hold_is_not_converted(
    tmp_path: Path, tiny_state: dict[str, Tensor]
) -> None:
    name = "mask_decoder.iou_token.weight"
    changed = tiny_state[name].clone()
    changed[0, 0] = 1e6
    torch.save({**tiny_state, name: changed}, tmp_path / "large.pth")
    with pytest.raises(
        UnsuitableModelError, match=rf"cannot convert .*large\.pth: {name} holds .* torch\.float16"
    ):
        convert_checkpoint(tmp_path / "large.pth", tmp_path / "b.safetensors", dtype=torch.float16)
    assert not (tmp_path / "b.safetensors").exists()


def test_conversion_does_not_overwrite_unasked(sam_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.safetensors"
    target.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"new.safetensors exists: choose another name"):
        convert_checkpoint(sam_file, target)
    assert target.read_bytes() == b"precious"
    assert load_checkpoint(convert_checkpoint(sam_file, target, overwrite=True)).passport
