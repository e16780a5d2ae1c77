"""A model from a file is the model that was saved, and what cannot be loaded is explained."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.overrides import TorchFunctionMode

from sam_plugins.errors import (
    CheckpointError,
    DeviceError,
    MemoryLimitError,
    MissingExtraError,
    UnknownModelError,
)
from sam_plugins.model.inference import loading
from sam_plugins.model.inference.loading import Model, checked_device, load_model
from sam_plugins.model.inference.predict import encode_image, predict_masks
from sam_plugins.model.inference.types import Prompts
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport


@pytest.fixture
def tiny_file(tiny_model: Model, tmp_path: Path) -> Path:
    return save_model_file(
        tmp_path / "some_name.safetensors",
        tiny_model.network.state_dict(),
        Passport(name="tiny", config=tiny_model.config, version="3"),
        dtype=torch.float32,
    )


def test_a_loaded_model_answers_like_the_one_that_was_saved(
    tiny_model: Model, tiny_file: Path, picture: npt.NDArray[np.uint8]
) -> None:
    loaded = load_model(tiny_file, device="cpu")
    answers = [
        predict_masks(model, encode_image(model, picture), Prompts.single_points([[20, 30]]))
        for model in (tiny_model, loaded)
    ]
    np.testing.assert_array_equal(answers[0].low_res_logits, answers[1].low_res_logits)


def test_a_loaded_model_says_what_it_is(tiny_model: Model, tiny_file: Path) -> None:
    loaded = load_model(str(tiny_file), device="cpu")
    assert loaded.model_id.startswith("tiny-")
    assert loaded.path == tiny_file
    assert loaded.passport is not None
    assert loaded.passport.version == "3"
    assert loaded.config == tiny_model.config
    assert loaded.preprocessing == tiny_model.preprocessing
    assert loaded.device == torch.device("cpu")
    assert loaded.dtype == torch.float32
    assert loaded.has_instance_decoder


def test_a_loaded_model_is_for_inference_and_owns_its_weights(tiny_file: Path) -> None:
    network = load_model(tiny_file, device="cpu").network
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tiny_file.write_bytes(bytes(tiny_file.stat().st_size))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


class _Recorder(TorchFunctionMode):
    """Note the initialisations that are really done."""

    def __init__(self, drawn: list[object]) -> None:
        super().__init__()
        self.drawn = drawn

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            tensor = args[0] if args else kwargs["tensor"]
            self.drawn += [] if tensor.is_meta else [func]
        return func(*args, **(kwargs or {}))


def test_no_random_number_is_drawn(tiny_file: Path) -> None:
    drawn: list[object] = []
    with _Recorder(drawn):
        load_model(tiny_file, device="cpu")
        assert not drawn
        assert torch.nn.init.normal_(torch.zeros(3)).std() > 0  # works again afterwards
    assert drawn


def test_unknown_names_bring_the_nearest_ones() -> None:
    with pytest.raises(UnknownModelError, match="sam_vit_b"):
        load_model("sam_vit_bb", device="cpu")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.pt does not exist"):
        load_model(tmp_path / "nothing.pt", device="cpu")


@pytest.mark.parametrize("device", ["cuda:64", "nonsense", "xpu:9", "meta"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_read(device: str) -> None:
    with pytest.raises(DeviceError, match=rf"device '{device}' is not available.*there is cpu"):
        load_model("default", device=device)


@pytest.mark.parametrize("wrong", [3, None, b"model.pth", np.zeros(2)])
def test_what_is_neither_a_name_nor_a_path_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"by its name or a path, got {type(wrong).__name__}"):
        load_model(wrong, device="cpu")


def test_a_device_that_is_none_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"device '3\.5' is not available here"):
        checked_device(3.5)  # type: ignore[arg-type]


def test_loading_does_not_import_the_compiler() -> None:
    """``torch._dynamo`` and what it brings along cost a second at every start of a command."""
    code = (
        "import sys\n"
        "from sam_plugins import load_model\n"
        "model = load_model('default', device='cpu')\n"
        "assert model.has_instance_decoder\n"
        "sys.exit('torch._dynamo was imported' if 'torch._dynamo' in sys.modules else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_best_device_is_found() -> None:
    assert checked_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert checked_device(None).type == expected


def test_a_model_that_is_too_large_says_how_large_it_is(
    tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(loading, "network_of", fail)
    with pytest.raises(
        MemoryLimitError, match=r"loading the model tiny .*weights alone are 0\.\d MB.*'mobile_sam'"
    ):
        load_model(tiny_file, device="cpu")


def test_loading_is_silent(tiny_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(tiny_file, device="cpu")
    assert capsys.readouterr() == ("", "")


def test_half_precision_answers_nearly_the_same(tiny_file: Path) -> None:
    picture = np.zeros((60, 90), np.uint8)
    picture[20:40, 30:60] = 200
    prompts = Prompts.single_points(np.array([[44.5, 30.0]], np.float32))
    exact, half = load_model(tiny_file), load_model(tiny_file, dtype=torch.bfloat16)
    assert half.model_id == f"{exact.model_id}-bfloat16"
    answers = []
    for model in (exact, half):
        embedding = encode_image(model, picture)
        assert embedding.features.dtype == model.dtype
        answers.append(predict_masks(model, embedding, prompts))
    assert answers[1].low_res_logits.dtype == np.float32
    np.testing.assert_allclose(answers[1].iou_predictions, answers[0].iou_predictions, atol=0.03)
    with pytest.raises(ValueError, match="embedding must come from the model that reads it"):
        predict_masks(exact, encode_image(half, picture), prompts)


def test_another_precision_is_refused(tiny_file: Path) -> None:
    with pytest.raises(ValueError, match=r"one of torch\.float32, .*, got torch\.int8"):
        load_model(tiny_file, dtype=torch.int8)


# ------------------------------------------------------------------------------ back ends


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_back_end_that_is_asked_for_and_not_installed(
    tiny_model: Model, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = [replace(way, packages=("no_such_package",)) for way in loading._WAYS]
    monkeypatch.setattr(loading, "_WAYS", tuple(absent))
    with pytest.raises(
        MissingExtraError, match=f"the back end {name} is not installed; install the extra fast"
    ):
        loading.with_backend(tiny_model, name)  # type: ignore[arg-type]
    assert loading.installed_backends()[name] is False


def test_a_back_end_that_is_asked_for_and_runs_elsewhere() -> None:
    with pytest.raises(DeviceError, match="openvino runs on the CPU, and the model is on cuda"):
        loading._require(loading.OPENVINO, torch.device("cuda"))
