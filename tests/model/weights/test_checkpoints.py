"""Files of weights: formats told by content, wrappers, damage, and pickles that bite."""

from __future__ import annotations

import errno
import os
import pickle
import struct
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch

from sam_plugins.errors import (
    CheckpointError,
    ForeignCheckpointError,
    MemoryLimitError,
    OutputError,
    UnsafeCheckpointError,
)
from sam_plugins.model.networks.config import SHIPPED, SamConfig
from sam_plugins.model.weights.checkpoints import (
    read_weight_file,
    require_finite,
    save_model_file,
)
from sam_plugins.model.weights.passport import METADATA_KEY, Passport

STATE = {
    "image_encoder.patch_embed.proj.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
    "prompt_encoder.no_mask_embed.weight": torch.tensor([[1.5, -2.0]]),
    "mask_decoder.iou_token.weight": torch.tensor([[0.25, 4.0]]),
}
PASSPORT = Passport(
    name="tiny", config=SamConfig(), version="1", created="2026-01-01T00:00:00+00:00"
)


def assert_same(found: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(STATE)
    for name, tensor in STATE.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def under(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in STATE.items()}


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors", ""])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_the_format_is_told_by_the_content(tmp_path: Path, form: str, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    if form == "safetensors":
        safetensors.torch.save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=form == "zip")
    file = read_weight_file(path)
    assert_same(file.state_dict)
    assert file.passport is None
    assert file.left_aside == ()


@pytest.mark.parametrize(
    ("content", "left_aside"),
    [
        ({"model_state": STATE}, ()),
        ({"model": STATE, "epoch": 3}, ("epoch (int)",)),
        ({"state_dict": under("module."), "args": {"lr": 1}}, ("args (dict)",)),
        (
            {
                "model_state": under("sam."),
                "decoder_state": {"a": torch.ones(1), "b": torch.ones(2)},
            },
            ("decoder_state (2 tensors)",),
        ),
        ({**STATE, "decoder_state": {"a": torch.ones(1)}}, ("decoder_state (1 tensor)",)),
        ({"epoch": 1, "model": {"state_dict": under("module.model.")}}, ("epoch (int)",)),
        ({**under("sam."), "decoder.weight": torch.ones(1)}, ("decoder (1 tensor)",)),
        (under("_orig_mod."), ()),
    ],
)
def test_wrapped_weights_are_found_and_the_rest_is_named(
    tmp_path: Path, content: dict[str, Any], left_aside: tuple[str, ...]
) -> None:
    torch.save(content, tmp_path / "wrapped.pth")
    file = read_weight_file(tmp_path / "wrapped.pth")
    assert_same(file.state_dict)
    assert file.left_aside == left_aside


def test_parameters_and_half_precision_become_plain_float32(tmp_path: Path) -> None:
    content: dict[str, Any] = {name: torch.nn.Parameter(t) for name, t in STATE.items()}
    content["mask_decoder.iou_token.weight"] = STATE["mask_decoder.iou_token.weight"].half()
    content["image_encoder.steps"] = torch.tensor(7)
    torch.save(content, tmp_path / "half.pth")
    found = read_weight_file(tmp_path / "half.pth").state_dict
    assert found.pop("image_encoder.steps").dtype == torch.int64
    assert_same(found)
    assert not any(tensor.requires_grad for tensor in found.values())


def test_encoders_without_a_model_lose_their_common_prefix(tmp_path: Path) -> None:
    torch.save({"module.cls_token": torch.ones(1)}, tmp_path / "a.pth")
    assert set(read_weight_file(tmp_path / "a.pth").state_dict) == {"cls_token"}


def test_two_models_in_one_file_are_not_chosen_between(tmp_path: Path) -> None:
    torch.save({**under("student."), **under("teacher.")}, tmp_path / "two.pth")
    with pytest.raises(
        ForeignCheckpointError, match=r"holds 2 models, under \['student.', 'teacher"
    ):
        read_weight_file(tmp_path / "two.pth")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([1, 2], "a list"),
        ({"epoch": 1, "loss": 0.5}, r"epoch \(int\), loss \(float\)"),
        ({}, "a dict"),
        (torch.ones(2), "a Tensor"),
    ],
)
def test_files_without_a_state_dict_are_foreign(tmp_path: Path, content: Any, found: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ForeignCheckpointError, match=f"expected a state dict, got {found}"):
        read_weight_file(tmp_path / "other.pth")


@pytest.mark.parametrize("member", ["weights.pth", "\udc80\x02weights"])
def test_a_tar_archive_is_refused_whatever_its_first_bytes(tmp_path: Path, member: str) -> None:
    torch.save(STATE, tmp_path / "inside.pth")
    with tarfile.open(tmp_path / "weights.pt", "w") as archive:
        archive.add(tmp_path / "inside.pth", arcname=member)
    with pytest.raises(CheckpointError, match=r"is a tar archive and not a file of weights: unpac"):
        read_weight_file(tmp_path / "weights.pt")


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f'"{sys.executable}" -c "open({str(self.target)!r}, \'w\')"',)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, form: str
) -> None:
    target, path = tmp_path / "it-ran", tmp_path / "evil.pth"
    content = {**STATE, "image_encoder.extra": Bomb(target)}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(Bomb(target), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(
        UnsafeCheckpointError, match=r"was refused: reading it would run (posix|nt)\.system"
    ):
        read_weight_file(path)
    assert not target.exists()


def test_the_bomb_of_that_test_is_live(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "it-ran")))
    assert (tmp_path / "it-ran").exists()


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "module.pth")
    with pytest.raises(
        UnsafeCheckpointError, match=r"would run torch.nn.modules.linear.Linear,.*state_dict"
    ):
        read_weight_file(tmp_path / "module.pth")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
def test_files_that_are_cut_short(tmp_path: Path, form: str, share: float) -> None:
    path = tmp_path / "weights"
    state = {**STATE, "image_encoder.more": torch.rand(2000)}
    if form == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: max(20, int(len(content) * share))])
    with pytest.raises(CheckpointError, match=r"is cut short or damaged \(\d+ bytes; .*again"):
        read_weight_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: download or copy it again"),
        (b"\n<!DOCTYPE html><html>", "is a web page and not weights"),
        (b"<html><body>login", "is a web page and not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
        (
            b"\x89PNG\r\n\x1a\n" + bytes(30),
            "is no file of weights: expected PyTorch or safetensors",
        ),
        (b"\x80\x02}q\x00.", "is cut short or damaged"),
        (b"\x80\x02garbage", "is cut short or damaged"),
        (struct.pack("<Q", 10**9) + b"{}", "is cut short or damaged"),
        (struct.pack("<Q", 2) + b"{!", "is cut short or damaged"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_weight_file(tmp_path / "file.pth")


def test_archives_that_are_not_checkpoints(tmp_path: Path) -> None:
    for name, message in (
        ("constants.pkl", "is a TorchScript program"),
        ("readme.txt", "is a zip archive without PyTorch weights"),
    ):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(f"model/{name}", b"")
        with pytest.raises(CheckpointError, match=message):
            read_weight_file(tmp_path / "a.zip")


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("form", ["pickle", "legacy", "zip"])
def test_pickles_of_others_are_refused_without_dangerous_advice(
    tmp_path: Path, protocol: int, form: str, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "weights.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"weight": 1.0}, protocol=protocol))
    else:
        is_zip = form == "zip"
        torch.save(STATE, path, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(
        CheckpointError, match=rf"a pickle of protocol {protocol}, which torch\.save"
    ):
        read_weight_file(path)
    assert not recwarn.list


def test_the_advice_to_drop_the_safeguard_is_never_passed_on(tmp_path: Path) -> None:
    (tmp_path / "odd.pth").write_bytes(b"\x80\x02garbage")
    with pytest.raises(CheckpointError, match="restricted reader does not understand it") as caught:
        read_weight_file(tmp_path / "odd.pth")
    assert "weights_only" not in str(caught.value)
    assert "weights_only" in str(caught.value.__cause__)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_flipped_bit_is_found_by_its_checksum(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save({"weight": torch.arange(1000.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 2001] ^= 8
    path.write_bytes(content)
    with path.open("rb") as file:
        torch.load(file, weights_only=True)  # PyTorch does not mind.
    with pytest.raises(CheckpointError, match=r"damaged .*wrong checksum of weights/data/0"):
        read_weight_file(path)


def test_files_without_checksums_are_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, tmp_path / "weights.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(tmp_path / "weights.pth") as archive:
        assert not any(record.CRC for record in archive.infolist())
    assert_same(read_weight_file(tmp_path / "weights.pth").state_dict)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(3, device="meta"), r"has a shape and no values \(PyTorch's device meta\)"),
        (torch.eye(3).to_sparse(), r"is sparse \(torch\.sparse_coo\)"),
        (torch.zeros(3, dtype=torch.complex64), r"has values of type torch\.complex64"),
    ],
)
def test_tensors_without_plain_values_are_refused(
    tmp_path: Path, tensor: torch.Tensor, message: str
) -> None:
    torch.save({**STATE, "mask_decoder.odd": tensor}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=rf"weights\.pth: mask_decoder\.odd {message}\. Load"):
        read_weight_file(tmp_path / "weights.pth")


def test_weights_must_be_finite(tmp_path: Path) -> None:
    large = torch.full((5,), 3e38)  # with a sum beyond float32
    fine = {"a": large, "b": torch.tensor([1, 2]), "c": torch.zeros(0)}
    require_finite(fine, tmp_path)
    for value in (torch.nan, torch.inf, -torch.inf):
        bad = {f"bad.{i}": torch.tensor([0.0, value]) for i in range(5)}
        with pytest.raises(
            CheckpointError,
            match=r"weights\.pth holds weights that are NaN or infinite \(bad\.0, bad\.1, bad\.2 "
            r"and 2 more\): the training",
        ):
            require_finite(fine | bad, tmp_path / "weights.pth")
    both = torch.tensor([torch.inf, -torch.inf])
    with pytest.raises(CheckpointError, match=r"infinite \(both\)"):
        require_finite({"both": both}, tmp_path)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no file of weights at"):
        read_weight_file(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match="cannot read the file of weights"):
        read_weight_file(tmp_path)


OUT_OF_MEMORY = [
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 240000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("unable to mmap 240001343 bytes from file <a.pth>: Cannot allocate memory (12)"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 240000000 bytes."),
    OSError(errno.ENOMEM, "some words"),
    MemoryError("Cannot allocate memory (os error 12)"),
    safetensors.SafetensorError("The paging file is too small for this operation (os error 1455)"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=repr)
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_memory_that_runs_out_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    path = tmp_path / "whole.pth"
    if form == "safetensors":
        safetensors.torch.save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=form == "zip")
    monkeypatch.setattr(torch, "load", fail)
    monkeypatch.setattr(safetensors, "safe_open", fail)
    with pytest.raises(
        MemoryLimitError,
        match=r"reading the weights .*whole\.pth \(0 MB\) ran out of memory; .*'mobile_sam' need",
    ):
        read_weight_file(path)


def test_memory_for_single_precision_may_be_missing_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise OUT_OF_MEMORY[0]

    torch.save(STATE, tmp_path / "a.pth")
    monkeypatch.setattr(torch.Tensor, "float", fail)
    with pytest.raises(MemoryLimitError, match="reading the weights"):
        read_weight_file(tmp_path / "a.pth")


def test_memory_for_a_copy_to_write_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OUT_OF_MEMORY[0]

    monkeypatch.setattr(torch.Tensor, "clone", fail)
    with pytest.raises(MemoryLimitError, match=r"preparing the model file .*ran out of memory"):
        save_model_file(tmp_path / "a.safetensors", STATE, PASSPORT)
    assert list(tmp_path.iterdir()) == []


def test_a_model_file_of_ours_comes_back(tmp_path: Path) -> None:
    path = save_model_file(tmp_path / "new" / "tiny.safetensors", STATE, PASSPORT)
    file = read_weight_file(path)
    assert_same(file.state_dict)  # These numbers fit half precision.
    assert file.passport == PASSPORT
    with safetensors.safe_open(path, framework="pt") as raw:
        assert raw.get_tensor("mask_decoder.iou_token.weight").dtype == torch.float16
    assert [p.name for p in path.parent.iterdir()] == ["tiny.safetensors"]


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    first = save_model_file(tmp_path / "a.safetensors", STATE, PASSPORT)
    second = save_model_file(tmp_path / "b.safetensors", dict(reversed(STATE.items())), PASSPORT)
    assert first.read_bytes() == second.read_bytes()


def test_what_half_precision_would_spoil_stays_exact(tmp_path: Path) -> None:
    shared = torch.rand(3, 3)
    state = {
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": torch.rand(2, 64) * 100,
        "image_encoder.norm.weight": torch.rand(5),
        "image_encoder.count": torch.tensor(3),
        "image_encoder.a": shared,
        "image_encoder.b": shared.T,  # Shares its memory, and is not contiguous.
    }
    found = read_weight_file(
        save_model_file(tmp_path / "a.safetensors", state, PASSPORT)
    ).state_dict
    for name in list(state)[:3]:
        torch.testing.assert_close(found[name], state[name], rtol=0, atol=0)
    torch.testing.assert_close(found["image_encoder.b"], shared.T, rtol=1e-3, atol=1e-6)


def test_model_files_refuse_what_they_cannot_hold(tmp_path: Path) -> None:
    big = {"a.weight": torch.full((2, 2), 1e6)}
    with pytest.raises(
        ValueError, match=r"a.weight holds values .* do not fit torch.float16 \(largest 1e\+06"
    ):
        save_model_file(tmp_path / "a.safetensors", big, PASSPORT)
    save_model_file(tmp_path / "a.safetensors", big, PASSPORT, dtype=torch.float32)
    with pytest.raises(ValueError, match="not finite"):
        save_model_file(tmp_path / "b.safetensors", {"a": torch.tensor(float("nan"))}, PASSPORT)
    with pytest.raises(ValueError, match=r"must end in .safetensors, got 'a.pth'"):
        save_model_file(tmp_path / "a.pth", STATE, PASSPORT)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_model_file(tmp_path / "a.safetensors", STATE, PASSPORT)
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OutputError, match=r"cannot write .*a\.safetensors: the disk is full; free"):
        save_model_file(path, {}, PASSPORT)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_safetensors_cannot_write_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise safetensors.SafetensorError("I/O error: broken")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OutputError, match=r"cannot write .*: I/O error: broken; free some space"):
        save_model_file(tmp_path / "a.safetensors", STATE, PASSPORT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
def test_a_model_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = save_model_file(tmp_path / "a.safetensors", STATE, PASSPORT)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_folder_that_is_a_file_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot create the folder .* a file of that name"):
        save_model_file(tmp_path / "file" / "a.safetensors", STATE, PASSPORT)


def test_a_passport_that_makes_no_sense_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(STATE, path, {METADATA_KEY: "{}"})
    with pytest.raises(CheckpointError, match=r"a.safetensors: the file's passport cannot be used"):
        read_weight_file(path)


def test_safetensors_of_others_lose_their_prefix_too(tmp_path: Path) -> None:
    safetensors.torch.save_file(under("sam."), tmp_path / "a.safetensors", {"format": "pt"})
    assert_same(read_weight_file(tmp_path / "a.safetensors").state_dict)


def test_the_shipped_architecture_survives_the_header(tmp_path: Path) -> None:
    passport = Passport(name="default", config=SHIPPED, version="1")
    path = save_model_file(tmp_path / "a.safetensors", STATE, passport)
    assert read_weight_file(path).passport == passport
