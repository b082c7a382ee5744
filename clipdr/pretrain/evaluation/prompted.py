"""Zero-shot and few-shot evaluation of a pre-training run on a patients table.

Input: a run folder and a patients table. Output: two tables, zeroshot.csv and fewshot.csv, of the
    test split. Everything that
is chosen is chosen on validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from clipdr.evaluation.metrics import METRICS
from clipdr.evaluation.statistics import interval, resample
from clipdr.pretrain import run
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.data.loader import Visits
from clipdr.pretrain.evaluation import few_shot, zero_shot
from clipdr.pretrain.evaluation.finding_scores import findings
from clipdr.pretrain.model import LEVELS, Aligned, RetClip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from clipdr.pretrain.settings import Rules

FEW_SHOT_LABEL = "D"  # the finding of the few-shot task


def prompt_run(
    run_folder: Path,
    table: pd.DataFrame,
    data: Path,
    labels: Sequence[str],
    language: str = "en",
    single: str = "patient",
    shots: Sequence[int] = (),
    seed: int = 42,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the prompt predictions of a pre-training run; see `score_prompts`.

    Args:
        run_folder: Folder of a finished pre-training run.
        table: Patients table.
        data: Folder with manifests/ and store/ of its images.
        labels: 0/1 columns of the table.
        language: Of the prompts.
        single: Mode of single eyes, see `zero_shot.zero_shot_single_eyes`.
        shots: Patients per class of the few-shot adapters.
        seed: Of the shots.
    """
    model, rules = run.load(run_folder)
    return score_prompts(model, rules, table, data, labels, language, single, shots, seed)


def score_prompts(
    model: RetClip,
    rules: Rules,
    table: pd.DataFrame,
    data: Path,
    labels: Sequence[str],
    language: str,
    single: str,
    shots: Sequence[int],
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the prompt predictions of a model on the test split.

    Zero-shot findings are scored for the patient's vector of both eyes, and for the larger
    probability of the two eyes, each given alone. A column `grade` adds the macro AUC of the five
    grades.

    Args:
        model: Pre-trained network.
        rules: Settings of its run.
        table: Patients table.
        data: Folder with manifests/ and store/ of its images.
        labels: 0/1 columns of the table.
        language: Of the prompts.
        single: Mode of single eyes, see `zero_shot.zero_shot_single_eyes`.
        shots: Patients per class of the few-shot adapters.
        seed: Of the shots.

    Returns:
        Rows of zeroshot.csv, and rows of fewshot.csv (none without the label D).
    """
    prompts, finding = zero_shot.read_prompts(language), findings(table, labels)
    embedded = run.embed(model, table, data, rules)
    patient, split = patients_table.patients(table), table["split"].to_numpy(object)
    test = split == "test"
    vectors = torch.from_numpy(embedded.image[LEVELS.index("patient")])
    both = zero_shot.zero_shot_findings(model, Aligned("patient", vectors[test]), prompts, labels)
    predictions = {
        "both eyes": both,
        f"one eye at a time ({single}), larger": larger_of_eyes(
            model, rules, table[test], data, prompts, labels, single
        ),
    }
    rows = [
        {"input": name} | row
        for name, probability in predictions.items()
        for row in zero_shot.score_labels(finding[test], probability, patient[test], labels)
    ]
    if "grade" in table:
        image = Aligned("patient", vectors[test])
        rows.append(
            {"input": "both eyes"} | score_grades(model, image, table[test], patient[test], prompts)
        )
    few = []
    if FEW_SHOT_LABEL in labels:
        positive = finding[:, list(labels).index(FEW_SHOT_LABEL)]
        few = score_few_shot(model, vectors, positive, split, patient, prompts, shots, seed)
    return pd.DataFrame(rows), pd.DataFrame(few)


def score_grades(
    model: RetClip,
    image: Aligned,
    table: pd.DataFrame,
    patient: np.ndarray,
    prompts: Mapping[str, Any],
    resamples: int = 2000,
) -> dict[str, Any]:
    """Compute the macro AUC of the patient's grade from the five ICDR phrases, with its interval.

    Args:
        model: Pre-trained network.
        image: (N, E) vectors of the patient level.
        table: N rows with a column grade, "0" to "4".
        patient: (N,) group key of the resamples.
        prompts: As `zero_shot.read_prompts` returns them.
        resamples: Number of resamples.

    Returns:
        A row of zeroshot.csv; auroc is NaN where a grade is absent.
    """
    logits = zero_shot.zero_shot_grades(model, image, prompts)
    grade = table["grade"].astype(int).to_numpy()
    probability = torch.from_numpy(logits).softmax(1).numpy()
    low, high, _ = interval(
        METRICS["auc"](grade, probability, resample(patient, resamples, "zeroshot"))
    )
    return {
        "label": "grade, macro AUC",
        "auroc": float(METRICS["auc"](grade, probability)[0]),
        "low": low,
        "high": high,
        "findings": 5,
        "n": len(grade),
    }


def larger_of_eyes(
    model: RetClip,
    rules: Rules,
    table: pd.DataFrame,
    data: Path,
    prompts: Mapping[str, Any],
    labels: Sequence[str],
    single: str,
) -> np.ndarray:
    """Return the larger probability of a patient's eyes, each given alone, (N, C) float64."""
    visits = Visits(table, data, rules.model_copy(update={"flip": "none"}), model.text)
    out = np.full((len(visits), 2, len(labels)), -1.0)
    for start in range(0, len(visits), 64):
        rows = np.arange(start, min(start + 64, len(visits)))
        batch = visits.batch(rows)
        for eye, side in enumerate(patients_table.SIDES):
            there = batch.present[:, eye]
            if there.any():
                with torch.no_grad():
                    probability = zero_shot.zero_shot_single_eyes(
                        model, prompts, labels, {side: batch.image[there, eye]}, single
                    )
                out[rows[there.numpy()], eye] = probability[side]
    return out.max(1)


def score_few_shot(
    model: RetClip,
    vectors: torch.Tensor,
    positive: np.ndarray,
    split: np.ndarray,
    patient: np.ndarray,
    prompts: Mapping[str, Any],
    shots: Sequence[int],
    seed: int,
) -> list[dict[str, Any]]:
    """Score D by zero-shot and by each adapter and number of shots.

    Args:
        model: Pre-trained network.
        vectors: (N, E) float32 vectors of the patient level.
        positive: (N,) int64, 0 or 1.
        split: (N,) "train", "val" or "test".
        patient: (N,) group key; the shots are sampled by patient.
        prompts: As `zero_shot.read_prompts` returns them.
        shots: Patients per class.
        seed: Of the shots.

    Returns:
        Rows of fewshot.csv: method, shots, seed, balanced_accuracy, auroc_D.
    """
    from sklearn.metrics import roc_auc_score

    pair = [  # class 1 is positive
        prompts["findings"][FEW_SHOT_LABEL][kind] for kind in ("negative", "positive")
    ]
    weights = zero_shot.text_weights(model, pair, prompts["templates"]["patient"], "patient").vector
    scale = zero_shot.multiplier(model, "patient")
    test, val = split == "test", split == "val"

    def row(method: str, count: int, logits: torch.Tensor) -> dict[str, Any]:
        margin = (logits[:, 1] - logits[:, 0]).numpy()
        return {
            "method": method,
            "shots": count,
            "seed": seed,
            "balanced_accuracy": few_shot.balanced_accuracy(logits, positive[test]),
            "auroc_D": float(roc_auc_score(positive[test], margin)),
        }

    rows = [row("zero_shot", 0, scale * vectors[test] @ weights.T)]
    for count in shots:
        chosen = few_shot.sample_shots(
            np.where(split == "train", positive, -1), patient, count, seed
        )
        parts = (
            vectors[chosen],
            positive[chosen],
            vectors[val],
            positive[val],
            vectors[test],
            weights,
            scale,
        )
        rows += [
            row(method, count, few_shot.few_shot(method, *parts).detach())
            for method in few_shot.ADAPTERS
        ]
    return rows
