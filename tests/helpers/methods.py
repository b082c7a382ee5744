"""Encoders and small helpers that the tests of several methods share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clipdr.data.loader import Batch
from clipdr.methods import load
from clipdr.methods.base import Method, Source
from clipdr.models.backbone import Backbone

if TYPE_CHECKING:
    from collections.abc import Mapping

# image encoders with random weights, all tiny
RESNET = {"image": "timm/test_resnet", "weights": "random", "text": "small"}
EFFICIENTNET = {"image": "timm/test_efficientnet", "weights": "random", "text": "small"}
VIT = {"image": "timm/test_vit", "weights": "random", "text": "small"}
CLIP_RESNET = {"image": "open_clip/RN-clipdr-test", "weights": "random", "text": "own"}
CLIP_VIT = {"image": "open_clip/ViT64-clipdr-test", "weights": "random", "text": "own"}
TOWERS = {"resnet": RESNET, "vit": VIT, "clip_resnet": CLIP_RESNET, "clip_vit": CLIP_VIT}


def build(
    name: str,
    spec: Mapping[str, str] = EFFICIENTNET,
    rows: Mapping[str, Any] | None = None,
    steps: int = 100,
    **options: Any,
) -> Method:
    """Build a method on an encoder of 64 pixels with seed 0; begin it where rows are given."""
    torch.manual_seed(0)
    method = load(name)(Backbone(spec, 64), **options)
    if rows:
        method.begin(Source(rows["train"], rows["val"], steps_per_epoch=2, steps=steps))
    return method


def total(terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Sum the terms of a loss."""
    return sum(terms.values(), torch.zeros(()))


def rows_where(batch: Batch, **condition: int) -> Batch:
    """Select the images of a batch where a field has a value, for example domain=0."""
    ((field, value),) = condition.items()
    where = getattr(batch, field) == value
    return Batch(*(tensor if tensor is None else tensor[where] for tensor in batch))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function in numpy."""
    return 1 / (1 + np.exp(-x))


class ConstantBeta:
    """Replacement of torch's Beta distribution whose samples all have one value."""

    def __init__(self, value: float):
        """Note the value."""
        self.value = value

    def __call__(self, *_: float) -> ConstantBeta:
        """Ignore the parameters of the distribution."""
        return self

    def sample(self, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Return the value in a shape."""
        return torch.full(shape, self.value)
