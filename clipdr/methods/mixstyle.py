"""MixStyle (Zhou et al., 2021): ERM with mixed channel statistics ("style") of early maps.

A feature map takes the statistics of another image of the batch.

Deviation: the layer is hooked behind the stages of the pretrained encoder at 1/4 and 1/8 of the
input's side. These are layer1 and layer2 of a ResNet, and the stages of the same resolution of an
EfficientNet. The paper uses the first residual stages. A transformer has no such stages and is
refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributions import Beta

from clipdr.methods.erm import Erm

if TYPE_CHECKING:
    from clipdr.data.loader import Batch
    from clipdr.models.backbone import Backbone

EPSILON = 1e-6  # added to a variance


class MixStyle(Erm):
    """ERM with mixed channel statistics in training; the loss is cross-entropy.

    Args:
        backbone: Convolutional image encoder.
        p: Probability that a batch is mixed, 0..1.
        alpha: Both parameters of the Beta distribution of the mixing weight, > 0.
        cross_domain: Whether the partner of an image comes from another domain.

    Raises:
        DataError: If the image encoder has no maps at 1/4 and 1/8 of the input's side.
    """

    reads = "images"

    def __init__(
        self, backbone: Backbone, p: float = 0.5, alpha: float = 0.1, cross_domain: bool = False
    ):
        """Create the head and hook the layer into the image encoder."""
        super().__init__(backbone)
        self.cross_domain = cross_domain
        self.mix = MixStyleLayer(p, alpha)
        for stage in backbone.stages():
            stage.register_forward_hook(self.mix.hook)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the term "ce", see `Method.loss`."""
        self.mix.domain = batch.domain if self.cross_domain else None
        return super().loss(batch)


class MixStyleLayer(nn.Module):
    """Layer that mixes channel statistics in training, with probability p per call.

    z' = (z - mu) / sig * (w sig + (1 - w) sig[pi]) + w mu + (1 - w) mu[pi]. mu and sig are mean and
    standard deviation over space per image and channel, constants for the gradient. w ~ Beta(alpha,
    alpha) per image. pi is a permutation of the batch, or, if `domain` is set, an image of another
    domain.

    Args:
        p: Probability of mixing, 0..1.
        alpha: Both parameters of the Beta distribution, > 0.
    """

    def __init__(self, p: float = 0.5, alpha: float = 0.1):
        """Create the layer; it has no parameters."""
        super().__init__()
        self.p, self.alpha = p, alpha
        self.domain: torch.Tensor | None = None  # (B,) int64, of the batch

    def hook(self, stage: nn.Module, inputs: Any, features: torch.Tensor) -> torch.Tensor:  # noqa: ARG002  (torch's signature)
        """Replace the output of a stage, as a forward hook."""
        return self(features)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Mix the statistics of feature maps: (B, C, h, w) -> (B, C, h, w)."""
        if not self.training or torch.rand(()) >= self.p:
            return features
        weight = Beta(self.alpha, self.alpha).sample((len(features), 1, 1, 1)).to(features.device)
        partner = self.partners(len(features)).to(features.device)
        return mix_statistics(features.float(), weight, partner).to(features.dtype)

    def partners(self, count: int) -> torch.Tensor:
        """Sample the image whose style each image takes.

        Args:
            count: Images B of the batch.

        Returns:
            (B,) int64; in a batch of one domain a permutation, also if `domain` is set.
        """
        if self.domain is None or (self.domain == self.domain[0]).all():
            return torch.randperm(count)
        other = self.domain.cpu()[:, None] != self.domain.cpu()
        return torch.multinomial(other.float(), 1)[:, 0]


def mix_statistics(
    features: torch.Tensor, weight: torch.Tensor, partner: torch.Tensor
) -> torch.Tensor:
    """Mix the channel statistics of images and keep their content.

    Args:
        features: (B, C, h, w) float32.
        weight: Share of the own statistics, (B, 1, 1, 1), 0..1.
        partner: Index of the other image, (B,) int64.

    Returns:
        (B, C, h, w) float32.
    """
    flat = features.detach().flatten(2)
    mean = flat.mean(2)[..., None, None]  # (B, C, 1, 1)
    # a map of one pixel has no unbiased variance
    variance = flat.var(2, correction=min(1, flat.shape[2] - 1))[..., None, None]
    std = (variance + EPSILON).sqrt()
    new_mean = weight * mean + (1 - weight) * mean[partner]
    new_std = weight * std + (1 - weight) * std[partner]
    return (features - mean) / std * new_std + new_mean
