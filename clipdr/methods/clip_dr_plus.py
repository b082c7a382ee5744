"""clip_dr_plus: CLIP-DR with a start by ridge regression and a slowly trained image encoder.

This method is new in this project. A linear probe on the untrained encoder is better than CLIP-DR
with any of its losses. The start of training therefore matters more than the losses. Before the
first step, a closed-form bridge moves the image embeddings towards their texts. The encoder then
trains with a tenth of the prompts' learning rate. This order, linear probe before fine-tuning,
follows Kumar et al. (2022), who show that fitting an untrained head distorts an encoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F
from torch import nn

from clipdr import GRADES
from clipdr.evaluation.metrics import METRICS
from clipdr.methods.clip_dr import ClipDr
from clipdr.models.image_tower import keep_statistics
from clipdr.models.prompts import similarity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipdr.data.loader import Rows
    from clipdr.methods.base import Source
    from clipdr.models.backbone import Backbone
    from clipdr.models.image_tower import ImageTower

CHUNK = 64  # images per forward pass of the fit


class ClipDrPlus(ClipDr):
    """CLIP-DR with embeddings z = projection(f) + bridge(f) of the pooled features f.

    The loss is that of CLIP-DR.

    Args:
        backbone: Image encoder and text encoder.
        ridges: Candidates for the strength of the ridge regression, > 0, relative to the mean
            variance of a feature. The one with the highest macro AUC on source validation is taken,
            the largest on a tie.
        pace: Learning-rate multiplier of the image encoder, relative to bridge and prompts, > 0.
        **options: Arguments of `ClipDr`.
    """

    reads = "images"
    image: ImageTower

    def __init__(
        self,
        backbone: Backbone,
        ridges: Sequence[float] = (0.1, 0.3, 1.0, 3.0, 10.0),
        pace: float = 0.1,
        **options: Any,
    ):
        """Create CLIP-DR and a bridge of zeros; `begin` fits the bridge."""
        super().__init__(backbone, **options)
        self.ridges, self.lr_multiplier = ridges, pace
        self.bridge = nn.Linear(backbone.pooled_dim, backbone.dim)
        nn.init.zeros_(self.bridge.weight)
        nn.init.zeros_(self.bridge.bias)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; batch normalisation keeps the statistics to which the bridge was fitted."""
        super().train(mode)
        keep_statistics(self.image)
        return self

    def embed(self, pooled: torch.Tensor) -> torch.Tensor:
        """Compute embeddings from pooled features: (B, F) -> (B, D)."""
        return self.image.projection(pooled) + self.bridge(pooled)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict logits, see `Method.forward`."""
        return similarity(self.embed(self.image.pooled(image)), self.prompts(), self.scale)

    def parameter_groups(self) -> dict[str, list[Any]]:
        """Return bridge and prompts, then the image encoder with its learning-rate multiplier."""
        encoder = list(self.image.parameters())
        known = set(encoder)
        rest = [
            parameter
            for parameter in self.parameters()
            if parameter.requires_grad and parameter not in known
        ]
        return {
            "main": [{"params": rest}, {"params": encoder, "lr_multiplier": self.lr_multiplier}]
        }

    @torch.no_grad()
    def begin(self, source: Source) -> None:
        """Fit the bridge and choose its ridge strength.

        The targets of an image are the directions of `grade_targets` for its grade. Every pair of
        domain and grade has the same total weight.
        """
        super().begin(source)
        self.eval()
        device, best = self.bridge.weight.device, -1.0
        train, val = self._pooled(source.train, device), self._pooled(source.val, device)
        text, grade = self.prompts(), source.train.grade.to(device)
        start = self.image.projection(train)
        target = grade_targets(text)[grade] * start.norm(dim=1).mean()
        cell = source.train.domain.to(device) * len(GRADES) + grade
        for ridge in sorted(self.ridges, reverse=True):
            weight, bias = ridge_regression(
                train.double(), target - start.double(), 1 / cell.bincount()[cell].double(), ridge
            )
            embedding = self.image.projection(val) + val @ weight.float() + bias.float()
            probability = similarity(embedding, text, self.scale).double().softmax(1)
            auc = METRICS["auc"](source.val.grade.numpy(), probability.cpu().numpy())[0]
            if auc > best:
                best, self.chosen["ridge"] = auc, ridge
                self.bridge.weight.copy_(weight.T)
                self.bridge.bias.copy_(bias)

    def _pooled(self, rows: Rows, device: torch.device) -> torch.Tensor:
        """Pooled features of all rows, (N, F) float32."""
        return torch.cat(
            [self.image.pooled(batch.image.to(device)) for batch in rows.chunks(CHUNK)]
        )


def grade_targets(text: torch.Tensor) -> torch.Tensor:
    """Compute the target direction of each grade.

    Products of a target with the centred texts fall as exp(-distance) of the grades: ordinal, with
    a clear maximum.

    Args:
        text: Text features of the grades, (5, D) float.

    Returns:
        Unit vectors, (5, D) float64.
    """
    text = F.normalize(text.double(), dim=1)
    place = torch.arange(len(GRADES), dtype=torch.float64, device=text.device)
    wanted = (-(place[:, None] - place).abs()).exp()
    wanted = wanted - wanted.mean(1, keepdim=True)
    return F.normalize(wanted @ torch.linalg.pinv(text - text.mean(0)).T, dim=1)


def ridge_regression(
    x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, ridge: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Solve weighted least squares with a ridge penalty.

    Minimises sum_i w_i |y_i - x_i A - b|^2 + ridge * s |A|^2, with weights of sum 1 and s the mean
    variance of a column of x.

    Args:
        x: (N, F) float64.
        y: (N, D) float64.
        weight: (N,) float64, any sum.
        ridge: Strength, > 0.

    Returns:
        A (F, D) and b (D,), float64.
    """
    weight = (weight / weight.sum())[:, None]
    x_mean, y_mean = (weight * x).sum(0), (weight * y).sum(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ (weight * x)
    gram.diagonal().add_(ridge * gram.diagonal().mean())
    solution = torch.linalg.solve(gram, x.T @ (weight * y))
    return solution, y_mean - x_mean @ solution
