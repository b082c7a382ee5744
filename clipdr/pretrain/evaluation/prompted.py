"""Zero- and few-shot answers of a run on a patients table. Input: a RetClip, a table. Output: two frames, zeroshot.csv and fewshot.csv."""

import numpy as np
import pandas as pd
import torch

from clipdr.evaluation.metrics import METRICS
from clipdr.evaluation.statistics import interval, resample
from clipdr.pretrain import run
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.data.loader import Visits
from clipdr.pretrain.evaluation import few_shot, zero_shot
from clipdr.pretrain.evaluation.linear_probe import findings
from clipdr.pretrain.model import LEVELS, Aligned

YES_NO = "D"  # the finding of the few-shot task


def answer(model, rules, table, data, labels, language, single, shots, seed):
    """(zero-shot rows, few-shot rows), of the test split; everything that is chosen is chosen on validation.

    Zero-shot: patient vectors of both eyes, and the larger probability of the two eyes seen one at a time.
    """
    prompts, finding = zero_shot.read_prompts(language), findings(table, labels)
    found, patient, split = (
        run.embed(model, table, data, rules),
        patients_table.patients(table),
        table["split"].to_numpy(object),
    )
    test = split == "test"
    z = torch.from_numpy(found.image[LEVELS.index("patient")])
    both = zero_shot.zero_shot_findings(model, Aligned("patient", z[test]), prompts, labels)
    asked = {
        "both eyes": both,
        f"one eye at a time ({single}), larger": larger(
            model, rules, table[test], data, prompts, labels, single
        ),
    }
    rows = [
        {"input": name} | row
        for name, probability in asked.items()
        for row in zero_shot.findings_scored(finding[test], probability, patient[test], labels)
    ]
    if "grade" in table:
        rows.append(
            {"input": "both eyes"}
            | grades_scored(model, Aligned("patient", z[test]), table[test], patient[test], prompts)
        )
    few = (
        few_shots(model, z, finding[:, labels.index(YES_NO)], split, patient, prompts, shots, seed)
        if YES_NO in labels
        else []
    )
    return pd.DataFrame(rows), pd.DataFrame(few)


def grades_scored(model, image, table, patient, prompts, resamples=2000):
    """Macro AUC of the five ICDR phrases for the patient's grade (column grade, 0..4), NaN where a grade is absent; its interval."""
    logits, grade = (
        zero_shot.zero_shot_grades(model, image, prompts),
        table["grade"].astype(int).to_numpy(),
    )
    probability = torch.from_numpy(logits).softmax(1).numpy()
    low, high, _ = interval(
        METRICS["auc"](grade, probability, resample(patient, resamples, "zeroshot"))
    )
    value = float(METRICS["auc"](grade, probability)[0])
    return {
        "label": "grade, macro AUC",
        "auroc": value,
        "low": low,
        "high": high,
        "findings": 5,
        "n": len(grade),
    }


def larger(model, rules, table, data, prompts, labels, single):
    """Per finding the larger probability of the eyes that are there, (N, C)."""
    rows = Visits(table, data, rules.model_copy(update={"flip": "none"}), model.text)
    out = np.full((len(rows), 2, len(labels)), -1.0)
    for start in range(0, len(rows), 64):
        chosen = np.arange(start, min(start + 64, len(rows)))
        batch = rows.batch(chosen)
        for eye, side in enumerate(patients_table.SIDES):
            there = batch.present[:, eye]
            if there.any():
                with torch.no_grad():
                    said = zero_shot.single_eyes(
                        model, prompts, labels, {side: batch.image[there, eye]}, single
                    )[side]
                out[chosen[there.numpy()], eye] = said
    return out.max(1)


def few_shots(model, z, finding, split, patient, prompts, shots, seed):
    """Balanced accuracy and AUROC of D by each adapter and number of shots, and of zero-shot: rows of fewshot.csv."""
    from sklearn.metrics import roc_auc_score

    pair = [
        prompts["findings"][YES_NO][kind] for kind in ("negative", "positive")
    ]  # class 1 is yes
    weights = zero_shot.text_weights(model, pair, prompts["templates"]["patient"], "patient").vector
    scale = float(model.log_scale.detach()[LEVELS.index("patient")].exp())
    rows, test, val = [], split == "test", split == "val"

    def row(method, count, logits):
        event = float(roc_auc_score(finding[test], (logits[:, 1] - logits[:, 0]).numpy()))
        return {
            "method": method,
            "shots": count,
            "seed": seed,
            "balanced_accuracy": few_shot.accuracy(logits, finding[test]),
            "auroc_D": event,
        }

    rows.append(row("zero_shot", 0, scale * z[test] @ weights.T))
    for count in shots:
        chosen = few_shot.shots(np.where(split == "train", finding, -1), patient, count, seed)
        parts = (z[chosen], finding[chosen], z[val], finding[val], z[test], weights, scale)
        rows += [
            row(method, count, few_shot.few_shot(method, *parts).detach())
            for method in few_shot.ADAPTERS
        ]
    return rows
