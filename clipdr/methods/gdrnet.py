"""GDRNet (Che et al., 2023): FundusAug, a dynamic hybrid-supervised loss (DahLoss), and domain-class-aware re-balancing (DCR).

FundusAug is the study's `augment: fundus` (clipdr.data.fundus_aug), which gives every photograph twice: `image` with it, `twin` without.
DCR's shares are counted on the fold's own training images (release: typed by hand, training and validation together).
"""

import torch
import torch.nn.functional as F

from clipdr import GRADES, DataError
from clipdr.methods.erm import Erm

SCALING = 4  # of the unsupervised part (release)
BASE_TEMPERATURE = 0.07  # (Khosla et al., 2020)
FEWEST = 10  # epochs (paper: 100); with fewer the one without grades takes too much of the budget to judge the method by


class GdrNet(Erm):
    """temperature  : T of the unsupervised part; .1 for DG, .01 for ESDG
    beta         : exponent of the shares in DCR;  balanced : DCR on or off
    unsupervised : DahLoss on or off; off, the loss is its supervised part from the first epoch on (for ablation)
    """

    reads = "images"

    def __init__(self, backbone, temperature=0.1, beta=0.5, balanced=True, unsupervised=True):
        super().__init__(backbone)
        self.temperature, self.beta = temperature, beta
        self.balanced, self.unsupervised = balanced, unsupervised
        self.register_buffer("alpha", torch.tensor(1.0 if unsupervised else 0.0))

    def begin(self, source):
        self.per_epoch, self.epochs = source.steps_per_epoch, source.steps / source.steps_per_epoch
        if self.unsupervised and self.epochs <= 1:
            raise DataError(
                "gdrnet: the first epoch has no supervised part, and there is no other; epochs must be more than 1"
            )
        device, beta = self.head.weight.device, self.beta if self.balanced else 0.0
        grades = source.train.grade.bincount(minlength=len(GRADES))
        domains = source.train.domain.bincount(minlength=len(source.train.domains))
        self.register_buffer("grade_weight", dcr(grades, beta).to(device), persistent=False)
        self.register_buffer("domain_weight", dcr(domains, beta).to(device), persistent=False)

    def degenerate(self, source):
        epochs = source.steps / source.steps_per_epoch
        few = self.unsupervised and epochs < FEWEST
        return f"its first epoch, {1 / epochs:.0%} of the budget, sees no grade" if few else ""

    def loss(self, batch):
        """DahLoss: L = (1 - alpha) L_sup + alpha / 4 L_unsup, the supervised part on the view with FundusAug."""
        augmented = self.image.pooled(batch.image)
        ce = F.cross_entropy(self.head(augmented), batch.grade, reduction="none")
        grade_weight, domain_weight = (
            self.grade_weight[batch.grade],
            self.domain_weight[batch.domain],
        )
        supervised = (grade_weight * domain_weight * ce).mean() / (
            grade_weight.mean() * domain_weight.mean()
        )
        parts = {"supervised": (1 - self.alpha) * supervised}
        if not self.unsupervised:
            return parts
        if batch.second_view is None:
            raise DataError(
                "gdrnet: it compares two views of a photograph: set options.gdrnet.training.augment to fundus"
            )
        original = self.image.pooled(batch.second_view)
        return parts | {
            "unsupervised": self.alpha
            / SCALING
            * two_view_loss(original, augmented, self.temperature)
        }

    def after_step(self, step):
        """alpha = 1 - e / E after epoch e: from views of one photograph alone to grades."""
        if self.unsupervised:
            self.alpha.fill_(max(0.0, 1 - step // self.per_epoch / self.epochs))


def dcr(count, beta):
    """Domain-class-aware re-balancing: weight 1 / pt, where pt is proportional to share^beta and sums to 1.

    count : (K,) training images of each grade, or of each domain;  returns (K,) float32; without an image 0, which nothing reads
    """
    share = (count / count.sum()) ** beta * (count > 0)
    return torch.where(count > 0, share.sum() / share, 0)


def two_view_loss(original, augmented, temperature):
    """L_unsup: each of the 2 B views must find the other view of its photograph among all others, by cosine (Khosla et al., 2020).

    original, augmented : (B, F) features;  returns scalar >= 0, mean over the views, times temperature / .07
    """
    z = F.normalize(torch.cat([original, augmented]), dim=1)  # (2 B, F)
    views = torch.arange(len(z), device=z.device)
    similarity = (z @ z.T / temperature).masked_fill(views[:, None] == views, float("-inf"))
    return temperature / BASE_TEMPERATURE * F.cross_entropy(similarity, views.roll(len(original)))
