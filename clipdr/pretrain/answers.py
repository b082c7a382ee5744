"""Zero- and few-shot answers of a run on a patients table. Input: a RetClip, a table. Output: two frames, zeroshot.csv and fewshot.csv."""

import numpy as np
import pandas as pd
import torch

from clipdr.pretrain import aligned, jobs, pairs
from clipdr.pretrain.batches import Visits
from clipdr.pretrain.probe import findings
from clipdr.pretrain.ret_clip import LEVELS, Aligned

YES_NO = "D"  # the finding of the few-shot task


def answer(model, rules, table, data, labels, language, single, shots, seed):
    """(zero-shot rows, few-shot rows), of the test split; everything that is chosen is chosen on validation.

    Zero-shot: patient vectors of both eyes, and the larger probability of the two eyes seen one at a time.
    """
    prompts, finding = aligned.read_prompts(language), findings(table, labels)
    found, patient, split = jobs.embed(model, table, data, rules), pairs.patients(table), table["split"].to_numpy(object)
    test = split == "test"
    z = torch.from_numpy(found.image[LEVELS.index("patient")])
    both = aligned.zero_shot_findings(model, Aligned("patient", z[test]), prompts, labels)
    asked = {"both eyes": both, f"one eye at a time ({single}), larger": larger(model, rules, table[test], data, prompts, labels, single)}
    rows = [
        {"input": name} | row
        for name, probability in asked.items()
        for row in aligned.findings_scored(finding[test], probability, patient[test], labels)
    ]
    few = few_shots(model, z, finding[:, labels.index(YES_NO)], split, patient, prompts, shots, seed) if YES_NO in labels else []
    return pd.DataFrame(rows), pd.DataFrame(few)


def larger(model, rules, table, data, prompts, labels, single):
    """Per finding the larger probability of the eyes that are there, (N, C)."""
    rows = Visits(table, data, rules.model_copy(update={"flip": "none"}), model.text)
    out = np.full((len(rows), 2, len(labels)), -1.0)
    for start in range(0, len(rows), 64):
        chosen = np.arange(start, min(start + 64, len(rows)))
        batch = rows.batch(chosen)
        for eye, side in enumerate(pairs.SIDES):
            there = batch.present[:, eye]
            if there.any():
                with torch.no_grad():
                    said = aligned.single_eyes(model, prompts, labels, {side: batch.image[there, eye]}, single)[side]
                out[chosen[there.numpy()], eye] = said
    return out.max(1)


def few_shots(model, z, finding, split, patient, prompts, shots, seed):
    """Balanced accuracy and AUROC of D by each adapter and number of shots, and of zero-shot: rows of fewshot.csv."""
    from sklearn.metrics import roc_auc_score

    pair = [prompts["findings"][YES_NO][kind] for kind in ("negative", "positive")]  # class 1 is yes
    weights = aligned.text_weights(model, pair, prompts["templates"]["patient"], "patient").vector
    scale = float(model.log_scale.detach()[LEVELS.index("patient")].exp())
    rows, test, val = [], split == "test", split == "val"

    def row(method, count, logits):
        event = float(roc_auc_score(finding[test], (logits[:, 1] - logits[:, 0]).numpy()))
        return {
            "method": method,
            "shots": count,
            "seed": seed,
            "balanced_accuracy": aligned.accuracy(logits, finding[test]),
            "auroc_D": event,
        }

    rows.append(row("zero_shot", 0, scale * z[test] @ weights.T))
    for count in shots:
        chosen = aligned.shots(np.where(split == "train", finding, -1), patient, count, seed)
        parts = (z[chosen], finding[chosen], z[val], finding[val], z[test], weights, scale)
        rows += [row(method, count, aligned.few_shot(method, *parts).detach()) for method in aligned.ADAPTERS]
    return rows
