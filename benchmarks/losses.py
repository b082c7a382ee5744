"""Speed of the ranking loss, forward and backward, against a loop over the samples as in the released code. Input: options; output: rows.

Also holds what the other training benchmarks share: pairs of interleaved runs, and a row of the table. Value and gradient of both ways are
asserted to agree in float64 before anything is timed.

    python benchmarks/losses.py [--batch 16 64 400] [--mask zero] [--pairs 20] [--threads 1]
"""

import argparse
import os
import statistics
import time
from functools import partial

import torch
import torch.nn.functional as F

from clipdr.methods.losses import ranking_loss

GRADES = 5


def rank_by_sample(similarity, grade, max_rank=3, mask="zero"):
    """Ranking loss of CLIP-DR (Yu et al., 2024) for both directions, one sample at a time.

    For each rank and direction a row per sample is filled (nearer grade, next one further out, and 0 or -inf elsewhere), then one
    cross-entropy to the nearer grade is taken over the rows.

    similarity : (B, 5);  grade : (B,) int64;  mask : "zero" (released) or "pairwise";  returns a scalar
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


def clock(threads):
    """CPU seconds for one thread (another's load hardly shows), wall seconds for more."""
    torch.set_num_threads(threads)
    os.environ.setdefault(
        "THP_MEM_ALLOC_ENABLE", "1"
    )  # read at torch's first large allocation; the verbs set it too
    return time.process_time if threads == 1 else time.perf_counter


def paired(ours, reference, pairs, now, repeats=1):
    """Seconds per call of two functions timed in turn, the first of a pair by turns too: two lists of `pairs` entries.

    repeats : calls of `ours` in a turn, where it is short
    """
    ways = ((ours, repeats), (reference, 1))
    for function, _ in ways:
        function()  # imports, caches and first allocations are not timed
    seconds = ([], [])
    for pair in range(pairs):
        for way in (0, 1) if pair % 2 == 0 else (1, 0):
            function, times = ways[way]
            start = now()
            for _ in range(times):
                function()
            seconds[way].append((now() - start) / times)
    return seconds


def row(work, seconds, aim, count=None, cost=False):
    """Print a Markdown row: work, ours, the reference way, ratio (median of the pairs), aim.

    seconds : what `paired` gave;  count : images per call, to print images/s;  cost : print ours / reference, not the speed-up
    """
    shown = [statistics.median(column) for column in seconds]
    shown = [
        f"{count / value:.0f} images/s" if count else f"{value * 1e3:.2f} ms" for value in shown
    ]
    ratio = statistics.median(
        ours / reference if cost else reference / ours
        for ours, reference in zip(*seconds, strict=True)
    )
    print(f"| {work} | {shown[0]} | {shown[1]} | {ratio:.2f} | {aim} |", flush=True)


def both(function, similarity, grade, mask):
    """Value and gradient of a loss."""
    leaf = similarity.clone().requires_grad_()
    value = function(leaf, grade, mask=mask)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64, 400])
    parser.add_argument(
        "--mask", choices=("zero", "pairwise"), default="zero", help="zero: the released variant"
    )
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    now = clock(arguments.threads)
    for batch in arguments.batch:
        draw = torch.Generator().manual_seed(batch)
        similarity, grade = (
            20 + 3 * torch.randn(batch, GRADES, generator=draw),
            torch.randint(0, GRADES, (batch,), generator=draw),
        )
        for mask in ("zero", "pairwise"):
            for wide in (
                similarity.double(),
                similarity.double() - 20,
            ):  # near 20 the zeros of "zero" hardly count, near 0 they do
                for ours, theirs in zip(
                    both(ranking_loss, wide, grade, mask),
                    both(rank_by_sample, wide, grade, mask),
                    strict=True,
                ):
                    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
        ways = (
            partial(both, function, similarity, grade, arguments.mask)
            for function in (ranking_loss, rank_by_sample)
        )
        seconds = paired(*ways, arguments.pairs, now, repeats=20)
        row(
            f"ranking loss ({arguments.mask}), batch {batch}",
            seconds,
            ">= 15" if batch == 64 else "-",
        )


if __name__ == "__main__":
    main()
