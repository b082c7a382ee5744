"""Rules of model selection that need more than one run: leave-one-source-domain-out validation, and the oracle.

loso   : for each source d the method is trained on the other sources and scored on the whole of d at the same shares of the budget; the
         run's own checkpoint is taken at the evaluation with the best mean over d (Gulrajani & Lopez-Paz, 2021, leave-one-domain-out
         cross-validation; they choose hyper-parameters so and retrain on all sources, here the evaluation is what is chosen).
oracle : the checkpoint with the best AUC on the held-out test images. It uses the test grades: a bound, never a result.

Both choose among the evaluations that source_val chooses among (after 30 % of the budget, the earliest wins a tie).
Input: checkpoints of a run, histories of its inner runs. Output: history.csv of an inner run; selected.parquet of a run.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from clipdr import DataError
from clipdr.artifacts.files import replacing, write_text
from clipdr.config.job import Training
from clipdr.data.manifest import read_manifests
from clipdr.data.splits import fold
from clipdr.evaluation.metrics import METRICS
from clipdr.evaluation.predictions import probabilities, table
from clipdr.training.distributed import resolve_device
from clipdr.training.loop import SELECTION, WARM, fit, predict, restore, source_of
from clipdr.training.run import build, with_method_rules


def curve(settings, method, left_out, seed, *, manifests, data, device="auto"):
    """History of a method trained on all domains at hand but one and validated on the whole of that one.

    manifests : of the source domains of a run and no others: what that run holds out is not among its arguments
    """
    device, settings = resolve_device(device), with_method_rules(settings, method)
    manifest = read_manifests(manifests)
    parts = fold(manifest, "dg", left_out)
    parts = {"train": parts["train"], "val": parts["test"]}
    torch.manual_seed(seed)
    model, rows = build(settings, method, data, manifest, parts, device)
    return fit(
        model,
        rows["train"],
        rows["val"],
        Training(**settings["training"]),
        seed=seed,
        device=device,
    ).history


def leave_one_out(history, inner):
    """Step of a run's history that leave-one-source-domain-out validation chooses; None without steps.

    history : of the run;  inner : {left-out source: its curve}, evaluated as often as the run
    """
    if "val_auc" not in history:
        return None
    for name, one in inner.items():
        if len(one) != len(history):
            raise DataError(
                f"loso: {name}: {len(one)} evaluations for {len(history)} of the run; train it for as many"
            )
    mean = np.mean([one[f"val_{SELECTION}"].to_numpy() for one in inner.values()], axis=0)
    return best(dict(zip(history["step"], mean, strict=True)), history["step"].max())


def best(scores, steps):
    """The step with the best score: {step: score}, earliest on a tie, after the share of the budget that source_val waits for."""
    late = {
        step: score for step, score in scores.items() if step > WARM * steps and not np.isnan(score)
    }
    if not late:
        raise DataError(
            "selection: AUC is undefined at every evaluation; it needs images of every grade"
        )
    return int(max(late, key=late.get))


def select(folder, rules, inner, *, manifests, data, device="auto"):
    """Predict with the weights that further rules choose: selected.parquet and selected.json ({rule: step}) in a run folder.

    rules : of loso, oracle;  inner : {left-out source: path of history.csv}, for loso

    A method without steps has one set of weights, which every rule chooses.
    """
    folder, device = Path(folder), resolve_device(device)
    settings = json.loads((folder / "settings.json").read_text())
    key = {name: settings.pop(name) for name in ("protocol", "method", "held_out", "seed")}
    manifest = read_manifests(manifests)
    parts = fold(manifest, key["protocol"], key["held_out"])
    model, rows = build(settings, key["method"], data, manifest, parts, device)
    model.begin(
        source_of(rows["train"], rows["val"], Training(**settings["training"]))
    )  # state that a method makes for its sources
    history = pd.read_csv(folder / "history.csv")
    checkpoints = split(load_file(folder / "checkpoints.safetensors"))
    chosen = {}
    if "loso" in rules:
        chosen["loso"] = leave_one_out(
            history, {name: pd.read_csv(path) for name, path in inner.items()}
        )
    if "oracle" in rules:
        chosen["oracle"] = oracle(model, rows["test"], checkpoints, device)
    tables = []
    for rule, step in chosen.items():
        restore(
            model,
            checkpoints[step] if step is not None else load_file(folder / "model.safetensors"),
        )
        tables += [
            table(key, rule, name, parts[name], predict(model, rows[name], device), model.scale)
            for name in ("val", "test")
        ]
    write_text(folder / "selected.json", json.dumps(chosen, indent=1) + "\n")
    with replacing(folder / "selected.parquet") as path:
        pd.concat(tables, ignore_index=True).to_parquet(path, index=False)


def oracle(model, test, checkpoints, device):
    """Step of the checkpoint with the best AUC on the test images; None without checkpoints. Uses the test grades."""
    scores, grade = {}, test.grade.numpy()
    for step, state in checkpoints.items():
        restore(model, state)
        scores[step] = float(
            METRICS[SELECTION](grade, probabilities(predict(model, test, device)))[0]
        )
    return best(scores, max(scores)) if scores else None


def split(stored):
    """{"STEP/NAME": tensor} -> {step: {name: tensor}}, in the order of the steps."""
    states = {}
    for key, value in stored.items():
        step, name = key.split("/", 1)
        states.setdefault(int(step), {})[name] = value
    return dict(sorted(states.items()))
