"""An embedding as float16 on the CPU, and as the content of a file that shows damage."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import safetensors.torch
import torch
from safetensors import SafetensorError

from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.networks.features import ImageFeatures

FORMAT = "sam-plugins-embedding-2"
"""Version of the rounding and of the files; what was kept under another one is not found."""

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
    """

    embedding: ImageEmbedding
    dtype: str

    @classmethod
    def of(cls, embedding: ImageEmbedding) -> PackedEmbedding | None:
        """Round an embedding; None where float16 cannot hold it."""
        dtype = str(embedding.features.dtype).removeprefix("torch.")
        tensors = embedding.image_features.named_tensors().values()
        if dtype not in _DTYPES or any(t.dtype != embedding.features.dtype for t in tensors):
            return None
        halves = embedding.image_features.map(
            lambda t: t.detach().to("cpu", torch.float16, copy=True).contiguous()
        )
        if not all(bool(torch.isfinite(half).all()) for half in halves.named_tensors().values()):
            return None
        return cls(embedding.with_features(halves), dtype)

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
        tensors = embedding.image_features.named_tensors()
        values = {
            "format": FORMAT,
            "dtype": self.dtype,
            "model_id": embedding.model_id,
            "original_size_hw": list(embedding.original_size_hw),
            "input_size_hw": list(embedding.input_size_hw),
            "padded_size_hw": list(embedding.padded_size_hw),
        }
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
            features = ImageFeatures.from_named_tensors(tensors)
            embedding = ImageEmbedding(
                features=features.embedding,
                skips=features.skips,
                original_size_hw=_pair(values["original_size_hw"]),
                input_size_hw=_pair(values["input_size_hw"]),
                padded_size_hw=_pair(values["padded_size_hw"]),
                model_id=str(values["model_id"]),
            )
        except (SafetensorError, ValueError, KeyError, TypeError):
            return None
        return cls(embedding, values["dtype"])


def _pair(values: list[int]) -> tuple[int, int]:
    """Return a size from JSON."""
    height, width = values
    return int(height), int(width)
