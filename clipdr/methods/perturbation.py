"""Perturbed photographs (DDAIG, ATS): the network that draws them, and a way to pass them through networks that stay as they are."""

from contextlib import contextmanager

import torch
from torch import nn


class Generator(nn.Module):
    """Image -> the image with a learned perturbation: x' = clamp(x + strength * G(x), 0, 1), (B, 3, S, S) in [0, 1].

    G is DDAIG's fully convolutional network (Zhou et al., 2020): a convolution, three residual blocks, the mean over space put beside
    every pixel and fused, tanh. Instance norm has no running statistics: it works alike in training and evaluation.
    The clamp is ours (off in the release): a photograph stays one.
    """

    def __init__(self, strength=0.3, width=64):
        super().__init__()
        self.strength = strength
        self.opening = nn.Sequential(*convolution(3, width), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(*convolution(width, width), nn.ReLU(), *convolution(width, width))
            for _ in range(3)
        )  # residual
        self.fuse = nn.Sequential(
            nn.Conv2d(2 * width, width, 1, bias=False), nn.InstanceNorm2d(width), nn.ReLU()
        )
        self.colour = nn.Conv2d(width, 3, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
        nn.init.zeros_(self.colour.bias)

    def forward(self, image):
        hidden = self.opening(image)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        context = hidden.mean((2, 3), keepdim=True).expand_as(hidden)
        perturbation = self.colour(self.fuse(torch.cat([hidden, context], 1))).tanh()
        return (image + self.strength * perturbation).clamp(0, 1)


def convolution(channels, width):
    """Reflection-padded 3 x 3 convolution and instance norm, as a list of layers."""
    return [
        nn.ReflectionPad2d(1),
        nn.Conv2d(channels, width, 3, bias=False),
        nn.InstanceNorm2d(width),
    ]


@contextmanager
def still(*modules):
    """Inside, a forward pass of the modules in training mode changes nothing in them and leads no gradient to their parameters.

    Batch norm still normalises by the batch, but leaves its running statistics alone. Gradients pass through to the image.
    """
    trained = [
        parameter
        for module in modules
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
    norms = [
        part
        for module in modules
        for part in module.modules()
        if getattr(part, "track_running_stats", False)
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
