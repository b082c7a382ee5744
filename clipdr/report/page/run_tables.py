"""What the files of a study say, as plain tables for the page: comparisons, selection, leaks, settings, environment.

Input: files of {results}/ and of run folders. Output: Views, text and numbers without any markup.
"""

import json
from pathlib import Path

import pandas as pd

from clipdr import GRADES, REFERABLE
from clipdr.data import leakage
from clipdr.data.manifest import read_manifest
from clipdr.evaluation.aggregate import average
from clipdr.evaluation.schema import AS_HEADLINE, AVERAGE, HEADLINE
from clipdr.report.labels import PROTOCOLS, SELECTIONS, STYLES
from clipdr.report.page.views import NO_INTERVAL, Cell, View, cell
from clipdr.report.tables.table import MISSING, UNDEFINED


def read_data(data, domains):
    """{domain: manifest}."""
    return {name: read_manifest(data / "manifests" / f"{name}.csv") for name in domains}


COMPARED = (
    "auc",
    "qwk",
    "macro_f1",
    "accuracy",
    "mae",
    "referable_auc",
    "rps",
)  # where they have a style


def comparisons(path, protocol, remarks):
    """comparisons.csv -> Views of the average and of each held-out domain, the average first; [] where the file is missing or empty.

    remarks : of the runs (clipdr.report.tables.notes), for the methods that are not themselves
    """
    if not Path(path).is_file():
        return []
    numbers = dict.fromkeys(["difference", "low", "high", "p", "p_holm"], "")
    table = pd.read_csv(path, keep_default_na=False, na_values=numbers)
    table = table[table["protocol"] == protocol]
    domains = [name for name in table["held_out"].unique() if name != AVERAGE]
    metrics = [
        metric for metric in COMPARED if metric in STYLES and (table["metric"] == metric).any()
    ]
    views = []
    for held_out in sorted(table["held_out"].unique(), key=lambda name: name != AVERAGE):
        part = table[(table["held_out"] == held_out) & table["metric"].isin(metrics)]
        body = [
            [
                Cell(method),
                *(
                    _difference(rows[rows["metric"] == metric], STYLES[metric])
                    for metric in metrics
                ),
            ]
            for method, rows in part.groupby("method", sort=False)
        ]
        notes = (
            [NO_INTERVAL] if any(one.small == "no interval" for row in body for one in row) else []
        )
        first, units = part.iloc[0], sorted(part["unit"].unique())
        methods = [first["reference"], *part["method"].unique()]
        notes += remarks.caution(methods, domains if held_out == AVERAGE else [held_out])
        where = f"Mean of the {PROTOCOLS[protocol][1]}" if held_out == AVERAGE else held_out
        caption = f"{where}: method minus {first['reference']}, 95 % interval and p (Holm over the methods). n = {first['n']:,} photographs"
        caption += (
            f" of {first['clusters']:,} patients."
            if units == ["patient"]
            else "; patients unknown in part: too narrow."
        )
        views.append(View(caption, ["Method", *(head(metric) for metric in metrics)], body, notes))
    return views


def head(metric):
    """A metric as the head of a column, with its unit and, where less is better, that."""
    style = STYLES[metric]
    name = f"{style.title} of referable DR" if metric == "referable_auc" else style.title
    return f"{name} ({'%' if style.factor == 100 else 'grades'}{'' if style.more_is_better else ', less is better'})"


def _difference(rows, style):
    if rows.empty:
        return Cell(MISSING)
    row = rows.iloc[0]
    value, low, high = (style.factor * row[column] for column in ("difference", "low", "high"))
    if pd.isna(value):
        return Cell(UNDEFINED)
    d = style.decimals
    small = (
        "no interval"
        if pd.isna(low)
        else f"{cell(low, d, '+').text} to {cell(high, d, '+').text}; p\u00a0{row['p_holm']:.3f}"
    )
    return cell(value, d, "+")._replace(small=small, mark="clear" if row["p_holm"] < 0.05 else "")


def selection(runs, scores):
    """Two Views: scores of the selected checkpoint beside the other rules, by method; and every run's evaluations and chosen step."""
    rules = [HEADLINE, *sorted(set(scores["selection"]) - set(AS_HEADLINE[HEADLINE]))]
    means = {
        rule: average(scores, selection=rule).set_index(["method", "held_out", "metric"])["mean"]
        for rule in rules
    }
    metrics = [metric for metric in ("auc", "qwk") if metric in STYLES]
    heads = ["Method"]
    for metric in metrics:
        heads += [f"{STYLES[metric].title} {rule}" for rule in rules] + [
            f"{rule} minus {HEADLINE}" for rule in rules[1:]
        ]
    body = []
    for method in dict.fromkeys(run.method for run in runs):
        row = [Cell(method)]
        for metric in metrics:
            style, key = STYLES[metric], (method, AVERAGE, metric)
            values = [style.factor * means[rule].get(key, float("nan")) for rule in rules]
            row += [cell(value, style.decimals) for value in values]
            row += [cell(value - values[0], style.decimals, "+") for value in values[1:]]
        body.append(row)
    notes = [f"{rule}: {SELECTIONS.get(rule, 'a rule of this study')}." for rule in rules]
    caption = f"Unweighted mean over the {PROTOCOLS[runs[0].protocol][1]} under each selection rule, and what the rule changes."
    each = [
        [Cell(f"{run.method}, {run.held_out}, seed {run.seed}"), *_chosen(run.history)]
        for run in runs
    ]
    chosen = View(
        "Evaluations on source validation and the step chosen, per run.",
        ["Run", "Evaluations", "Chosen step", "Last step", "Source AUC at the choice (%)"],
        each,
    )
    return View(caption, heads, body, notes), chosen


def _chosen(history):
    if history.empty:
        return [cell(0), Cell("nothing trained"), Cell(""), Cell("")]
    row = history[history["selected"].astype(bool)].iloc[-1]
    auc = cell(100 * row["val_auc"], 1) if "val_auc" in history else Cell(UNDEFINED)
    return [cell(len(history)), cell(row["step"]), cell(history["step"].iloc[-1]), auc]


def domains(manifests):
    """What the domains are: photographs, patients, grades and the share of referable DR. manifests: {domain: manifest}"""
    body = []
    for name, frame in manifests.items():
        known = frame.loc[frame["patient"] != "", "patient"].nunique()
        counts = frame["grade"].value_counts().reindex(range(len(GRADES)), fill_value=0)
        shown = [cell(len(frame)), cell(known) if known else Cell("unknown"), *map(cell, counts)]
        body.append([Cell(name), *shown, cell(100 * (frame["grade"] >= REFERABLE).mean(), 1)])
    heads = [
        "Domain",
        "Photographs",
        "Patients",
        *(f"{grade} {name}" for grade, name in enumerate(GRADES)),
        "Referable DR (%)",
    ]
    return View("Photographs of each domain by grade.", heads, body)


def settings(runs):
    """How each method was trained: one row per method; a setting that differs between its runs is shown with all its values."""
    names = (
        "epochs",
        "batch_size",
        "optimizer",
        "lr",
        "schedule",
        "augment",
        "evaluations",
        "precision",
    )
    body = []
    for method in dict.fromkeys(run.method for run in runs):
        mine = [run.settings for run in runs if run.method == method]
        tower = _values(
            f"{one['backbone']['name']}{' (frozen)' if one['frozen'] else ''}" for one in mine
        )
        options = _values(
            json.dumps(one["options"], sort_keys=True) if one["options"] else "defaults"
            for one in mine
        )
        pixels = _values(one["image"]["input"] for one in mine)
        trained = [_values(one["training"][name] for one in mine) for name in names]
        body.append([Cell(method), Cell(tower), Cell(pixels), *map(Cell, trained), Cell(options)])
    heads = [
        "Method",
        "Image tower",
        "Input (pixels)",
        "Epochs",
        "Batch",
        "Optimiser",
        "Learning rate",
        "Schedule",
        "Augmentation",
    ]
    note = "Methods that fit nothing by gradient descent (zero_shot, linear_probe) do not use the training columns."
    return View(
        "Settings of every method, as in settings.json of its runs.",
        [*heads, "Evaluations", "Precision", "Options"],
        body,
        [note],
    )


def _values(values):
    return ", ".join(
        dict.fromkeys(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    )


def environment(runs):
    """Commit, versions, machine and cost, each distinct value with its number of runs."""
    shown = {"Commit": "commit", "Python": "python", "Device": "device", "Threads": "threads"}
    facts = {
        title: [str(run.provenance[key] or "unknown") for run in runs]
        for title, key in shown.items()
    }
    for package in runs[0].provenance["versions"]:
        facts[package] = [run.provenance["versions"].get(package, "absent") for run in runs]
    body = [
        [
            Cell(title),
            Cell(
                "; ".join(
                    f"{value} ({values.count(value)} runs)" for value in dict.fromkeys(values)
                )
            ),
        ]
        for title, values in facts.items()
    ]
    seconds, peak = (
        sum(run.provenance["seconds"] for run in runs),
        max(run.provenance["peak_mib"] for run in runs),
    )
    body.append(
        [
            Cell("Time of all training jobs"),
            Cell(f"{seconds / 3600:.2f} hours ({seconds:,.0f} s)", number=seconds),
        ]
    )
    body.append([Cell("Largest memory of a job"), Cell(f"{peak:,.0f} MiB", number=peak)])
    return View(
        f"Environment of {len(runs)} runs, from their provenance.json.", ["What", "Value"], body
    )


def folds(results, protocol, held):
    """[View] of what the parts of each fold share. A fold without a report is said."""
    body, notes = [], []
    for held_out in held:
        path = Path(results) / "gate" / protocol / f"{held_out}.json"
        if not path.is_file():
            body.append([Cell(held_out), *[Cell(MISSING)] * 6])
            notes.append(f"{held_out}: nobody looked (no {path.name}; run clipdr gate).")
            continue
        report = json.loads(path.read_text())
        said = [
            leakage.counted(report[case]) or "none"
            for case in ("leaks", "warnings", "twice_in_test")
        ]
        body.append(
            [
                Cell(held_out),
                *(cell(report["images"].get(part, 0)) for part in ("train", "val", "test")),
                *map(Cell, said),
            ]
        )
    heads = [
        "Held out",
        "Train",
        "Validation",
        "Test",
        "Train or validation with test",
        "Train with validation",
        "Twice in test",
    ]
    return [
        View(
            f"Photographs of each fold of protocol {protocol}, and pairs that its parts share.",
            heads,
            body,
            notes,
        )
    ]


def leaks(results):
    """[View] of all pairs found, by kind and domains; [] where nobody looked."""
    path = Path(results) / "leaks.csv"
    if not path.is_file():
        return []
    pairs = leakage.read(path).groupby(["kind", "domain_a", "domain_b"], sort=True)
    rows = [
        [Cell(kind), Cell(leakage.KINDS[kind]), Cell(a if a == b else f"{a} and {b}"), cell(len(part)),
         cell((part["grade_a"] != part["grade_b"]).sum()) if kind != "patient" else Cell("")]
        for (kind, a, b), part in pairs
    ]  # fmt: skip
    caption = "Pairs of photographs that are one, or of one patient, over all data of the study (leaks.csv)."
    return [
        View(
            caption,
            ["Kind", "Meaning", "Domains", "Pairs", "With two grades"],
            rows,
            [] if rows else ["No pair was found."],
        )
    ]
