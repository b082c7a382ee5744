"""Mixup (Zhang et al., 2018): ERM on convex combinations of two images, with the same combination of their losses."""

import torch
import torch.nn.functional as F
from torch.distributions import Beta

from clipdr.methods.erm import Erm


class Mixup(Erm):
    """alpha: both parameters of the Beta distribution of the mixing weight, drawn once per batch."""

    def __init__(self, backbone, alpha=1.0):
        super().__init__(backbone)
        self.alpha = alpha

    def loss(self, batch):
        weight = Beta(self.alpha, self.alpha).sample().item()
        partner = torch.randperm(len(batch.grade)).to(batch.grade.device)
        logits = self(weight * batch.image + (1 - weight) * batch.image[partner])
        own, other = (
            F.cross_entropy(logits, batch.grade),
            F.cross_entropy(logits, batch.grade[partner]),
        )
        return {"ce": weight * own + (1 - weight) * other}
