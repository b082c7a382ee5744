"""Referable DR (grade >= 2) as a yes or no, and everything that is fixed on source validation before the test images are looked at.

Input: grades and probabilities of the source validation images -> an operating Point: temperature and referable threshold. With it, on
all images of a test set at once: one number per resample for every name of MEASURES, the metrics of scores.csv. Definitions: gdrbench,
"Reporting standard"; each name in words: docs/metrics.md. A name that ends in `_t` is the same measure after the temperature.
"""

from typing import NamedTuple

import numpy as np

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

SENSITIVITY = (
    9,
    10,
)  # 0.90 as a fraction, so that 9 of 10 images are enough: least sensitivity on source validation
SPECIFICITY = 9, 10  # least specificity of sensitivity_at_spec90
HALF = 0.5

HALVES = tuple(f"{name}_half_{k}" for name in ("sensitivity", "specificity") for k in THRESHOLDS)
REFERABLES = ("referable_auc", "sensitivity_at_spec90", "sensitivity", "specificity", *HALVES)
CLINICAL = (*REFERABLES, *CALIBRATION)
# metric names of scores.csv, in its order; the metrics without a parameter come first and are METRICS'
MEASURES = (*METRICS, *CLINICAL, *(f"{name}_t" for name in CLINICAL))


class Point(NamedTuple):
    """What source validation fixes; NaN where it cannot."""

    temperature: float
    threshold: float  # on q_2: referable if q_2 >= threshold
    threshold_t: float  # the same after the temperature
    n: int  # images of source validation
    referable: int  # those with grade >= 2


def frozen_threshold(grade, probability):
    """The largest threshold on q_2 with a sensitivity of at least 0.90: a q_2 of a referable image. NaN if there is none.

    grade (N,) int 0..4, probability (N, 5) float64 -> float
    """
    grade, probability = checked(grade, probability)
    referable = np.sort(cumulative(probability)[grade >= REFERABLE, REFERABLE - 1])[::-1]
    needed = -(-SENSITIVITY[0] * len(referable) // SENSITIVITY[1])
    return float(referable[needed - 1]) if needed else np.nan


def fit(grade, probability):
    """The operating Point of source validation images. grade (N,) int 0..4, probability (N, 5) float64"""
    warmth = temperature(grade, probability)
    after = frozen_threshold(grade, temper(probability, warmth)) if warmth > 0 else np.nan
    return Point(
        warmth,
        frozen_threshold(grade, probability),
        after,
        len(grade),
        int((np.asarray(grade) >= REFERABLE).sum()),
    )


def points(predictions):
    """{selection: Point} from the validation rows of one run; rows in canonical order, columns selection, split, grade and p0..p4."""
    found = {}
    for selection, rows in predictions.groupby("selection", sort=True):
        val = rows[rows["split"] == "val"]
        found[selection] = fit(
            val["grade"].to_numpy(np.int64), val[PROBABILITIES].to_numpy(np.float64)
        )
    return found


def _share(part, whole):
    with np.errstate(invalid="ignore", divide="ignore"):
        return part / whole


def ranked(event, score, weight):
    """AUC of an event by a score, and the sensitivity at a specificity of at least 0.90. (N,) bool, (N,), (R, N) or None -> (R,), (R,)

    Counts alone are added, so both are exact. No image called referable is one of the choices: sensitivity 0, specificity 1.
    """
    order = np.argsort(-score, kind="stable")
    event, last = (
        event[order, None],
        np.flatnonzero(np.diff(score[order], append=-np.inf)),
    )  # last image of each run of equal scores
    areas, best = [np.empty(0)], [np.empty(0)]
    for block in blocks(weight, len(score)):
        drawn = np.ascontiguousarray(block.T[order])
        hits, alarms = (
            np.cumsum(drawn * kind, axis=0)[last] for kind in (event, ~event)
        )  # at each score as the threshold
        hits, alarms = (
            np.concatenate([np.zeros((1, drawn.shape[1])), counts]) for counts in (hits, alarms)
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


def referable(grade, probability, threshold, weight=None):
    """Every name of REFERABLES on each resample: discrimination of referable DR, and yes-or-no decisions at each threshold of the scale.

    referable_auc         : AUC of q_2 for grade >= 2
    sensitivity_at_spec90 : the most that a threshold chosen on these very images reaches with a specificity >= 0.90: an oracle
    sensitivity           : share of referable images with q_2 >= threshold
    specificity           : share of the others with q_2 < threshold
    ..._half_k            : the same of the event grade >= k at q_k >= 0.5

    grade (N,) int 0..4, probability (N, 5) float64, threshold on q_2 (NaN: undefined), weight (R, N) or None for R = 1
    returns {name: (R,) float64}; NaN where the images drawn hold no event, or events only, and the measure needs them
    """
    grade, probability = checked(grade, probability)
    q, event = cumulative(probability), exceeds(grade)
    k = REFERABLE - 1
    positive = np.concatenate(
        [q[:, k : k + 1] >= threshold, q >= HALF], axis=1
    )  # (N, 5) bool: at the threshold, at 0.5 of each q
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


def clinical(point, grade, probability, weight=None):
    """Every name of CLINICAL, before and after the temperature: the rows of MEASURES after METRICS, in order.

    point: Point; the rest as `referable`. returns {name: (R,) float64}; `_t` is NaN without a temperature
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


def document(found):
    """{selection: Point} as the content of operating.json: null where undefined."""
    return {
        selection: {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in point._asdict().items()
        }
        for selection, point in found.items()
    }
