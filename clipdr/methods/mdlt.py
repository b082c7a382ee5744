"""MDLT / BoDA (Yang et al., 2022): features of a grade are pulled to its centroids in the other domains, balanced for their counts.

The counts and centroids are those of the pairs (domain, grade) of the whole source training set.

Deviations: the release's own optimiser (Adam) and batches (24 per domain) are those of the study; its start of the BoDA term, step 500 of
5000, is kept as a share of the training; centroids are first computed there (before, nothing reads them) and refreshed after every epoch
(release: every 120 steps).
"""

import torch
import torch.nn.functional as F

from clipdr import GRADES
from clipdr.methods.erm import Erm

CHUNK = 64  # images per forward pass of a refresh


class Mdlt(Erm):
    """macro_weight, boda_weight : of the two alignments;  start : share of the training before which the second is 0
    nu          : exponent of the ratio of the counts;  temperature : of the distances
    keep        : share of the old centroid in a refreshed one
    """

    sampler = "domain"

    def __init__(
        self,
        backbone,
        macro_weight=1.0,
        boda_weight=0.1,
        start=0.1,
        nu=0.5,
        temperature=1.0,
        keep=0.2,
    ):
        super().__init__(backbone)
        self.macro_weight, self.boda_weight, self.start = macro_weight, boda_weight, start
        self.nu, self.temperature, self.keep = nu, temperature, keep

    def begin(self, source):
        self.rows, self.per_epoch = source.train, source.steps_per_epoch
        self.first = max(1, round(self.start * source.steps))
        domains, device = len(source.train.domains), self.head.weight.device
        pair = source.train.domain * len(GRADES) + source.train.grade
        count = pair.bincount(minlength=domains * len(GRADES)).float().to(device)
        self.register_buffer(
            "count", count, persistent=False
        )  # (D * 5,) training images of each pair
        self.register_buffer(
            "centroid", torch.zeros(len(count), self.head.in_features, device=device)
        )
        self.register_buffer("active", torch.tensor(False, device=device))

    def degenerate(self, source):
        return (
            "= ERM: one domain, nothing to align" if len(source.train.domain.unique()) < 2 else ""
        )

    def loss(self, batch):
        feature = self.image.pooled(batch.image)
        ce = F.cross_entropy(self.head(feature), batch.grade, reduction="none")
        member = F.one_hot(batch.domain, len(self.count) // len(GRADES)).to(ce)  # (B, D)
        size = member.sum(0)
        pulled = boda(
            feature, batch.domain, batch.grade, self.centroid, self.count, self.nu, self.temperature
        )
        return {
            "ce": (member.T @ ce / size.clamp_min(1)).sum()
            / (size > 0).sum(),  # mean of the domains' means
            "macro": self.macro_weight * macro_alignment(feature, member),
            "boda": self.boda_weight * self.active * pulled,
        }

    def after_step(self, step):
        if step == self.first or (step > self.first and step % self.per_epoch == 0):
            self.refresh()

    @torch.no_grad()
    def refresh(self):
        """Move the centroids to the features' means over all training images, by a pass without augmentation in evaluation mode."""
        self.eval()
        total = torch.zeros_like(self.centroid)
        for batch in self.rows.chunks(CHUNK):
            batch = batch.to(total.device)
            pair = F.one_hot(batch.domain * len(GRADES) + batch.grade, len(total)).to(total)
            total += pair.T @ self.image.pooled(batch.image)
        mean = total / self.count.clamp_min(1)[:, None]
        self.centroid.copy_(
            torch.where(self.active, torch.lerp(mean, self.centroid, self.keep), mean)
        )
        self.active.fill_(True)


def boda(feature, domain, grade, centroid, count, nu=0.5, temperature=1.0):
    """Balanced domain-class distribution alignment (Yang et al., 2022, eq. 5-7): how far images are from their grade in other domains.

    For image i of pair (d, c): z_p = -||f_i - mu_p|| / N_dc * (N_p / N_dc)^nu / temperature over the non-empty pairs p, and
    log P_p = z_p - log sum of exp z over all pairs but its own.

    feature  : (B, F);  domain, grade : (B,) int64
    centroid : (D * 5, F), row = domain * 5 + grade;  count : (D * 5,) training images, 0 leaves a pair out
    returns    -mean of log P over all (i, other domain's pair of its grade); 0 where there is none
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


def macro_alignment(feature, member):
    """Mean over the pairs of domains of the mean squared difference of their feature means plus that of their covariances.

    feature : (B, F);  member : (B, D) float, one-hot domains; those with fewer than two images are left out
    returns   scalar, 0 for one domain

    The covariances (F, F) are never formed: sum of C_d * C_e = sum of squared inner products of their centred rows / (n_d-1)(n_e-1).
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
