"""Learning-rate schedules: factors of a base rate, as functions of the steps done."""

from __future__ import annotations

import math


def half_cosine(done: float, total: float = 1.0) -> float:
    """Half a cosine from 1 (done = 0) to 0 (done = total)."""
    return 0.5 * (1 + math.cos(math.pi * done / total))


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then half a cosine to 0.

    Args:
        step: Number of steps done, 0 to steps - 1.
        steps: Number of steps of the training.
        warmup: Number of warm-up steps; 0 for none.

    Returns:
        (step + 1) / warmup during the warm-up, at most 1; then the cosine of the remaining share.
    """
    if step < warmup:
        return (step + 1) / warmup
    return half_cosine(step - warmup, max(1, steps - warmup))


def factor(schedule: str, done: float, milestone: float) -> float:
    """Factor of the learning rate under one of the schedules of a study.

    Args:
        schedule: "constant", "step" (tenfold lower from the milestone on) or "cosine" (to 0).
        done: Share of the budget that is done, 0 to 1.
        milestone: Share of the budget at which "step" lowers the rate.
    """
    if schedule == "cosine":
        return half_cosine(done)
    return 0.1 if schedule == "step" and done >= milestone else 1.0
