"""Exported networks answer as PyTorch does, from a file on the second time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT

from sam_plugins.model.inference.backends.onnx import ONNX
from sam_plugins.model.inference.backends.openvino import OPENVINO
from sam_plugins.model.inference.backends.precision import suggested_dtype
from sam_plugins.model.inference.backends.trial import relative_error
from sam_plugins.model.inference.backends.ways import Way
from sam_plugins.model.inference.loading import Model, load_model, with_backend
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.networks.builders import build_sam

CONFIGS = {"vit": TINY_VIT, "pyramid": TINY_PYRAMID}


@pytest.mark.parametrize("way", [OPENVINO, ONNX], ids=lambda way: way.name)
@pytest.mark.parametrize("kind", list(CONFIGS))
def test_an_exported_network_answers_as_pytorch_does(way: Way, kind: str, tmp_path: Path) -> None:
    if not way.is_installed:
        pytest.skip(f"{way.name} is not installed (extra fast)")
    torch.manual_seed(0)
    config = CONFIGS[kind]
    encoder = build_sam(config).eval().requires_grad_(requires_grad=False).image_encoder
    side = config.image_encoder.image_size
    sizes = [(side, side)] if kind == "vit" else [(96, 128), (64, 64)]
    example = torch.randn(1, 3, *sizes[0])
    built = way.build(encoder, example, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with torch.inference_mode():
        for size in sizes:
            picture = torch.randn(1, 3, *size)
            assert relative_error(built(picture), encoder(picture)) < 1e-4
    way.build(encoder, example, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files


def test_a_model_with_a_back_end_gives_the_same_embedding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not OPENVINO.is_installed:
        pytest.skip("openvino is not installed (extra fast)")
    monkeypatch.setenv("SAM_PLUGINS_HOME", str(tmp_path))
    torch.manual_seed(0)
    network = build_sam(TINY_VIT).eval().requires_grad_(requires_grad=False)
    model = Model(network, "tiny-0")
    faster = with_backend(model, "openvino")
    assert faster.encoder is not None
    picture = torch.randint(0, 256, (50, 40, 3), dtype=torch.uint8).numpy()
    one, other = encode_rgb(faster, picture), encode_rgb(model, picture)
    assert relative_error(one.image_features, other.image_features) < 1e-4
    assert with_backend(faster, "torch").encoder is None


def test_pictures_in_batches_do_not_go_through_a_back_end() -> None:
    network = build_sam(TINY_VIT).eval().requires_grad_(requires_grad=False)

    def fail(images: torch.Tensor) -> object:
        raise AssertionError(f"asked for {len(images)}")

    model = replace(Model(network, "tiny-0"), encoder=fail)  # type: ignore[arg-type]
    side = TINY_VIT.image_encoder.image_size
    assert len(model.encode(torch.zeros(2, 3, side, side)).embedding) == 2
    with pytest.raises(AssertionError, match="asked for 1"):
        model.encode(torch.zeros(1, 3, side, side))


def test_an_unknown_back_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r"backend must be one of torch, auto, .* got 'tensorrt'"):
        load_model(backend="tensorrt")  # type: ignore[arg-type]


def test_the_suggested_type_is_one_that_load_model_takes() -> None:
    dtype = suggested_dtype(torch.device("cpu"))
    assert dtype in {torch.float32, torch.bfloat16}
    assert suggested_dtype(torch.device("cpu")) is dtype
    assert suggested_dtype(torch.device("meta")) is torch.float32
    assert load_model(device="cpu", dtype="auto").dtype is dtype
