"""Tables of the report about the runs: model selection, settings, environment, domains.

Input: runs, their scores, and manifests. Output: Views.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from clipdr import GRADES, REFERABLE
from clipdr.artifacts.run_folder import Run
from clipdr.evaluation.aggregate import average
from clipdr.evaluation.schema import AVERAGE, HEADLINE, rules_of
from clipdr.report.labels import PROTOCOLS, SELECTIONS, STYLES
from clipdr.report.tables.notes import OTHER_RULE
from clipdr.report.tables.table import UNDEFINED
from clipdr.report.tables.views import Cell, View, cell

TRAINING = {  # setting of the training -> head of its column
    "epochs": "Epochs",
    "batch_size": "Batch",
    "optimizer": "Optimiser",
    "lr": "Learning rate",
    "schedule": "Schedule",
    "augment": "Augmentation",
    "evaluations": "Evaluations",
    "precision": "Precision",
}


def selection(runs: Sequence[Run], scores: pd.DataFrame) -> tuple[View, View]:
    """Effect of the rule of model selection.

    Args:
        runs: Runs of one protocol.
        scores: Their scores (`aggregate.collect`).

    Returns:
        Scores of the selected checkpoint beside those of the other rules, by method; and the
        evaluations and the selected step of every run.
    """
    rules = [HEADLINE, *sorted(set(scores["selection"]) - set(rules_of(HEADLINE)))]
    means = {
        rule: average(scores, selection=rule).set_index(["method", "held_out", "metric"])["mean"]
        for rule in rules
    }
    metrics = [metric for metric in ("auc", "qwk") if metric in STYLES]
    heads = ["Method"]
    for metric in metrics:
        heads += [f"{STYLES[metric].title} {rule}" for rule in rules]
        heads += [f"{rule} minus {HEADLINE}" for rule in rules[1:]]
    body = []
    for method in dict.fromkeys(run.method for run in runs):
        row = [Cell(method)]
        for metric in metrics:
            style, key = STYLES[metric], (method, AVERAGE, metric)
            values = [style.factor * means[rule].get(key, float("nan")) for rule in rules]
            row += [cell(value, style.decimals) for value in values]
            row += [cell(value - values[0], style.decimals, "+") for value in values[1:]]
        body.append(row)
    notes = [f"{rule}: {SELECTIONS.get(rule, OTHER_RULE)}." for rule in rules]
    over = PROTOCOLS[runs[0].protocol][1]
    caption = f"Unweighted mean over the {over} under each rule of selection, and the difference."
    each = [
        [Cell(f"{run.method}, {run.held_out}, seed {run.seed}"), *_selected(run.history)]
        for run in runs
    ]
    steps = View(
        "Evaluations on source validation and the selected step, per run.",
        ["Run", "Evaluations", "Selected step", "Last step", "Source AUC at that step (%)"],
        each,
    )
    return View(caption, heads, body, notes), steps


def _selected(history: pd.DataFrame) -> list[Cell]:
    """Evaluations, selected step, last step and source AUC of one run."""
    if history.empty:
        return [cell(0), Cell("nothing trained"), Cell(""), Cell("")]
    row = history[history["selected"].astype(bool)].iloc[-1]
    auc = cell(100 * row["val_auc"], 1) if "val_auc" in history else Cell(UNDEFINED)
    return [cell(len(history)), cell(row["step"]), cell(history["step"].iloc[-1]), auc]


def domains(manifests: Mapping[str, pd.DataFrame]) -> View:
    """Images, patients, grades and share of referable DR of each domain, {domain: manifest}."""
    body = []
    for name, frame in manifests.items():
        patients = frame.loc[frame["patient"] != "", "patient"].nunique()
        counts = frame["grade"].value_counts().reindex(range(len(GRADES)), fill_value=0)
        images = [cell(len(frame)), cell(patients) if patients else Cell("unknown")]
        share = cell(100 * (frame["grade"] >= REFERABLE).mean(), 1)
        body.append([Cell(name), *images, *map(cell, counts), share])
    grades = [f"{grade} {name}" for grade, name in enumerate(GRADES)]
    heads = ["Domain", "Images", "Patients", *grades, "Referable DR (%)"]
    return View("Images of each domain by grade.", heads, body)


def settings(runs: Sequence[Run]) -> View:
    """Training settings, one row per method, with all values of its runs."""
    body = []
    for method in dict.fromkeys(run.method for run in runs):
        own = [run.settings for run in runs if run.method == method]
        encoder = _values(
            f"{setting['backbone']['name']}{' (frozen)' if setting['frozen'] else ''}"
            for setting in own
        )
        options = _values(
            json.dumps(setting["options"], sort_keys=True) if setting["options"] else "defaults"
            for setting in own
        )
        pixels = _values(setting["image"]["input"] for setting in own)
        training = [_values(setting["training"][name] for setting in own) for name in TRAINING]
        body.append([Cell(text) for text in (method, encoder, pixels, *training, options)])
    note = (
        "Methods without gradient descent (zero_shot, linear_probe) do not use the training "
        "columns."
    )
    heads = ["Method", "Image encoder", "Input (pixels)", *TRAINING.values(), "Options"]
    caption = "Settings of every method, as in settings.json of its runs."
    return View(caption, heads, body, [note])


def _values(values: Iterable[Any]) -> str:
    """Distinct values in one line."""
    texts = (f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    return ", ".join(dict.fromkeys(texts))


def environment(runs: Sequence[Run]) -> View:
    """Commit, versions, machine and cost, each distinct value with its number of runs."""
    keys = {"Commit": "commit", "Python": "python", "Device": "device", "Threads": "threads"}
    facts = {
        title: [str(run.provenance[key] or "unknown") for run in runs]
        for title, key in keys.items()
    }
    for package in runs[0].provenance["versions"]:
        facts[package] = [run.provenance["versions"].get(package, "absent") for run in runs]
    body = []
    for title, values in facts.items():
        counted = (f"{value} ({values.count(value)} runs)" for value in dict.fromkeys(values))
        body.append([Cell(title), Cell("; ".join(counted))])
    seconds = sum(run.provenance["seconds"] for run in runs)
    peak = max(run.provenance["peak_mib"] for run in runs)
    hours = Cell(f"{seconds / 3600:.2f} hours ({seconds:,.0f} s)", number=seconds)
    body.append([Cell("Time of all training jobs"), hours])
    body.append([Cell("Largest memory of a job"), Cell(f"{peak:,.0f} MiB", number=peak)])
    caption = f"Environment of {len(runs)} runs, from their provenance.json."
    return View(caption, ["Item", "Value"], body)
