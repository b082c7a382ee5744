"""Tables of the paired comparison with the reference method.

Input: rows of comparisons.csv (clipdr.evaluation.comparison). Output: a Table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.data.domains import is_synthetic
from clipdr.evaluation import comparison as comparisons
from clipdr.evaluation.schema import AVERAGE
from clipdr.report.labels import PROTOCOLS, STYLES, Style
from clipdr.report.tables.notes import DAGGER, NOTHING, Remarks
from clipdr.report.tables.table import MISSING, UNDEFINED, Entry, Table, interval_text

COUNTS = ("n_seeds", "n", "clusters", "unit", "resamples", "undefined", "selection")
BY_IMAGE = {"image": "by image: too narrow", "mixed": "in part by image: too narrow"}


def comparison(
    rows: pd.DataFrame,
    methods: Sequence[str],
    domains: Sequence[str],
    remarks: Remarks = NOTHING,
    *,
    protocol: str,
    metric: str,
) -> Table:
    """Methods x difference to the reference, its 95 % interval, p, and p after Holm's correction.

    Values are of the mean over the held-out domains.

    Args:
        rows: Rows of comparisons.csv.
        methods: Rows of the table, in order; the reference is left out.
        domains: Held-out domains.
        remarks: Of the runs.
        protocol: Protocol of the table.
        metric: A key of labels.STYLES.

    Raises:
        DataError: If the rows have no average of the metric under the protocol.
    """
    name = f"{protocol}_compare_{metric}"
    of_metric = (rows["protocol"] == protocol) & (rows["metric"] == metric)
    rows = rows[of_metric & (rows["held_out"] == AVERAGE)]
    if rows.empty:
        raise DataError(
            f"table {name}: comparisons.csv has no average of {metric} under {protocol}. "
            "Run `clipdr compare` again."
        )
    by_method, style = rows.set_index("method").to_dict("index"), STYLES[metric]
    reference = rows["reference"].iloc[0]
    others = [method for method in methods if method != reference]
    dagger = DAGGER if remarks.why(reference, domains) else ""
    title = f"Difference to {reference}{dagger}"
    cells: list[dict[str, Any]] = []
    for method in others:
        why = remarks.why(method, domains)
        base = {"method": method, "held_out": AVERAGE, "metric": metric, "mark": ""}
        cells += _line(base, by_method.get(method), style, title, why)
    over = PROTOCOLS[protocol][1]
    caption = f"Paired difference in {style.meaning}, method minus {reference}, "
    caption += f"mean over the {len(domains)} {over}, in points."
    present = [method for method in methods if method == reference or method in by_method]
    notes = _notes(rows, len(others))
    notes += [f"{DAGGER} {sentence}" for sentence in remarks.caution(present, domains)]
    return noted(name, cells, caption, notes, domains, protocol)


def noted(
    name: str,
    cells: Sequence[Mapping[str, Any]],
    caption: str,
    notes: Iterable[str],
    domains: Iterable[str],
    protocol: str,
    corner: str = "Method",
) -> Table:
    """Table of cells whose notes explain X and n/a where they occur.

    Args:
        name: Name of its files.
        cells: Cells as dicts of CELL_COLUMNS.
        caption: Without SYNTHETIC.
        notes: Sentences below.
        domains: Held-out domains, of which a synthetic one makes the caption start with SYNTHETIC.
        protocol: Protocol of the table.
        corner: Title of the first column.
    """
    notes, texts = list(notes), {cell["text"] for cell in cells}
    if MISSING in texts:
        notes.append(f"{MISSING}: not run.")
    if UNDEFINED in texts:
        notes.append(
            f"{UNDEFINED}: undefined (an interval or a p: over 5 % of the resamples lack a grade)."
        )
    synthetic = any(map(is_synthetic, domains))
    return Table.of(
        name, cells, caption, notes, corner=corner, protocol=protocol, synthetic=synthetic
    )


def signed(value: float, decimals: int, dagger: str = "") -> str:
    """Print a difference with its sign, "n/a" where it is undefined."""
    return UNDEFINED if np.isnan(value) else f"{value:+.{decimals}f}{dagger}"


def _line(
    base: Mapping[str, Any], row: Mapping[str, Any] | None, style: Style, title: str, why: str
) -> list[dict[str, Any]]:
    """The four cells of a method. row: of comparisons.csv, None where it was not run."""
    columns = (title, "95 % interval", "p", "p (Holm)")
    if row is None:
        scales = ("points", "points", "p", "p")
        return [
            {**base, "column": column, "text": MISSING, "degenerate": "", "scale": scale}
            for column, scale in zip(columns, scales, strict=True)
        ]
    difference, low, high = (style.factor * row[name] for name in ("difference", "low", "high"))
    facts = {**base, "degenerate": why, **{name: row[name] for name in COUNTS}}
    decimals, ends = style.decimals, {"low": low, "high": high}
    points = {"scale": "points", "decimals": decimals}
    text = signed(difference, decimals, DAGGER if why else "")
    interval = UNDEFINED if np.isnan(low) else interval_text(low, high, decimals, "+")
    return [
        {**facts, **points, **ends, "column": title, "text": text, "value": difference},
        {**facts, **points, "column": columns[1], "text": interval, "order": low},
        *(
            {**facts, "column": column, "text": _p(row[key]), "value": row[key], "scale": "p"}
            for column, key in (("p", "p"), ("p (Holm)", "p_holm"))
        ),
    ]


def _notes(rows: pd.DataFrame, compared: int) -> list[str]:
    """How interval and p were computed, and which rows were resampled by image."""
    first = rows.iloc[0]
    notes = [
        f"Interval and p: {first['resamples']} paired bootstrap resamples of {first['clusters']} "
        f"clusters ({first['n']} images), the same for all methods. p is two-sided; its smallest "
        "value is set by the number of resamples. Both are about other patients, not other seeds.",
        f"Holm's correction is over these {compared} methods, for this metric alone.",
    ]
    units = [unit for unit in rows["unit"].unique() if unit in BY_IMAGE]
    return notes + [f"Resampled {BY_IMAGE[unit]} (patients unknown)." for unit in units]


def _p(value: float) -> str:
    """Print a p value with three decimals."""
    return UNDEFINED if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _read(_runs: list[Path], results: Path) -> pd.DataFrame:
    """Rows of comparisons.csv under dg."""
    return comparisons.read(results / "comparisons.csv", "dg")


TABLES = {
    f"dg_compare_{metric}": Entry(
        partial(comparison, protocol="dg", metric=metric), "dg", "comparisons", _read
    )
    for metric in ("auc", "qwk", "macro_f1", "accuracy")
}
