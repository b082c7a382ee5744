"""Uncertainty: bootstrap resamples of patients, intervals, paired tests and Holm's correction.

Input: the patient of each image, or the values of a metric over resamples or seeds. Output: counts,
intervals, standard errors, p-values. The interval is about other patients, the standard error about
other seeds. They are two numbers and never added.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clipdr import DataError
from clipdr.data.manifest import clusters

LEVEL = (2.5, 97.5)  # percentiles of the interval
UNDEFINED_LIMIT = 0.05  # share of undefined resamples above which there is no interval


def resample(
    patient: Sequence[str] | np.ndarray, count: int, key: str, start: int = 0
) -> np.ndarray:
    """Draw patients with replacement, all images of a patient together.

    Resample r is a function of (key, r, order of rows) alone. With the test domain as key, all
    methods and seeds share their draws, which makes a paired comparison a subtraction. Rows must
    stand in canonical order, sorted by image, as `scoring.score` sorts them.

    Args:
        patient: (N,) str. "" is unknown: such an image is a cluster of its own, and an interval
            from it is too narrow.
        count: Number of resamples R, those numbered start .. start + count - 1. Blocks bound the
            memory of a large test set.
        key: Name of the test domain.
        start: Number of the first resample.

    Returns:
        (R, N) uint16, how often each resample holds each image.

    Raises:
        DataError: If there are no images.
    """
    cluster = clusters(patient)
    total = int(cluster.max()) + 1 if len(cluster) else 0
    if total == 0:
        raise DataError(f"statistics: no images to resample in {key}. Check its predictions.")
    weight = np.empty((count, len(cluster)), dtype=np.uint16)
    for row in range(count):
        generator = np.random.default_rng((zlib.crc32(key.encode()), start + row))
        weight[row] = np.bincount(generator.integers(0, total, total), minlength=total)[cluster]
    return weight


def interval(draws: Sequence[float] | np.ndarray) -> tuple[float, float, int]:
    """Compute the 95 % percentile interval (Efron, 1979).

    Args:
        draws: (R,) float64, NaN where the metric is undefined. These are left out and counted.

    Returns:
        low, high, undefined. low and high are NaN if over 5 % are undefined or there are no draws.
    """
    draws = np.asarray(draws, dtype=np.float64)
    undefined = int(np.isnan(draws).sum())
    if len(draws) == 0 or undefined > UNDEFINED_LIMIT * len(draws):
        return np.nan, np.nan, undefined
    low, high = np.percentile(draws[~np.isnan(draws)], LEVEL)
    return float(low), float(high), undefined


def standard_error(values: Sequence[float] | np.ndarray) -> float:
    """Compute the standard error of the mean over seeds.

    Args:
        values: (n,) float64, one per seed.

    Returns:
        sd (ddof 1) / sqrt n; NaN for n < 2 or with an undefined value.
    """
    values = np.asarray(values, dtype=np.float64)
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


class Paired(NamedTuple):
    """Paired difference of two methods.

    Attributes:
        difference: Mean over the resamples, a - b.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        p: Two-sided p-value.
        undefined: Resamples in which either is undefined.
    """

    difference: float
    low: float
    high: float
    p: float
    undefined: int


def paired(draws_a: Sequence[float] | np.ndarray, draws_b: Sequence[float] | np.ndarray) -> Paired:
    """Compare two methods over the same resamples by inverting the percentile interval.

    p = min(1, 2 (min(n_neg, n_pos) + 1) / (n + 1)), where n_neg and n_pos count the resamples with
    a difference <= 0 and >= 0. The added ones are those of Davison and Hinkley (1997, section
    4.2.5). Its size under the null is measured in benchmarks/bench_intervals.py.

    Args:
        draws_a: (R,) float64, values of a metric under the draws of one `resample`; NaN where
            undefined.
        draws_b: The same for the other method.

    Returns:
        NaN throughout if over 5 % are undefined in either or there are no draws.

    Raises:
        DataError: If they differ in number.
    """
    draws_a, draws_b = np.asarray(draws_a, dtype=np.float64), np.asarray(draws_b, dtype=np.float64)
    if draws_a.shape != draws_b.shape:
        raise DataError(
            f"statistics: {draws_a.shape} and {draws_b.shape} draws cannot be paired. "
            "Score both runs again."
        )
    draws = draws_a - draws_b
    low, high, undefined = interval(draws)
    if np.isnan(low):
        return Paired(np.nan, np.nan, np.nan, np.nan, undefined)
    draws = draws[~np.isnan(draws)]
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, float(2 * (tail + 1) / (len(draws) + 1)))
    return Paired(float(draws.mean()), low, high, p, undefined)


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjust p-values for their number by Holm's step-down method (1979).

    Args:
        p: (m,) float64. An undefined one stays undefined and is not counted.

    Returns:
        (m,) float64.
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted, defined = np.full(p.shape, np.nan), np.flatnonzero(~np.isnan(p))
    rising = defined[np.argsort(p[defined], kind="stable")]
    adjusted[rising] = np.minimum(
        1, np.maximum.accumulate(np.arange(len(rising), 0, -1) * p[rising])
    )
    return adjusted


class DeLong(NamedTuple):
    """Result of `delong`.

    Attributes:
        auc_a: AUC of the first score.
        auc_b: AUC of the second score.
        covariance: (2, 2) of the two AUCs.
        p: Two-sided p-value, normal approximation.
    """

    auc_a: float
    auc_b: float
    covariance: np.ndarray
    p: float


def delong(event: np.ndarray, score_a: np.ndarray, score_b: np.ndarray) -> DeLong:
    """Test two correlated binary AUCs (DeLong, 1988), in the fast form of Sun and Xu (2014).

    It is algorithm 2, with mid-ranks. Valid only where images are independent: two eyes of a
    patient make its p too small. A cross-check of `paired`, which has no such limit.

    Args:
        event: (N,) bool, for example grade >= 2.
        score_a: (N,) float64, larger = more likely an event; ties count half.
        score_b: The same for the other method.

    Returns:
        The covariance is NaN with fewer than two images of either kind, and p is NaN where the
        difference has no variance.

    Raises:
        DataError: If a shape is wrong or a score is not finite.
    """
    from scipy.stats import rankdata

    event, scores = np.asarray(event, dtype=bool), np.asarray([score_a, score_b], dtype=np.float64)
    if scores.shape != (2, len(event)) or not np.isfinite(scores).all():
        raise DataError(
            f"statistics: {len(event)} images need two finite scores each, not shape "
            f"{scores.shape}. Check the predictions."
        )
    m, n = int(event.sum()), int((~event).sum())
    if min(m, n) == 0:
        return DeLong(np.nan, np.nan, np.full((2, 2), np.nan), np.nan)
    rank = rankdata(scores, axis=1)
    # (2, m): share of the others below each event
    of_event = (rank[:, event] - rankdata(scores[:, event], axis=1)) / n
    # (2, n): share of events above each of the others
    of_rest = 1 - (rank[:, ~event] - rankdata(scores[:, ~event], axis=1)) / m
    auc_a, auc_b = map(float, of_event.mean(axis=1))
    if min(m, n) < 2:
        return DeLong(auc_a, auc_b, np.full((2, 2), np.nan), np.nan)
    covariance = np.cov(of_event) / m + np.cov(of_rest) / n
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    p = math.erfc(abs(auc_a - auc_b) / math.sqrt(2 * variance)) if variance > 0 else np.nan
    return DeLong(auc_a, auc_b, covariance, p)
