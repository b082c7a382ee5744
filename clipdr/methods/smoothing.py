"""Similarity Matrix Smoothing of CLIP-DR (Yu et al., 2024): similarities (B, 5) and grades (B,) -> smoothed similarities in training."""

import torch
import torch.nn.functional as F
from torch import nn

from clipdr import GRADES, DataError

RADIUS, SIGMA = 2, 2.0  # of the smoothing kernel over grades
MOMENTUM = 0.9  # of the running statistics
RATIO = (0.5, 2.0)  # bounds of a variance ratio
FLAT = 1e-10  # a column with less variance is not rescaled


class Smoother(nn.Module):
    """Similarity Matrix Smoothing of CLIP-DR: the statistics of the similarity rows of a grade move towards those of its neighbours.

    With c the grade of row S_i:   S~_i = (S_i - mean0[c]) * sqrt(clip(var_s[c] / var0[c], .5, 2)) + mean_s[c]
    where mean0, var0 are the running statistics at the start of the epoch and mean_s, var_s are these smoothed over the grades (feature
    distribution smoothing, Yang et al., 2021, on diagonal covariances). The first epoch is untouched. In training only; its state is
    saved with the weights.

    padding : "reflect" | "renormalise" (kernel rows cut at the ends and divided by their sum)
    """

    def __init__(self, padding="reflect"):
        super().__init__()
        grades = len(GRADES)
        self.register_buffer("kernel", kernel(padding), persistent=False)
        for name, start in (
            ("mean", 0.0),
            ("var", 1.0),
            ("mean0", 0.0),
            ("var0", 1.0),
            ("mean_s", 0.0),
            ("var_s", 1.0),
        ):
            self.register_buffer(
                name, torch.full((grades, grades), start)
            )  # row = grade, column = text
        for name in ("has_mean", "has_var", "usable"):
            self.register_buffer(name, torch.zeros(grades, dtype=torch.bool))
        self.register_buffer("active", torch.tensor(False))

    def start_epoch(self):
        """Freeze the running statistics for the coming epoch and smooth them over the grades seen; others are in no kernel row."""
        self.mean0.copy_(self.mean)
        self.var0.copy_(self.var)
        self.usable.copy_(self.has_mean & self.has_var)
        weight = self.kernel * self.usable
        weight = weight / weight.sum(1, keepdim=True).clamp_min(FLAT)
        self.mean_s.copy_(weight @ self.mean0)
        self.var_s.copy_(weight @ self.var0)
        self.active.fill_(True)

    @torch.no_grad()
    def update(self, similarity, grade):
        """Running mean and unbiased variance of the rows of each grade in the batch: (B, 5), (B,)."""
        member = F.one_hot(grade, len(GRADES)).to(similarity.dtype)  # (B, 5)
        count = member.sum(0)[:, None]  # (5, 1)
        mean = member.T @ similarity / count.clamp_min(1)
        squares = member.T @ (similarity - mean[grade]).square()
        var = squares / (count - 1).clamp_min(1)
        for name, new, enough in (("mean", mean, count[:, 0] >= 1), ("var", var, count[:, 0] >= 2)):
            old, seen = getattr(self, name), getattr(self, f"has_{name}")
            blended = torch.where(seen[:, None], MOMENTUM * old + (1 - MOMENTUM) * new, new)
            old.copy_(torch.where(enough[:, None], blended, old))
            seen.logical_or_(enough)

    def forward(self, similarity, grade):
        """(B, 5) float32, (B,) -> (B, 5), out of place; the statistics are constants for the gradient."""
        self.update(similarity.detach(), grade)
        ratio = (self.var_s / self.var0.clamp_min(FLAT)).clamp(*RATIO)
        factor = torch.where(self.var0 <= FLAT, 1.0, ratio).sqrt()[grade]
        smoothed = (similarity - self.mean0[grade]) * factor + self.mean_s[grade]
        return torch.where((self.active & self.usable[grade])[:, None], smoothed, similarity)


def kernel(padding):
    """(5, 5) Gaussian weights over the grades, rows sum to 1; weights beyond the ends are reflected (without the border) or left out."""
    grades = len(GRADES)
    weight = torch.exp(-(torch.arange(-RADIUS, RADIUS + 1.0) ** 2) / (2 * SIGMA**2))
    weight = weight / weight.sum()
    matrix = torch.zeros(grades, grades)
    for row in range(grades):
        for offset, value in zip(range(-RADIUS, RADIUS + 1), weight, strict=True):
            column = row + offset
            if padding == "reflect":
                column = abs(column) if column < grades else 2 * (grades - 1) - column
            elif padding != "renormalise":
                raise DataError(
                    f"clip_dr: padding {padding!r} is unknown; use reflect or renormalise"
                )
            if 0 <= column < grades:
                matrix[row, column] += value
    return matrix / matrix.sum(1, keepdim=True)
