"""Small image encoders that can take a larger one's place in front of its mask decoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from sam_plugins.errors import UnsuitableModelError
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import (
    PYRAMID_STRIDE,
    PyramidConfig,
    SamConfig,
    TinyVitConfig,
    VitConfig,
)
from sam_plugins.model.networks.sam import Sam

StudentKind = Literal["tiny_vit", "pyramid", "vit-small"]
STUDENTS: tuple[StudentKind, ...] = ("tiny_vit", "pyramid", "vit-small")

_EMBEDDING_STRIDE = 16


def student_config(teacher: SamConfig, kind: StudentKind) -> SamConfig:
    """Return the teacher's architecture with a small image encoder.

    Parameters
    ----------
    teacher : SamConfig
    kind : {"tiny_vit", "pyramid", "vit-small"}
        MobileSAM's TinyViT (6 million weights); a convolutional pyramid (2 million, the shipped one
        has 11); or a plain ViT of width 384 and 12 blocks (24 million).

    Raises
    ------
    UnsuitableModelError
        If the student's embeddings could not have the shape of the teacher's, or it has no finer
        maps and the teacher's decoders read some.
    ValueError
        If there is no such student.

    Examples
    --------
    >>> student_config(SamConfig(), "tiny_vit").image_encoder.embed_dims
    (64, 128, 160, 320)
    """
    if kind not in STUDENTS:
        raise ValueError(f"student must be one of {', '.join(STUDENTS)}, got {kind!r}")
    old = teacher.image_encoder
    has_skips = isinstance(old, PyramidConfig) and (
        teacher.mask_decoder.uses_skips or teacher.instance_decoder is not None
    )
    encoder: TinyVitConfig | PyramidConfig | VitConfig
    if kind == "pyramid":
        _require_pyramid_fits(teacher, has_skips=has_skips)
        encoder = PyramidConfig(
            stage_dims=(32, 64, 112, 160),
            stage_depths=(1, 1, 2, 1),
            context_depth=2,
            skip_dims=old.skip_dims if isinstance(old, PyramidConfig) else PyramidConfig.skip_dims,
            image_size=old.image_size,
            out_dim=old.out_dim,
        )
        return replace(teacher, image_encoder=encoder)
    if has_skips:
        raise UnsuitableModelError(
            f"the decoders of this teacher read finer maps of its image encoder, and {kind} has "
            "none: choose the student pyramid"
        )
    if teacher.preprocessing.pad_to != "square":
        raise UnsuitableModelError(
            f"this teacher takes pictures of any shape, and {kind} only squares: choose the "
            "student pyramid"
        )
    if isinstance(old, VitConfig) and old.patch_size != _EMBEDDING_STRIDE:
        raise UnsuitableModelError(
            f"the embeddings of this teacher have a cell for {old.patch_size} pixels, those of "
            f"{kind} for {_EMBEDDING_STRIDE}: no student fits it"
        )
    if kind == "tiny_vit":
        encoder = TinyVitConfig(image_size=old.image_size, out_dim=old.out_dim)
    else:
        encoder = VitConfig(
            embed_dim=384, depth=12, num_heads=6, image_size=old.image_size, out_dim=old.out_dim
        )
    return replace(teacher, image_encoder=encoder)


def _require_pyramid_fits(teacher: SamConfig, *, has_skips: bool) -> None:
    """Refuse teachers whose embeddings or decoders do not fit a pyramid's."""
    old = teacher.image_encoder
    if teacher.instance_decoder is not None and not has_skips:
        raise UnsuitableModelError(
            "the instance decoder of this teacher reads its image embedding, and that of a pyramid "
            "reads a finer map: choose the student tiny_vit or vit-small"
        )
    stride = old.patch_size if isinstance(old, VitConfig) else _EMBEDDING_STRIDE
    if stride != _EMBEDDING_STRIDE or old.image_size % PYRAMID_STRIDE:
        raise UnsuitableModelError(
            f"the embeddings of a pyramid have a cell for {_EMBEDDING_STRIDE} pixels of an input "
            f"of a multiple of {PYRAMID_STRIDE}, and this teacher has one for {stride} pixels of "
            f"{old.image_size}: choose another student"
        )


def build_student(teacher: Sam, config: SamConfig, *, seed: int) -> Sam:
    """Build a model of the teacher's decoders and a fresh image encoder.

    Parameters
    ----------
    teacher : Sam
    config : SamConfig
        From :func:`student_config`.
    seed : int
        Of the fresh weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student = build_sam(config)
    others = {
        name: value
        for name, value in teacher.state_dict().items()
        if not name.startswith("image_encoder.")
    }
    missing, left_over = student.load_state_dict(others, strict=False)
    assert not left_over
    assert all(name.startswith("image_encoder.") for name in missing)
    return student
