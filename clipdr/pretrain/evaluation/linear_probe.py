"""Linear probe: logistic regression on frozen image features of both eyes.

Input: a pre-training run and a patients table with 0/1 columns. Output: rows of probes.csv and
    their resampled values. The
strength of the penalty is chosen on validation, the test split is scored once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.evaluation.statistics import paired
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.evaluation.finding_scores import findings, score_findings
from clipdr.pretrain.evaluation.multilabel import METRICS, macro

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

STRENGTHS = tuple(10.0**power for power in range(-5, 1))
WEIGHTS = ("trained", "start", "random")  # of the same network
NOT_RUN = (  # of the eight data sets of the paper
    "IDRiD",
    "APTOS-2019",
    "PAPILA",
    "Glaucoma Fundus",
    "JSIEC",
    "Retina",
    "RFMiD",
)


def probe_run(
    run_folder: Path, table: pd.DataFrame, data: Path, labels: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, dict[str, np.ndarray]]]:
    """Probe a pre-training run with its weights, those it started with, and random ones.

    Args:
        run_folder: Folder of a finished pre-training run.
        table: Patients table.
        data: Folder with manifests/ and store/ of its images.
        labels: 0/1 columns of the table.

    Returns:
        As `probe`.
    """
    from clipdr.pretrain import run

    features, seed = {}, 0
    for weights in WEIGHTS:
        model, rules = run.load(run_folder, weights)
        embedded = run.embed(model, table, data, rules)
        features[weights], seed = both_eyes(embedded.raw, embedded.present), rules.seed
    return probe(features, table, labels, f"test/{seed}")


def both_eyes(raw: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Concatenate the features of both eyes; one eye alone fills both halves.

    Args:
        raw: (N, 2, E) features of the left and the right eye.
        present: (N, 2) bool.

    Returns:
        (N, 2E) float64.
    """
    left = np.where(present[:, :1], raw[:, 0], raw[:, 1])
    right = np.where(present[:, 1:], raw[:, 1], raw[:, 0])
    return np.concatenate([left, right], 1).astype(np.float64)


def logistic(
    features: np.ndarray, finding: np.ndarray, split: np.ndarray
) -> tuple[np.ndarray, float]:
    """Fit an L2 logistic regression per finding on standardised features.

    Mean and deviation come from the training split. One strength serves all findings: the one with
    the highest macro AUROC on validation, of equal ones the smallest.

    Args:
        features: (N, F) float64.
        finding: (N, C) int64, 0 or 1.
        split: (N,) "train", "val" or "test".

    Returns:
        (N, C) float64 probabilities of every row, and the strength. A finding with one value only
        in train has its share there for every row.

    Raises:
        DataError: If no finding has both values on validation.
    """
    from sklearn.linear_model import LogisticRegression

    train, val = split == "train", split == "val"
    mean, deviation = features[train].mean(0), features[train].std(0)
    scaled = (features - mean) / np.where(deviation > 0, deviation, 1)

    def fit(strength: float) -> np.ndarray:
        out = np.tile(finding[train].mean(0), (len(finding), 1))
        for column in np.flatnonzero((finding[train].min(0) == 0) & (finding[train].max(0) == 1)):
            model = LogisticRegression(C=strength, max_iter=1000).fit(
                scaled[train], finding[train, column]
            )
            out[:, column] = model.predict_proba(scaled)[:, 1]
        return out

    candidates = {strength: fit(strength) for strength in STRENGTHS}
    scores = {
        strength: macro(METRICS["macro_auroc"], finding[val], out[val])[0][0]
        for strength, out in candidates.items()
    }
    if np.isnan(list(scores.values())).all():
        raise DataError(
            "linear probe: no finding has both values on validation. "
            "Add validation patients to the table."
        )
    best = max(scores, key=lambda strength: (np.nan_to_num(scores[strength], nan=-1), -strength))
    return candidates[best], best


def probe(
    features: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    labels: Sequence[str],
    key: str = "test",
) -> tuple[pd.DataFrame, dict[str, dict[str, np.ndarray]]]:
    """Probe the features of several networks on one table.

    Args:
        features: {network: (N, F)}, "trained" first.
        table: Patients table, N rows.
        labels: 0/1 columns of the table.
        key: Key of the random resamples, another one per seed.

    Returns:
        Rows of probes.csv, with the paired differences trained - other network; and the resampled
        values {network: {metric: (R,) float64}}.
    """
    finding, patient = findings(table, labels), patients_table.patients(table)
    split = table["split"].to_numpy(object)
    rows, draws = [], {}
    for network, values in features.items():
        probability, strength = logistic(values, finding, split)
        scores, draws[network] = score_findings(
            finding, probability, split, patient, list(labels), key
        )
        rows += [{"network": network, "against": "", "strength": strength} | row for row in scores]
    exact = {(row["network"], row["metric"]): row["value"] for row in rows}
    for other in list(features)[1:]:
        for metric in draws["trained"]:
            difference = paired(draws["trained"][metric], draws[other][metric])
            rows.append(
                {
                    "network": "trained",
                    "against": other,
                    "metric": metric,
                    "value": exact["trained", metric] - exact[other, metric],
                    "low": difference.low,
                    "high": difference.high,
                    "p": difference.p,
                    "undefined": difference.undefined,
                }
            )
    test = split == "test"
    return pd.DataFrame(rows).assign(n=int(test.sum()), clusters=len(set(patient[test]))), draws


def write(path: Path, rows: pd.DataFrame, draws: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write the results of `probe`.

    Args:
        path: Of the CSV file with the rows.
        rows: Rows of probes.csv.
        draws: Resampled values. They go to an .npz file beside the CSV, keys {network}/{metric}.
    """
    from clipdr.artifacts.files import replacing, write_text

    arrays: dict[str, Any] = {
        f"{network}/{metric}": values
        for network, metrics in draws.items()
        for metric, values in metrics.items()
    }
    with replacing(path.with_suffix(".npz")) as temporary:
        np.savez(temporary, **arrays)
    write_text(path, rows.to_csv(index=False, lineterminator="\n"))
