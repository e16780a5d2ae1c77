"""The numbers of a pre-training run: plain values, checked, kept in the run's folder as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sam_plugins.errors import TrainingError
from sam_plugins.model.networks.config import SAM_VIT_B, SAM_VIT_H, SAM_VIT_L, VitConfig
from sam_plugins.model.networks.masked_autoencoder import MaeConfig
from sam_plugins.model.training.choices import Precision, require_precision
from sam_plugins.model.training.ranges import require_at_least, require_positive

SAM_PATCH = 16
"""Pixels of a patch of every SAM: its masks have four cells for a patch of the embedding."""

_SMALL = VitConfig(embed_dim=384, depth=12, num_heads=6)
_TINY = VitConfig(embed_dim=192, depth=6, num_heads=3, global_attention_blocks=(2, 5))


def _sized(encoder: object, decoder_dim: int, decoder_depth: int, decoder_heads: int) -> MaeConfig:
    """Return an autoencoder around a plain ViT."""
    assert isinstance(encoder, VitConfig)
    return MaeConfig(
        encoder,
        decoder_dim=decoder_dim,
        decoder_depth=decoder_depth,
        decoder_heads=decoder_heads,
    )


NETWORKS: Mapping[str, MaeConfig] = {
    "vit-tiny": _sized(_TINY, 128, 2, 4),
    "vit-small": _sized(_SMALL, 256, 4, 8),
    "vit-b": _sized(SAM_VIT_B.image_encoder, 512, 8, 16),
    "vit-l": _sized(SAM_VIT_L.image_encoder, 512, 8, 16),
    "vit-h": _sized(SAM_VIT_H.image_encoder, 512, 8, 16),
}
"""Encoders by name. B, L and H are SAM's, with the paper's decoder. The small one has the width and
depth of DeiT's (Touvron et al. 2021), the tiny one, for computers without a GPU, half the depth of
theirs; both have lighter decoders."""


@dataclass(frozen=True)
class PretrainingConfig:
    """How an image encoder is pre-trained.

    The defaults are the paper's (He et al. 2022, table 8 and section 3) but for the length and the
    learning rate: there 1.5e-4 for 256 pictures a step, times the pictures of a step, over hundreds
    of passes through a million pictures.

    Parameters
    ----------
    network : MaeConfig
    sam_image_size : int
        Side of the input of the SAM that it starts, in pixels; a multiple of 16.
    steps, batch_size : int
        Steps of the optimiser, and pictures in each.
    mask_share : float
        Share of the patches that the encoder does not see.
    learning_rate, weight_decay : float
        Of AdamW, whose betas are 0.9 and 0.95.
    warmup_steps : int
        In which the learning rate rises from zero; it falls to zero by half a cosine.
    max_gradient_norm : float
        The paper clips nothing; with small batches a limit keeps single pictures from harm.
    min_crop_share : float
        Least share of a picture's area that a crop takes; it takes up to all of it.
    max_side : int
        Longer pictures are reduced to this length when they are read.
    held_out_share : float
        Share of the pictures that is only measured on: one at least where there are four, up to 64.
    checks : int
        How often that is done, and the picture of reconstructions drawn.
    precision : {"auto", "bfloat16", "float32"}
        Of the forward pass; by default bfloat16 where the device has it.
        A run keeps what it began with.
    seed : int
        Of weights, crops and masks.
    """

    network: MaeConfig = field(default_factory=lambda: NETWORKS["vit-small"])
    sam_image_size: int = 1024
    steps: int = 20_000
    batch_size: int = 64
    mask_share: float = 0.75
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    warmup_steps: int = 500
    max_gradient_norm: float = 3.0
    min_crop_share: float = 0.2
    max_side: int = 1024
    held_out_share: float = 0.05
    checks: int = 20
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_at_least(1, steps=self.steps, batch_size=self.batch_size, checks=self.checks)
        require_at_least(1, max_side=self.max_side)
        require_at_least(0, warmup_steps=self.warmup_steps, weight_decay=self.weight_decay)
        require_at_least(0, seed=self.seed)
        require_positive(learning_rate=self.learning_rate)
        require_positive(max_gradient_norm=self.max_gradient_norm)
        if not 0 < self.mask_share < 1 or not 0 < self.visible < self.network.patches:
            raise ValueError(
                "mask_share must leave a patch to see and a patch to draw of the "
                f"{self.network.patches} that image_size {self.network.image_size} has, got "
                f"{self.mask_share}"
            )
        if self.sam_image_size < SAM_PATCH or self.sam_image_size % SAM_PATCH:
            raise ValueError(
                f"sam_image_size must be a multiple of the patches of {SAM_PATCH} pixels, "
                f"got {self.sam_image_size}"
            )
        if not 0 < self.min_crop_share <= 1:
            raise ValueError(f"min_crop_share must lie in (0, 1], got {self.min_crop_share}")
        if not 0 <= self.held_out_share < 1:
            raise ValueError(f"held_out_share must lie in [0, 1), got {self.held_out_share}")
        require_precision(self.precision)

    @property
    def visible(self) -> int:
        """Patches that the encoder sees.

        Examples
        --------
        >>> PretrainingConfig().visible
        49
        """
        return int(self.network.patches * (1 - self.mask_share))

    @property
    def sam_encoder(self) -> VitConfig:
        """The image encoder of the SAM that it starts.

        Its patches are SAM's: those of pre-training are resampled where they have another size.
        """
        return replace(self.network.encoder, image_size=self.sam_image_size, patch_size=SAM_PATCH)

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        return warm_cosine(step, self.steps, self.warmup_steps) * self.learning_rate

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries of plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PretrainingConfig:
        """Build a config from :meth:`to_dict`'s result, or from some of it.

        Raises
        ------
        ValueError
            If a name is unknown or a value is of the wrong kind or out of its range.
        """
        own = _known(cls, values)
        if "network" in own:
            network = dict(_known(MaeConfig, _mapping("network", own["network"])))
            if "encoder" in network:
                encoder = _known(VitConfig, _mapping("network.encoder", network["encoder"]))
                if "global_attention_blocks" in encoder:
                    encoder["global_attention_blocks"] = tuple(encoder["global_attention_blocks"])
                network["encoder"] = VitConfig(**encoder)
            own["network"] = MaeConfig(**network)
        return cls(**own)

    @classmethod
    def read(cls, path: Path) -> PretrainingConfig:
        """Read a JSON file, such as the ``config.json`` of another run.

        Raises
        ------
        TrainingError
            If it cannot be read, is no JSON, or does not describe a run.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls.from_dict(_mapping("the configuration", values))
        except (OSError, ValueError, TypeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise TrainingError(
                f"{path} is no configuration of a pre-training run: {reason}; config.json of a "
                "run's folder shows what can be set"
            ) from error


def warm_cosine(step: int, steps: int, warmup_steps: int) -> float:
    """Return a step's share of the learning rate: a linear rise, then half a cosine down to zero.

    Examples
    --------
    >>> [round(warm_cosine(step, 6, 2), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return (1 + math.cos(math.pi * min(1.0, done))) / 2


def _known(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Return the values, each of which the dataclass must know and have the type of its default."""
    fields = kind.__dataclass_fields__
    unknown = sorted(values.keys() - fields.keys())
    if unknown:
        raise ValueError(
            f"unknown values {', '.join(unknown)}; known are {', '.join(sorted(fields))}"
        )
    usual = asdict(kind())
    for name, value in values.items():
        expected = usual[name]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = (
            is_number
            if isinstance(expected, float)
            else isinstance(value, list | tuple)
            if isinstance(expected, tuple)
            else type(value) is type(expected)
        )
        if not fits:
            raise ValueError(
                f"{name} must be of the kind of {expected!r}, got {json.dumps(value)[:60]}"
            )
    return dict(values)


def _mapping(what: str, values: object) -> Mapping[str, Any]:
    """Refuse what has no names."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{what} must be an object of names and values, got {values!r:.60}")
    return values
