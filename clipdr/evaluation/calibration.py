"""Calibration: whether a probability of 0.8 comes true in 80 of 100 images, per threshold of the scale; and the temperature that helps.

Input: grades and probabilities of all images of a test set at once. Output: one number per resample for every name of CALIBRATION, points
of reliability curves, a temperature. Definitions: gdrbench, "Reporting standard". Threshold k = 1..4: the event is grade >= k, its
predicted probability q_k = p_k + ... + p_4.
"""

import numpy as np

from clipdr.evaluation.metrics import G, blocks, checked

BINS = 15  # of equal width on [0, 1], closed on the right; the first holds 0 too
EDGES = np.linspace(0, 1, BINS + 1)
THRESHOLDS = tuple(range(1, G))
COOLEST, HOTTEST = 0.05, 20.0  # temperatures searched
FIRST, SECOND = 2.0**26, 2.0**53  # see `sums`

# order of `calibration` and of the rows of scores.csv
CALIBRATION = (*(f"{name}_{k}" for name in ("ece", "brier", "bias") for k in THRESHOLDS), "rps")


def cumulative(probability):
    """q_1 .. q_4. (N, 5) -> (N, 4) float64 in [0, 1]"""
    return np.asarray(probability, dtype=np.float64)[:, ::-1].cumsum(axis=1)[:, -2::-1].clip(0, 1)


def exceeds(grade):
    """Whether the events grade >= 1 .. 4 happened. (N,) -> (N, 4) bool"""
    return np.asarray(grade)[:, None] >= np.array(THRESHOLDS)


def sums(values, weight=None):
    """Weighted sums over images: weight @ values, to the last bit the same whatever the order of rows and the number of threads.

    A matrix product adds in an order that depends on both. Here each value is split into whole multiples of 2^-26 and of 2^-53: both parts
    are added without rounding while a resample draws fewer than 2^27 images.

    values (N, C) float64 in [-1, 1]; weight (R, N) or None for one resample that draws each image once -> (R, C) float64
    """
    coarse = np.round(values * FIRST) / FIRST
    parts = np.concatenate([coarse, np.round((values - coarse) * SECOND) / SECOND], axis=1)
    products = [block @ parts for block in blocks(weight, len(values))]
    both = np.concatenate(products) if products else np.empty((0, parts.shape[1]))
    return both[:, : values.shape[1]] + both[:, values.shape[1] :]


def _bins(q):
    return np.searchsorted(EDGES[1:-1], q, side="left")


def calibration(grade, probability, weight=None):
    """Every name of CALIBRATION on each resample.

    ece_k   : expected calibration error, sum over bins b of n_b / N |mean q_k - share of events| (15 bins); an empty bin adds nothing
    brier_k : mean (q_k - event)^2 (Brier, 1950)
    bias_k  : mean q_k - share of events; above 0: the event is predicted too often
    rps     : ranked probability score, the mean of the four Brier scores

    grade (N,) int 0..4, probability (N, 5) float64, weight (R, N) or None for R = 1 -> {name: (R,) float64}; NaN where no image is drawn
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


def reliability(grade, probability, k):
    """Points of the reliability curve of threshold k, empty bins left out.

    grade (N,) int 0..4, probability (N, 5) float64, k 1..4 -> (B, 3) float64: mean q_k, share of events, number of images of each bin
    """
    grade, probability = checked(grade, probability)
    q = cumulative(probability)[:, k - 1]
    bins, event = _bins(q), exceeds(grade)[:, k - 1]
    count = np.bincount(bins, minlength=BINS)
    seen = count > 0
    columns = [np.bincount(bins, values, BINS)[seen] / count[seen] for values in (q, event)]
    return np.stack([*columns, count[seen].astype(np.float64)], axis=1)


def _logits(probability):
    """log p with a largest value of 0 in each row: rows without a preference become exact zeros. A p of 0 counts as the smallest float."""
    logits = np.log(
        np.maximum(np.asarray(probability, dtype=np.float64), np.finfo(np.float64).tiny)
    )
    return logits - logits.max(axis=1, keepdims=True)


def temper(probability, temperature):
    """Probabilities at another temperature T, p^(1/T) normalised: equal to softmax(logits / T). (N, 5), T > 0 -> (N, 5) float64"""
    power = np.exp(_logits(probability) / temperature)
    return power / power.sum(axis=1, keepdims=True)


def temperature(grade, probability):
    """The T in [0.05, 20] with the least mean negative log-likelihood of the grades (Guo et al., 2017).

    The likelihood is convex in 1/T, so T is the root of its slope, or the end of the range that the slope points to.

    grade (N,) int 0..4, probability (N, 5) float64: the source validation images -> float; NaN without images, 1 where no T makes a
    difference (no row prefers a grade)
    """
    from scipy.optimize import brentq

    grade, probability = checked(grade, probability)
    if len(grade) == 0:
        return np.nan
    logits = _logits(probability)
    wanted = logits[np.arange(len(grade)), grade]

    def slope(inverse):
        power = np.exp(inverse * logits)
        return float(((power * logits).sum(axis=1) / power.sum(axis=1) - wanted).mean())

    at_hottest, at_coolest = slope(1 / HOTTEST), slope(1 / COOLEST)
    if not logits.any():
        return 1.0
    if at_hottest >= 0 or at_coolest <= 0:
        return HOTTEST if at_hottest >= 0 else COOLEST
    return 1 / float(brentq(slope, 1 / HOTTEST, 1 / COOLEST, xtol=1e-13))
