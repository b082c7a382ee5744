"""GDRNet (Che et al., 2023): FundusAug, hybrid-supervised loss (DahLoss), re-balancing (DCR).

FundusAug is the setting `augment: fundus` (`clipdr.data.fundus_aug`). It returns every image twice:
`image` with it, and `second_view` without. Deviation: the shares of DCR are counted on the fold's
own training images (release: typed by hand, for training and validation together).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from clipdr import GRADES, DataError
from clipdr.methods.erm import Erm

if TYPE_CHECKING:
    from clipdr.data.loader import Batch
    from clipdr.methods.base import Source
    from clipdr.models.backbone import Backbone
    from clipdr.models.image_tower import ImageTower

SCALING = 4  # divisor of the unsupervised term, as in the release
BASE_TEMPERATURE = 0.07  # of supervised contrastive learning (Khosla et al., 2020)
# Epochs below which the method is degenerate (paper: 100 epochs). The first one uses no grades, and
# its share of a short training is too large to judge the method.
MIN_EPOCHS = 10


class GdrNet(Erm):
    """ERM with DahLoss: L = (1 - a) L_sup + a / 4 L_unsup.

    L_sup is the weighted cross-entropy of the view with FundusAug. L_unsup is `two_view_loss`. The
    share a is 1 - e / E after epoch e of E, so that the first epoch uses no grades. With fewer than
    10 epochs the method is degenerate.

    Args:
        backbone: Image encoder.
        temperature: Temperature T of L_unsup, > 0; 0.1 for DG, 0.01 for ESDG.
        beta: Exponent of the shares in DCR, 0..1; 0 means equal weights.
        balanced: Whether DCR is used.
        unsupervised: Whether L_unsup is used. Without it the loss is L_sup from the first epoch on
            (ablation).
    """

    reads = "images"
    image: ImageTower
    alpha: torch.Tensor
    grade_weight: torch.Tensor
    domain_weight: torch.Tensor

    def __init__(
        self,
        backbone: Backbone,
        temperature: float = 0.1,
        beta: float = 0.5,
        balanced: bool = True,
        unsupervised: bool = True,
    ):
        """Create the head; `begin` computes the weights."""
        super().__init__(backbone)
        self.temperature, self.beta = temperature, beta
        self.balanced, self.unsupervised = balanced, unsupervised
        self.register_buffer("alpha", torch.tensor(1.0 if unsupervised else 0.0))

    def begin(self, source: Source) -> None:
        """Compute the DCR weights of grades and domains.

        Raises:
            DataError: If the training has one epoch or less, which would use no grades.
        """
        self.per_epoch, self.epochs = source.steps_per_epoch, source.steps / source.steps_per_epoch
        if self.unsupervised and self.epochs <= 1:
            raise DataError(
                "gdrnet: the first epoch uses no grades, and there is no other. "
                "Set epochs to more than 1."
            )
        device, beta = self.head.weight.device, self.beta if self.balanced else 0.0
        grades = source.train.grade.bincount(minlength=len(GRADES))
        domains = source.train.domain.bincount(minlength=len(source.train.domains))
        self.register_buffer("grade_weight", dcr_weights(grades, beta).to(device), persistent=False)
        self.register_buffer(
            "domain_weight", dcr_weights(domains, beta).to(device), persistent=False
        )

    def degenerate(self, source: Source) -> str:
        """Return why the method is degenerate: the epoch without grades is a large share."""
        epochs = source.steps / source.steps_per_epoch
        few = self.unsupervised and epochs < MIN_EPOCHS
        return f"the first epoch, {1 / epochs:.0%} of the budget, uses no grades" if few else ""

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the terms "supervised" and "unsupervised" of DahLoss, see `Method.loss`.

        Raises:
            DataError: If the batch has no second view.
        """
        augmented = self.image.pooled(batch.image)
        ce = F.cross_entropy(self.head(augmented), batch.grade, reduction="none")
        grade_weight, domain_weight = (
            self.grade_weight[batch.grade],
            self.domain_weight[batch.domain],
        )
        supervised = (grade_weight * domain_weight * ce).mean() / (
            grade_weight.mean() * domain_weight.mean()
        )
        terms = {"supervised": (1 - self.alpha) * supervised}
        if not self.unsupervised:
            return terms
        if batch.second_view is None:
            raise DataError(
                "gdrnet: the loss compares two views of an image, but the batch has one. "
                "Set options.gdrnet.training.augment to fundus."
            )
        original = self.image.pooled(batch.second_view)
        return terms | {
            "unsupervised": self.alpha
            / SCALING
            * two_view_loss(original, augmented, self.temperature)
        }

    def after_step(self, step: int) -> None:
        """Set a = 1 - e / E after epoch e of E."""
        if self.unsupervised:
            self.alpha.fill_(max(0.0, 1 - step // self.per_epoch / self.epochs))


def dcr_weights(count: torch.Tensor, beta: float) -> torch.Tensor:
    """Compute the weights of domain-class-aware re-balancing (DCR).

    The weight is 1 / pt, where pt is proportional to share^beta and sums to 1.

    Args:
        count: Training images of each grade, or of each domain, (K,) int64.
        beta: Exponent, 0..1.

    Returns:
        (K,) float32; 0, which is never used, for a group without an image.
    """
    share = (count / count.sum()) ** beta * (count > 0)
    return torch.where(count > 0, share.sum() / share, 0)


def two_view_loss(
    original: torch.Tensor, augmented: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Compute L_unsup, the contrastive loss of two views.

    Each of the 2 B views has to find the other view of its image among all others. It is the
    contrastive loss of Khosla et al. (2020) on cosines, with one positive per view.

    Args:
        original: Features of the plain views, (B, F) float.
        augmented: Features of the views with FundusAug, (B, F) float.
        temperature: Temperature T, > 0.

    Returns:
        Scalar >= 0, mean over the views, times T / 0.07.
    """
    z = F.normalize(torch.cat([original, augmented]), dim=1)  # (2 B, F)
    views = torch.arange(len(z), device=z.device)
    similarity = (z @ z.T / temperature).masked_fill(views[:, None] == views, float("-inf"))
    return temperature / BASE_TEMPERATURE * F.cross_entropy(similarity, views.roll(len(original)))
