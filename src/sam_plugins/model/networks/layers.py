"""Small layers that several parts share."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of every pixel.

    Shape legend: B images, D channels, H and W pixels; input and output are (B, D, H, W).
    """

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` of shape (B, D, H, W)."""
        # A view where the memory format is channels last, so the fused kernel gets whole rows.
        return self.normalise_rows(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def normalise_rows(self, x: Tensor) -> Tensor:
        """Normalise ``x`` of shape (..., D)."""
        # PyTorch 2.13 sums the gradients of weight and bias over all rows in bfloat16, on CPUs:
        # with the rows of a batch of maps they come out a quarter and more off.
        exact = x.float() if x.requires_grad and x.dtype == torch.bfloat16 else x
        shape = self.weight.shape
        return functional.layer_norm(exact, shape, self.weight, self.bias, self.eps).to(x.dtype)


class Mlp(nn.Module):
    """Fully connected layers with ReLU in between (SAM's hypernetworks and score head)."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int) -> None:
        super().__init__()
        dims = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., input_dim) to (..., output_dim)."""
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


class MlpBlock(nn.Module):
    """The two linear layers of a transformer block."""

    def __init__(self, dim: int, hidden_dim: int, activation: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden_dim)
        self.lin2 = nn.Linear(hidden_dim, dim)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        out: Tensor = self.lin2(self.act(self.lin1(x)))
        return out


class DropPath(nn.Module):
    """Stochastic depth: drop a residual branch for some of the images (Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` of shape (B, ...), zeroed for a random share of B while training."""
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * keep.to(x.dtype) / (1 - self.rate)


def scaled_convolution(x: Tensor, layer: nn.Conv2d, scale: Tensor) -> Tensor:
    """Return ``scale * layer(x)``, with the small kernel scaled and not the large map.

    Parameters
    ----------
    x : Tensor of shape (B, D, H, W)
    layer : nn.Conv2d
        To D' channels, with a bias.
    scale : Tensor of shape (D', 1, 1)
    """
    if type(layer) is not nn.Conv2d:  # With an adapter around it, it is more than its kernel.
        adapted: Tensor = scale * layer(x)
        return adapted
    assert layer.bias is not None
    weight, bias = layer.weight * scale[..., None], layer.bias * scale.flatten()
    return functional.conv2d(x, weight, bias, padding=layer.padding)


def is_exported() -> bool:
    """Tell whether a graph is made of what is computed, to be run by something else."""
    is_traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return is_traced or torch.compiler.is_compiling()


def group_norm(num_channels: int) -> nn.GroupNorm:
    """Normalise 8 groups of channels, or as many as divide their number."""
    return nn.GroupNorm(math.gcd(8, num_channels), num_channels)


class ContextBlock(nn.Module):
    """A wide depthwise convolution and a perceptron on a residual path (ConvNeXt, Liu et al. 2022).

    Parameters
    ----------
    dim : int
        Channels D.
    expansion : int
        Hidden channels of the perceptron, in multiples of D.
    scale : float
        What the block counts beside its input before training.
    drop_path : float
    """

    def __init__(
        self, dim: int, *, expansion: int = 4, scale: float = 0.5, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = group_norm(dim)
        self.expand = nn.Conv2d(dim, expansion * dim, kernel_size=1)
        self.reduce = nn.Conv2d(expansion * dim, dim, kernel_size=1)
        self.drop_path = DropPath(drop_path)
        self.scale = nn.Parameter(torch.full((dim, 1, 1), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, H, W) to the same."""
        # In float32 on a CPU: PyTorch's depthwise convolution is twice as slow in bfloat16 there.
        if x.device.type == "cpu" and x.dtype == torch.bfloat16 and x.requires_grad:
            with torch.autocast("cpu", enabled=False):
                seen = self.depthwise(x.float())
        else:
            seen = self.depthwise(x)
        hidden = functional.gelu(self.expand(self.norm(seen)))
        added: Tensor = x + self.drop_path(scaled_convolution(hidden, self.reduce, self.scale))
        return added
