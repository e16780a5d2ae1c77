"""OpenVINO: an image encoder exported once, run in float32 or bfloat16."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sam_plugins.model.inference.backends.ways import Encoder, Exportable, Way, features_of
from sam_plugins.model.networks.features import ImageFeatures


def build(encoder: nn.Module, example: Tensor, folder: Path) -> Encoder:
    """Export an image encoder, unless that was done before, and compile it for this processor."""
    import openvino

    path = folder / "openvino.xml"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        exported = Exportable(copy.deepcopy(encoder).float())
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of tracing, about sizes that are the same for all
            model = openvino.convert_model(
                exported, example_input=example.float(), input=[(1, 3, -1, -1)]
            )
        # The weights first, as the graph's file says that both are there.
        openvino.save_model(model, folder / "writing.xml", compress_to_fp16=False)
        (folder / "writing.bin").replace(path.with_suffix(".bin"))
        (folder / "writing.xml").replace(path)
    precision = "bf16" if example.dtype == torch.bfloat16 else "f32"
    core = openvino.Core()
    graph = core.read_model(path)
    graph.reshape(list(example.shape) if _is_square_only(encoder) else [1, 3, -1, -1])
    compiled = core.compile_model(
        graph,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        },
    )

    def encode(images: Tensor) -> ImageFeatures:
        answers = compiled(np.ascontiguousarray(images.float().numpy()))
        tensors = [torch.from_numpy(answers[output].copy()) for output in compiled.outputs]
        return features_of(tensors, images.dtype)

    return encode


def _is_square_only(encoder: nn.Module) -> bool:
    """Tell whether an encoder takes pictures of one size, for which a graph is made faster."""
    return hasattr(encoder, "img_size")


OPENVINO = Way("openvino", build, ("openvino",))
