"""ONNX Runtime: an image encoder exported once, run in float32."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sam_plugins.model.inference.backends.ways import Encoder, Exportable, Way, features_of
from sam_plugins.model.io.atomic import atomic_path
from sam_plugins.model.networks.features import ImageFeatures

_OPSET = 17


def build(encoder: nn.Module, example: Tensor, folder: Path) -> Encoder:
    """Export an image encoder, unless that was done before, and start a session."""
    import onnxruntime

    path = folder / "network.onnx"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            _export(encoder, example, temporary)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def encode(images: Tensor) -> ImageFeatures:
        pixels = np.ascontiguousarray(images.float().numpy())
        answers = session.run(None, {"images": pixels})
        return features_of([torch.from_numpy(np.asarray(one)) for one in answers], images.dtype)

    return encode


def _export(encoder: nn.Module, example: Tensor, path: Path) -> None:
    """Write the graph; height and width stay open."""
    exported = Exportable(copy.deepcopy(encoder).float())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of tracing, about sizes that are the same for all
        torch.onnx.export(
            exported,
            (example.float(),),
            str(path),
            dynamo=False,
            opset_version=_OPSET,
            input_names=["images"],
            dynamic_axes={"images": {2: "height", 3: "width"}},
        )


ONNX = Way("onnxruntime", build, ("onnx", "onnxruntime"))
