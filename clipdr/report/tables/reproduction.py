"""Reproduction tables: published values beside ours, one line per method and held-out domain.

Input: averages of `aggregate.average` and published.csv (published values with their sources).
Output: a Table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.evaluation.schema import AVERAGE
from clipdr.report.labels import STYLES
from clipdr.report.tables.benchmark import read_averages
from clipdr.report.tables.comparison import COUNTS, noted, signed
from clipdr.report.tables.notes import DAGGER, NOTHING, Remarks
from clipdr.report.tables.table import MISSING, UNDEFINED, Entry, Table, interval_text

# columns: protocol, method, held_out, metric, value (as printed), source, note
PUBLISHED = Path(__file__).with_name("published.csv")


def published() -> pd.DataFrame:
    """Read published.csv.

    Returns:
        One row per published number: protocol, method, held_out, metric, value (percent, as printed
        in its source; NaN where the source gives none), source, note.
    """
    return pd.read_csv(PUBLISHED, keep_default_na=False, na_values={"value": ""})


def reproduction(
    averages: pd.DataFrame,
    methods: Sequence[str],
    domains: Sequence[str],
    remarks: Remarks = NOTHING,
    *,
    protocol: str,
    metric: str,
) -> Table:
    """Lines of a method and a held-out domain: published value, ours, interval, difference.

    Args:
        averages: As `aggregate.average` returns them.
        methods: Methods of the study; those without a published value are named in a note.
        domains: Held-out domains.
        remarks: Of the runs.
        protocol: Protocol of the table.
        metric: A key of labels.STYLES.

    Raises:
        DataError: If the domains are not the six that the papers tested.
    """
    name, facts = f"reproduction_{metric}", published()
    facts = facts[(facts["protocol"] == protocol) & (facts["metric"] == metric)]
    six = set(facts["held_out"]) - {AVERAGE}
    if set(domains) != six:
        raise DataError(
            f"table {name}: published values are of {', '.join(sorted(six))}. "
            "Leave the table out of this study."
        )
    values = facts.set_index(["method", "held_out"])["value"].to_dict()
    ours = averages[(averages["protocol"] == protocol) & (averages["metric"] == metric)]
    rows = ours.set_index(["method", "held_out"]).to_dict("index")
    reported = [method for method in methods if method in set(facts["method"])]
    cells: list[dict[str, Any]] = []
    for key in ((method, held_out) for method in reported for held_out in [*domains, AVERAGE]):
        why = remarks.why(key[0], domains if key[1] == AVERAGE else [key[1]])
        cells += _line(*key, metric, values.get(key, np.nan), rows.get(key), why)
    notes = _sources(facts[facts["method"].isin(reported)])
    notes += [f"{DAGGER} {sentence}" for sentence in remarks.caution(reported, domains)]
    if unreported := [method for method in methods if method not in reported]:
        notes.append(f"No published value under this protocol: {', '.join(unreported)}.")
    notes.append(
        "Intervals are of the test patients alone; papers state none. Where ours differs in "
        "method or settings: docs/deviations.md."
    )
    by_image = ours.loc[ours["unit"] == "image", "held_out"].unique()
    if unknown := [domain for domain in domains if domain in by_image]:
        notes.append(f"{', '.join(unknown)}: by image, interval too narrow (patients unknown).")
    caption = f"Reproduction: {STYLES[metric].meaning}, as published and as measured here, "
    caption += "on each held-out domain."
    return noted(name, cells, caption, notes, domains, protocol, "Method, held-out domain")


def _line(
    method: str,
    held_out: str,
    metric: str,
    paper: float,
    row: Mapping[str, Any] | None,
    why: str,
) -> Iterator[dict[str, Any]]:
    """Cells of one line. paper: percent or NaN; row: of averages; why: reason of degeneracy."""
    base = {
        "method": f"{method}, {held_out}",
        "held_out": held_out,
        "metric": metric,
        "mark": "",
        "degenerate": why,
        "scale": "percent",
        "decimals": 1,
    }
    text = "not given" if np.isnan(paper) else f"{paper:.1f}"
    yield base | {"column": "Paper", "text": text, "value": paper}
    if row is None:
        for column in ("Ours", "95 % interval", "Ours - paper"):
            yield base | {"column": column, "text": MISSING}
        return
    value, se, low, high = (100 * row[name] for name in ("mean", "se", "low", "high"))
    counts = {name: row[name] for name in COUNTS}
    spread = f" ± {se:.1f}" if row["n_seeds"] > 1 else ""
    text = UNDEFINED if np.isnan(value) else f"{value:.1f}{spread}{DAGGER if why else ''}"
    numbers = {"value": value, "se": se, "low": low, "high": high}
    yield base | counts | numbers | {"column": "Ours", "text": text}
    interval = interval_text(low, high, 1)
    yield base | {"column": "95 % interval", "text": interval, "order": low}
    text = "" if np.isnan(paper) else signed(value - paper, 1)
    difference = {"text": text, "value": value - paper, "scale": "points"}
    yield base | {"column": "Ours - paper"} | difference


def _sources(facts: pd.DataFrame) -> list[str]:
    """Where the published values were read, and their notes, as sentences."""
    sources = [
        f"Source: {source} ({', '.join(part['method'].unique())})."
        for source, part in facts.groupby("source", sort=False)
    ]
    noted_facts = facts.loc[facts["note"] != "", ["method", "held_out", "note"]]
    return sources + [
        f"{method}, {held_out}: {note}."
        for method, held_out, note in noted_facts.itertuples(index=False)
    ]


TABLES = {
    f"reproduction_{metric}": Entry(
        partial(reproduction, protocol="dg", metric=metric), "dg", "benchmark", read_averages
    )
    for metric in ("auc", "accuracy", "macro_f1")
}
