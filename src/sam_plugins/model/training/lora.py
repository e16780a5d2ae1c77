"""Low-rank adapters on an image encoder (LoRA, Hu et al. 2022), through the library ``peft``.

The weights of the encoder stay; what is learned beside them is a hundredth of their number, which
saves the memory of gradients and moments and forgets less. Decoders learn as a whole. What comes
out is an ordinary model file: the adapters are merged into the weights. The adapter alone, in
``peft``'s own format, is a file of a few hundred kilobytes.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sam_plugins.errors import MissingExtraError, OutputError, TrainingError, how_to_install
from sam_plugins.model.io.atomic import atomic_path, make_folder, write_bytes
from sam_plugins.model.networks.config import PyramidConfig, SamConfig, TinyVitConfig
from sam_plugins.model.networks.sam import Sam

_VIT_TARGETS = r"blocks\.\d+\.attn\.qkv"
_TINY_VIT_TARGETS = r"layers\.\d+\.blocks\.\d+\.attn\.(qkv|proj)"
# The kernels of the residual blocks, and what brings their maps to the decoder's width; never
# those of the pretrained part, which only looks.
_PYRAMID_TARGETS = (
    r"(stages\.\d+\.\d+\.(conv1|conv2)|context\.\d+\.(expand|reduce)|laterals\.\d+\.1)"
)
_ADAPTER = "default"
WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"


def lora_targets(network: SamConfig) -> str:
    """Return the pattern of the layers that get an adapter, below the image encoder.

    The projections to queries, keys and values of a ViT; those and the last one of attention in
    TinyViT, whose heads are few; convolutions of a pyramid.
    """
    if isinstance(network.image_encoder, PyramidConfig):
        return _PYRAMID_TARGETS
    if isinstance(network.image_encoder, TinyVitConfig):
        return _TINY_VIT_TARGETS
    return _VIT_TARGETS


def add_lora(network: Sam, *, rank: int, seed: int) -> None:
    """Freeze the image encoder and put adapters around its layers, which then compute as before.

    Parameters
    ----------
    network : Sam
        Changed in place.
    rank : int
        Of every adapter; their factor is ``2 * rank``, so that it does not change their step.
    seed : int
        Of the first matrices; the second ones are zero.

    Raises
    ------
    MissingExtraError
        If ``peft`` is not installed.
    ValueError
        If ``rank`` is below 1.
    """
    if rank < 1:
        raise ValueError(f"rank of the adapters must be 1 or more, got {rank}")
    lora_config, inject = _peft()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject(
            lora_config(
                r=rank,
                lora_alpha=2 * rank,
                lora_dropout=0.0,
                target_modules=lora_targets(network.config),
            ),
            network.image_encoder,
            _ADAPTER,
        )


def has_lora(network: nn.Module) -> bool:
    """Return whether there are adapters."""
    return any(".lora_A." in name for name, _ in network.named_parameters())


def merged_state(network: Sam, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights without adapters that compute the same.

    Parameters
    ----------
    network : Sam
        With adapters, of any weights.
    state_dict : mapping of str to Tensor
        Of such a network.

    Returns
    -------
    dict of str to Tensor
        The names of the network without adapters; on the CPU.
    """
    merging = copy.deepcopy(network).cpu()
    merging.load_state_dict(state_dict)
    for part in merging.modules():
        if hasattr(part, "lora_A") and callable(getattr(part, "merge", None)):
            merge: Any = part.merge
            merge()
    merged = {name: value for name, value in merging.state_dict().items() if ".lora_" not in name}
    return {name.replace(".base_layer.", "."): value for name, value in merged.items()}


def save_adapter(
    folder: Path, network: Sam, state_dict: Mapping[str, Tensor], parent_id: str
) -> Path:
    """Write the adapters alone, as ``peft`` does: weights and a config of plain values.

    Parameters
    ----------
    folder : Path
        Made where it does not exist.
    network : Sam
        With adapters.
    state_dict : mapping of str to Tensor
        Of such a network.
    parent_id : str
        Id of the model that they belong to.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    make_folder(folder)
    prefix = "image_encoder."
    tensors = {
        "base_model.model."
        + name.removeprefix(prefix).replace(f".{_ADAPTER}.", "."): value.detach()
        .cpu()
        .contiguous()
        .clone()
        for name, value in state_dict.items()
        if ".lora_" in name
    }
    peft_configs: Any = network.image_encoder.peft_config
    config: Any = peft_configs[_ADAPTER]
    values = {key: _plain(value) for key, value in config.to_dict().items()}
    values |= {"base_model_name_or_path": parent_id, "inference_mode": True}
    with atomic_path(folder / WEIGHTS_NAME) as temporary:
        try:
            safetensors.torch.save_file(tensors, temporary, {"format": "pt"})
        except safetensors.SafetensorError as error:
            raise OutputError(
                f"cannot write {folder / WEIGHTS_NAME}: {error}; free some space or choose "
                "another folder"
            ) from error
    write_bytes(folder / CONFIG_NAME, json.dumps(values, indent=1, sort_keys=True).encode())
    return folder


def load_adapter(network: Sam, folder: Path) -> None:
    """Put adapters that :func:`save_adapter` wrote around the layers of their parent.

    Parameters
    ----------
    network : Sam
        The parent, changed in place.
    folder : Path

    Raises
    ------
    TrainingError
        If the files cannot be read, or belong to another architecture.
    MissingExtraError
        If ``peft`` is not installed.
    """
    try:
        values = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        tensors = safetensors.torch.load_file(folder / WEIGHTS_NAME)
        rank = int(values["r"])
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise TrainingError(
            f"{folder} holds no adapter that we can read ({error}); expected {WEIGHTS_NAME} and "
            f"{CONFIG_NAME} of `sam-plugins train --method lora`"
        ) from error
    add_lora(network, rank=rank, seed=0)
    named = {
        re.sub(
            r"\.(lora_[AB])\.", rf".\1.{_ADAPTER}.", name.removeprefix("base_model.model.")
        ): value
        for name, value in tensors.items()
    }
    own = {name for name in network.image_encoder.state_dict() if ".lora_" in name}
    try:
        if own != named.keys():
            raise RuntimeError(f"{len(own ^ named.keys())} names differ")
        network.image_encoder.load_state_dict(named, strict=False)
    except RuntimeError as error:
        raise TrainingError(
            f"the adapter in {folder} belongs to another architecture ({error}); load it with "
            f"its parent, {values.get('base_model_name_or_path')}"
        ) from error


def _plain(value: object) -> object:
    """Return what JSON takes of a value of a config."""
    if isinstance(value, set):
        return sorted(value)
    return value if isinstance(value, str | int | float | list | dict | None) else str(value)


def _peft() -> tuple[Any, Any]:
    """Import ``peft``, which takes seconds."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtraError(
            "the method 'lora' needs the library peft, which is not installed; "
            f"{how_to_install('train')}, or train with the method decoder or full"
        ) from error
    return LoraConfig, inject_adapter_in_model
