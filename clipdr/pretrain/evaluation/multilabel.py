"""Scores of several yes-or-no findings per patient, under any number of bootstrap resamples at once.

Input: findings (N, C) 0/1, scores (N, C), how often each row is drawn (R, N). Output: (R,) per metric. Undefined stays NaN.
"""

import numpy as np

from clipdr import DataError
from clipdr.evaluation.operating_point import ranked


def auroc(positive, score, weight):
    """Area under the ROC curve of one finding, ties half: (N,), (N,), (R, N) -> (R,); NaN where a kind is not drawn."""
    return ranked(positive > 0, score, weight)[0]


def average_precision(positive, score, weight):
    """Average precision of one finding as scikit-learn defines it: (N,), (N,), (R, N) -> (R,); NaN where it is not drawn."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # ties stand together
    drawn = weight[:, order].astype(np.float64)
    true, rows = np.cumsum(drawn * positive[order], 1)[:, last], np.cumsum(drawn, 1)[:, last]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(rows > 0, true / rows, 0)
        return (np.diff(true, axis=1, prepend=0.0) * precision).sum(1) / true[:, -1]


def macro(metric, finding, score, weight=None):
    """Mean of a metric over the findings with both values in the test set, and their number.

    finding : (N, C) 0/1;  score : (N, C) float64, finite;  weight : (R, N) or None, each row once
    returns   (R,) float64, mean over those findings that are defined in the resample; number of findings
    """
    finding, score = np.asarray(finding, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if finding.shape != score.shape or not np.isfinite(score).all():
        raise DataError(
            f"multilabel: findings {finding.shape} and scores {score.shape} must agree, scores be finite"
        )
    weight = np.ones((1, len(finding))) if weight is None else weight
    both = [
        place for place in range(finding.shape[1]) if 0 < finding[:, place].sum() < len(finding)
    ]
    if not both:
        return np.full(len(weight), np.nan), 0
    values = np.stack([metric(finding[:, place], score[:, place], weight) for place in both])
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(0) / defined.sum(0), len(both)


def best_threshold(finding, score):
    """Threshold of one finding with the highest F1 on validation (the lowest wins a tie): a score at or above it is a yes."""
    candidates = np.unique(score)
    yes = score[:, None] >= candidates
    true = (yes & (finding[:, None] == 1)).sum(0)
    f1 = 2 * true / np.maximum(yes.sum(0) + finding.sum(), 1)
    return float(candidates[f1.argmax()])


def summary(finding, probability, threshold):
    """Further numbers at thresholds fixed on validation, each row once.

    finding : (N, C) 0/1;  probability : (N, C) in [0, 1];  threshold : (C,)
    returns   {balanced_accuracy, macro_f1, brier, odir_score}: means over findings with both values; odir_score: mean of kappa, F1 and
              AUROC over the flattened findings at 0.5 (ODIR-2019's, from general knowledge)
    """
    from sklearn import metrics as sk

    both = (finding.sum(0) > 0) & (finding.sum(0) < len(finding))
    said = probability >= threshold
    pairs = [(finding[:, place], said[:, place]) for place in np.flatnonzero(both)]
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


METRICS = {"macro_auroc": auroc, "macro_map": average_precision}
