"""Mixup (Zhang et al., 2018): ERM on convex combinations of two images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch.distributions import Beta

from clipdr.methods.erm import Erm

if TYPE_CHECKING:
    from clipdr.data.loader import Batch
    from clipdr.models.backbone import Backbone


class Mixup(Erm):
    """ERM on mixed images: x' = w x_i + (1 - w) x_j, with j from a random permutation of the batch.

    Loss: w CE(x', y_i) + (1 - w) CE(x', y_j). The weight w ~ Beta(alpha, alpha) is sampled once per
    batch.

    Args:
        backbone: Image encoder, or cached features.
        alpha: Both parameters of the Beta distribution, > 0; 1 is the uniform distribution.
    """

    def __init__(self, backbone: Backbone, alpha: float = 1.0):
        """Create the head."""
        super().__init__(backbone)
        self.alpha = alpha

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the term "ce" on mixed images, see `Method.loss`."""
        weight = Beta(self.alpha, self.alpha).sample().item()
        partner = torch.randperm(len(batch.grade)).to(batch.grade.device)
        logits = self(weight * batch.image + (1 - weight) * batch.image[partner])
        own, other = (
            F.cross_entropy(logits, batch.grade),
            F.cross_entropy(logits, batch.grade[partner]),
        )
        return {"ce": weight * own + (1 - weight) * other}
