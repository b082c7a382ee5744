"""Losses of CLIP-DR (Yu et al., 2024): ranking loss and text-to-image KL divergence.

Both are pure functions of a similarity matrix (B, 5) and grades (B,), in float32 or float64. A
similarity is the cosine of image and text times the scale of CLIP (about 100). The cross-entropy
from image to text is torch's own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from clipdr import DataError

DIRECTIONS = {"both": (1, -1), "right": (1,), "left": (-1,)}
# log-weight of a grade's images over the other images in the target (the released code uses e^10)
SOFTENING = 10.0


def ranking_loss(
    similarity: torch.Tensor,
    grade: torch.Tensor,
    max_rank: int = 3,
    directions: str = "both",
    mask: str = "pairwise",
) -> torch.Tensor:
    """Compute the neighbour ranking loss of CLIP-DR (Yu et al., 2024).

    For every rank r and direction, two grades are compared. The grade r - 1 steps from the true one
    must have a higher similarity than the grade r steps away. With the nearer grade a and the
    further grade b, an image contributes softplus(S[b] - S[a]) under the mask "pairwise".

    Args:
        similarity: (B, K) float, cosine times the scale of CLIP.
        grade: (B,) int64, 0..K-1.
        max_rank: Largest rank, 0..K-1; 0 switches the loss off.
        directions: "both", "right" (towards higher grades) or "left".
        mask: "pairwise" leaves the other grades out (deviation from the release). "zero" sets them
            to 0, as the released code does: -log softmax over a, b and zeros, also where b does not
            exist.

    Returns:
        Scalar: sum over ranks and directions, mean over all B images, including those without a
        neighbour at distance r.

    Raises:
        DataError: If an option is unknown or out of range.
    """
    if directions not in DIRECTIONS or mask not in ("pairwise", "zero"):
        raise DataError(
            f"ranking loss: directions {directions!r} or mask {mask!r} is unknown. "
            "Use both, left or right, and pairwise or zero."
        )
    batch, grades = similarity.shape
    if not 0 <= max_rank < grades:
        raise DataError(
            f"ranking loss: max_rank {max_rank} is out of range. Use a value in 0..{grades - 1}."
        )
    if max_rank == 0:
        return similarity.sum() * 0.0
    # (P,) one entry per (direction, rank); (B, P) the nearer and the further grade
    step = torch.tensor(
        [d * r for d in DIRECTIONS[directions] for r in range(1, max_rank + 1)], device=grade.device
    )
    further = grade[:, None] + step
    nearer = further - step.sign()
    has_near, has_far = (nearer >= 0) & (nearer < grades), (further >= 0) & (further < grades)
    near = similarity.gather(1, nearer.clamp(0, grades - 1))
    far = similarity.gather(1, further.clamp(0, grades - 1))
    if mask == "pairwise":
        return (F.softplus(far - near) * has_far).sum() / batch
    # zero: the row holds near, far (or 0) and K - 2 zeros; -log softmax at the nearer grade
    zero = torch.zeros_like(near)
    rest = torch.full_like(near, grades - 2).log()
    row = torch.stack([near, torch.where(has_far, far, zero), zero + rest])
    return ((row.logsumexp(0) - near) * has_near).sum() / batch


def text_to_image_kl(similarity: torch.Tensor, grade: torch.Tensor) -> torch.Tensor:
    """Compute the KL divergence of the images of each grade from its text.

    It is the second term of OrdinalCLIP (Li et al., 2022) and CLIP-DR (Yu et al., 2024). For every
    grade in the batch it computes KL(q || p). p is the softmax of its column over the batch. q is
    the softmax of 10 at the grade's images and 0 elsewhere.

    Args:
        similarity: (B, K) float, cosine times the scale of CLIP.
        grade: (B,) int64, 0..K-1.

    Returns:
        Scalar >= 0, mean over the grades in the batch.
    """
    member = F.one_hot(grade, similarity.shape[1]).to(similarity.dtype)  # (B, K)
    target = (SOFTENING * member).log_softmax(0)
    divergence = (target.exp() * (target - similarity.log_softmax(0))).sum(0)  # (K,)
    present = member.sum(0) > 0
    return (divergence * present).sum() / present.sum()
