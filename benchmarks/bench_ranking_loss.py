"""Speed of the ranking loss, forward and backward, against a loop over the samples.

The loop follows the released code. Value and gradient of both are asserted to agree in float64
before anything is measured.

    python benchmarks/bench_ranking_loss.py [--batch 16 64 400] [--mask zero] [--pairs 20]
"""

from functools import partial

import torch
import torch.nn.functional as F
from _harness import COLUMNS, Results, clock, paired, parser

from clipdr.methods.losses import ranking_loss

GRADES = 5


def rank_by_sample(similarity, grade, max_rank=3, mask="zero"):
    """Compute the ranking loss of CLIP-DR (Yu et al., 2024) one sample at a time.

    For each rank and direction a row per sample is filled: the nearer grade, the next one further
    out, and 0 or -inf elsewhere. Then one cross-entropy to the nearer grade is taken over the rows.

    Args:
        similarity: (B, 5) float.
        grade: (B,) int64.
        max_rank: Largest distance of the nearer grade, plus one.
        mask: "zero" (released) or "pairwise".

    Returns:
        Scalar.
    """
    total = similarity.sum() * 0.0
    for step in range(1, max_rank + 1):
        for direction in (1, -1):
            rows = torch.full_like(similarity, 0.0 if mask == "zero" else float("-inf"))
            samples, nearer_grades = [], []
            for sample in range(len(grade)):
                nearer = int(grade[sample]) + direction * (step - 1)
                further = nearer + direction
                if not 0 <= nearer < GRADES or (mask == "pairwise" and not 0 <= further < GRADES):
                    continue
                rows[sample, nearer] = similarity[sample, nearer]
                if 0 <= further < GRADES:
                    rows[sample, further] = similarity[sample, further]
                samples.append(sample)
                nearer_grades.append(nearer)
            if samples:
                loss = F.cross_entropy(rows[samples], torch.tensor(nearer_grades), reduction="sum")
                total = total + loss / len(grade)
    return total


def value_and_gradient(function, similarity, grade, mask):
    """Value and gradient of a loss."""
    leaf = similarity.clone().requires_grad_()
    value = function(leaf, grade, mask=mask)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


def assert_equal(similarity, grade):
    """Assert that both losses agree in value and gradient, for both masks."""
    for mask in ("zero", "pairwise"):
        # near 20 the zeros of the mask "zero" hardly count, near 0 they do
        for wide in (similarity.double(), similarity.double() - 20):
            ours = value_and_gradient(ranking_loss, wide, grade, mask)
            theirs = value_and_gradient(rank_by_sample, wide, grade, mask)
            for one, other in zip(ours, theirs, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def main():
    options = parser(__doc__)
    options.add_argument("--batch", type=int, nargs="+", default=[16, 64, 400])
    options.add_argument(
        "--mask", choices=("zero", "pairwise"), default="zero", help="zero: the released variant"
    )
    options.add_argument("--pairs", type=int, default=20)
    options.add_argument("--threads", type=int, default=1)
    arguments = options.parse_args()
    now, results = clock(arguments.threads), Results(__file__, arguments)
    results.table(*COLUMNS)
    for batch in arguments.batch:
        generator = torch.Generator().manual_seed(batch)
        similarity = 20 + 3 * torch.randn(batch, GRADES, generator=generator)
        grade = torch.randint(0, GRADES, (batch,), generator=generator)
        assert_equal(similarity, grade)
        ours, reference = (
            partial(value_and_gradient, function, similarity, grade, arguments.mask)
            for function in (ranking_loss, rank_by_sample)
        )
        seconds = paired(ours, reference, arguments.pairs, now, repeats=20)
        work = f"ranking loss ({arguments.mask}), batch {batch}"
        results.compare(work, seconds, ">= 15" if batch == 64 else "-")
    results.write()


if __name__ == "__main__":
    main()
