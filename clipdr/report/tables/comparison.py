"""Tables that set our numbers beside others: the paired comparison with the reference method, and the published values.

Input: rows of comparisons.csv, or averages of `evaluate.average` and published.csv (facts with their sources). Output: tables.Table.
"""

from functools import partial

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.data.domains import is_synthetic
from clipdr.evaluation.schema import AVERAGE
from clipdr.report.labels import PROTOCOLS, STYLES
from clipdr.report.tables.benchmark import NOTHING
from clipdr.report.tables.notes import DAGGER
from clipdr.report.tables.table import CSV_COLUMNS, MISSING, UNDEFINED, Table

COUNTS = ("n_seeds", "n", "clusters", "unit", "resamples", "undefined", "selection")
BY_IMAGE = {"image": "by image: too narrow", "mixed": "in part by image: too narrow"}


def comparison(comparisons, methods, domains, remarks=NOTHING, *, protocol, metric):
    """Methods x difference to the reference, its 95 % interval, p and Holm's p, on the mean over the held-out domains.

    comparisons : rows of comparisons.csv (compare.compare)
    """
    rows = comparisons[
        (comparisons["protocol"] == protocol)
        & (comparisons["metric"] == metric)
        & (comparisons["held_out"] == AVERAGE)
    ]
    if rows.empty:
        raise DataError(
            f"table {protocol}_compare_{metric}: comparisons.csv has no average of {metric} under {protocol}"
        )
    known, style, reference = (
        rows.set_index("method").to_dict("index"),
        STYLES[metric],
        rows["reference"].iloc[0],
    )
    shown, cells = [method for method in methods if method != reference], []
    dagger = {
        method: DAGGER if remarks.why(method, domains) else "" for method in [*methods, reference]
    }
    for method in shown:
        row = known.get(method)
        difference, low, high = (
            style.factor * row[name] if row else np.nan for name in ("difference", "low", "high")
        )
        texts = {
            f"Difference to {reference}{dagger[reference]}": _signed(
                difference, style.decimals, dagger[method]
            ),
            "95 % interval": _interval(low, high, style.decimals, "+"),
            "p": _p(row["p"]) if row else "",
            "p (Holm)": _p(row["p_holm"]) if row else "",
        }
        values = (difference, np.nan, row["p"] if row else np.nan, row["p_holm"] if row else np.nan)
        for (column, text), value in zip(texts.items(), values, strict=True):
            cell = {"column": column, "text": text if row else MISSING, "method": method}
            cell |= {
                "held_out": AVERAGE,
                "metric": metric,
                "mark": "",
                "degenerate": remarks.why(method, domains) if row else "",
            }
            cell |= (
                {"value": value, "low": low, "high": high}
                if column == next(iter(texts))
                else {"value": value}
            )
            cell |= {"scale": "p" if column.startswith("p") else "points"}
            cell |= {name: row[name] for name in COUNTS} if row else {}
            cells.append(cell)
    caption = f"Paired difference in {style.meaning}, method minus {reference}, mean over the {len(domains)} {PROTOCOLS[protocol][1]}, in points."
    first = rows.iloc[0]
    notes = [
        f"Interval and p: {first['resamples']} paired bootstrap resamples of {first['clusters']} clusters ({first['n']} images), the same "
        "for all methods; p is two-sided, its smallest value is set by their number. They are about other patients, not about other seeds.",
        f"Holm's correction is over these {len(shown)} methods, for this metric alone.",
    ]
    notes += [
        f"Resampled {BY_IMAGE[unit]} (patients unknown)."
        for unit in rows["unit"].unique()
        if unit in BY_IMAGE
    ]
    notes += [
        f"{DAGGER} {said}"
        for said in remarks.caution(
            [one for one in methods if one == reference or one in known], domains
        )
    ]
    return _table(f"{protocol}_compare_{metric}", cells, caption, notes, domains, protocol)


def _table(name, cells, caption, notes, domains, protocol, corner="Method"):
    if any(map(is_synthetic, domains)):
        caption = f"SYNTHETIC images: {caption}"
    frame = pd.DataFrame(cells, columns=["column", "text", *CSV_COLUMNS]).assign(
        table=name, caption=caption
    )
    shown = set(frame["text"])
    notes += [f"{MISSING}: not run."] if MISSING in shown else []
    notes += (
        [f"{UNDEFINED}: undefined (an interval or a p: over 5 % of the resamples lack a grade)."]
        if UNDEFINED in shown
        else []
    )
    return Table(name, frame, caption, tuple(notes), corner, protocol)


def _signed(value, decimals, dagger=""):
    return UNDEFINED if np.isnan(value) else f"{value:+.{decimals}f}{dagger}"


def _interval(low, high, decimals, sign=""):
    return UNDEFINED if np.isnan(low) else f"{low:{sign}.{decimals}f} to {high:{sign}.{decimals}f}"


def _p(value):
    return UNDEFINED if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


# name of the file -> f(content, methods, domains, remarks) -> Table; the content is comparisons.csv, or the averages
COMPARISONS = {
    f"dg_compare_{metric}": partial(comparison, protocol="dg", metric=metric)
    for metric in ("auc", "qwk", "macro_f1", "accuracy")
}
