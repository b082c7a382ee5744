"""METRICS: one definition for the reported value, for selection and for every bootstrap resample.

Input: the grades and probabilities of all images of a test set at once, and how often each image was drawn.
Output: one number per resample. Definitions: gdrbench, section "Metrics"; NaN means undefined and is never replaced by 0 or 1.
"""

from itertools import pairwise, permutations

import numpy as np

from clipdr import GRADES, DataError

G = len(GRADES)
BLOCK = (
    2**17
)  # (resamples x images) held as float64 at a time: 1 MiB, so that a block stays in the cache

_DISTANCE = np.abs(np.arange(G)[:, None] - np.arange(G)[None, :]).astype(
    np.float64
)  # |true grade - predicted grade|


def checked(grade, probability):
    """(N,) grades and (N, 5) probabilities as int64 and float64, or DataError: a wrong grade or a NaN would give a plausible one."""
    grade, probability = np.asarray(grade), np.asarray(probability, dtype=np.float64)
    if probability.shape != (len(grade), G):
        raise DataError(
            f"metrics: {len(grade)} grades need probabilities of shape ({len(grade)}, {G}), got {probability.shape}"
        )
    if len(grade) and not (np.isin(grade, np.arange(G)).all() and np.isfinite(probability).all()):
        raise DataError(
            "metrics: grades must be 0..4 and probabilities finite; check the predictions"
        )
    return grade.astype(np.int64), probability


def blocks(weight, n):
    """Yields the weights as float64 blocks (B, N) with B * N about BLOCK; None is one resample that draws each image once."""
    if weight is None:
        yield np.ones((1, n))
        return
    if weight.ndim != 2 or weight.shape[1] != n:
        raise DataError(f"metrics: weights must have shape (resamples, {n}), got {weight.shape}")
    size = max(1, BLOCK // max(1, n))
    for start in range(0, len(weight), size):
        yield weight[start : start + size].astype(np.float64)


def confusion(grade, probability, weight=None):
    """Confusion matrix of each resample; the predicted grade is the most probable one, the lowest on ties.

    grade       : (N,) int, 0..4
    probability : (N, 5) float64
    weight      : (R, N), times each image is drawn, or None for R = 1
    returns       (R, 5, 5) float64, rows = true grade, columns = predicted grade
    """
    grade, probability = checked(grade, probability)
    cell = np.eye(G * G)[grade * G + probability.argmax(axis=1)]  # (N, 25), one-hot
    counts = [block @ cell for block in blocks(weight, len(grade))]
    return np.concatenate(counts).reshape(-1, G, G) if counts else np.empty((0, G, G))


def auc(grade, probability, weight=None):
    """Macro one-versus-one AUC (Hand and Till, 2001): the unweighted mean of A(j|k) over the 20 ordered pairs of grades.

    A(j|k) = P(p_j of a grade-j image > p_j of a grade-k image) + P(equal) / 2. NaN in each resample where a grade is absent.

    grade (N,) int 0..4, probability (N, 5) float64, weight (R, N) or None -> (R,) float64
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
        drawn = np.ascontiguousarray(
            block.T[order]
        )  # (N, B): each step below works on whole rows of resamples
        total = [drawn[rows].sum(axis=0) for rows in member]
        area = np.zeros(drawn.shape[1])
        for j, k, rising, below, upto in plan:
            seen = np.zeros(
                (len(rising) + 1, drawn.shape[1])
            )  # drawn images of grade k among the i lowest
            np.cumsum(drawn[member[k]][rising], axis=0, out=seen[1:])
            beaten = 2 * seen[below] if upto is None else seen[below] + seen[upto]
            wins = (
                np.einsum("nb,nb->b", drawn[member[j]], beaten) / 2
            )  # whole and half counts: exact
            with np.errstate(invalid="ignore"):
                area += wins / (total[j] * total[k])
        areas.append(area / len(plan))
    return np.concatenate(areas) if areas else np.empty(0)


def mae_expected(grade, probability, weight=None):
    """Mean |expected grade - grade|, in grades; the expected grade is sum_k k p_k. Arguments as `auc`."""
    grade, probability = checked(grade, probability)
    error = np.abs(probability @ np.arange(G) - grade)
    with np.errstate(invalid="ignore"):
        # not a matrix product: its order of summation, and so the last bit, depends on the number of threads
        means = [
            (block * error).sum(axis=1) / block.sum(axis=1) for block in blocks(weight, len(grade))
        ]
    return np.concatenate(means) if means else np.empty(0)


def _accuracy(m):
    return np.trace(m, axis1=1, axis2=2) / m.sum(axis=(1, 2))


def _macro_f1(m):
    return (2 * np.diagonal(m, axis1=1, axis2=2) / (m.sum(axis=2) + m.sum(axis=1))).mean(axis=1)


def _qwk(m):
    expected = (
        m.sum(axis=2)[:, :, None] * m.sum(axis=1)[:, None, :] / m.sum(axis=(1, 2))[:, None, None]
    )
    return 1 - (_DISTANCE**2 * m).sum(axis=(1, 2)) / (_DISTANCE**2 * expected).sum(axis=(1, 2))


def _mae(m):
    return (_DISTANCE * m).sum(axis=(1, 2)) / m.sum(axis=(1, 2))


def _recall(c):
    return lambda m: m[:, c, c] / m[:, c].sum(axis=1)


def _from_confusion(statistic):
    """A metric from a statistic (R, 5, 5) -> (R,). Each undefined case is a 0/0 of its definition, hence NaN."""

    def metric(grade, probability, weight=None):
        with np.errstate(invalid="ignore", divide="ignore"):
            return statistic(confusion(grade, probability, weight))

    return metric


# name -> f(grade (N,) int, probability (N, 5) float64, weight (R, N) or None) -> (R,) float64; order = rows of scores.csv
METRICS = {
    "auc": auc,
    "accuracy": _from_confusion(_accuracy),
    "macro_f1": _from_confusion(_macro_f1),
    "qwk": _from_confusion(_qwk),
    "mae": _from_confusion(_mae),
    "mae_expected": mae_expected,
    **{f"recall_{c}": _from_confusion(_recall(c)) for c in range(G)},
}


def reference(metric, grade, probability):
    """The metric by scikit-learn, where it is defined. metric: a key of METRICS; grade (N,) int; probability (N, 5) float64."""
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
