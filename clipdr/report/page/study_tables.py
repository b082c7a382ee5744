"""Tables of the report about the whole study: paired comparisons and leakage.

Input: comparisons.csv, leaks.csv and gate/ of the folder of results. Output: Views.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from clipdr.data import leakage
from clipdr.evaluation.schema import AVERAGE
from clipdr.report.labels import PROTOCOLS, STYLES, Style
from clipdr.report.tables.notes import Remarks
from clipdr.report.tables.table import MISSING, UNDEFINED, interval_text
from clipdr.report.tables.views import NO_INTERVAL, Cell, View, cell

# metrics of the comparisons, in order; those without a style are left out
COMPARED = ("auc", "qwk", "macro_f1", "accuracy", "mae", "referable_auc", "rps")
SPLITS = ("train", "val", "test")
CASES = {  # key of a leakage report -> head of its column
    "leaks": "Train or validation with test",
    "warnings": "Train with validation",
    "twice_in_test": "Twice in test",
}


def comparisons(path: Path, protocol: str, remarks: Remarks) -> list[View]:
    """Paired comparisons with the reference, for the mean and for each held-out domain.

    Args:
        path: comparisons.csv.
        protocol: Protocol whose rows are shown.
        remarks: Of the runs, for the methods that are degenerate.

    Returns:
        One table per held-out name, the mean first; [] where the file is missing or has no such
        rows.
    """
    if not Path(path).is_file():
        return []
    numbers = dict.fromkeys(["difference", "low", "high", "p", "p_holm"], "")
    table = pd.read_csv(path, keep_default_na=False, na_values=numbers)
    table = table[table["protocol"] == protocol]
    domains = [name for name in table["held_out"].unique() if name != AVERAGE]
    present = set(table["metric"])
    metrics = [metric for metric in COMPARED if metric in STYLES and metric in present]
    tables = []
    for held_out in sorted(table["held_out"].unique(), key=lambda name: name != AVERAGE):
        part = table[(table["held_out"] == held_out) & table["metric"].isin(metrics)]
        of = domains if held_out == AVERAGE else [held_out]
        where = f"Mean of the {PROTOCOLS[protocol][1]}" if held_out == AVERAGE else held_out
        tables.append(_comparison(part, metrics, of, where, remarks))
    return tables


def _comparison(
    rows: pd.DataFrame, metrics: Sequence[str], domains: Sequence[str], where: str, remarks: Remarks
) -> View:
    """Methods x metrics: the differences of one held-out name, whose domains are given."""
    body = []
    for method, part in rows.groupby("method", sort=False):
        cells = [_difference(part[part["metric"] == metric], STYLES[metric]) for metric in metrics]
        body.append([Cell(str(method)), *cells])
    undefined = any(entry.small == "no interval" for row in body for entry in row)
    notes = [NO_INTERVAL] if undefined else []
    first, units = rows.iloc[0], sorted(rows["unit"].unique())
    notes += remarks.caution([first["reference"], *rows["method"].unique()], domains)
    caption = f"{where}: method minus {first['reference']}, 95 % interval and p (Holm over the "
    caption += f"methods). n = {first['n']:,} images"
    caption += (
        f" of {first['clusters']:,} patients."
        if units == ["patient"]
        else "; patients unknown in part: too narrow."
    )
    return View(caption, ["Method", *map(head, metrics)], body, notes)


def head(metric: str) -> str:
    """Head of a metric's column, with its unit and, where it is so, "less is better"."""
    style = STYLES[metric]
    name = f"{style.title} of referable DR" if metric == "referable_auc" else style.title
    unit = "%" if style.factor == 100 else "grades"
    return f"{name} ({unit}{'' if style.more_is_better else ', less is better'})"


def _difference(rows: pd.DataFrame, style: Style) -> Cell:
    """Cell of one difference, its interval and Holm's p below it."""
    if rows.empty:
        return Cell(MISSING)
    row = rows.iloc[0]
    value, low, high = (style.factor * row[column] for column in ("difference", "low", "high"))
    if pd.isna(value):
        return Cell(UNDEFINED)
    small = "no interval"
    if not pd.isna(low):
        interval = interval_text(low, high, style.decimals, "+")
        small = f"{interval}; p\u00a0{row['p_holm']:.3f}"
    mark = "clear" if row["p_holm"] < 0.05 else ""
    return cell(value, style.decimals, "+")._replace(small=small, mark=mark)


def folds(results: Path, protocol: str, held_out: Sequence[str]) -> View:
    """Images of each fold and what its splits share; a note names folds that were not checked."""
    body, notes = [], []
    for name in held_out:
        path = Path(results) / "gate" / protocol / f"{name}.json"
        if not path.is_file():
            body.append([Cell(name), *[Cell(MISSING)] * (len(SPLITS) + len(CASES))])
            notes.append(
                f"{name}: leakage not checked ({path.name} is missing; run `clipdr gate`)."
            )
            continue
        report = json.loads(path.read_text())
        sizes = [cell(report["images"].get(split, 0)) for split in SPLITS]
        shared = [Cell(leakage.describe_case(report[case]) or "none") for case in CASES]
        body.append([Cell(name), *sizes, *shared])
    heads = ["Held out", "Train", "Validation", "Test", *CASES.values()]
    caption = f"Images of each fold of protocol {protocol}, and pairs that its splits share."
    return View(caption, heads, body, notes)


def leaks(results: Path) -> list[View]:
    """Pairs of leaks.csv by kind and domains; [] where duplicates were not searched."""
    path = Path(results) / "leaks.csv"
    if not path.is_file():
        return []
    pairs = leakage.read_pairs(path).groupby(["kind", "domain_a", "domain_b"], sort=True)
    rows = []
    for (kind, first, second), part in pairs:
        differ = (part["grade_a"] != part["grade_b"]).sum()
        names = first if first == second else f"{first} and {second}"
        texts = [Cell(kind), Cell(leakage.KINDS[kind]), Cell(names)]
        rows.append([*texts, cell(len(part)), cell(differ) if kind != "patient" else Cell("")])
    caption = "Pairs of images that are duplicates, or of one patient, over all data of the study "
    caption += "(leaks.csv)."
    heads = ["Kind", "Meaning", "Domains", "Pairs", "With two grades"]
    return [View(caption, heads, rows, [] if rows else ["No pair was found."])]
