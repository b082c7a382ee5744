"""Scores of several findings per patient, with intervals over resampled test patients.

A finding is a 0/1 column of the patients table, for example D for diabetic retinopathy. Thresholds
are chosen on the validation split and the test split is scored once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.evaluation.statistics import interval, resample, standard_error
from clipdr.pretrain.evaluation.multilabel import METRICS, best_threshold, macro, summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESAMPLES = 2000


def findings(table: pd.DataFrame, labels: Sequence[str]) -> np.ndarray:
    """Return the columns of some findings.

    Args:
        table: Patients table, N rows.
        labels: Names of C columns.

    Returns:
        (N, C) int64, 0 or 1.

    Raises:
        DataError: If a column is missing or holds anything but 0 and 1.
    """
    absent = [name for name in labels if name not in table]
    if absent:
        raise DataError(
            f"patients table: no column {', '.join(absent)}. Choose other columns with --labels."
        )
    values = table[list(labels)].to_numpy(object)
    wrong = ~np.isin(values, ["0", "1"])
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"patients table, row {row + 2}: {labels[column]} is {values[row, column]!r}, "
            "expected 0 or 1. Correct the table."
        )
    return values.astype(np.int64)


def score_findings(
    finding: np.ndarray,
    probability: np.ndarray,
    split: np.ndarray,
    patient: np.ndarray,
    labels: Sequence[str],
    key: str = "test",
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Score the test split, with 95 % intervals over resampled patients.

    Args:
        finding: (N, C) int64, 0 or 1.
        probability: (N, C) float64 in [0, 1].
        split: (N,) "train", "val" or "test".
        patient: (N,) group key of the resamples.
        labels: Names of the C findings; D gets an AUROC of its own.
        key: Key of the random resamples; another key gives other resamples.

    Returns:
        Rows with metric, value, low, high, findings and undefined; and the resampled values
        {metric: (R,) float64}.
    """
    test, val = split == "test", split == "val"
    weight = resample(patient[test], RESAMPLES, key)
    rows: list[dict[str, Any]] = []
    draws: dict[str, np.ndarray] = {}
    every = list(range(finding.shape[1]))
    metrics = {name: (metric, every) for name, metric in METRICS.items()}
    if "D" in labels:
        metrics["auroc_D"] = METRICS["macro_auroc"], [list(labels).index("D")]
    for name, (metric, columns) in metrics.items():
        truth, score = finding[test][:, columns], probability[test][:, columns]
        value, count = macro(metric, truth, score)
        draws[name] = macro(metric, truth, score, weight)[0]
        low, high, undefined = interval(draws[name])
        rows.append(
            {
                "metric": name,
                "value": float(value[0]),
                "low": low,
                "high": high,
                "findings": count,
                "undefined": undefined,
            }
        )
    thresholds = np.array(
        [best_threshold(finding[val, column], probability[val, column]) for column in every]
    )
    rows += [
        {
            "metric": name,
            "value": value,
            "low": np.nan,
            "high": np.nan,
            "findings": rows[0]["findings"],
            "undefined": 0,
        }
        for name, value in summary(finding[test], probability[test], thresholds).items()
    ]
    return rows, draws


def average_seeds(
    tables: Sequence[pd.DataFrame], draws: Sequence[Mapping[str, Mapping[str, np.ndarray]]]
) -> pd.DataFrame:
    """Average probes over seeds: standard error over seeds, interval over resampled test patients.

    A patient in the test split of two seeds counts as two in the interval, which is a little too
    narrow for that reason.

    Args:
        tables: Rows of `linear_probe.probe`, one table per seed.
        draws: Resampled values of `linear_probe.probe`, one mapping per seed.

    Returns:
        One row per network, comparison and metric: value, se, low, high, seeds. The interval is
        absent where a metric has no resampled values.
    """
    rows = []
    for (network, against, metric), part in pd.concat(tables).groupby(
        ["network", "against", "metric"], sort=False
    ):
        values = part["value"].to_numpy()
        row = {
            "network": network,
            "against": against,
            "metric": metric,
            "value": values.mean(),
            "se": standard_error(values),
        }
        if metric in draws[0][network]:
            resampled = [
                seed[network][metric] - (seed[against][metric] if against else 0) for seed in draws
            ]
            row["low"], row["high"], _ = interval(np.mean(resampled, axis=0))
        rows.append(row | {"seeds": len(values)})
    return pd.DataFrame(rows)
