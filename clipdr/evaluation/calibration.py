"""Calibration per threshold of the scale (ECE, Brier score, bias, RPS) and temperature scaling.

Input: grades and probabilities of all images of a test set at once. Output: one number per resample
for every name of CALIBRATION, points of reliability curves, a temperature. Threshold k = 1..4: the
event is grade >= k, its predicted probability q_k = p_k + ... + p_4.
"""

from __future__ import annotations

import numpy as np

from clipdr.evaluation.metrics import G, blocks, checked

BINS = 15  # of equal width on [0, 1], closed on the right; the first holds 0 too
EDGES = np.linspace(0, 1, BINS + 1)
THRESHOLDS = tuple(range(1, G))
COOLEST, HOTTEST = 0.05, 20.0  # range of temperatures searched
FIRST, SECOND = 2.0**26, 2.0**53  # see `sums`

# order of `calibration` and of the rows of scores.csv
CALIBRATION = (*(f"{name}_{k}" for name in ("ece", "brier", "bias") for k in THRESHOLDS), "rps")


def cumulative(probability: np.ndarray) -> np.ndarray:
    """Compute q_1 .. q_4.

    Args:
        probability: (N, 5).

    Returns:
        (N, 4) float64 in [0, 1].
    """
    return np.asarray(probability, dtype=np.float64)[:, ::-1].cumsum(axis=1)[:, -2::-1].clip(0, 1)


def exceeds(grade: np.ndarray) -> np.ndarray:
    """Return whether the events grade >= 1 .. 4 happened: (N,) int -> (N, 4) bool."""
    return np.asarray(grade)[:, None] >= np.array(THRESHOLDS)


def sums(values: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Compute weight @ values with bits that depend on neither row order nor number of threads.

    A matrix product adds in an order that depends on both. Here each value is split into whole
    multiples of 2^-26 and of 2^-53. Both summands are added without rounding while a resample holds
    fewer than 2^27 images.

    Args:
        values: (N, C) float64 in [-1, 1].
        weight: (R, N), or None for one resample with each image once.

    Returns:
        (R, C) float64.
    """
    coarse = np.round(values * FIRST) / FIRST
    halves = np.concatenate([coarse, np.round((values - coarse) * SECOND) / SECOND], axis=1)
    products = [block @ halves for block in blocks(weight, len(values))]
    both = np.concatenate(products) if products else np.empty((0, halves.shape[1]))
    return both[:, : values.shape[1]] + both[:, values.shape[1] :]


def _bins(q: np.ndarray) -> np.ndarray:
    """Index of the bin of each probability."""
    return np.searchsorted(EDGES[1:-1], q, side="left")


def calibration(
    grade: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Compute every measure of CALIBRATION on each resample.

    - ece_k: expected calibration error, sum over 15 bins b of n_b / N |mean q_k - share of events|.
      An empty bin adds nothing.
    - brier_k: mean (q_k - event)^2 (Brier, 1950).
    - bias_k: mean q_k - share of events. Above 0, the event is predicted too often.
    - rps: ranked probability score, the mean of the four Brier scores.

    Args:
        grade: (N,) int, 0..4.
        probability: (N, 5) float64.
        weight: (R, N), how often each resample holds each image, or None for R = 1.

    Returns:
        {name: (R,) float64}; NaN where a resample is empty.
    """
    grade, probability = checked(grade, probability)
    q = cumulative(probability)
    error = q - exceeds(grade)
    n, k = error.shape
    binned = np.zeros((n, k, BINS))
    np.put_along_axis(binned, _bins(q)[:, :, None], error[:, :, None], axis=2)
    totals = sums(
        np.concatenate([np.ones((n, 1)), error**2, error, binned.reshape(n, k * BINS)], axis=1),
        weight,
    )
    with np.errstate(invalid="ignore"):
        brier, bias, gaps = np.split(totals[:, 1:] / totals[:, :1], [k, 2 * k], axis=1)
    ece = np.abs(gaps).reshape(-1, k, BINS).sum(axis=2)
    return dict(zip(CALIBRATION, [*ece.T, *brier.T, *bias.T, brier.mean(axis=1)], strict=True))


def reliability(grade: np.ndarray, probability: np.ndarray, k: int) -> np.ndarray:
    """Compute the points of the reliability curve of a threshold, without empty bins.

    Args:
        grade: (N,) int, 0..4.
        probability: (N, 5) float64.
        k: Threshold, 1..4.

    Returns:
        (B, 3) float64: mean q_k, share of events and number of images of each bin.
    """
    grade, probability = checked(grade, probability)
    q = cumulative(probability)[:, k - 1]
    bins, event = _bins(q), exceeds(grade)[:, k - 1]
    count = np.bincount(bins, minlength=BINS)
    filled = count > 0
    columns = [np.bincount(bins, values, BINS)[filled] / count[filled] for values in (q, event)]
    return np.stack([*columns, count[filled].astype(np.float64)], axis=1)


def _logits(probability: np.ndarray) -> np.ndarray:
    """Log p with a maximum of 0 per row, so that uniform rows are exact zeros.

    A p of 0 counts as the smallest positive float.
    """
    logits = np.log(
        np.maximum(np.asarray(probability, dtype=np.float64), np.finfo(np.float64).tiny)
    )
    return logits - logits.max(axis=1, keepdims=True)


def temper(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Apply a temperature T: p^(1/T) normalised, equal to softmax(logits / T).

    Args:
        probability: (N, 5).
        temperature: T > 0.

    Returns:
        (N, 5) float64.
    """
    power = np.exp(_logits(probability) / temperature)
    return power / power.sum(axis=1, keepdims=True)


def temperature(grade: np.ndarray, probability: np.ndarray) -> float:
    """Fit the T in [0.05, 20] with the least mean negative log-likelihood (Guo et al., 2017).

    The likelihood is convex in 1/T, so T is the root of its slope, or the end of the range that the
    slope points to.

    Args:
        grade: (N,) int, 0..4, of the source validation images.
        probability: (N, 5) float64.

    Returns:
        T; NaN without images, 1 where no T makes a difference because no row prefers a grade.
    """
    from scipy.optimize import brentq

    grade, probability = checked(grade, probability)
    if len(grade) == 0:
        return np.nan
    logits = _logits(probability)
    wanted = logits[np.arange(len(grade)), grade]

    def slope(inverse: float) -> float:
        """Slope of the mean negative log-likelihood in 1/T, negated."""
        power = np.exp(inverse * logits)
        return float(((power * logits).sum(axis=1) / power.sum(axis=1) - wanted).mean())

    at_hottest, at_coolest = slope(1 / HOTTEST), slope(1 / COOLEST)
    if not logits.any():
        return 1.0
    if at_hottest >= 0 or at_coolest <= 0:
        return HOTTEST if at_hottest >= 0 else COOLEST
    return 1 / float(brentq(slope, 1 / HOTTEST, 1 / COOLEST, xtol=1e-13))
