"""Fishr (Rame et al., 2022): ERM whose gradients with respect to the linear head vary alike in all source domains.

Deviations: DomainBed's start of the penalty, step 1500 of 5000, is kept as a share of the training. Not repeated from GDRBench: all sources
are one group there, so that the penalty is always 0 (here every batch has an equal share of each, as in DomainBed), and the optimiser that
starts anew escapes its schedule, so that the rate never falls.
"""

import torch
import torch.nn.functional as F

from clipdr import GRADES, DataError
from clipdr.methods.erm import Erm


class Fishr(Erm):
    """weight : of the penalty; 0 is ERM with frozen BatchNorm, the control
    start  : share of the training before which the weight is 0; there the optimiser forgets its state
    ema    : of the running variance of each domain
    """

    sampler = "domain"

    def __init__(self, backbone, weight=1000.0, start=0.3, ema=0.95):
        super().__init__(backbone)
        self.weight, self.start, self.ema = weight, start, ema

    def begin(self, source):
        self.first = round(self.start * source.steps)
        entries = sum(parameter.numel() for parameter in self.head.parameters())
        device = self.head.weight.device
        self.register_buffer(
            "variance", torch.zeros(len(source.train.domains), entries, device=device)
        )  # running, of each domain
        self.register_buffer("active", torch.tensor(float(self.first == 0), device=device))

    def degenerate(self, source):
        return "= ERM with frozen BatchNorm" if len(source.train.domain.unique()) < 2 else ""

    def train(self, mode=True):
        """BatchNorm of the image tower is frozen, and its dropout off: per-image gradients would depend on the rest of the batch."""
        super().train(mode)
        self.image.eval()
        return self

    def loss(self, batch):
        feature = self.image.pooled(batch.image)
        logits = self.head(feature)
        penalty = self.penalty(head_gradients(feature, logits, batch.grade), batch.domain)
        return {
            "ce": F.cross_entropy(logits, batch.grade),
            "fishr": self.weight * self.active * penalty,
        }

    def penalty(self, gradient, domain):
        """Mean squared distance of the domains' running variances from their mean: (B, P), (B,) -> scalar.

        Domains with fewer than two images in the batch are left out; of one domain it is 0. Raises DataError where several domains have
        one image each: their variances say nothing.
        """
        new, count = domain_variance(gradient, domain, len(self.variance))
        if len(domain) < 2 * len(self.variance) and len(domain.unique()) > 1 and count.max() < 2:
            raise DataError(
                "fishr: one image per domain in a batch; batch_size must be at least twice the number of source domains"
            )
        present = (count >= 2).to(gradient)[:, None]  # (D, 1)
        running = torch.lerp(new, self.variance, self.ema)
        self.variance.copy_(torch.where(present > 0, running.detach(), self.variance))
        running = running / (
            1 - self.ema
        )  # of DomainBed: the gradient is that of the batch's own variance
        mean = (running * present).sum(0) / present.sum().clamp_min(1)
        return (
            (running - mean).square().mean(1, keepdim=True) * present
        ).sum() / present.sum().clamp_min(1)

    def after_step(self, step):
        self.active.fill_(float(step >= self.first))

    def restarts(self, step):
        return step == self.first


def head_gradients(feature, logits, grade):
    """Gradient of each image's cross-entropy with respect to weight and bias of a linear head, in closed form.

    feature : (B, F);  logits : (B, K) = head(feature);  grade : (B,);  returns (B, K F + K), differentiable
    """
    residual = logits.softmax(1) - F.one_hot(grade, len(GRADES))  # (B, K)
    return torch.cat([(residual[:, :, None] * feature[:, None, :]).flatten(1), residual], 1)


def domain_variance(gradient, domain, domains):
    """Variance (biased) of the gradients of each domain, entry by entry, and its images: (B, P), (B,) -> (D, P), (D,)."""
    member = F.one_hot(domain, domains).to(gradient)  # (B, D)
    count = member.sum(0)
    share = (member / count.clamp_min(1)).T  # (D, B)
    mean = share @ gradient
    return share @ (gradient - mean[domain]).square(), count
