"""Uncertainty: which images each bootstrap resample draws, what the draws say, and whether two methods differ.

Input: the patient of each image, or the values of a metric over resamples or seeds. Output: counts, intervals, standard errors, p-values.
The interval speaks of other patients, the standard error of other seeds: they are two numbers and never added.
"""

import math
import zlib
from typing import NamedTuple

import numpy as np

from clipdr import DataError
from clipdr.data.manifest import clusters

LEVEL = (2.5, 97.5)  # percentiles of the interval
UNDEFINED_LIMIT = 0.05  # share of undefined resamples above which there is no interval


def resample(patient, count, key, start=0):
    """How many times each image is drawn when patients are drawn with replacement, all images of a patient together.

    Resample r is a function of (key, r, order of rows) alone: with the test domain as key, all methods and seeds share
    their draws, which makes a paired comparison a subtraction. Rows must stand in canonical order, sorted by image, as
    `scoring.score` puts them.

    patient : (N,) str, "" = unknown: such an image is a cluster of its own, and an interval from it is too narrow
    count   : number of resamples R, those numbered start .. start + count - 1 (blocks bound the memory of a large test set)
    key     : name of the test domain
    returns   (R, N) uint16
    """
    cluster = clusters(patient)
    total = int(cluster.max()) + 1 if len(cluster) else 0
    if total == 0:
        raise DataError(f"statistics: no images to resample in {key}; check its predictions")
    drawn = np.empty((count, len(cluster)), dtype=np.uint16)
    for row in range(count):
        generator = np.random.default_rng((zlib.crc32(key.encode()), start + row))
        drawn[row] = np.bincount(generator.integers(0, total, total), minlength=total)[cluster]
    return drawn


def interval(draws):
    """Percentile interval (Efron, 1979) of 95 %.

    draws   : (R,) float64, NaN where the metric is undefined: left out and counted
    returns   low, high, undefined (int); low = high = NaN if over 5 % are undefined or if there are no draws
    """
    draws = np.asarray(draws, dtype=np.float64)
    undefined = int(np.isnan(draws).sum())
    if len(draws) == 0 or undefined > UNDEFINED_LIMIT * len(draws):
        return np.nan, np.nan, undefined
    low, high = np.percentile(draws[~np.isnan(draws)], LEVEL)
    return float(low), float(high), undefined


def standard_error(values):
    """(n,) float64, one per seed -> sd (ddof 1) / sqrt n; NaN for n < 2 or with an undefined value."""
    values = np.asarray(values, dtype=np.float64)
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


class Paired(NamedTuple):
    difference: float  # mean over the resamples, a - b
    low: float
    high: float
    p: float
    undefined: int  # resamples in which either is undefined


def paired(draws_a, draws_b):
    """Difference of two methods over the same resamples: interval and two-sided p-value, by inverting the percentile interval.

    p = min(1, 2 (min(n_neg, n_pos) + 1) / (n + 1)); n_neg, n_pos: resamples with a difference <= 0, >= 0 (Davison and Hinkley, 1997,
    section 4.2.5, for the added ones). Measured under the null: benchmarks/statistics.py.

    draws_a, draws_b : (R,) float64, values of a metric under the draws of one `resample`; NaN where undefined
    returns            Paired; NaN throughout if over 5 % are undefined in either or if there are none; DataError if they differ in number
    """
    draws_a, draws_b = np.asarray(draws_a, dtype=np.float64), np.asarray(draws_b, dtype=np.float64)
    if draws_a.shape != draws_b.shape:
        raise DataError(
            f"statistics: {draws_a.shape} and {draws_b.shape} draws cannot be paired; score both runs again"
        )
    draws = draws_a - draws_b
    low, high, undefined = interval(draws)
    if np.isnan(low):
        return Paired(np.nan, np.nan, np.nan, np.nan, undefined)
    draws = draws[~np.isnan(draws)]
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    return Paired(
        float(draws.mean()),
        low,
        high,
        min(1.0, float(2 * (tail + 1) / (len(draws) + 1))),
        undefined,
    )


def holm(p):
    """p-values adjusted for their number by Holm's step-down method (1979).

    p: (m,) float64 -> (m,) float64; an undefined one stays undefined and is not counted
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted, defined = np.full(p.shape, np.nan), np.flatnonzero(~np.isnan(p))
    rising = defined[np.argsort(p[defined], kind="stable")]
    adjusted[rising] = np.minimum(
        1, np.maximum.accumulate(np.arange(len(rising), 0, -1) * p[rising])
    )
    return adjusted


class DeLong(NamedTuple):
    auc_a: float
    auc_b: float
    covariance: np.ndarray  # (2, 2) of the two AUCs
    p: float  # two-sided, normal approximation


def delong(event, score_a, score_b):
    """Test of two correlated binary AUCs (DeLong, 1988) in the fast form of Sun and Xu (2014, algorithm 2, mid-ranks).

    Only where images are independent: two eyes of a patient make its p too small. A cross-check of `paired`, which has no such limit.

    event            : (N,) bool, e.g. grade >= 2
    score_a, score_b : (N,) float64, larger = more likely an event; ties count half
    returns            DeLong; covariance NaN with fewer than two images of either kind, p NaN where the difference has no variance
    """
    from scipy.stats import rankdata

    event, scores = np.asarray(event, dtype=bool), np.asarray([score_a, score_b], dtype=np.float64)
    if scores.shape != (2, len(event)) or not np.isfinite(scores).all():
        raise DataError(
            f"statistics: {len(event)} images need two finite scores each, got shape {scores.shape}"
        )
    m, n = int(event.sum()), int((~event).sum())
    if min(m, n) == 0:
        return DeLong(np.nan, np.nan, np.full((2, 2), np.nan), np.nan)
    rank = rankdata(scores, axis=1)
    of_event = (
        rank[:, event] - rankdata(scores[:, event], axis=1)
    ) / n  # (2, m): share of non-events below each event
    of_rest = (
        1 - (rank[:, ~event] - rankdata(scores[:, ~event], axis=1)) / m
    )  # (2, n): share of events above each non-event
    auc = of_event.mean(axis=1)
    if min(m, n) < 2:
        return DeLong(*map(float, auc), np.full((2, 2), np.nan), np.nan)
    covariance = np.cov(of_event) / m + np.cov(of_rest) / n
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    p = math.erfc(abs(auc[0] - auc[1]) / math.sqrt(2 * variance)) if variance > 0 else np.nan
    return DeLong(*map(float, auc), covariance, p)
