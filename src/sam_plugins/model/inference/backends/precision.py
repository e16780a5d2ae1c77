"""Whether a device computes faster in bfloat16, and rightly: measured, once in a process."""

from __future__ import annotations

import time
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

_MIN_GAIN = 1.3
_MAX_ERROR = 0.02


def suggested_dtype(device: torch.device) -> torch.dtype:
    """Return ``torch.bfloat16`` where that is faster than float32 and as right as it can be.

    Some processors emulate bfloat16, and some kernels were wrong: a product and a convolution of
    the sizes that encoders have are timed and compared, which takes a tenth of a second.
    """
    return _suggested(str(device), torch.get_num_threads())


@lru_cache(maxsize=8)
def _suggested(device: str, threads: int) -> torch.dtype:
    """Measure; ``threads`` only says which measurement is meant."""
    del threads
    if device.startswith("cuda"):
        is_native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if is_native else torch.float32
    if device != "cpu":
        return torch.float32
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(1024, 768, generator=generator)
    weight = torch.randn(768, 768, generator=generator) / 28
    maps = torch.randn(1, 64, 64, 64, generator=generator)
    kernel = torch.randn(64, 64, 3, 3, generator=generator) / 24
    exact = _measure(rows, weight, maps, kernel)
    half = _measure(*(tensor.bfloat16() for tensor in (rows, weight, maps, kernel)))
    for one, other in zip(half[1], exact[1], strict=True):
        if float((one.float() - other).norm() / other.norm()) > _MAX_ERROR:
            return torch.float32
    return torch.bfloat16 if exact[0] > _MIN_GAIN * half[0] else torch.float32


@torch.inference_mode()
def _measure(
    rows: Tensor, weight: Tensor, maps: Tensor, kernel: Tensor
) -> tuple[float, tuple[Tensor, Tensor]]:
    """Return the seconds of the best of some runs, and the answers."""
    maps = maps.contiguous(memory_format=torch.channels_last)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        product = functional.linear(rows, weight)
        convolved = functional.conv2d(maps, kernel, padding=1)
        seconds.append(time.perf_counter() - start)
    return min(seconds), (product, convolved)
