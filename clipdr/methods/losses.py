"""Losses of CLIP-DR (Yu et al., 2024): pure functions of a similarity matrix (B, 5) and grades (B,), in float32 or float64.

A similarity is a cosine of image and text times the CLIP scale (about 100). The cross-entropy of image to text is torch's own.
"""

import torch
import torch.nn.functional as F

from clipdr import DataError

DIRECTIONS = {"both": (1, -1), "right": (1,), "left": (-1,)}
SOFTENING = 10.0  # the release's e^10 between members and others of a grade


def rank(similarity, grade, max_rank=3, directions="both", mask="pairwise"):
    """Neighbour ranking loss of CLIP-DR (Yu et al., 2024), in both directions of the grade axis.

    For every rank r and direction, the grade r-1 steps from the truth must beat the grade r steps away.

    similarity : (B, K) float, cosine times the CLIP scale
    grade      : (B,) int64, 0..K-1
    max_rank   : 0..K-1; 0 switches the loss off
    directions : "both", "right" (towards higher grades) or "left"
    mask       : "pairwise" leaves other grades out (ours); "zero" sets them to 0, as the released code does
    returns      scalar, summed over ranks and directions, mean over all B images, also those without a neighbour at distance r
    """
    if directions not in DIRECTIONS or mask not in ("pairwise", "zero"):
        raise DataError(
            f"rank loss: directions {directions!r}, mask {mask!r}; use both|left|right and pairwise|zero"
        )
    batch, grades = similarity.shape
    if not 0 <= max_rank < grades:
        raise DataError(f"rank loss: max_rank {max_rank} is outside 0..{grades - 1}")
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
    # zero: the row holds near, far (or 0) and K-2 zeros; -log softmax at the nearer grade
    zero = torch.zeros_like(near)
    rest = torch.full_like(near, grades - 2).log()
    row = torch.stack([near, torch.where(has_far, far, zero), zero + rest])
    return ((row.logsumexp(0) - near) * has_near).sum() / batch


def text_to_image_kl(similarity, grade):
    """KL divergence of the images of each grade from its text (OrdinalCLIP's and CLIP-DR's second term).

    For every grade in the batch: KL(q || p), p = softmax of its column over the batch, q = softmax of 10 at its members, 0 elsewhere.

    similarity : (B, K) float
    grade      : (B,) int64, 0..K-1
    returns      scalar, mean over the grades present
    """
    member = F.one_hot(grade, similarity.shape[1]).to(similarity.dtype)  # (B, K)
    wanted = (SOFTENING * member).log_softmax(0)
    divergence = (wanted.exp() * (wanted - similarity.log_softmax(0))).sum(0)  # (K,)
    present = member.sum(0) > 0
    return (divergence * present).sum() / present.sum()
