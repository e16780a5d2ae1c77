"""From a masked autoencoder's checkpoint to the start of SAM's image encoder.

He et al. 2022 (arXiv:2111.06377) train a plain ViT on 224 pixels: a class token, 14 x 14 positions,
global attention. SAM (appendix A) and ViTDet (Li et al. 2022, arXiv:2203.16527) start from it: the
positions are interpolated to the larger grid, the class token falls away, relative positions start
at zero, which changes nothing, and the neck is new. ViTDet also resamples the 14 pixel patches of
ViT-H to 16 pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_plugins.errors import CheckpointError, ForeignCheckpointError
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import (
    SAM_VIT_B,
    SAM_VIT_H,
    SAM_VIT_L,
    Preprocessing,
    SamConfig,
    VitConfig,
)
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.weights.checkpoints import (
    WeightFile,
    read_weight_file,
    require_finite,
    require_floating,
)
from sam_plugins.model.weights.passport import Passport

_NEEDED = ("patch_embed.proj.weight", "patch_embed.proj.bias", "pos_embed", "cls_token")
_PARTS = ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
_RENAMED = {"mlp.fc1": "mlp.lin1", "mlp.fc2": "mlp.lin2"}
_BLOCK = re.compile(rf"blocks\.(\d+)\.({'|'.join(map(re.escape, _PARTS))})\.(weight|bias)$")


@dataclass(frozen=True)
class MaeStart:
    """An image encoder's state made from a masked autoencoder.

    Parameters
    ----------
    state_dict : dict of str to Tensor
        For ``image_encoder.load_state_dict(..., strict=False)``, or strictly but for the neck.
    config : VitConfig
        The encoder it fits.
    fresh : tuple of str
        Names that the checkpoint does not give: relative positions, which are zero in
        ``state_dict``, and the neck, which is not in it.
    left_aside : tuple of str
        Names of the checkpoint that SAM has no use for.
    """

    state_dict: dict[str, Tensor]
    config: VitConfig
    fresh: tuple[str, ...]
    left_aside: tuple[str, ...]


class StartedSam(NamedTuple):
    """A SAM whose image encoder is pre-trained, all else fresh, and what is known of its file."""

    sam: Sam
    config: SamConfig
    passport: Passport | None


def sam_of_mae(path: Path, *, seed: int = 0) -> StartedSam | None:
    """Build a SAM from a masked autoencoder's file; None if the file is of another kind.

    Parameters
    ----------
    path : Path
        An official checkpoint of ViT-B, L or H, or a file of ours, which says what it starts.
    seed : int
        Of the fresh weights.

    Raises
    ------
    CheckpointError
        If the file is damaged or not complete, or fits no SAM.
    """
    file = read_weight_file(path)
    if any(name not in file.state_dict for name in _NEEDED):
        return None
    try:
        start = _start_of(file, path, None)
        size = start.config.image_size
        preprocessing = Preprocessing(min_long_side=size, max_long_side=size)
        config = SamConfig(start.config, preprocessing=preprocessing)
        return StartedSam(start_sam(start, config, seed=seed), config, file.passport)
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from error


def load_mae(path: Path, config: VitConfig | None = None) -> MaeStart:
    """Read a masked autoencoder's file; see :func:`mae_start`.

    Without a config, a file of ours says which encoder it was made to start.

    Raises
    ------
    CheckpointError
        As :func:`~sam_plugins.model.weights.checkpoints.read_weight_file` and :func:`mae_start`.
    """
    try:
        return _start_of(read_weight_file(path), path, config)
    except ForeignCheckpointError as error:
        raise ForeignCheckpointError(f"{path}: {error}") from error


def _start_of(file: WeightFile, path: Path, config: VitConfig | None) -> MaeStart:
    """Return the start that a file gives; one of ours says which encoder it was made for."""
    require_finite(file.state_dict, path)
    if config is None and file.passport is not None:
        encoder = file.passport.config.image_encoder
        config = encoder if isinstance(encoder, VitConfig) else None
    return mae_start(file.state_dict, config)


def mae_start(state_dict: Mapping[str, Tensor], config: VitConfig | None = None) -> MaeStart:
    """Map the official MAE names onto SAM's image encoder.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        ``patch_embed.proj``, ``pos_embed`` of shape (1, 1 + g * g, D), ``blocks.N...``. The decoder
        of a pre-training checkpoint may be there too.
    config : VitConfig, optional
        The encoder to fill. By default SAM's B, L or H of the same width.

    Returns
    -------
    MaeStart

    Raises
    ------
    ForeignCheckpointError
        If it is no MAE checkpoint, its width is not that of B, L or H and no config is given, or
        width or depth differ from the config's.
    CheckpointError
        If parts of blocks are missing, or are no floating numbers.
    """
    missing = [name for name in _NEEDED if name not in state_dict]
    if missing:
        raise ForeignCheckpointError(
            "expected an MAE checkpoint (patch_embed.proj, pos_embed, cls_token, blocks.N), but "
            f"{', '.join(missing)} is missing; found {', '.join(sorted(state_dict)[:4])}, ..."
        )
    for name, count in (("patch_embed.proj.weight", 4), ("pos_embed", 3)):
        if state_dict[name].ndim != count:
            raise ForeignCheckpointError(
                f"{name} of an MAE checkpoint has {count} axes, got the shape "
                f"{tuple(state_dict[name].shape)}: the file belongs to another program"
            )
    embed_dim = state_dict["patch_embed.proj.weight"].shape[0]
    config = config or _config_of_width(embed_dim)
    blocks = {name: match for name in state_dict if (match := _BLOCK.match(name))}
    require_floating({name: state_dict[name] for name in (*_NEEDED, *blocks)})
    depth = 1 + max((int(match[1]) for match in blocks.values()), default=-1)
    if (embed_dim, depth) != (config.embed_dim, config.depth):
        raise ForeignCheckpointError(
            f"the MAE checkpoint has width {embed_dim} and {depth} blocks, the encoder to fill has "
            f"width {config.embed_dim} and {config.depth} blocks: choose the variant of the same "
            "size"
        )
    _require_whole_blocks(blocks, depth)
    state = {
        "patch_embed.proj.weight": _resample_patches(
            state_dict["patch_embed.proj.weight"], config.patch_size
        ),
        "patch_embed.proj.bias": state_dict["patch_embed.proj.bias"],
        "pos_embed": _resample_positions(
            state_dict["pos_embed"], config.image_size // config.patch_size
        ),
    }
    for name, match in blocks.items():
        part = _RENAMED.get(match[2], match[2])
        state[f"blocks.{match[1]}.{part}.{match[3]}"] = state_dict[name]
    fresh = list(_relative_positions(config))
    state.update({name: torch.zeros(shape) for name, shape in _relative_positions(config).items()})
    fresh += ["neck"]
    used = {*_NEEDED, *blocks} - {"cls_token"}
    return MaeStart(
        state, config, tuple(fresh), tuple(name for name in state_dict if name not in used)
    )


def start_sam(start: MaeStart, config: SamConfig, *, seed: int = 0) -> Sam:
    """Build a promptable model whose image encoder is pre-trained, and all else fresh.

    Parameters
    ----------
    start : MaeStart
    config : SamConfig
        Of the whole model; its image encoder is that of ``start``.
    seed : int
        Of the fresh weights.

    Raises
    ------
    ValueError
        If the image encoders differ.
    ForeignCheckpointError
        If weights of the start have another shape than those of the image encoder.
    """
    if config.image_encoder != start.config:
        raise ValueError(
            f"config must have the image encoder of the start, {start.config}, got "
            f"{config.image_encoder}"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sam = build_sam(config)
    try:
        missing, left_over = sam.image_encoder.load_state_dict(start.state_dict, strict=False)
    except RuntimeError as error:  # names the weights and both shapes
        raise ForeignCheckpointError(
            f"the MAE checkpoint does not fit the encoder to fill: {' '.join(str(error).split())}"
        ) from error
    assert not left_over
    assert all(name.startswith("neck.") for name in missing)
    return sam


def _require_whole_blocks(found: Iterable[str], depth: int) -> None:
    """Refuse blocks of which a part is missing, as in a file that was cut."""
    needed = {
        f"blocks.{block}.{part}.{kind}"
        for block in range(depth)
        for part in _PARTS
        for kind in ("weight", "bias")
    }
    missing = sorted(needed.difference(found))
    if missing:
        raise CheckpointError(
            f"it begins like an MAE checkpoint, but {len(missing)} of its weights are missing, "
            f"such as {missing[0]}: the file is not complete; download it again"
        )


def _config_of_width(embed_dim: int) -> VitConfig:
    """Return SAM's encoder of that width."""
    for sam in (SAM_VIT_B, SAM_VIT_L, SAM_VIT_H):
        encoder = sam.image_encoder
        if isinstance(encoder, VitConfig) and encoder.embed_dim == embed_dim:
            return encoder
    raise ForeignCheckpointError(
        f"no SAM has an image encoder of width {embed_dim} (768, 1024, 1280 are B, L, H): give its "
        "config"
    )


def _relative_positions(config: VitConfig) -> dict[str, tuple[int, int]]:
    """Return names and shapes of the tables of relative positions."""
    shapes: dict[str, tuple[int, int]] = {}
    for block in range(config.depth):
        is_global = block in config.global_attention_blocks or config.window_size == 0
        span = config.image_size // config.patch_size if is_global else config.window_size
        for axis in "hw":
            shapes[f"blocks.{block}.attn.rel_pos_{axis}"] = (
                2 * span - 1,
                config.embed_dim // config.num_heads,
            )
    return shapes


def _resample_positions(pos_embed: Tensor, grid: int) -> Tensor:
    """Turn (1, 1 + g * g, D) into (1, grid, grid, D), the class token dropped."""
    _, count, dim = pos_embed.shape
    side = math.isqrt(count - 1)
    if side * side != count - 1:
        raise ForeignCheckpointError(
            f"pos_embed must hold a class token and a square grid of positions, got {count} "
            "positions"
        )
    positions = pos_embed[:, 1:].reshape(1, side, side, dim).float()
    return _resample(positions.permute(0, 3, 1, 2), grid).permute(0, 2, 3, 1).contiguous()


def _resample_patches(weight: Tensor, patch_size: int) -> Tensor:
    """Resample (D, 3, p, p) to another patch size, the response to a flat patch unchanged."""
    old_size = weight.shape[-1]
    if old_size == patch_size:
        return weight
    return _resample(weight.float(), patch_size) * (old_size / patch_size) ** 2


def _resample(maps: Tensor, side: int) -> Tensor:
    """Interpolate (N, D, h, w) to (N, D, side, side)."""
    if maps.shape[-1] == side:
        return maps
    return F.interpolate(maps, size=(side, side), mode="bicubic", align_corners=False)
