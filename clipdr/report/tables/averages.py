"""Cells and columns of tables of averages, with marks: the common part of the benchmark tables.

Input: averages of `aggregate.average`. Output: cells, and a Table. X means not run, n/a undefined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.data.domains import is_synthetic
from clipdr.evaluation.schema import AVERAGE, headline_of
from clipdr.report.labels import STYLES, Style
from clipdr.report.tables.notes import DAGGER, Remarks, notes
from clipdr.report.tables.table import CELL_COLUMNS, MISSING, UNDEFINED, Table

FACTS = ["n_seeds", "n", "clusters", "unit", "resamples", "undefined", "selection"]
NUMBERS = {"value": "mean", "se": "se", "low": "low", "high": "high"}  # of a cell: of an average


def differences(
    cells: pd.DataFrame, pairs: Mapping[str, tuple[float, float]], title: str, metric: str
) -> pd.DataFrame:
    """Make a column of differences a - b in points.

    Args:
        cells: Cells of the same methods, indexed by method; the counts are taken from them.
        pairs: {method: (a, b)}.
        title: Title of the column.
        metric: A key of labels.STYLES.

    Returns:
        Cells; X where a or b is missing.
    """
    style, rows = STYLES[metric], []
    for method, (first, second) in pairs.items():
        row = {
            "column": title,
            "method": method,
            "held_out": AVERAGE,
            "metric": metric,
            "text": MISSING,
            "mark": "",
            "degenerate": "",
        }
        if pd.notna(first) and pd.notna(second):
            row |= {
                "value": first - second,
                "text": f"{first - second:+.{style.decimals}f}",
                "decimals": style.decimals,
                "scale": "points",
            }
            row |= cells.loc[method, ["n_seeds", "n", "clusters", "unit"]].to_dict()
        rows.append(row)
    return pd.DataFrame(rows, columns=CELL_COLUMNS)


def in_order(cells: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Sort cells of several columns by row; the order of the columns stays."""
    index = cells["method"].map({method: row for row, method in enumerate(methods)})
    return cells.iloc[np.argsort(index.to_numpy(), kind="stable")].reset_index(drop=True)


def averages_table(
    name: str,
    averages: pd.DataFrame,
    methods: Sequence[str],
    domains: Sequence[str],
    columns: Sequence[tuple[str, str, str]],
    protocol: str,
    caption: str,
    remarks: Remarks,
) -> Table:
    """Make a table of averages.

    Args:
        name: Name of its files.
        averages: As `aggregate.average` returns them, of one rule of selection.
        methods: Rows, in order.
        domains: Held-out names that the averages may span.
        columns: (title, held-out name or "average", metric) of each column.
        protocol: Protocol whose averages are shown.
        caption: Without SYNTHETIC.
        remarks: Of the runs.

    Raises:
        DataError: If the averages are of several selections or span other domains.
    """
    rows = averages[averages["protocol"] == protocol]
    if rows["selection"].map(headline_of).nunique() > 1:
        raise DataError(f"table {name}: averages of several selections. Average one at a time.")
    spans = set(rows.loc[rows["held_out"] != AVERAGE, "held_out"])
    if spans - set(domains):
        raise DataError(
            f"table {name}: the averages also include {', '.join(sorted(spans - set(domains)))}. "
            "Average over the domains of this table only."
        )
    indexed = rows.set_index(["method", "held_out", "metric"])
    cells = pd.concat(
        [_column(indexed, methods, domains, remarks, *column) for column in columns],
        ignore_index=True,
    )
    cells = in_order(cells, methods)
    sentences = notes(cells, rows[rows["held_out"].isin(domains)], remarks)
    synthetic = any(map(is_synthetic, domains))
    return Table.of(name, cells, caption, sentences, protocol=protocol, synthetic=synthetic)


def _column(
    indexed: pd.DataFrame,
    methods: Sequence[str],
    domains: Sequence[str],
    remarks: Remarks,
    title: str,
    held_out: str,
    metric: str,
) -> pd.DataFrame:
    """Cells of one column, with marks.

    The best printed value and the next are marked, ties share the mark, and at least two methods
    are needed. A cell in which a method is degenerate (of a mean: in any of its cells) is printed
    with a dagger and not ranked.
    """
    style, rows = STYLES[metric], []
    for method in methods:
        run_on = [domain for domain in domains if (method, domain, metric) in indexed.index]
        complete = held_out != AVERAGE or len(run_on) == len(domains)
        cell: dict[str, Any] = {
            "column": title,
            "method": method,
            "held_out": held_out,
            "metric": metric,
            "text": MISSING,
            "degenerate": "",
        }
        if complete and (method, held_out, metric) in indexed.index:
            row = indexed.loc[(method, held_out, metric)]
            cell |= row[FACTS].to_dict()
            cell |= {key: style.factor * row[source] for key, source in NUMBERS.items()}
            cell["degenerate"] = remarks.why(method, domains if held_out == AVERAGE else [held_out])
            cell["scale"] = "percent" if style.factor == 100 else "grades"
            cell |= {"text": _printed(cell, style), "decimals": style.decimals}
        rows.append(cell)
    cells = pd.DataFrame(rows, columns=CELL_COLUMNS)
    # ranked as printed, so that what prints alike is marked alike
    printed = [float(f"{value:.{style.decimals}f}") for value in cells["value"].astype(float)]
    ranked = pd.Series(printed).where(cells["degenerate"] == "")
    values = sorted(ranked.dropna().unique(), reverse=bool(style.more_is_better))
    enough = ranked.notna().sum() > 1 and style.more_is_better is not None
    marks = dict(zip(values, ("best", "second"), strict=False)) if enough else {}
    return cells.assign(mark=[marks.get(value, "") for value in ranked])


def _printed(cell: Mapping[str, Any], style: Style) -> str:
    """Text of a cell: value, standard error over several seeds, dagger where degenerate."""
    if np.isnan(cell["value"]):
        return UNDEFINED
    spread = f" ± {cell['se']:.{style.decimals}f}" if cell["n_seeds"] > 1 else ""
    return f"{cell['value']:.{style.decimals}f}{spread}{DAGGER if cell['degenerate'] else ''}"
