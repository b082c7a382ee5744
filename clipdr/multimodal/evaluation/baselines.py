"""Baselines without images, and the test whether the multimodal gain is significant.

Baselines: constant grade shares, a lookup of findings, structured data alone, missing flags alone.
Input: datasets by split and the eye table. Output: (N, 5) log-probabilities per method and split,
in the shape of a model's logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.evaluation.metrics import METRICS, G
from clipdr.evaluation.operating_point import MEASURES, ranked
from clipdr.evaluation.predictions import probabilities
from clipdr.evaluation.statistics import Paired, paired
from clipdr.multimodal.data import eye_table, structured_data

if TYPE_CHECKING:
    from clipdr.multimodal.data.loader import EyeDataset

    Arrays = Mapping[str, np.ndarray]  # split -> array
    Tables = Mapping[str, pd.DataFrame]  # split -> eye table

FLOOR = 1e-6  # least probability of a grade, so that log-probabilities stay finite
# Controls whose scores a claim of a multimodal gain needs.
CONTROLS = ("image_only", "structured_gb", "missingness", "shuffled_at_test")
STRUCTURED = ("structured_gb", "structured_mlp")  # baselines of the structured row alone
LOOKUP_COLUMNS = (*eye_table.ANATOMY, *eye_table.FLAGS)  # 16 columns, none of them a grade


def to_logits(probability: np.ndarray) -> np.ndarray:
    """Convert probabilities to log-probabilities with a floor, (N, 5) -> (N, 5)."""
    clipped = np.clip(probability, FLOOR, None)
    return np.log(clipped / clipped.sum(1, keepdims=True))


def majority(grade: np.ndarray, tables: Tables) -> dict[str, np.ndarray]:
    """Predict the shares of the training grades for every eye.

    Args:
        grade: (n,) training grades.
        tables: Eye table of N rows per split.

    Returns:
        (N, 5) probabilities per split.
    """
    share = np.bincount(grade, minlength=G) / len(grade)
    return {split: np.tile(share, (len(rows), 1)) for split, rows in tables.items()}


def lookup(train: pd.DataFrame, grade: np.ndarray, tables: Tables) -> dict[str, np.ndarray]:
    """Predict the shares of the training grades among eyes with the same findings and anatomy.

    The baseline sees no image: its score shows how much of a grade the finding columns hold.

    Args:
        train: Eye table of the training rows.
        grade: (n,) training grades.
        tables: Eye table of N rows per split.

    Returns:
        (N, 5) probabilities per split; the shares of all training eyes where no training eye has
        the same findings.
    """
    share = np.bincount(grade, minlength=G) / len(grade)
    counts: dict[tuple[Any, ...], np.ndarray] = {}
    for key, value in zip(_keys(train), grade, strict=True):
        counts.setdefault(key, np.zeros(G))[value] += 1
    return {
        split: np.stack(
            [counts[key] / counts[key].sum() if key in counts else share for key in _keys(rows)]
        )
        for split, rows in tables.items()
    }


def _keys(eyes: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Findings and anatomy of each eye."""
    return [tuple(row) for row in eyes[list(LOOKUP_COLUMNS)].fillna(-1).to_numpy()]


def _fit_and_predict(
    model: Any, inputs: np.ndarray, grade: np.ndarray, arrays: Arrays
) -> dict[str, np.ndarray]:
    """Probabilities (N, 5) per split of a scikit-learn classifier fitted on training inputs."""
    model.fit(inputs, grade)
    predicted = {}
    for split, values in arrays.items():
        predicted[split] = np.zeros((len(values), G))
        predicted[split][:, model.classes_] = model.predict_proba(values)
    return predicted


def boosting(
    inputs: np.ndarray, grade: np.ndarray, arrays: Arrays, seed: int
) -> dict[str, np.ndarray]:
    """Fit gradient-boosted trees on structured rows.

    Args:
        inputs: (n, F) training inputs.
        grade: (n,) training grades.
        arrays: (N, F) inputs per split.
        seed: Seed of the classifier.

    Returns:
        (N, 5) probabilities per split.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.1, random_state=seed)
    return _fit_and_predict(model, inputs, grade, arrays)


def perceptron(
    inputs: np.ndarray, grade: np.ndarray, arrays: Arrays, seed: int
) -> dict[str, np.ndarray]:
    """Fit an MLP with one hidden layer of 64 on structured rows; arguments as of `boosting`."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((64,), alpha=1e-2, early_stopping=True, max_iter=200, random_state=seed)
    return _fit_and_predict(model, inputs, grade, arrays)


def logistic(inputs: np.ndarray, grade: np.ndarray, arrays: Arrays) -> dict[str, np.ndarray]:
    """Fit a logistic regression on missing flags; arguments as of `boosting`, without a seed."""
    from sklearn.linear_model import LogisticRegression

    return _fit_and_predict(LogisticRegression(max_iter=1000), inputs, grade, arrays)


def fit_baselines(
    datasets: Mapping[str, EyeDataset], scale: str, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Fit all baselines on the training eyes with a grade.

    Args:
        datasets: Datasets by split: "train", "val", "test".
        scale: "icdr" or "sdrg".
        seed: Seed of the classifiers.

    Returns:
        (N, 5) log-probabilities of "val" and "test" for majority, lookup, structured_gb,
        structured_mlp and missingness. The two structured ones are absent under `inputs: none`.

    Raises:
        DataError: If the training eyes hold fewer than two grades.
    """
    train = datasets["train"]
    graded = train.grade[scale].numpy() >= 0
    grade = train.grade[scale].numpy()[graded]
    if len(set(grade)) < 2:
        raise DataError(
            f"controls: the training eyes hold fewer than two {scale} grades. "
            "Use a larger training split, because nothing can be learned from one grade."
        )
    eyes, tables = train.eyes[graded], {split: datasets[split].eyes for split in ("val", "test")}
    predicted = {"majority": majority(grade, tables), "lookup": lookup(eyes, grade, tables)}
    if train.setting.inputs != "none":
        rows = {split: datasets[split].row.numpy() for split in tables}
        inputs = train.row.numpy()[graded]
        predicted["structured_gb"] = boosting(inputs, grade, rows, seed)
        predicted["structured_mlp"] = perceptron(inputs, grade, rows, seed)
    flags = {split: structured_data.missing_flags(rows) for split, rows in tables.items()}
    predicted["missingness"] = logistic(structured_data.missing_flags(eyes), grade, flags)
    return {
        name: {split: to_logits(probability) for split, probability in splits.items()}
        for name, splits in predicted.items()
    }


def run_name(baseline: str, inputs: str) -> str:
    """Name a baseline's run folder.

    Args:
        baseline: A name that `fit_baselines` returns.
        inputs: The setting `inputs` of the model, which chooses the columns of the structured row.

    Returns:
        The name; with the inputs where the baseline reads the structured row, so that models with
        other inputs have other baselines.
    """
    return f"{baseline}_{inputs}" if baseline in STRUCTURED else baseline


def any_retinopathy(logits: np.ndarray, grade: np.ndarray) -> float:
    """Compute the AUROC of P(grade >= 1) for grade >= 1.

    Args:
        logits: (N, 5) logits.
        grade: (N,) grades.

    Returns:
        AUROC in [0, 1], NaN where undefined.
    """
    score = 1 - probabilities(logits.astype(np.float32))[:, 0]
    return float(ranked(grade >= 1, score, None)[0][0])


def paired_difference(draws: Arrays, first: str, second: str, metric: str = "qwk") -> Paired:
    """Compare two methods on shared resamples of patients.

    Args:
        draws: (metrics, R) bootstrap draws per method, as of `clipdr.evaluation.scoring.score`.
        first: Method.
        second: Method that is subtracted.
        metric: A name of `operating_point.MEASURES`.

    Returns:
        The paired difference.
    """
    index = MEASURES.index(metric)
    return paired(draws[first][index], draws[second][index])


def multimodal_gain(
    draws: Arrays, method: str = "multimodal", metric: str = "qwk"
) -> dict[str, Any]:
    """Test whether several modalities help.

    They help only if the difference to image_only has its lower end above 0, the difference to
    structured_gb too, and shuffled structured data at test loses the gain: its difference to
    image_only has its lower end at or below 0.

    Args:
        draws: (metrics, R) bootstrap draws of `method` and of all `CONTROLS`.
        method: Multimodal method.
        metric: A name of `operating_point.MEASURES`.

    Returns:
        "helps" (bool), "metric", and each paired difference as a dict.

    Raises:
        DataError: If a control is absent.
    """
    if absent := [name for name in (method, *CONTROLS) if name not in draws]:
        raise DataError(
            f"controls: {', '.join(absent)} missing. "
            f"A claim that several modalities help needs all of {', '.join(CONTROLS)}."
        )
    gains = {name: paired_difference(draws, method, name, metric) for name in CONTROLS}
    shuffled = paired_difference(draws, "shuffled_at_test", "image_only", metric)
    helps = gains["image_only"].low > 0 and gains["structured_gb"].low > 0 and not shuffled.low > 0
    return {
        "helps": bool(helps),
        "metric": metric,
        "shuffled_at_test - image_only": shuffled._asdict(),
    } | {f"{method} - {name}": gain._asdict() for name, gain in gains.items()}


def constant_metrics(grade: np.ndarray) -> dict[str, float]:
    """Compute the metrics of a constant grade 0.

    Args:
        grade: (N,) grades.

    Returns:
        accuracy, macro_f1 and qwk.
    """
    probability = np.zeros((len(grade), G))
    probability[:, 0] = 1
    return {
        name: float(METRICS[name](grade, probability)[0])
        for name in ("accuracy", "macro_f1", "qwk")
    }
