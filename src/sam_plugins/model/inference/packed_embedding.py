"""An embedding as float16 on the CPU, and as the content of a file that shows damage.

A compact file holds a fifth of float16's bytes: :mod:`~sam_plugins.model.inference.compact_map`
says how. Masks from it agree with fresh ones to a mean IoU of 0.998 (measured by
``benchmarks/embedding_size.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from safetensors import SafetensorError

from sam_plugins.model.inference.compact_map import decode_map, encode_map
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.networks.features import ImageFeatures

FORMAT = "sam-plugins-embedding-2"
"""Version of the rounding and of the files; what was kept under another one is not found."""

_COMPACT = "compact-1"
_STEPS = {"embedding": 0.03, "skips.0": 0.07, "skips.1": 0.05}
"""Of the maps of a pyramid: chosen by what an error costs the masks, and a byte saves."""
_STEP_ALONE = 0.02
"""Of an embedding without finer maps, which alone decides."""

_Parts = dict[str, dict[str, npt.NDArray[Any]]]

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class PackedEmbedding:
    """An embedding whose tensors are float16 on the CPU.

    Attributes
    ----------
    embedding : ImageEmbedding
        With the rounded tensors.
    dtype : str
        Name of the type that its tensors had, and get again.
    parts : dict
        By tensor, what a compact file holds of it; empty for a file of float16.
    """

    embedding: ImageEmbedding
    dtype: str
    parts: _Parts = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, embedding: ImageEmbedding, *, compact: bool = False) -> PackedEmbedding | None:
        """Round an embedding; None where float16 cannot hold it.

        Parameters
        ----------
        embedding : ImageEmbedding
        compact : bool
            Round it to what a compact file holds, where one can.
        """
        dtype = str(embedding.features.dtype).removeprefix("torch.")
        tensors = embedding.image_features.named_tensors().values()
        if dtype not in _DTYPES or any(t.dtype != embedding.features.dtype for t in tensors):
            return None
        halves = embedding.image_features.map(
            lambda t: t.detach().to("cpu", torch.float16, copy=True).contiguous()
        )
        if not all(bool(torch.isfinite(half).all()) for half in halves.named_tensors().values()):
            return None
        parts = _compacted(halves) if compact else {}
        if parts:
            halves = _restored(parts)
        return cls(embedding.with_features(halves), dtype, parts)

    def in_memory(self) -> PackedEmbedding:
        """Return it without what only the file needs."""
        return replace(self, parts={})

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return self.embedding.nbytes

    def unpack(self, device: torch.device | str) -> ImageEmbedding:
        """Return an embedding of the original type with tensors of its own."""
        dtype = _DTYPES[self.dtype]
        return self.embedding.with_features(
            self.embedding.image_features.map(lambda tensor: tensor.to(device, dtype, copy=True))
        )

    def to_bytes(self) -> bytes:
        """Return the content of a file."""
        embedding = self.embedding
        tensors = _as_tensors(self.parts) or embedding.image_features.named_tensors()
        values: dict[str, Any] = {
            "format": FORMAT,
            "dtype": self.dtype,
            "model_id": embedding.model_id,
            "original_size_hw": list(embedding.original_size_hw),
            "input_size_hw": list(embedding.input_size_hw),
            "padded_size_hw": list(embedding.padded_size_hw),
        }
        if embedding.is_blank:
            values["is_blank"] = True
        if self.parts:
            values["packing"] = _COMPACT
        body = safetensors.torch.save(tensors, {"embedding": json.dumps(values)})
        return hashlib.blake2b(body, digest_size=32).digest() + body

    @classmethod
    def from_bytes(cls, content: bytes) -> PackedEmbedding | None:
        """Return the embedding of a file, None where it is damaged or of another version."""
        digest, body = content[:32], content[32:]
        if hashlib.blake2b(body, digest_size=32).digest() != digest:
            return None
        try:
            length = int.from_bytes(body[:8], "little")
            header = json.loads(body[8 : 8 + length])
            values = json.loads(header["__metadata__"]["embedding"])
            tensors = safetensors.torch.load(body)
            if values["format"] != FORMAT or values["dtype"] not in _DTYPES:
                return None
            packing = values.get("packing")
            if packing not in {None, _COMPACT}:
                return None
            features = (
                ImageFeatures.from_named_tensors(tensors)
                if packing is None
                else _restored(_as_parts(tensors))
            )
            embedding = ImageEmbedding(
                features=features.embedding,
                skips=features.skips,
                original_size_hw=_pair(values["original_size_hw"]),
                input_size_hw=_pair(values["input_size_hw"]),
                padded_size_hw=_pair(values["padded_size_hw"]),
                model_id=str(values["model_id"]),
                is_blank=bool(values.get("is_blank")),
            )
        except (SafetensorError, ValueError, KeyError, TypeError, IndexError, RuntimeError):
            return None
        return cls(embedding, values["dtype"])


def _pair(values: list[int]) -> tuple[int, int]:
    """Return a size from JSON."""
    height, width = values
    return int(height), int(width)


def _compacted(halves: ImageFeatures) -> _Parts:
    """Return the parts of all maps; empty where one cannot be made compact."""
    maps = halves.named_tensors()
    parts: _Parts = {}
    for name, tensor in maps.items():
        step = _STEPS.get(name) if len(maps) > 1 else _STEP_ALONE
        if len(tensor) != 1 or step is None:
            return {}
        encoded = encode_map(tensor[0].to(torch.float32).numpy(), step)
        if encoded is None:
            return {}
        parts[name] = encoded
    return parts


def _restored(parts: _Parts) -> ImageFeatures:
    """Return the maps of parts, as float16."""
    return ImageFeatures.from_named_tensors(
        {name: torch.from_numpy(decode_map(one)).half()[None] for name, one in parts.items()}
    )


def _as_tensors(parts: _Parts) -> dict[str, torch.Tensor]:
    """Return parts as tensors of a file."""
    return {
        f"{name}/{part}": torch.from_numpy(np.array(values))
        for name, one in parts.items()
        for part, values in one.items()
    }


def _as_parts(tensors: Mapping[str, torch.Tensor]) -> _Parts:
    """Undo :func:`_as_tensors`."""
    parts: _Parts = {}
    for key, tensor in tensors.items():
        name, _, part = key.partition("/")
        parts.setdefault(name, {})[part] = tensor.numpy()
    return parts
