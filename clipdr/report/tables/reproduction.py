"""TODO"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.evaluation.schema import AVERAGE
from clipdr.report.labels import STYLES
from clipdr.report.tables.benchmark import NOTHING
from clipdr.report.tables.comparison import COUNTS, _interval, _signed, _table
from clipdr.report.tables.notes import DAGGER
from clipdr.report.tables.table import MISSING, UNDEFINED

PUBLISHED = Path(__file__).with_name(
    "published.csv"
)  # protocol, method, held_out, metric, value (as printed), source, note


def published():
    """The facts of published.csv: value in percent, as printed in its source."""
    return pd.read_csv(PUBLISHED, keep_default_na=False, na_values={"value": ""})


def reproduction(averages, methods, domains, remarks=NOTHING, *, protocol, metric):
    """One line per method and held-out domain: value of the paper, ours, our 95 % interval, ours - paper.

    DataError where the domains are not the six that the papers tested.
    """
    facts = published()
    facts = facts[(facts["protocol"] == protocol) & (facts["metric"] == metric)]
    six = set(facts["held_out"]) - {AVERAGE}
    if set(domains) != six:
        raise DataError(
            f"table reproduction_{metric}: published values are of {', '.join(sorted(six))}; leave the table out of this study"
        )
    papers = facts.set_index(["method", "held_out"])["value"].to_dict()
    own = averages[(averages["protocol"] == protocol) & (averages["metric"] == metric)]
    known = own.set_index(["method", "held_out"]).to_dict("index")
    told = [method for method in methods if method in set(facts["method"])]
    places = [(method, held_out) for method in told for held_out in [*domains, AVERAGE]]
    cells = []
    for method, held_out in places:
        why = remarks.why(method, domains if held_out == AVERAGE else [held_out])
        paper, ours = papers.get((method, held_out), np.nan), known.get((method, held_out))
        cells += _beside(method, held_out, metric, paper, ours, why)
    notes = _sources(facts[facts["method"].isin(told)]) + [
        f"{DAGGER} {said}" for said in remarks.caution(told, domains)
    ]
    if len(told) < len(methods):
        notes.append(
            f"No published value under this protocol: {', '.join(method for method in methods if method not in told)}."
        )
    notes.append(
        "Intervals are of the test patients alone; papers state none. Where ours differs in method or settings: docs/deviations.md."
    )
    unknown = [
        name for name in domains if (own.loc[own["held_out"] == name, "unit"] == "image").any()
    ]
    notes += (
        [f"{', '.join(unknown)}: by image, interval too narrow (patients unknown)."]
        if unknown
        else []
    )
    caption = f"Reproduction: {STYLES[metric].meaning}, as published and as measured here, on each held-out domain."
    return _table(
        f"reproduction_{metric}",
        cells,
        caption,
        notes,
        domains,
        protocol,
        "Method, held-out domain",
    )


def _beside(method, held_out, metric, paper, row, why):
    """The cells of one line: published (percent, NaN: not given), ours (a row of averages, None: not run), interval, difference.

    why : reason why the method is not itself there, "" where it is
    """
    base = {
        "method": f"{method}, {held_out}",
        "held_out": held_out,
        "metric": metric,
        "mark": "",
        "degenerate": why,
        "scale": "percent",
    }
    dagger = DAGGER if why else ""
    yield base | {
        "column": "Paper",
        "text": "not given" if np.isnan(paper) else f"{paper:.1f}",
        "value": paper,
    }
    if row is None:
        yield from (
            base | {"column": column, "text": MISSING}
            for column in ("Ours", "95 % interval", "Ours - paper")
        )
        return
    ours, se, low, high = (100 * row[name] for name in ("mean", "se", "low", "high"))
    counts = {name: row[name] for name in COUNTS} | {
        "value": ours,
        "se": se,
        "low": low,
        "high": high,
    }
    text = (
        UNDEFINED
        if np.isnan(ours)
        else f"{ours:.1f} ± {se:.1f}{dagger}"
        if row["n_seeds"] > 1
        else f"{ours:.1f}{dagger}"
    )
    yield base | counts | {"column": "Ours", "text": text}
    yield base | {"column": "95 % interval", "text": _interval(low, high, 1)}
    difference = ours - paper
    yield base | {
        "column": "Ours - paper",
        "text": "" if np.isnan(paper) else _signed(difference, 1),
        "value": difference,
        "scale": "points",
    }


def _sources(facts):
    """Where the published values were read, and what their notes say, as sentences."""
    sources = [
        f"Source: {source} ({', '.join(part['method'].unique())})."
        for source, part in facts.groupby("source", sort=False)
    ]
    noted = facts.loc[facts["note"] != "", ["method", "held_out", "note"]]
    return sources + [
        f"{method}, {held_out}: {note}." for method, held_out, note in noted.itertuples(index=False)
    ]


REPRODUCTIONS = {
    f"reproduction_{metric}": partial(reproduction, protocol="dg", metric=metric)
    for metric in ("auc", "accuracy", "macro_f1")
}
