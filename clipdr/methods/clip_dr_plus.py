"""clip_dr_plus: CLIP-DR that starts where a ridge regression can take it, and goes on gently. Our own method, not a published one.

A linear probe on the untouched tower beats CLIP-DR, whichever of its losses are on: where training starts matters more than they do. So
before the first step the images are brought to their texts in closed form, and the tower then moves a tenth as fast as the prompts (linear
probing, then fine-tuning: Kumar et al., 2022, who show how fitting an unready head distorts a tower). The rest is CLIP-DR.
"""

import torch
import torch.nn.functional as F
from torch import nn

from clipdr import GRADES
from clipdr.evaluation.metrics import METRICS
from clipdr.methods.clip_dr import ClipDr
from clipdr.models.image_tower import keep_statistics
from clipdr.models.prompts import similarity

CHUNK = 64  # images


class ClipDrPlus(ClipDr):
    """ridges : strengths of the ridge regression, relative to the mean variance of a feature; the one with the highest AUC on source
             validation is taken (the largest on a tie)
    pace   : learning rate of the image tower, relative to that of the bridge and the prompts
    """

    reads = "photograph"

    def __init__(self, backbone, ridges=(0.1, 0.3, 1.0, 3.0, 10.0), pace=0.1, **options):
        super().__init__(backbone, **options)
        self.ridges, self.pace = ridges, pace
        self.bridge = nn.Linear(backbone.pooled_dim, backbone.dim)
        nn.init.zeros_(self.bridge.weight)
        nn.init.zeros_(self.bridge.bias)

    def train(self, mode=True):
        """Batch normalisation keeps the statistics that the bridge was fitted to."""
        super().train(mode)
        keep_statistics(self.image)
        return self

    def embed(self, pooled):
        return self.image.projection(pooled) + self.bridge(pooled)

    def forward(self, image):
        return similarity(self.embed(self.image.pooled(image)), self.prompts(), self.scale)

    def parameter_groups(self):
        tower = set(self.image.parameters())
        rest = [
            parameter
            for parameter in self.parameters()
            if parameter.requires_grad and parameter not in tower
        ]
        return {
            "main": [{"params": rest}, {"params": list(self.image.parameters()), "pace": self.pace}]
        }

    @torch.no_grad()
    def begin(self, source):
        """Fit the bridge: embeddings move towards the points that are nearest to their grade's text and less near to further grades'."""
        super().begin(source)
        self.eval()
        device, best = self.bridge.weight.device, -1.0
        train, val = (
            torch.cat([self.image.pooled(part.image.to(device)) for part in rows.chunks(CHUNK)])
            for rows in (source.train, source.val)
        )
        text, grade = self.prompts(), source.train.grade.to(device)
        start = self.image.projection(train)
        goal = goals(text)[grade] * start.norm(dim=1).mean()
        cell = source.train.domain.to(device) * len(GRADES) + grade
        for ridge in sorted(self.ridges, reverse=True):
            weight, bias = ridge_regression(
                train.double(), goal - start.double(), 1 / cell.bincount()[cell].double(), ridge
            )
            embedding = self.image.projection(val) + val @ weight.float() + bias.float()
            probability = similarity(embedding, text, self.scale).double().softmax(1)
            auc = METRICS["auc"](source.val.grade.numpy(), probability.cpu().numpy())[0]
            if auc > best:
                best, self.chosen["ridge"] = auc, ridge
                self.bridge.weight.copy_(weight.T)
                self.bridge.bias.copy_(bias)


def goals(text):
    """Unit vectors (5, D) float64 whose products with the centred texts fall off as exp(-distance) of the grades: ordinal, and sharp."""
    text = F.normalize(text.double(), dim=1)
    place = torch.arange(len(GRADES), dtype=torch.float64, device=text.device)
    wanted = (-(place[:, None] - place).abs()).exp()
    wanted = wanted - wanted.mean(1, keepdim=True)
    return F.normalize(wanted @ torch.linalg.pinv(text - text.mean(0)).T, dim=1)


def ridge_regression(x, y, weight, ridge):
    """Weighted least squares with a penalty: minimise sum_i w_i |y_i - x_i A - b|^2 + ridge s |A|^2, s = mean variance of a column of x.

    x : (N, F), y : (N, D), weight : (N,) float64, any sum;  returns A (F, D), b (D,)
    """
    weight = (weight / weight.sum())[:, None]
    x_mean, y_mean = (weight * x).sum(0), (weight * y).sum(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ (weight * x)
    gram.diagonal().add_(ridge * gram.diagonal().mean())
    solution = torch.linalg.solve(gram, x.T @ (weight * y))
    return solution, y_mean - x_mean @ solution
