"""Fishr (Rame et al., 2022): ERM with equal variances of the gradients in all source domains.

The gradients are those of the loss with respect to the linear head. Deviation from DomainBed: the
start of the penalty, step 1500 of 5000, is kept as a share of the training.

Two faults of the code of GDRBench are not repeated. It puts all sources into one group, so that its
penalty is always 0; here, as in DomainBed, every batch has an equal share of each source. It
creates a new optimiser that its schedule no longer updates, so that its learning rate never falls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F

from clipdr import GRADES, DataError
from clipdr.methods.erm import Erm

if TYPE_CHECKING:
    from clipdr.data.loader import Batch
    from clipdr.methods.base import Source
    from clipdr.models.backbone import Backbone


class Fishr(Erm):
    """ERM with a penalty: cross-entropy + weight * mean_d |u_d - mean(u)|^2.

    u_d is the running variance of the per-image gradients of domain d, entry by entry. Batch
    normalisation is frozen. On one source domain the penalty is 0, and the method is degenerate.

    Args:
        backbone: Image encoder, or cached features.
        weight: Weight of the penalty, >= 0; 0 is the control, ERM with frozen batch normalisation.
        start: Share of the training before which the weight is 0, 0..1. There the optimiser state
            is reset.
        ema: Momentum of the running variance of each domain, 0..1.
    """

    sampler = "domain"
    variance: torch.Tensor
    active: torch.Tensor

    def __init__(
        self, backbone: Backbone, weight: float = 1000.0, start: float = 0.3, ema: float = 0.95
    ):
        """Create the head; `begin` creates the running variances."""
        super().__init__(backbone)
        self.weight, self.start, self.ema = weight, start, ema

    def begin(self, source: Source) -> None:
        """Create the running variances, (domains, parameters of the head), and the start step."""
        self.first = round(self.start * source.steps)
        entries = sum(parameter.numel() for parameter in self.head.parameters())
        device = self.head.weight.device
        self.register_buffer(
            "variance", torch.zeros(len(source.train.domains), entries, device=device)
        )
        self.register_buffer("active", torch.tensor(float(self.first == 0), device=device))

    def degenerate(self, source: Source) -> str:
        """Return why the method is degenerate: one source domain."""
        one = len(source.train.domain.unique()) < 2
        return "reduces to ERM with frozen BatchNorm" if one else ""

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the head; batch normalisation and dropout of the image encoder stay off.

        Otherwise the gradient of an image would depend on the rest of the batch.
        """
        super().train(mode)
        self.image.eval()
        return self

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the terms "ce" and "fishr", see `Method.loss`."""
        feature = self.image.pooled(batch.image)
        logits = self.head(feature)
        penalty = self.penalty(head_gradients(feature, logits, batch.grade), batch.domain)
        return {
            "ce": F.cross_entropy(logits, batch.grade),
            "fishr": self.weight * self.active * penalty,
        }

    def penalty(self, gradient: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
        """Update the running variances and compute their mean squared distance from their mean.

        Domains with fewer than two images in the batch are left out.

        Args:
            gradient: Gradients of each image, (B, P) float.
            domain: (B,) int64, index of the source domain.

        Returns:
            Scalar >= 0; 0 for one domain.

        Raises:
            DataError: If there are several domains with one image each, whose variances are
                undefined.
        """
        new, count = domain_variance(gradient, domain, len(self.variance))
        if len(domain) < 2 * len(self.variance) and len(domain.unique()) > 1 and count.max() < 2:
            raise DataError(
                "fishr: a batch has one image per domain. "
                "Set batch_size to at least twice the number of source domains."
            )
        present = (count >= 2).to(gradient)[:, None]  # (D, 1)
        running = torch.lerp(new, self.variance, self.ema)
        self.variance.copy_(torch.where(present > 0, running.detach(), self.variance))
        # as in DomainBed: the gradient is that of the batch's own variance
        running = running / (1 - self.ema)
        mean = (running * present).sum(0) / present.sum().clamp_min(1)
        return (
            (running - mean).square().mean(1, keepdim=True) * present
        ).sum() / present.sum().clamp_min(1)

    def after_step(self, step: int) -> None:
        """Switch the penalty on after its first steps."""
        self.active.fill_(float(step >= self.first))

    def restarts(self, step: int) -> bool:
        """Return whether the penalty starts after this step."""
        return step == self.first


def head_gradients(
    feature: torch.Tensor, logits: torch.Tensor, grade: torch.Tensor
) -> torch.Tensor:
    """Compute the gradient of each image's cross-entropy for a linear head, in closed form.

    Args:
        feature: (B, F) float.
        logits: Output of the head, (B, 5) float.
        grade: (B,) int64, 0..4.

    Returns:
        Gradients of weight, then bias, (B, 5 F + 5) float, differentiable.
    """
    residual = logits.softmax(1) - F.one_hot(grade, len(GRADES))  # (B, 5)
    return torch.cat([(residual[:, :, None] * feature[:, None, :]).flatten(1), residual], 1)


def domain_variance(
    gradient: torch.Tensor, domain: torch.Tensor, domains: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the biased variance of the gradients of each domain, entry by entry.

    Args:
        gradient: Gradients of each image, (B, P) float.
        domain: (B,) int64, index of the domain.
        domains: Number D of domains.

    Returns:
        Variances (D, P) and numbers of images (D,), both float.
    """
    member = F.one_hot(domain, domains).to(gradient)  # (B, D)
    count = member.sum(0)
    share = (member / count.clamp_min(1)).T  # (D, B)
    mean = share @ gradient
    return share @ (gradient - mean[domain]).square(), count
