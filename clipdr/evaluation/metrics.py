"""Metrics of grading: one definition for reported values, model selection and bootstrap resamples.

Input: grades and probabilities of all images of a test set at once, and how often each resample
holds each image. Output: one number per resample. NaN means undefined and is never replaced by 0
or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, permutations

import numpy as np

from clipdr import GRADES, DataError

G = len(GRADES)
# (resamples x images) held as float64 at a time: 1 MiB, so that a block stays in the CPU cache
BLOCK = 2**17

Metric = Callable[..., np.ndarray]

# |true grade - predicted grade|, (5, 5)
_DISTANCE = np.abs(np.arange(G)[:, None] - np.arange(G)[None, :]).astype(np.float64)


def checked(grade: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check grades and probabilities, because a wrong value would give a plausible metric.

    Args:
        grade: (N,) grades.
        probability: (N, 5) probabilities.

    Returns:
        The grades as int64 and the probabilities as float64.

    Raises:
        DataError: If a shape is wrong, a grade is not 0..4 or a probability is not finite.
    """
    grade, probability = np.asarray(grade), np.asarray(probability, dtype=np.float64)
    if probability.shape != (len(grade), G):
        raise DataError(
            f"metrics: {len(grade)} grades need probabilities of shape ({len(grade)}, {G}), not "
            f"{probability.shape}. Pass one row per image."
        )
    if len(grade) and not (np.isin(grade, np.arange(G)).all() and np.isfinite(probability).all()):
        raise DataError(
            "metrics: grades must be 0..4 and probabilities finite. Check the predictions."
        )
    return grade.astype(np.int64), probability


def blocks(weight: np.ndarray | None, n: int) -> Iterator[np.ndarray]:
    """Yield weights in float64 blocks (B, N) with B * N about BLOCK.

    Args:
        weight: (R, N), how often each resample holds each image. None: one resample with
            each image once.
        n: Number of images N.

    Raises:
        DataError: If the weights have another shape.
    """
    if weight is None:
        yield np.ones((1, n))
        return
    if weight.ndim != 2 or weight.shape[1] != n:
        raise DataError(
            f"metrics: weights must have shape (resamples, {n}), not {weight.shape}. "
            "Resample the same images."
        )
    size = max(1, BLOCK // max(1, n))
    for start in range(0, len(weight), size):
        yield weight[start : start + size].astype(np.float64)


def confusion(
    grade: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """Compute the confusion matrix of each resample.

    The predicted grade is the most probable one, the lowest on ties.

    Args:
        grade: (N,) int, 0..4.
        probability: (N, 5) float64.
        weight: (R, N), how often each resample holds each image, or None for R = 1.

    Returns:
        (R, 5, 5) float64, rows = true grade, columns = predicted grade.
    """
    grade, probability = checked(grade, probability)
    cell = np.eye(G * G)[grade * G + probability.argmax(axis=1)]  # (N, 25), one-hot
    counts = [block @ cell for block in blocks(weight, len(grade))]
    return np.concatenate(counts).reshape(-1, G, G) if counts else np.empty((0, G, G))


def auc(grade: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Compute the macro one-versus-one AUC (Hand and Till, 2001).

    It is the unweighted mean of A(j|k) over the 20 ordered pairs of grades, where
    A(j|k) = P(p_j of a grade-j image > p_j of a grade-k image) + P(equal) / 2.

    Args:
        grade: (N,) int, 0..4.
        probability: (N, 5) float64.
        weight: (R, N), how often each resample holds each image, or None for R = 1.

    Returns:
        (R,) float64 in [0, 1]; NaN in each resample where a grade is absent.
    """
    grade, probability = checked(grade, probability)
    order = np.argsort(grade, kind="stable")
    bounds = np.searchsorted(grade[order], np.arange(G + 1))
    member = [slice(a, b) for a, b in pairwise(bounds)]
    probability = probability[order]
    plan = []
    for j, k in permutations(range(G), 2):
        rising = np.argsort(probability[member[k], j], kind="stable")
        others = probability[member[k], j][rising]
        below, upto = (
            np.searchsorted(others, probability[member[j], j], side) for side in ("left", "right")
        )
        plan.append((j, k, rising, below, None if (below == upto).all() else upto))

    areas = []
    for block in blocks(weight, len(grade)):
        # (N, B): each step below works on whole rows of resamples
        counts = np.ascontiguousarray(block.T[order])
        total = [counts[rows].sum(axis=0) for rows in member]
        area = np.zeros(counts.shape[1])
        for j, k, rising, below, upto in plan:
            # images of grade k in the resample among the i lowest
            lower = np.zeros((len(rising) + 1, counts.shape[1]))
            np.cumsum(counts[member[k]][rising], axis=0, out=lower[1:])
            beaten = 2 * lower[below] if upto is None else lower[below] + lower[upto]
            # whole and half counts, so the sum is exact
            wins = np.einsum("nb,nb->b", counts[member[j]], beaten) / 2
            with np.errstate(invalid="ignore"):
                area += wins / (total[j] * total[k])
        areas.append(area / len(plan))
    return np.concatenate(areas) if areas else np.empty(0)


def mae_expected(
    grade: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """Compute the mean |expected grade - grade|, where the expected grade is sum_k k p_k.

    Args:
        grade: (N,) int, 0..4.
        probability: (N, 5) float64.
        weight: (R, N), how often each resample holds each image, or None for R = 1.

    Returns:
        (R,) float64, in grades.
    """
    grade, probability = checked(grade, probability)
    error = np.abs(probability @ np.arange(G) - grade)
    with np.errstate(invalid="ignore"):
        # Not a matrix product, because its order of summation depends on the number of threads.
        means = [
            (block * error).sum(axis=1) / block.sum(axis=1) for block in blocks(weight, len(grade))
        ]
    return np.concatenate(means) if means else np.empty(0)


def _accuracy(m: np.ndarray) -> np.ndarray:
    return np.trace(m, axis1=1, axis2=2) / m.sum(axis=(1, 2))


def _macro_f1(m: np.ndarray) -> np.ndarray:
    return (2 * np.diagonal(m, axis1=1, axis2=2) / (m.sum(axis=2) + m.sum(axis=1))).mean(axis=1)


def _qwk(m: np.ndarray) -> np.ndarray:
    expected = (
        m.sum(axis=2)[:, :, None] * m.sum(axis=1)[:, None, :] / m.sum(axis=(1, 2))[:, None, None]
    )
    return 1 - (_DISTANCE**2 * m).sum(axis=(1, 2)) / (_DISTANCE**2 * expected).sum(axis=(1, 2))


def _mae(m: np.ndarray) -> np.ndarray:
    return (_DISTANCE * m).sum(axis=(1, 2)) / m.sum(axis=(1, 2))


def _recall(c: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda m: m[:, c, c] / m[:, c].sum(axis=1)


def _from_confusion(statistic: Callable[[np.ndarray], np.ndarray]) -> Metric:
    """A metric from a statistic (R, 5, 5) -> (R,). An undefined case is 0/0, hence NaN."""

    def metric(
        grade: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None
    ) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return statistic(confusion(grade, probability, weight))

    return metric


# name -> f(grade (N,) int, probability (N, 5) float64, weight (R, N) or None) -> (R,) float64, in
# the order of the rows of scores.csv
METRICS: dict[str, Metric] = {
    "auc": auc,
    "accuracy": _from_confusion(_accuracy),
    "macro_f1": _from_confusion(_macro_f1),
    "qwk": _from_confusion(_qwk),
    "mae": _from_confusion(_mae),
    "mae_expected": mae_expected,
    **{f"recall_{c}": _from_confusion(_recall(c)) for c in range(G)},
}


def reference(metric: str, grade: np.ndarray, probability: np.ndarray) -> float:
    """Compute a metric with scikit-learn, where it is defined.

    Args:
        metric: A key of METRICS.
        grade: (N,) int, 0..4.
        probability: (N, 5) float64.
    """
    from sklearn import metrics as sk

    grades, predicted = list(range(G)), probability.argmax(axis=1)
    table = {
        "auc": lambda: sk.roc_auc_score(
            grade, probability, multi_class="ovo", average="macro", labels=grades
        ),
        "accuracy": lambda: sk.accuracy_score(grade, predicted),
        "macro_f1": lambda: sk.f1_score(grade, predicted, labels=grades, average="macro"),
        "qwk": lambda: sk.cohen_kappa_score(grade, predicted, labels=grades, weights="quadratic"),
        "mae": lambda: sk.mean_absolute_error(grade, predicted),
        "mae_expected": lambda: sk.mean_absolute_error(grade, probability @ np.arange(G)),
        **{
            f"recall_{c}": lambda c=c: sk.recall_score(
                grade, predicted, labels=[c], average="macro"
            )
            for c in grades
        },
    }
    return table[metric]()
