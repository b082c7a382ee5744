"""Uncertainty: which images each bootstrap resample draws, and what the draws say.

Input: the patient of each image, or the values of a metric over resamples or seeds. Output: counts, intervals, standard errors.
"""

import zlib

import numpy as np

from clipdr import DataError

LEVEL = (2.5, 97.5)  # percentiles of the interval
UNDEFINED_LIMIT = 0.05  # share of undefined resamples above which there is no interval


def resample(patient, count, key, start=0):
    """How many times each image is drawn when patients are drawn with replacement, all images of a patient together.

    Resample r is a function of (key, r, order of rows) alone: with the test domain as key, all methods and seeds share
    their draws, which makes a paired comparison a subtraction. Rows must stand in canonical order, sorted by image, as
    `evaluate.score` puts them.

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


def clusters(patient):
    """(N,) str -> (N,) int64: the cluster of each image, numbered by first appearance; an unknown patient ("") is a cluster of its own."""
    number, result = {}, np.empty(len(patient), dtype=np.int64)
    for row, name in enumerate(patient):
        result[row] = number.setdefault(name or row, len(number))  # an int never equals a name
    return result


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
