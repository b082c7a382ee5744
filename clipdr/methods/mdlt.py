"""MDLT / BoDA (Yang et al., 2022): alignment of a grade's features across domains.

Features are pulled to the centroids of their grade in the other domains, balanced for their counts.
Counts and centroids are those of the pairs (domain, grade) in the whole source training set.

Deviations: optimiser and batches are those of the study (release: Adam, 24 images per domain). The
start of the BoDA term, step 500 of 5000, is kept as a share of the training. Centroids are first
computed there, because nothing uses them before, and are refreshed after every epoch (release:
every 120 steps).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from clipdr import GRADES
from clipdr.methods.erm import Erm

if TYPE_CHECKING:
    from clipdr.data.loader import Batch
    from clipdr.methods.base import Source
    from clipdr.models.backbone import Backbone

CHUNK = 64  # images per forward pass of a refresh


class Mdlt(Erm):
    """ERM with two alignments of the domains.

    Loss: mean over domains of CE + macro_weight * `macro_alignment` + boda_weight * `boda_loss`. On
    one source domain both alignments vanish, and the method is degenerate.

    Args:
        backbone: Image encoder, or cached features.
        macro_weight: Weight of the alignment of means and covariances, >= 0.
        boda_weight: Weight of the BoDA term, >= 0.
        start: Share of the training before which the BoDA term is 0, 0..1.
        nu: Exponent of the ratio of the counts, >= 0.
        temperature: Temperature of the distances, > 0.
        keep: Share of the old centroid in a refreshed one, 0..1.
    """

    sampler = "domain"
    count: torch.Tensor
    centroid: torch.Tensor
    active: torch.Tensor

    def __init__(
        self,
        backbone: Backbone,
        macro_weight: float = 1.0,
        boda_weight: float = 0.1,
        start: float = 0.1,
        nu: float = 0.5,
        temperature: float = 1.0,
        keep: float = 0.2,
    ):
        """Create the head; `begin` creates counts and centroids."""
        super().__init__(backbone)
        self.macro_weight, self.boda_weight, self.start = macro_weight, boda_weight, start
        self.nu, self.temperature, self.keep = nu, temperature, keep

    def begin(self, source: Source) -> None:
        """Count the training images of each pair (domain, grade) and create the centroids."""
        self.rows, self.per_epoch = source.train, source.steps_per_epoch
        self.first = max(1, round(self.start * source.steps))
        domains, device = len(source.train.domains), self.head.weight.device
        pair = source.train.domain * len(GRADES) + source.train.grade
        count = pair.bincount(minlength=domains * len(GRADES)).float().to(device)
        self.register_buffer("count", count, persistent=False)  # (D * 5,)
        self.register_buffer(
            "centroid", torch.zeros(len(count), self.head.in_features, device=device)
        )
        self.register_buffer("active", torch.tensor(False, device=device))

    def degenerate(self, source: Source) -> str:
        """Return why the method is degenerate: one source domain."""
        one = len(source.train.domain.unique()) < 2
        return "reduces to ERM: one domain has no other to align with" if one else ""

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the terms "ce" (mean over domains), "macro" and "boda", see `Method.loss`."""
        feature = self.image.pooled(batch.image)
        ce = F.cross_entropy(self.head(feature), batch.grade, reduction="none")
        member = F.one_hot(batch.domain, len(self.count) // len(GRADES)).to(ce)  # (B, D)
        size = member.sum(0)
        pulled = boda_loss(
            feature, batch.domain, batch.grade, self.centroid, self.count, self.nu, self.temperature
        )
        return {
            "ce": (member.T @ ce / size.clamp_min(1)).sum() / (size > 0).sum(),
            "macro": self.macro_weight * macro_alignment(feature, member),
            "boda": self.boda_weight * self.active * pulled,
        }

    def after_step(self, step: int) -> None:
        """Refresh the centroids at the start of the BoDA term and after every later epoch."""
        if step == self.first or (step > self.first and step % self.per_epoch == 0):
            self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Move the centroids towards the mean features of all training images.

        The features come from a pass in evaluation mode without augmentation.
        """
        self.eval()
        total = torch.zeros_like(self.centroid)
        for chunk in self.rows.chunks(CHUNK):
            batch = chunk.to(total.device)
            pair = F.one_hot(batch.domain * len(GRADES) + batch.grade, len(total)).to(total)
            total += pair.T @ self.image.pooled(batch.image)
        mean = total / self.count.clamp_min(1)[:, None]
        self.centroid.copy_(
            torch.where(self.active, torch.lerp(mean, self.centroid, self.keep), mean)
        )
        self.active.fill_(True)


def boda_loss(
    feature: torch.Tensor,
    domain: torch.Tensor,
    grade: torch.Tensor,
    centroid: torch.Tensor,
    count: torch.Tensor,
    nu: float = 0.5,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Compute balanced domain-class distribution alignment (Yang et al., 2022, eq. 5-7).

    For image i of pair (d, c) and the non-empty pairs p:

    - z_p = -||f_i - mu_p|| / N_dc * (N_p / N_dc)^nu / temperature.
    - log P_p = z_p - log sum of exp z over all pairs but its own.

    Args:
        feature: (B, F) float.
        domain: (B,) int64, index of the source domain.
        grade: (B,) int64, 0..4.
        centroid: (D * 5, F) float, row = domain * 5 + grade.
        count: Training images of each pair, (D * 5,) float; 0 leaves a pair out.
        nu: Exponent of the ratio of the counts.
        temperature: Temperature of the distances.

    Returns:
        Scalar: -mean of log P over all (i, pair of its grade in another domain); 0 if there is
        none.
    """
    pair = torch.arange(len(count), device=count.device)
    own = domain * len(GRADES) + grade
    size = count[own][:, None]  # (B, 1)
    distance = torch.cdist(
        feature, centroid, compute_mode="donot_use_mm_for_euclid_dist"
    )  # (B, D * 5)
    z = -distance / size * (count / size) ** nu / temperature
    other = (count > 0) & (pair != own[:, None])
    positive = other & (pair % len(GRADES) == grade[:, None])
    log_p = z - z.masked_fill(~other, float("-inf")).logsumexp(1, keepdim=True)
    return -torch.where(positive, log_p, 0).sum() / positive.sum().clamp_min(1)


def macro_alignment(feature: torch.Tensor, member: torch.Tensor) -> torch.Tensor:
    """Compute the distance of the domains' feature means and covariances.

    It is the mean over the pairs of domains of the mean squared difference of their means plus that
    of their covariances. The covariances C (F, F) are never formed. The sum of C_d * C_e equals the
    sum of squared inner products of the centred rows, over (n_d - 1)(n_e - 1).

    Args:
        feature: (B, F) float.
        member: One-hot domains, (B, D) float. Domains with fewer than two images are left out.

    Returns:
        Scalar >= 0; 0 for one domain.
    """
    size = member.sum(0)
    mean = member.T @ feature / size.clamp_min(1)[:, None]  # (D, F)
    centred = feature - member @ mean
    scaled = member / (size - 1).clamp_min(1)
    product = scaled.T @ (centred @ centred.T).square() @ scaled  # (D, D)
    own = product.diagonal()
    means = (mean[:, None] - mean).square().mean(2)
    covariances = (own[:, None] + own - 2 * product) / feature.shape[1] ** 2
    enough = size >= 2
    pairs = (enough[:, None] & enough).triu(1)
    return torch.where(pairs, means + covariances, 0).sum() / pairs.sum().clamp_min(1)
