"""Learned image perturbation of DDAIG and ATS, and forward passes that leave networks unchanged.

The generator is that of DDAIG (Zhou et al., 2020).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Generator as Iteration


class Generator(nn.Module):
    """Generator of a perturbed image: x' = clamp(x + strength * G(x), 0, 1).

    G is the fully convolutional network of DDAIG (Zhou et al., 2020): a convolution, three residual
    blocks, and a fusion of every pixel with the spatial mean. The output passes a tanh. Instance
    normalisation has no running statistics, so that training and evaluation are the same.
    Deviation: the clamp is off in the release; here the result stays a valid image.

    Args:
        strength: Largest change of a pixel, 0..1.
        width: Channels of the hidden layers.
    """

    def __init__(self, strength: float = 0.3, width: int = 64):
        """Create the network with weights from N(0, 0.02)."""
        super().__init__()
        self.strength = strength
        self.opening = nn.Sequential(*_convolution(3, width), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(*_convolution(width, width), nn.ReLU(), *_convolution(width, width))
            for _ in range(3)
        )  # residual
        self.fuse = nn.Sequential(
            nn.Conv2d(2 * width, width, 1, bias=False), nn.InstanceNorm2d(width), nn.ReLU()
        )
        self.colour = nn.Conv2d(width, 3, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
        assert self.colour.bias is not None
        nn.init.zeros_(self.colour.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Perturb images: (B, 3, S, S) -> (B, 3, S, S), both float32 in [0, 1]."""
        hidden = self.opening(image)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        context = hidden.mean((2, 3), keepdim=True).expand_as(hidden)
        perturbation = self.colour(self.fuse(torch.cat([hidden, context], 1))).tanh()
        return (image + self.strength * perturbation).clamp(0, 1)


def _convolution(channels: int, width: int) -> list[nn.Module]:
    """Layers of a reflection-padded 3 x 3 convolution with instance normalisation."""
    return [
        nn.ReflectionPad2d(1),
        nn.Conv2d(channels, width, 3, bias=False),
        nn.InstanceNorm2d(width),
    ]


@contextmanager
def without_updates(*modules: nn.Module) -> Iteration[None]:
    """Inside the context, a forward pass in training mode changes nothing in the modules.

    Batch normalisation still normalises by the batch, but keeps its running statistics. Parameters
    get no gradient. Gradients pass through to the input.

    Args:
        *modules: Networks to leave unchanged.
    """
    trained = [
        parameter
        for module in modules
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
    norms: list[Any] = [
        layer
        for module in modules
        for layer in module.modules()
        if getattr(layer, "track_running_stats", False)
    ]
    for parameter in trained:
        parameter.requires_grad_(False)
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for norm in norms:
            norm.track_running_stats = True
