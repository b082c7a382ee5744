"""MixStyle (Zhou et al., 2021): ERM whose early feature maps borrow the channel statistics ("style") of another image of the batch.

The layer is hooked behind the first two stages of the same pretrained image tower (ours; the paper: the first residual stages): a ResNet's
layer1 and layer2, an EfficientNet's stages of the same resolution. A transformer has no such stages, which is said in one line.
"""

import torch
from torch import nn
from torch.distributions import Beta

from clipdr.methods.erm import Erm

SMALL = 1e-6  # added to a variance


class MixStyle(Erm):
    """p, alpha, cross_domain: see Mix."""

    reads = "photograph"

    def __init__(self, backbone, p=0.5, alpha=0.1, cross_domain=False):
        super().__init__(backbone)
        self.cross_domain = cross_domain
        self.mix = Mix(p, alpha)
        for stage in backbone.stages():
            stage.register_forward_hook(self.mix.behind)

    def loss(self, batch):
        self.mix.domain = batch.domain if self.cross_domain else None
        return super().loss(batch)


class Mix(nn.Module):
    """In training, with probability p per call: z' = (z - mu) / sig * (w sig + (1 - w) sig[pi]) + w mu + (1 - w) mu[pi].

    mu, sig : mean and standard deviation over space per image and channel, constants for the gradient
    w       : Beta(alpha, alpha) per image;  pi : a permutation of the batch, or where `domain` is set an image of another domain
    """

    def __init__(self, p=0.5, alpha=0.1):
        super().__init__()
        self.p, self.alpha, self.domain = p, alpha, None

    def behind(self, stage, inputs, features):
        """Forward hook: what replaces the stage's output."""
        return self(features)

    def forward(self, features):
        if not self.training or torch.rand(()) >= self.p:
            return features
        weight = Beta(self.alpha, self.alpha).sample((len(features), 1, 1, 1)).to(features.device)
        return mixed(features.float(), weight, self.partners(len(features)).to(features.device)).to(
            features.dtype
        )

    def partners(self, count):
        """(B,) int64, whose style each image borrows; in a batch of one domain a permutation even with `domain` set."""
        if self.domain is None or (self.domain == self.domain[0]).all():
            return torch.randperm(count)
        other = self.domain.cpu()[:, None] != self.domain.cpu()
        return torch.multinomial(other.float(), 1)[:, 0]


def mixed(features, weight, partner):
    """(B, C, h, w) float32, (B, 1, 1, 1), (B,) -> (B, C, h, w): the statistics are mixed, the content is not."""
    flat = features.detach().flatten(2)
    mean = flat.mean(2)[..., None, None]  # (B, C, 1, 1)
    std = (
        flat.var(2, correction=min(1, flat.shape[2] - 1))[..., None, None] + SMALL
    ).sqrt()  # one pixel has no unbiased variance
    new_mean, new_std = (
        weight * mean + (1 - weight) * mean[partner],
        weight * std + (1 - weight) * std[partner],
    )
    return (features - mean) / std * new_std + new_mean
