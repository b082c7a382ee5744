"""Grading by a multimodal model: predictions, further metrics, absence curves and attribution.

Input: a model and datasets by split. Output: rows and tables. `clipdr.evaluation.scoring` scores
the predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipdr import REFERABLE
from clipdr.evaluation.metrics import METRICS, confusion
from clipdr.evaluation.operating_point import ranked
from clipdr.evaluation.predictions import probabilities, table
from clipdr.evaluation.statistics import interval, resample
from clipdr.multimodal.data.splits import patients_of
from clipdr.multimodal.fusion import SCALES
from clipdr.multimodal.prediction import predict

if TYPE_CHECKING:
    import torch

    from clipdr.multimodal.data.loader import EyeDataset
    from clipdr.multimodal.fusion import Multimodal

    Datasets = Mapping[str, EyeDataset]  # by split

STRATA = ("camera", "quality", "age_band", "sex")
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of test eyes without structured data or text


def predictions(
    model: Multimodal,
    datasets: Datasets,
    scale: str,
    method: str,
    held_out: str,
    seed: int,
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """Predict validation and test eyes that have a grade.

    Args:
        model: Model.
        datasets: Datasets "val" and "test".
        scale: "icdr" or "sdrg".
        method: Name of the model in run folders.
        held_out: Name of the test patients in run folders.
        seed: Seed of the model.
        device: Device of the model.

    Returns:
        Rows of predictions.parquet.
    """
    logits = {split: predict(model, datasets[split], device)[scale] for split in ("val", "test")}
    return prediction_table(logits, datasets, scale, method, held_out, seed)


def prediction_table(
    logits: Mapping[str, np.ndarray],
    datasets: Datasets,
    scale: str,
    method: str,
    held_out: str,
    seed: int,
) -> pd.DataFrame:
    """Arrange logits as rows of predictions.parquet under the protocol brset_{scale}.

    Args:
        logits: (N, 5) logits per split.
        datasets: Datasets of the same splits.
        scale: "icdr" or "sdrg".
        method: Name of the method in run folders.
        held_out: Name of the test patients in run folders.
        seed: Seed of the method.

    Returns:
        Rows of the eyes that have a grade.
    """
    key = {"protocol": f"brset_{scale}", "method": method, "held_out": held_out, "seed": seed}
    tables = []
    for split, values in logits.items():
        grade = datasets[split].grade[scale].numpy()
        graded = grade >= 0
        eyes = datasets[split].eyes[graded].assign(domain=held_out, grade=grade[graded])
        graded_logits = values[graded].astype(np.float32)
        tables.append(table(key, "source_val", split, eyes, graded_logits, float("nan")))
    return pd.concat(tables, ignore_index=True)


def manifest(datasets: Datasets, scale: str, held_out: str) -> pd.DataFrame:
    """List the eyes that `clipdr.evaluation.scoring` scores.

    Args:
        datasets: Datasets "val" and "test".
        scale: "icdr" or "sdrg".
        held_out: Name of the test patients in run folders.

    Returns:
        Table of image, patient, grade on the scale, and domain.
    """
    eyes = pd.concat([datasets[split].eyes for split in ("val", "test")], ignore_index=True)
    graded = eyes[eyes[scale] >= 0]
    return pd.DataFrame(
        {
            "image": graded["image"],
            "patient": patients_of(graded),
            "grade": graded[scale],
            "domain": held_out,
        }
    )


def auroc(
    grade: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """Compute the macro one-versus-rest AUROC over the grades that occur.

    Args:
        grade: (N,) grades.
        probability: (N, 5) probabilities.
        weight: (R, N) weights of R resamples, or None for one unweighted value.

    Returns:
        (R,) values in [0, 1], NaN where undefined.
    """
    occurring = [
        g for g in range(probability.shape[1]) if (grade == g).any() and (grade != g).any()
    ]
    if not occurring:
        return np.array([np.nan])
    return np.mean([ranked(grade == g, probability[:, g], weight)[0] for g in occurring], axis=0)


def balanced_accuracy(
    grade: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """Compute the mean recall over the grades that occur in `grade`.

    Args:
        grade: (N,) grades.
        probability: (N, 5) probabilities.
        weight: (R, N) weights of R resamples, or None for one unweighted value.

    Returns:
        (R,) values in [0, 1], NaN in a resample that lacks one of the grades.
    """
    occurring = np.unique(grade)
    matrix = confusion(grade, probability, weight)[:, occurring]
    with np.errstate(invalid="ignore"):
        recalls = np.stack(
            [matrix[:, index, g] for index, g in enumerate(occurring)], 1
        ) / matrix.sum(2)
    return recalls.mean(1)


# Beside those of clipdr.evaluation.metrics; defined on the grades that occur.
FURTHER = {"balanced_accuracy": balanced_accuracy, "auroc": auroc}
STRATIFIED = {"accuracy": METRICS["accuracy"], "qwk": METRICS["qwk"], **FURTHER}


def further_metrics(
    predicted: pd.DataFrame, eyes: pd.DataFrame, resamples: int
) -> list[dict[str, Any]]:
    """Compute further metrics of the test split, over all eyes and in strata.

    Args:
        predicted: Rows of predictions.parquet.
        eyes: Eye table of the test split.
        resamples: Resamples of patients behind each 95 % interval.

    Returns:
        Rows stratum, of, metric, n, value, low, high, undefined. Strata with fewer than two
        patients have no row.
    """
    test = predicted[predicted["split"] == "test"].sort_values("image", kind="stable")
    test = test.reset_index(drop=True)
    about = eyes.set_index("image").loc[test["image"]]
    patient = patients_of(about.reset_index()).to_numpy()
    groups = {("all", ""): np.ones(len(test), bool)}
    groups |= {
        (name, value): (about[name] == value).to_numpy()
        for name in STRATA
        for value in sorted(set(about[name]) - {""})
    }
    all_probabilities = test[[f"p{k}" for k in range(5)]].to_numpy()
    rows = []
    for (stratum, value), member in groups.items():
        grade, probability = test["grade"].to_numpy()[member], all_probabilities[member]
        if len(set(patient[member])) < 2:
            continue
        weight = resample(patient[member], resamples, f"{stratum} {value}")
        for metric, compute in (FURTHER if stratum == "all" else STRATIFIED).items():
            low, high, undefined = interval(compute(grade, probability, weight))
            rows.append(
                {
                    "stratum": stratum,
                    "of": value,
                    "metric": metric,
                    "n": len(grade),
                    "value": float(compute(grade, probability)[0]),
                    "low": low,
                    "high": high,
                    "undefined": undefined,
                }
            )
    return rows


def absence_curves(
    model: Multimodal, datasets: Datasets, seed: int, device: torch.device | str = "cpu"
) -> list[dict[str, Any]]:
    """Score the test eyes with structured data or text removed from a growing share of them.

    Args:
        model: Model.
        datasets: Dataset "test".
        seed: Seed of the order in which eyes lose the modality.
        device: Device of the model.

    Returns:
        Rows modality, share, scale, qwk, macro_f1, accuracy.
    """
    test, rows = datasets["test"], []
    read = {"row": model.setting.inputs != "none", "text": test.history is not None}
    order = np.random.default_rng((seed, 6)).permutation(len(test))
    for name in (name for name, is_read in read.items() if is_read):
        for share in SHARES:
            absent = np.zeros(len(test), bool)
            absent[order[: round(share * len(test))]] = True
            logits = predict(model, test, device, absent={name: absent})
            for scale in SCALES:
                grade = test.grade[scale].numpy()
                graded = grade >= 0
                if graded.any():
                    probability = probabilities(logits[scale][graded])
                    scores = {
                        metric: float(METRICS[metric](grade[graded], probability)[0])
                        for metric in ("qwk", "macro_f1", "accuracy")
                    }
                    rows.append({"modality": name, "share": share, "scale": scale} | scores)
    return rows


def attribution(
    model: Multimodal, eyes: EyeDataset, device: torch.device | str = "cpu"
) -> list[dict[str, Any]]:
    """Measure what a prediction depends on, by masking one modality at a time (occlusion).

    An image is masked here only, never in training.

    Args:
        model: Model.
        eyes: Test eyes.
        device: Device of the model.

    Returns:
        Rows modality, scale, change (mean absolute change of the expected grade, in grades) and
        decision_changed (share of eyes whose referable decision changes). A scale without grades
        has no row, because its head was masked.
    """
    whole = {scale: _expected(logits) for scale, logits in predict(model, eyes, device).items()}
    modalities = ["image"]
    modalities += ["row"] * (model.setting.inputs != "none")
    modalities += ["text"] * (eyes.history is not None)
    graded = [scale for scale in SCALES if (eyes.grade[scale] >= 0).any()]
    rows = []
    for name in modalities:
        logits = predict(model, eyes, device, without=(name,))
        for scale in graded:
            masked = _expected(logits[scale])
            referable = (whole[scale] >= REFERABLE - 0.5) != (masked >= REFERABLE - 0.5)
            rows.append(
                {
                    "modality": name,
                    "scale": scale,
                    "change": float(np.abs(whole[scale] - masked).mean()),
                    "decision_changed": float(referable.mean()),
                }
            )
    return rows


def _expected(logits: np.ndarray) -> np.ndarray:
    """Expected grade, (N, 5) logits -> (N,)."""
    return probabilities(logits) @ np.arange(5)
