"""From the names and shapes of the weights to the architecture they belong to.

The names are those of the official SAM and MobileSAM files. Everything that shapes tell is read
from them, so that a user never has to say which variant a file holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from sam_plugins.errors import CheckpointError, ForeignCheckpointError
from sam_plugins.model.networks.config import (
    InstanceDecoderConfig,
    MaskDecoderConfig,
    Preprocessing,
    PromptEncoderConfig,
    SamConfig,
    TinyVitConfig,
    VitConfig,
)
from sam_plugins.model.weights.bare_network import NoInitialisation
from sam_plugins.model.weights.checkpoints import count_tensors, require_floating

# What other people's files look like, to say more than "foreign": every pattern must be there.
_OTHERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("SAM 2", (r"image_encoder\.trunk\.",)),
    ("SAM 2", (r"sam_mask_decoder\.",)),
    ("a SAM of Hugging Face transformers (get the original file)", (r"vision_encoder\.layers\.",)),
    ("the instance decoder of micro-sam (give the SAM's own file)", (r"decoder\.samplers\.",)),
    (
        "an MAE checkpoint: `sam-plugins models convert FILE -o sam.safetensors` makes a SAM of it",
        (r"^cls_token$", r"^pos_embed$", r"^patch_embed\.proj\."),
    ),
    (
        "the image encoder of a SAM, without its other parts",
        (r"^patch_embed\.proj\.", r"^neck\.0\."),
    ),
    ("a ResNet", (r"layer1\.0\.conv1\.", r"layer4\.")),
    ("a YOLO model", (r"model\.\d+\.cv\d\.conv\.",)),
    ("a Cellpose U-Net", (r"downsample\.down\.res_down_0",)),
)

# In official files but without use in segmentation, should our networks not carry them.
_DISPENSABLE = re.compile(
    r"^(pixel_mean|pixel_std|image_encoder\.(norm_head|head)\..*|.*\.attention_bias_idxs|.*\.attn\.ab)$"
)
_SHOWN = 3
# Numbers of a config that count layers.
_COUNTS = re.compile(r"(?:^|_)(?:depths?|outputs)$")


def recognise(state_dict: Mapping[str, Tensor]) -> SamConfig:
    """Return the architecture of a promptable model from its weights.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        Official names: ``image_encoder.``, ``prompt_encoder.``, ``mask_decoder.``.

    Returns
    -------
    SamConfig
        For plain ViT encoders of any size and for TinyViT. Preprocessing is SAM's, at the size
        of the encoder's input. Not in any shape, hence taken from the papers: the 8 heads of the
        mask decoder, and the 1024 input of TinyViT.

    Raises
    ------
    ForeignCheckpointError
        If it is something else; the message says what it looks like.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    encoder: VitConfig | TinyVitConfig
    try:
        if "image_encoder.patch_embed.proj.weight" in shapes:
            encoder = _vit(shapes)
        elif "image_encoder.patch_embed.seq.0.c.weight" in shapes:
            encoder = _tiny_vit(shapes)
        else:
            raise ForeignCheckpointError(_foreign(shapes))
        size = encoder.image_size
        return SamConfig(
            encoder,
            _prompt_encoder(shapes),
            _mask_decoder(shapes),
            _instance_decoder(shapes),
            Preprocessing(min_long_side=size, max_long_side=size),
        )
    except KeyError as error:
        raise CheckpointError(
            f"the weights begin like a SAM but {error.args[0]} is missing: the file is not complete"
        ) from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise _misshapen(error) from error


def _misshapen(error: Exception) -> ForeignCheckpointError:
    """Return the error for the names of a SAM with shapes that no SAM has."""
    return ForeignCheckpointError(
        f"the weights have the names of a SAM, but shapes that none has ({error}): the file "
        "belongs to another program, or to another version of the model"
    )


def matching_state(
    config: SamConfig, state_dict: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Check weights against the network they are meant for.

    Parameters
    ----------
    config : SamConfig
        The architecture.
    state_dict : mapping of str to Tensor
        Its weights.

    Returns
    -------
    state_dict : dict of str to Tensor
        Exactly the network's names.
    left_aside : tuple of str
        Names that official files carry and the network does not need.

    Raises
    ------
    CheckpointError
        If names are missing or left over, a shape differs, or values are whole numbers or truth
        values where floating ones are expected; the first few are named. A
        :class:`~sam_plugins.errors.ForeignCheckpointError` if no network has such numbers.
    """
    from sam_plugins.model.networks.builders import build_sam

    try:
        _require_plausible(config, state_dict)
        with torch.device("meta"), NoInitialisation():  # Shapes without memory.
            network = build_sam(config).state_dict()
    except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError) as error:
        raise _misshapen(error) from error
    expected = {name: tuple(tensor.shape) for name, tensor in network.items()}
    left_aside = [name for name in state_dict if name not in expected and _DISPENSABLE.match(name)]
    found = {name: t for name, t in state_dict.items() if name not in left_aside}
    problems = [
        _some("missing", [name for name in expected if name not in found]),
        _some("left over", [name for name in found if name not in expected]),
        _some(
            "of another shape",
            [
                f"{name} ({tuple(found[name].shape)}, expected {shape})"
                for name, shape in expected.items()
                if name in found and tuple(found[name].shape) != shape
            ],
        ),
    ]
    if any(problems):
        raise CheckpointError(
            f"the weights do not fit their architecture ({config.image_encoder.kind}): "
            f"{'; '.join(problem for problem in problems if problem)}. The file belongs to another "
            "version of the model, or is not complete"
        )
    require_floating({n: t for n, t in found.items() if network[n].is_floating_point()})
    return found, tuple(left_aside)


def _require_plausible(config: SamConfig, state_dict: Mapping[str, Tensor]) -> None:
    """Refuse numbers that the file cannot hold, before a network of that size takes its time.

    Every layer has a tensor of its own, and TinyViT a bias for each offset in its window.
    """
    values = config.to_dict()
    counts: list[int] = []
    for key, number in (*values["image_encoder"].items(), *values["mask_decoder"].items()):
        if _COUNTS.search(key):
            counts += number if isinstance(number, tuple) else (number,)
    if max(counts) > len(state_dict):
        raise ValueError(f"{max(counts)} layers, and the file has {len(state_dict)} tensors")
    longest = max((side for tensor in state_dict.values() for side in tensor.shape), default=0)
    for window in values["image_encoder"].get("window_sizes", ())[1:]:  # the first stage has none
        if window**2 > longest:
            raise ValueError(f"a window of {window} cells, and no tensor is as long as its square")


def _some(what: str, names: list[str]) -> str:
    """Name the first few."""
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{more}"


def _foreign(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Say what a file seems to be, and what is in it."""
    guess = next(
        (
            f"it looks like {label}"
            for label, patterns in _OTHERS
            if all(any(re.search(pattern, name) for name in shapes) for pattern in patterns)
        ),
        "its architecture is not known",
    )
    counts: dict[str, int] = {}
    for name in shapes:
        part = name.partition(".")[0]
        counts[part] = counts.get(part, 0) + 1
    parts = sorted(counts, key=lambda part: -counts[part])
    listed = ", ".join(count_tensors(part, counts[part]) for part in parts[:6])
    more = f" and {len(parts) - 6} more parts" if len(parts) > 6 else ""
    return (
        "expected the weights of a SAM, MobileSAM or one of our own models (image_encoder, "
        f"prompt_encoder, mask_decoder); {guess}. Found {listed or 'nothing'}{more}"
    )


def _count(names: Iterable[str], pattern: str) -> int:
    """Return one more than the highest number that ``pattern`` finds, 0 for none."""
    found = (re.match(pattern, name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _axes(shapes: Mapping[str, tuple[int, ...]], name: str, count: int) -> tuple[int, ...]:
    """Return the shape of a tensor that must have ``count`` axes."""
    if len(shapes[name]) != count:
        raise ValueError(f"{name} should have {count} axes, not the shape {shapes[name]}")
    return shapes[name]


def _vit(shapes: Mapping[str, tuple[int, ...]]) -> VitConfig:
    """Read the numbers of a plain ViT; relative positions tell windows and heads."""
    embed_dim, _, patch_size, _ = _axes(shapes, "image_encoder.patch_embed.proj.weight", 4)
    grid = shapes["image_encoder.pos_embed"][1]
    depth = _count(shapes, r"image_encoder\.blocks\.(\d+)\.")
    if depth == 0:
        raise ValueError("image_encoder has no blocks")
    tables = [_axes(shapes, f"image_encoder.blocks.{i}.attn.rel_pos_h", 2) for i in range(depth)]
    spans = [(rows + 1) // 2 for rows, _ in tables]  # A span of s has 2 s - 1 relative positions.
    head_dim = tables[0][1]
    is_global = [span == grid for span in spans]
    windows = [span for span in spans if span != grid]
    return VitConfig(
        embed_dim=embed_dim,
        depth=depth,
        num_heads=embed_dim // head_dim,
        global_attention_blocks=tuple(i for i, whole in enumerate(is_global) if whole),
        image_size=grid * patch_size,
        patch_size=patch_size,
        window_size=windows[0] if windows else VitConfig.window_size,
        mlp_ratio=shapes["image_encoder.blocks.0.mlp.lin1.weight"][0] / embed_dim,
        out_dim=shapes["image_encoder.neck.0.weight"][0],
    )


def _tiny_vit(shapes: Mapping[str, tuple[int, ...]]) -> TinyVitConfig:
    """Read the numbers of a TinyViT; its first stage is convolutional and has no heads."""
    stages = _count(shapes, r"image_encoder\.layers\.(\d+)\.")
    dims = [shapes["image_encoder.patch_embed.seq.2.c.weight"][0]]
    heads, windows = [TinyVitConfig.num_heads[0]], [TinyVitConfig.window_sizes[0]]
    for stage in range(1, stages):
        attention = f"image_encoder.layers.{stage}.blocks.0.attn"
        dims.append(shapes[f"{attention}.proj.weight"][0])
        head_count, offsets = _axes(shapes, f"{attention}.attention_biases", 2)
        heads.append(head_count)
        windows.append(math.isqrt(offsets))  # One bias for each absolute offset in the window.
    return TinyVitConfig(
        embed_dims=tuple(dims),
        depths=tuple(
            _count(shapes, rf"image_encoder\.layers\.{stage}\.blocks\.(\d+)\.")
            for stage in range(stages)
        ),
        num_heads=tuple(heads),
        window_sizes=tuple(windows),
        mlp_ratio=shapes["image_encoder.layers.1.blocks.0.mlp.fc1.weight"][0] / dims[1],
        out_dim=shapes["image_encoder.neck.0.weight"][0],
    )


def _prompt_encoder(shapes: Mapping[str, tuple[int, ...]]) -> PromptEncoderConfig:
    """Read the numbers of the prompt encoder."""
    text = shapes.get("prompt_encoder.text_projection.weight")
    return PromptEncoderConfig(
        mask_in_dim=shapes["prompt_encoder.mask_downscaling.3.weight"][0],
        text_dim=text[1] if text else None,
    )


def _mask_decoder(shapes: Mapping[str, tuple[int, ...]]) -> MaskDecoderConfig:
    """Read the numbers of the mask decoder."""
    return MaskDecoderConfig(
        depth=_count(shapes, r"mask_decoder\.transformer\.layers\.(\d+)\."),
        mlp_dim=shapes["mask_decoder.transformer.layers.0.mlp.lin1.weight"][0],
        # Transposed convolutions store (in, out, height, width).
        upscale_dims=(
            shapes["mask_decoder.output_upscaling.0.weight"][1],
            shapes["mask_decoder.output_upscaling.3.weight"][1],
        ),
        num_multimask_outputs=shapes["mask_decoder.mask_tokens.weight"][0] - 1,
        iou_head_depth=_count(shapes, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\."),
        iou_head_hidden_dim=shapes["mask_decoder.iou_prediction_head.layers.0.weight"][0],
    )


def _instance_decoder(shapes: Mapping[str, tuple[int, ...]]) -> InstanceDecoderConfig | None:
    """Refuse to guess: an instance decoder comes with a passport, which is read instead."""
    if any(name.startswith("instance_decoder.") for name in shapes):
        raise CheckpointError(
            "the weights have an instance decoder of ours but the file has no passport that "
            "describes it: load the model file that sam-plugins wrote, not a copy of its tensors"
        )
    return None
