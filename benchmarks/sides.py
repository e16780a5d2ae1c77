"""What is compared: the official ViT-B, the same network in our code, and the shipped model."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from importlib import resources
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import MOBILE_SAM, SAM_VIT_B, SAM_VIT_H, SHIPPED


def parser(description: str, repetitions: int) -> argparse.ArgumentParser:
    """Return the options that all comparisons share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--repetitions", type=int, default=repetitions)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument(
        "--processor-time",
        dest="clock",
        action="store_const",
        const=time.process_time,
        default=time.perf_counter,
        help="measure processor time instead, for a busy machine; use it with --threads 1",
    )
    options.add_argument(
        "--device", type=torch.device, default=torch.device("cpu"), help="such as cuda:0"
    )
    options.add_argument(
        "--random-weights",
        action="store_true",
        help="give the shipped model random weights, for example before it is trained",
    )
    return options


def clock_of(options: argparse.Namespace) -> Callable[[], float]:
    """Return the clock that was chosen; on a GPU it waits for the work that was given to it."""
    clock: Callable[[], float] = options.clock
    if options.device.type != "cuda":
        return clock

    def waiting() -> float:
        torch.cuda.synchronize(options.device)
        return clock()

    return waiting


def picture(side: int = 1024) -> npt.NDArray[np.uint8]:
    """Return the demonstration picture as a square of RGB pixels."""
    with (
        resources.files("sam_plugins").joinpath("data/ihc_colon.png").open("rb") as file,
        Image.open(file) as opened,
    ):
        resized = opened.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def official_vit(official: ModuleType, device: torch.device, name: str = "vit_b") -> Any:  # noqa: ANN401
    """Build an official model; its weights are random, which changes nothing in its speed."""
    torch.manual_seed(0)
    model = official.sam_model_registry[name]().requires_grad_(requires_grad=False)
    return model.eval().to(device)


def our_vit(official_model: Any, name: str = "vit_b") -> Model:  # noqa: ANN401
    """Give our network the official one's weights, on its device."""
    network = build_sam({"vit_b": SAM_VIT_B, "vit_h": SAM_VIT_H}[name])
    network.load_state_dict(official_model.state_dict())
    network.to(official_model.device)
    return Model(network.requires_grad_(requires_grad=False).eval(), f"{name}-random")


def our_tiny_vit(device: torch.device) -> Model:
    """Build MobileSAM with random weights, and statistics as if it had seen pictures."""
    torch.manual_seed(0)
    network = build_sam(MOBILE_SAM)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 1.5)
    network.requires_grad_(requires_grad=False).eval().to(device)
    return Model(network, "mobile_sam-random")


def as_bfloat16(model: Model) -> Model:
    """Return a copy of a model as ``load_model(dtype=torch.bfloat16)`` makes it."""
    network = copy.deepcopy(model.network).to(torch.bfloat16)
    return Model(network, f"{model.model_id}-bfloat16")


def shipped(options: argparse.Namespace) -> Model:
    """Load the model that ships with the package, or build it with random weights."""
    if not options.random_weights:
        return load_model(device=options.device)
    torch.manual_seed(0)
    network = build_sam(SHIPPED)
    network.requires_grad_(requires_grad=False).eval().to(options.device)
    return Model(network, "default-random")
