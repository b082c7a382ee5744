"""Operating point for referable DR (grade >= 2): threshold and temperature, fitted on validation.

Input: grades and probabilities of the source validation images -> a `Point`. With it, on all images
of a test set at once: one number per resample for every name of MEASURES, the metrics of
scores.csv. docs/metrics.md defines each name. A name that ends in `_t` is the same measure after
the temperature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from clipdr import REFERABLE
from clipdr.evaluation.calibration import (
    CALIBRATION,
    THRESHOLDS,
    calibration,
    cumulative,
    exceeds,
    sums,
    temper,
    temperature,
)
from clipdr.evaluation.metrics import METRICS, blocks, checked
from clipdr.evaluation.schema import PROBABILITIES

# Least sensitivity on source validation: 0.90 as a fraction, so that 9 of 10 images are enough.
SENSITIVITY = (9, 10)
# Least specificity of sensitivity_at_spec90.
SPECIFICITY = (9, 10)
HALF = 0.5

HALVES = tuple(f"{name}_half_{k}" for name in ("sensitivity", "specificity") for k in THRESHOLDS)
REFERABLES = ("referable_auc", "sensitivity_at_spec90", "sensitivity", "specificity", *HALVES)
CLINICAL = (*REFERABLES, *CALIBRATION)
# metric names of scores.csv, in its order; those of METRICS, without a parameter, come first
MEASURES = (*METRICS, *CLINICAL, *(f"{name}_t" for name in CLINICAL))


class Point(NamedTuple):
    """Parameters fitted on source validation; NaN where it cannot fit them.

    Attributes:
        temperature: T of `calibration.temper`.
        threshold: Least q_2 of an image called referable.
        threshold_t: The same after the temperature.
        n: Images of source validation.
        referable: Those with grade >= 2.
    """

    temperature: float
    threshold: float
    threshold_t: float
    n: int
    referable: int


def frozen_threshold(grade: np.ndarray, probability: np.ndarray) -> float:
    """Find the largest threshold on q_2 with a sensitivity of at least 0.90.

    Args:
        grade: (N,) int, 0..4.
        probability: (N, 5) float64.

    Returns:
        The q_2 of a referable image; NaN if there is none.
    """
    grade, probability = checked(grade, probability)
    referable = np.sort(cumulative(probability)[grade >= REFERABLE, REFERABLE - 1])[::-1]
    needed = -(-SENSITIVITY[0] * len(referable) // SENSITIVITY[1])
    return float(referable[needed - 1]) if needed else np.nan


def fit(grade: np.ndarray, probability: np.ndarray) -> Point:
    """Fit the operating point on source validation images.

    Args:
        grade: (N,) int, 0..4.
        probability: (N, 5) float64.
    """
    warmth = temperature(grade, probability)
    after = frozen_threshold(grade, temper(probability, warmth)) if warmth > 0 else np.nan
    return Point(
        warmth,
        frozen_threshold(grade, probability),
        after,
        len(grade),
        int((np.asarray(grade) >= REFERABLE).sum()),
    )


def points(predictions: pd.DataFrame) -> dict[str, Point]:
    """Fit the operating point of each selection of a run.

    Args:
        predictions: Rows of one run in canonical order; selection, split, grade and p0..p4 are
            read.

    Returns:
        {selection: operating point of its validation rows}.
    """
    by_selection = {}
    for selection, rows in predictions.groupby("selection", sort=True):
        val = rows[rows["split"] == "val"]
        by_selection[selection] = fit(
            val["grade"].to_numpy(np.int64), val[PROBABILITIES].to_numpy(np.float64)
        )
    return by_selection


def _share(count: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Divide counts, with NaN for 0 / 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return count / total


def ranked(
    event: np.ndarray, score: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the AUC of an event, and the sensitivity at a specificity of at least 0.90.

    Only counts are added, so both are exact. A threshold above all scores is one of the choices,
    with sensitivity 0 and specificity 1.

    Args:
        event: (N,) bool.
        score: (N,), larger = more likely an event.
        weight: (R, N), how often each resample holds each image, or None for R = 1.

    Returns:
        AUC and sensitivity, both (R,) float64; NaN where a resample lacks events or others.
    """
    order = np.argsort(-score, kind="stable")
    # last image of each run of equal scores
    event, last = event[order, None], np.flatnonzero(np.diff(score[order], append=-np.inf))
    areas, best = [np.empty(0)], [np.empty(0)]
    for block in blocks(weight, len(score)):
        counts = np.ascontiguousarray(block.T[order])
        # at each score as the threshold
        hits, alarms = (np.cumsum(counts * kind, axis=0)[last] for kind in (event, ~event))
        hits, alarms = (
            np.concatenate([np.zeros((1, counts.shape[1])), called]) for called in (hits, alarms)
        )
        pairs = (np.diff(alarms, axis=0) * (hits[1:] + hits[:-1])).sum(axis=0) / 2
        areas.append(_share(pairs, hits[-1] * alarms[-1]))
        allowed = SPECIFICITY[1] * (alarms[-1] - alarms) >= SPECIFICITY[0] * alarms[-1]
        best.append(
            np.where(
                alarms[-1] > 0, _share(np.where(allowed, hits, 0).max(axis=0), hits[-1]), np.nan
            )
        )
    return np.concatenate(areas), np.concatenate(best)


def referable(
    grade: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    weight: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Compute every measure of REFERABLES on each resample.

    - referable_auc: AUC of q_2 for grade >= 2.
    - sensitivity_at_spec90: largest sensitivity of a threshold chosen on these very images with a
      specificity >= 0.90. This is an oracle.
    - sensitivity: share of referable images with q_2 >= threshold.
    - specificity: share of the others with q_2 < threshold.
    - ..._half_k: the same of the event grade >= k at q_k >= 0.5.

    Args:
        grade: (N,) int, 0..4.
        probability: (N, 5) float64.
        threshold: Threshold on q_2; NaN: undefined.
        weight: (R, N), how often each resample holds each image, or None for R = 1.

    Returns:
        {name: (R,) float64}; NaN where a resample lacks events or others and the measure needs
        them.
    """
    grade, probability = checked(grade, probability)
    q, event = cumulative(probability), exceeds(grade)
    k = REFERABLE - 1
    # (N, 5) bool: at the threshold, then at 0.5 of each q
    positive = np.concatenate([q[:, k : k + 1] >= threshold, q >= HALF], axis=1)
    event = np.concatenate([event[:, k : k + 1], event], axis=1)
    columns = np.concatenate([event & positive, ~event & ~positive, event, ~event], axis=1)
    hits, rejections, events, others = np.split(sums(columns.astype(np.float64), weight), 4, axis=1)
    sensitivity, specificity = _share(hits, events).T, _share(rejections, others).T
    if np.isnan(threshold):
        sensitivity[0], specificity[0] = np.nan, np.nan
    values = [
        *ranked(event[:, 0], q[:, k], weight),
        sensitivity[0],
        specificity[0],
        *sensitivity[1:],
        *specificity[1:],
    ]
    return dict(zip(REFERABLES, values, strict=True))


def clinical(
    point: Point, grade: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Compute every measure of CLINICAL on each resample, before and after the temperature.

    Args:
        point: Operating point of source validation.
        grade: (N,) int, 0..4.
        probability: (N, 5) float64.
        weight: (R, N), how often each resample holds each image, or None for R = 1.

    Returns:
        {name: (R,) float64}, the names of MEASURES after METRICS, in order. `_t` is NaN without a
        temperature.
    """
    before = referable(grade, probability, point.threshold, weight) | calibration(
        grade, probability, weight
    )
    if np.isnan(point.temperature):
        after = {name: np.full_like(value, np.nan) for name, value in before.items()}
    else:
        tempered = temper(probability, point.temperature)
        after = referable(grade, tempered, point.threshold_t, weight) | calibration(
            grade, tempered, weight
        )
    return before | {f"{name}_t": value for name, value in after.items()}


def document(by_selection: Mapping[str, Point]) -> dict[str, dict[str, float | int | None]]:
    """Return the content of operating.json: {selection: fields of its Point}, null for NaN."""
    return {
        selection: {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in point._asdict().items()
        }
        for selection, point in by_selection.items()
    }
