"""Metrics of several 0/1 findings per patient, for any number of bootstrap resamples at once.

Input: findings (N, C) 0/1, scores (N, C), and how often each row is sampled (R, N). Output: (R,)
per metric; an undefined value is NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clipdr import DataError
from clipdr.evaluation.operating_point import ranked

Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def auroc(positive: np.ndarray, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of one finding; a tie counts half.

    Args:
        positive: (N,) 0 or 1.
        score: (N,) float64.
        weight: (R, N), how often each row is sampled.

    Returns:
        (R,) float64, NaN where a resample lacks positives or negatives.
    """
    return ranked(positive > 0, score, weight)[0]


def average_precision(positive: np.ndarray, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Average precision of one finding, as scikit-learn defines it.

    Args:
        positive: (N,) 0 or 1.
        score: (N,) float64.
        weight: (R, N), how often each row is sampled.

    Returns:
        (R,) float64, NaN where a resample lacks positives.
    """
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # ties share a step
    draws = weight[:, order].astype(np.float64)
    true, rows = np.cumsum(draws * positive[order], 1)[:, last], np.cumsum(draws, 1)[:, last]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(rows > 0, true / rows, 0)
        return (np.diff(true, axis=1, prepend=0.0) * precision).sum(1) / true[:, -1]


def macro(
    metric: Metric, finding: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Average a metric over the findings that have both values.

    Args:
        metric: `auroc` or `average_precision`.
        finding: (N, C) 0 or 1.
        score: (N, C) float64, finite.
        weight: (R, N), how often each row is sampled; None: each row once, R = 1.

    Returns:
        (R,) float64, the mean over those findings that are defined in the resample; and the number
        of findings with both values in the N rows (0: all values are NaN).

    Raises:
        DataError: If the shapes differ or a score is not finite.
    """
    finding, score = np.asarray(finding, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if finding.shape != score.shape or not np.isfinite(score).all():
        raise DataError(
            f"multilabel: findings have shape {finding.shape} and scores {score.shape}. "
            "Give equal shapes and finite scores."
        )
    weight = np.ones((1, len(finding))) if weight is None else weight
    both = [
        column for column in range(finding.shape[1]) if 0 < finding[:, column].sum() < len(finding)
    ]
    if not both:
        return np.full(len(weight), np.nan), 0
    values = np.stack([metric(finding[:, column], score[:, column], weight) for column in both])
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(0) / defined.sum(0), len(both)


def best_threshold(finding: np.ndarray, score: np.ndarray) -> float:
    """Return the threshold of one finding with the highest F1; of equal ones the lowest.

    Args:
        finding: (N,) 0 or 1, of the validation split.
        score: (N,) float64. A score at or above the threshold is positive.
    """
    candidates = np.unique(score)
    positive = score[:, None] >= candidates
    true = (positive & (finding[:, None] == 1)).sum(0)
    f1 = 2 * true / np.maximum(positive.sum(0) + finding.sum(), 1)
    return float(candidates[f1.argmax()])


def summary(
    finding: np.ndarray, probability: np.ndarray, threshold: np.ndarray
) -> dict[str, float]:
    """Compute further scores at thresholds fixed on validation, each row once.

    Args:
        finding: (N, C) 0 or 1.
        probability: (N, C) in [0, 1].
        threshold: (C,).

    Returns:
        balanced_accuracy, macro_f1 and brier, means over the findings with both values; odir_score,
        the mean of kappa, F1 and AUROC over the flattened findings at a threshold of 0.5 (that of
        ODIR-2019, from general knowledge).
    """
    from sklearn import metrics as sk

    both = (finding.sum(0) > 0) & (finding.sum(0) < len(finding))
    positive = probability >= threshold
    pairs = [(finding[:, column], positive[:, column]) for column in np.flatnonzero(both)]
    flat, flat_probability = finding.ravel(), probability.ravel()
    parts = (
        sk.cohen_kappa_score(flat, flat_probability >= 0.5),
        sk.f1_score(flat, flat_probability >= 0.5, average="micro"),
        sk.roc_auc_score(flat, flat_probability) if 0 < flat.sum() < len(flat) else np.nan,
    )
    return {
        "balanced_accuracy": float(np.mean([sk.balanced_accuracy_score(*pair) for pair in pairs]))
        if pairs
        else np.nan,
        "macro_f1": float(np.mean([sk.f1_score(*pair) for pair in pairs])) if pairs else np.nan,
        "brier": float(((probability - finding) ** 2)[:, both].mean()) if pairs else np.nan,
        "odir_score": float(np.mean(parts)),
    }


METRICS: dict[str, Metric] = {"macro_auroc": auroc, "macro_map": average_precision}
