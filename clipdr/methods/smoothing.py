"""Similarity matrix smoothing of CLIP-DR (Yu et al., 2024), used in training only.

Input: similarities (B, 5) and grades (B,). Output: smoothed similarities (B, 5).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from clipdr import GRADES, DataError

RADIUS, SIGMA = 2, 2.0  # radius and standard deviation of the Gaussian kernel, in grades
MOMENTUM = 0.9  # of the running statistics
RATIO = (0.5, 2.0)  # bounds of a ratio of variances
FLAT = 1e-10  # a column with less variance is not rescaled


class Smoother(nn.Module):
    """Smoothing that moves the statistics of a grade's rows towards those of its neighbours.

    With c the grade of row S_i: S~_i = (S_i - mean0[c]) * sqrt(clip(var_s[c] / var0[c], 0.5, 2)) +
    mean_s[c]. mean0 and var0 are the running statistics at the start of the epoch. mean_s and var_s
    are these, smoothed over the grades (feature distribution smoothing, Yang et al., 2021, with
    diagonal covariances). The first epoch is unchanged. The state is saved with the weights.

    Args:
        padding: Treatment of the kernel beyond the first and last grade, see `smoothing_kernel`.
    """

    kernel: torch.Tensor
    mean: torch.Tensor
    var: torch.Tensor
    mean0: torch.Tensor
    var0: torch.Tensor
    mean_s: torch.Tensor
    var_s: torch.Tensor
    has_mean: torch.Tensor
    has_var: torch.Tensor
    usable: torch.Tensor
    active: torch.Tensor

    def __init__(self, padding: str = "reflect"):
        """Create the statistics; rows are grades, columns are texts."""
        super().__init__()
        grades = len(GRADES)
        self.register_buffer("kernel", smoothing_kernel(padding), persistent=False)
        for name, start in (
            ("mean", 0.0),
            ("var", 1.0),
            ("mean0", 0.0),
            ("var0", 1.0),
            ("mean_s", 0.0),
            ("var_s", 1.0),
        ):
            self.register_buffer(name, torch.full((grades, grades), start))
        for name in ("has_mean", "has_var", "usable"):
            self.register_buffer(name, torch.zeros(grades, dtype=torch.bool))
        self.register_buffer("active", torch.tensor(False))

    def start_epoch(self) -> None:
        """Freeze the running statistics for the next epoch and smooth them.

        A grade without mean and variance so far is left out of every kernel row.
        """
        self.mean0.copy_(self.mean)
        self.var0.copy_(self.var)
        self.usable.copy_(self.has_mean & self.has_var)
        weight = self.kernel * self.usable
        weight = weight / weight.sum(1, keepdim=True).clamp_min(FLAT)
        self.mean_s.copy_(weight @ self.mean0)
        self.var_s.copy_(weight @ self.var0)
        self.active.fill_(True)

    @torch.no_grad()
    def update(self, similarity: torch.Tensor, grade: torch.Tensor) -> None:
        """Update the running mean and unbiased variance of each grade in the batch.

        Args:
            similarity: (B, 5) float32.
            grade: (B,) int64, 0..4.
        """
        member = F.one_hot(grade, len(GRADES)).to(similarity.dtype)  # (B, 5)
        count = member.sum(0)[:, None]  # (5, 1)
        mean = member.T @ similarity / count.clamp_min(1)
        squares = member.T @ (similarity - mean[grade]).square()
        var = squares / (count - 1).clamp_min(1)
        for name, new, enough in (("mean", mean, count[:, 0] >= 1), ("var", var, count[:, 0] >= 2)):
            old, started = getattr(self, name), getattr(self, f"has_{name}")
            blended = torch.where(started[:, None], MOMENTUM * old + (1 - MOMENTUM) * new, new)
            old.copy_(torch.where(enough[:, None], blended, old))
            started.logical_or_(enough)

    def forward(self, similarity: torch.Tensor, grade: torch.Tensor) -> torch.Tensor:
        """Update the statistics and smooth a batch; the statistics are constants for the gradient.

        Args:
            similarity: (B, 5) float32.
            grade: (B,) int64, 0..4.

        Returns:
            (B, 5) float32, a new tensor.
        """
        self.update(similarity.detach(), grade)
        ratio = (self.var_s / self.var0.clamp_min(FLAT)).clamp(*RATIO)
        factor = torch.where(self.var0 <= FLAT, 1.0, ratio).sqrt()[grade]
        smoothed = (similarity - self.mean0[grade]) * factor + self.mean_s[grade]
        return torch.where((self.active & self.usable[grade])[:, None], smoothed, similarity)


def smoothing_kernel(padding: str) -> torch.Tensor:
    """Compute Gaussian weights over the grades.

    Args:
        padding: "reflect" mirrors weights beyond the ends (without the border). "renormalise"
            leaves them out and divides a row by its sum.

    Returns:
        (5, 5) float32; rows sum to 1.

    Raises:
        DataError: If the padding is unknown.
    """
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
                    f"clip_dr: padding {padding!r} is unknown. Use reflect or renormalise."
                )
            if 0 <= column < grades:
                matrix[row, column] += value
    return matrix / matrix.sum(1, keepdim=True)
