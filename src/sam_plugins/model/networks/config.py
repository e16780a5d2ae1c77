"""The numbers that define a network: plain values that a weight file can carry."""

from __future__ import annotations

import math
import numbers
import reprlib
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import (
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

PYRAMID_STRIDE = 32
"""Height and width of a pyramid's input must be multiples of this."""

_LONGEST_SIDE = 1 << 16  # Of an input in pixels: no memory holds what a network makes of more.
_FLOAT32_MAX = 3.4e38


class _Dataclass(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


_Part = TypeVar("_Part", bound=_Dataclass)


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the input of an image encoder.

    Parameters
    ----------
    pixel_mean, pixel_std : tuple of 3 float
        Subtracted from, and divided into, RGB values of the range 0 to 255.
    min_long_side, max_long_side : int
        The longer side of the input in pixels: shorter pictures are enlarged, longer ones reduced.
    max_enlargement : float
        A picture is never enlarged by more than this factor; infinity for SAM, which always fills
        its input.
    pad_to : "square" or int
        Zeros are added at the bottom and the right, to a square of ``max_long_side`` (SAM) or to a
        multiple of this many pixels on each side.
    """

    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD
    min_long_side: int = 1024
    max_long_side: int = 1024
    max_enlargement: float = float("inf")
    pad_to: Literal["square"] | int = "square"

    def __post_init__(self) -> None:
        """Check kinds and ranges: what passes here gives finite input to any picture."""
        require_kinds(Preprocessing, vars(self))
        if not 1 <= self.min_long_side <= self.max_long_side:
            raise ValueError(
                "min_long_side must lie between 1 and max_long_side, "
                f"got {self.min_long_side} and {self.max_long_side}"
            )
        if self.max_long_side > _LONGEST_SIDE:
            raise ValueError(
                f"max_long_side must be {_LONGEST_SIDE} or less, got {self.max_long_side}"
            )
        if self.max_enlargement < 1:
            raise ValueError(f"max_enlargement must be 1 or more, got {self.max_enlargement}")
        if min(self.pixel_std) <= 0:
            raise ValueError(f"pixel_std must be positive, got {self.pixel_std}")
        for mean, std in zip(self.pixel_mean, self.pixel_std, strict=True):
            if not (abs(mean) + 255 <= _FLOAT32_MAX * min(std, 1) and std <= _FLOAT32_MAX):
                raise ValueError(
                    "pixel_mean and pixel_std must leave finite values of pictures in float32, "
                    f"got {self.pixel_mean} and {self.pixel_std}"
                )
        if self.pad_to != "square" and not 1 <= self.pad_to <= _LONGEST_SIDE:
            raise ValueError(
                f"pad_to must be 'square' or a positive multiple of up to {_LONGEST_SIDE}, "
                f"got {self.pad_to!r}"
            )


@dataclass(frozen=True)
class VitConfig:
    """Plain vision transformer with windowed and global attention (SAM, appendix A; ViTDet)."""

    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    global_attention_blocks: tuple[int, ...] = (2, 5, 8, 11)
    image_size: int = 1024
    patch_size: int = 16
    window_size: int = 14
    mlp_ratio: float = 4.0
    out_dim: int = 256
    kind: Literal["vit"] = "vit"


@dataclass(frozen=True)
class TinyVitConfig:
    """TinyViT with the strides that MobileSAM uses (Wu et al. 2022; Zhang et al. 2023)."""

    embed_dims: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (2, 4, 5, 10)
    window_sizes: tuple[int, ...] = (7, 7, 14, 7)
    image_size: int = 1024
    mlp_ratio: float = 4.0
    out_dim: int = 256
    kind: Literal["tiny_vit"] = "tiny_vit"


@dataclass(frozen=True)
class PyramidConfig:
    """Convolutional pyramid of the shipped model: strides 4, 8, 16 and 32, fused top down.

    ``skip_dims`` are the channels of the fused maps at strides 8 and 4, which the mask decoder uses
    for fine detail. With ``uses_efficientnet``, maps of an EfficientNet-Lite 0 that was trained on
    ImageNet, and looks at the picture at half its size, join the stages from stride 8 on.
    """

    stage_dims: tuple[int, ...] = (64, 128, 224, 320)
    stage_depths: tuple[int, ...] = (2, 2, 3, 1)
    context_depth: int = 3
    skip_dims: tuple[int, int] = (64, 48)
    image_size: int = 1024
    out_dim: int = 128
    drop_path: float = 0.0
    uses_efficientnet: bool = False
    kind: Literal["pyramid"] = "pyramid"


@dataclass(frozen=True)
class PromptEncoderConfig:
    """Prompt encoder: ``prompt_map_dims`` (stride 4, hidden) draws the prompts as a map as well."""

    mask_in_dim: int = 16
    prompt_map_dims: tuple[int, int] | None = None
    text_dim: int | None = None


@dataclass(frozen=True)
class MaskDecoderConfig:
    """Mask decoder: SAM's numbers by default.

    ``fusion_depth`` convolutional blocks look at image and drawn prompts together before tokens do,
    so that a network trained on little data learns how far an object reaches around a click.
    ``weighs_masks`` says that the masks of one prompt, taken together, are better than any that it
    could choose (:mod:`~sam_plugins.model.inference.consensus`); it changes no weight.
    """

    depth: int = 2
    num_heads: int = 8
    mlp_dim: int = 2048
    upscale_dims: tuple[int, int] = (64, 32)
    num_multimask_outputs: int = 3
    iou_head_depth: int = 3
    iou_head_hidden_dim: int = 256
    fusion_depth: int = 0
    uses_skips: bool = False
    scores_masks: bool = False
    weighs_masks: bool = False


@dataclass(frozen=True)
class InstanceDecoderConfig:
    """Dense head: foreground, centre and distance to the border at stride 4."""

    hidden_dim: int = 64


@dataclass(frozen=True)
class SamConfig:
    """Everything that is needed to build a promptable model, before any weight is known."""

    image_encoder: VitConfig | TinyVitConfig | PyramidConfig = field(default_factory=VitConfig)
    prompt_encoder: PromptEncoderConfig = field(default_factory=PromptEncoderConfig)
    mask_decoder: MaskDecoderConfig = field(default_factory=MaskDecoderConfig)
    instance_decoder: InstanceDecoderConfig | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries of plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SamConfig:
        """Build a config from :meth:`to_dict`'s result, also after a round trip through JSON.

        Raises
        ------
        UnknownConfigError
            If a key or the kind of image encoder is unknown.
        ValueError
            If a value is of another kind or out of range.
        """
        parts: dict[str, Any] = {
            "prompt_encoder": PromptEncoderConfig,
            "mask_decoder": MaskDecoderConfig,
            "instance_decoder": InstanceDecoderConfig,
            "preprocessing": Preprocessing,
        }
        unknown = set(values) - set(parts) - {"image_encoder"}
        if unknown:
            raise UnknownConfigError(f"unknown parts of a model config: {sorted(unknown)}")
        built: dict[str, Any] = {
            key: _build(part, values[key])
            for key, part in parts.items()
            if values.get(key) is not None
        }
        encoder = values.get("image_encoder", {"kind": "vit"})
        if not isinstance(encoder, Mapping):
            raise ValueError(f"image_encoder must be values by name, got {reprlib.repr(encoder)}")
        kinds: dict[str, Any] = {
            "vit": VitConfig,
            "tiny_vit": TinyVitConfig,
            "pyramid": PyramidConfig,
        }
        kind = encoder.get("kind", "vit")
        if not isinstance(kind, str) or kind not in kinds:
            raise UnknownConfigError(
                f"image encoder kind must be one of {sorted(kinds)}, got {reprlib.repr(kind)}"
            )
        return cls(image_encoder=_build(kinds[kind], encoder), **built)


class UnknownConfigError(ValueError):
    """A config has values or an encoder that this version does not know, as of a later one."""


def require_fitting_input(config: SamConfig) -> None:
    """Refuse preprocessing that makes input which the image encoder cannot take.

    Raises
    ------
    ValueError
        If the size to which pictures are padded is not that of a plain ViT or a TinyViT, whose
        positions were learned for one size, or is no multiple of a pyramid's stride.
    """
    encoder, preprocessing = config.image_encoder, config.preprocessing
    size, longest, pad_to = encoder.image_size, preprocessing.max_long_side, preprocessing.pad_to
    if size < 1:
        raise ValueError(f"image_size must be 1 or more, got {size}")
    padded = longest if pad_to == "square" else pad_to
    if isinstance(encoder, PyramidConfig):
        if padded % PYRAMID_STRIDE:
            raise ValueError(
                f"pictures must be padded to multiples of {PYRAMID_STRIDE} pixels for an image "
                f"encoder of the kind {encoder.kind!r}, got max_long_side {longest} and pad_to "
                f"{pad_to!r}"
            )
    elif padded != size or longest > size:
        raise ValueError(
            f"pictures must be padded to {size} x {size} pixels, the only size of this image "
            f"encoder ({encoder.kind}), got max_long_side {longest} and pad_to {pad_to!r}"
        )


def require_kinds(part: type[_Dataclass], values: Mapping[str, Any]) -> None:
    """Refuse values of a dataclass that are not of the kind of their annotation.

    Parameters
    ----------
    part : type
        A dataclass of numbers, texts, truth values, choices, and tuples of numbers.
    values : mapping of str to object
        Of its fields; lists do for tuples, and whole numbers for any number but NaN.

    Raises
    ------
    ValueError
        With what is expected and what was found.
    """
    kinds = get_type_hints(part)
    for name, value in values.items():
        if not _is_of_kind(value, kinds[name]):
            raise ValueError(
                f"{name} of {part.__name__} must be {_in_words(kinds[name])}, "
                f"got {reprlib.repr(value)}"
            )


def _is_of_kind(value: object, kind: Any) -> bool:  # noqa: ANN401
    """Tell whether a value fits an annotation."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        return any(_is_of_kind(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        expected = parts[:1] * len(value) if parts[-1] is ... else parts
        return len(value) == len(expected) and all(map(_is_of_kind, value, expected))
    if kind in {int, float}:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return False
        if kind is int:
            return isinstance(value, numbers.Integral)
        try:
            return not math.isnan(value)
        except OverflowError:  # A whole number of hundreds of digits.
            return False
    return isinstance(value, kind)


def _in_words(kind: Any) -> str:  # noqa: ANN401
    """Say what an annotation expects."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        return " or ".join(_in_words(part) for part in parts)
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin is tuple:
        one = _in_words(parts[0]).removeprefix("a ")
        return f"{one}s" if parts[-1] is ... else f"{len(parts)} {one}s"
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return words.get(kind, "None")


def _build(part: type[_Part], values: object) -> _Part:
    """Build one dataclass, lists of JSON turned back into tuples."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{part.__name__} must be values by name, got {reprlib.repr(values)}")
    unknown = set(values) - {spec.name for spec in fields(part)}
    if unknown:
        raise UnknownConfigError(f"unknown {part.__name__} values: {sorted(unknown)}")
    require_kinds(part, values)
    return part(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


SAM_VIT_B = SamConfig()
SAM_VIT_L = SamConfig(
    VitConfig(embed_dim=1024, depth=24, num_heads=16, global_attention_blocks=(5, 11, 17, 23))
)
SAM_VIT_H = SamConfig(
    VitConfig(embed_dim=1280, depth=32, num_heads=16, global_attention_blocks=(7, 15, 23, 31))
)
MOBILE_SAM = SamConfig(TinyVitConfig())
SHIPPED = SamConfig(
    image_encoder=PyramidConfig(uses_efficientnet=True),
    prompt_encoder=PromptEncoderConfig(prompt_map_dims=(32, 24)),
    mask_decoder=MaskDecoderConfig(
        mlp_dim=512,
        upscale_dims=(64, 32),
        iou_head_hidden_dim=128,
        fusion_depth=2,
        uses_skips=True,
        scores_masks=True,
        weighs_masks=True,
    ),
    instance_decoder=InstanceDecoderConfig(hidden_dim=48),
    preprocessing=Preprocessing(
        min_long_side=768, max_long_side=1024, max_enlargement=3.0, pad_to=32
    ),
)
