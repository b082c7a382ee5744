"""Tables that set our numbers beside others: the paired comparison with the reference method, and the published values.

Input: rows of comparisons.csv, or averages of `evaluate.average` and published.csv (facts with their sources). Output: tables.Table.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.evaluate import AVERAGE
from clipdr.footnotes import DAGGER
from clipdr.tables import NOTHING, Table, is_synthetic
from clipdr.typeset import CSV_COLUMNS, MISSING, UNDEFINED
from clipdr.wording import PROTOCOLS, STYLES

PUBLISHED = Path(__file__).with_name("published.csv")  # protocol, method, held_out, metric, value (as printed), source, note
COUNTS = ("n_seeds", "n", "clusters", "unit", "resamples", "undefined", "selection")
BY_IMAGE = {"image": "by image: too narrow", "mixed": "in part by image: too narrow"}


def comparison(comparisons, methods, domains, remarks=NOTHING, *, protocol, metric):
    """Methods x difference to the reference, its 95 % interval, p and Holm's p, on the mean over the held-out domains.

    comparisons : rows of comparisons.csv (compare.compare)
    """
    rows = comparisons[(comparisons["protocol"] == protocol) & (comparisons["metric"] == metric) & (comparisons["held_out"] == AVERAGE)]
    if rows.empty:
        raise DataError(f"table {protocol}_compare_{metric}: comparisons.csv has no average of {metric} under {protocol}")
    known, style, reference = rows.set_index("method").to_dict("index"), STYLES[metric], rows["reference"].iloc[0]
    shown, cells = [method for method in methods if method != reference], []
    dagger = {method: DAGGER if remarks.why(method, domains) else "" for method in [*methods, reference]}
    for method in shown:
        row = known.get(method)
        difference, low, high = (style.factor * row[name] if row else np.nan for name in ("difference", "low", "high"))
        texts = {
            f"Difference to {reference}{dagger[reference]}": _signed(difference, style.decimals, dagger[method]),
            "95 % interval": _interval(low, high, style.decimals, "+"),
            "p": _p(row["p"]) if row else "",
            "p (Holm)": _p(row["p_holm"]) if row else "",
        }
        values = (difference, np.nan, row["p"] if row else np.nan, row["p_holm"] if row else np.nan)
        for (column, text), value in zip(texts.items(), values, strict=True):
            cell = {"column": column, "text": text if row else MISSING, "method": method}
            cell |= {"held_out": AVERAGE, "metric": metric, "mark": "", "degenerate": remarks.why(method, domains) if row else ""}
            cell |= {"value": value, "low": low, "high": high} if column == next(iter(texts)) else {"value": value}
            cell |= {"scale": "p" if column.startswith("p") else "points"}
            cell |= {name: row[name] for name in COUNTS} if row else {}
            cells.append(cell)
    caption = (
        f"Paired difference in {style.meaning}, method minus {reference}, mean over the {len(domains)} {PROTOCOLS[protocol][1]}, in points."
    )
    first = rows.iloc[0]
    notes = [
        f"Interval and p: {first['resamples']} paired bootstrap resamples of {first['clusters']} clusters ({first['n']} images), the same "
        "for all methods; p is two-sided, its smallest value is set by their number. They are about other patients, not about other seeds.",
        f"Holm's correction is over these {len(shown)} methods, for this metric alone.",
    ]
    notes += [f"Resampled {BY_IMAGE[unit]} (patients unknown)." for unit in rows["unit"].unique() if unit in BY_IMAGE]
    notes += [f"{DAGGER} {said}" for said in remarks.caution([one for one in methods if one == reference or one in known], domains)]
    return _table(f"{protocol}_compare_{metric}", cells, caption, notes, domains, protocol)


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
        raise DataError(f"table reproduction_{metric}: published values are of {', '.join(sorted(six))}; leave the table out of this study")
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
    notes = _sources(facts[facts["method"].isin(told)]) + [f"{DAGGER} {said}" for said in remarks.caution(told, domains)]
    if len(told) < len(methods):
        notes.append(f"No published value under this protocol: {', '.join(method for method in methods if method not in told)}.")
    notes.append(
        "Intervals are of the test patients alone; papers state none. Where ours differs in method or settings: docs/deviations.md."
    )
    unknown = [name for name in domains if (own.loc[own["held_out"] == name, "unit"] == "image").any()]
    notes += [f"{', '.join(unknown)}: by image, interval too narrow (patients unknown)."] if unknown else []
    caption = f"Reproduction: {STYLES[metric].meaning}, as published and as measured here, on each held-out domain."
    return _table(f"reproduction_{metric}", cells, caption, notes, domains, protocol, "Method, held-out domain")


def _beside(method, held_out, metric, paper, row, why):
    """The cells of one line: published (percent, NaN: not given), ours (a row of averages, None: not run), interval, difference.

    why : reason why the method is not itself there, "" where it is
    """
    base = {"method": f"{method}, {held_out}", "held_out": held_out, "metric": metric, "mark": "", "degenerate": why, "scale": "percent"}
    dagger = DAGGER if why else ""
    yield base | {"column": "Paper", "text": "not given" if np.isnan(paper) else f"{paper:.1f}", "value": paper}
    if row is None:
        yield from (base | {"column": column, "text": MISSING} for column in ("Ours", "95 % interval", "Ours - paper"))
        return
    ours, se, low, high = (100 * row[name] for name in ("mean", "se", "low", "high"))
    counts = {name: row[name] for name in COUNTS} | {"value": ours, "se": se, "low": low, "high": high}
    text = UNDEFINED if np.isnan(ours) else f"{ours:.1f} ± {se:.1f}{dagger}" if row["n_seeds"] > 1 else f"{ours:.1f}{dagger}"
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
    sources = [f"Source: {source} ({', '.join(part['method'].unique())})." for source, part in facts.groupby("source", sort=False)]
    noted = facts.loc[facts["note"] != "", ["method", "held_out", "note"]]
    return sources + [f"{method}, {held_out}: {note}." for method, held_out, note in noted.itertuples(index=False)]


def _table(name, cells, caption, notes, domains, protocol, corner="Method"):
    if any(map(is_synthetic, domains)):
        caption = f"SYNTHETIC images: {caption}"
    frame = pd.DataFrame(cells, columns=["column", "text", *CSV_COLUMNS]).assign(table=name, caption=caption)
    shown = set(frame["text"])
    notes += [f"{MISSING}: not run."] if MISSING in shown else []
    notes += [f"{UNDEFINED}: undefined (an interval or a p: over 5 % of the resamples lack a grade)."] if UNDEFINED in shown else []
    return Table(name, frame, caption, tuple(notes), corner, protocol)


def _signed(value, decimals, dagger=""):
    return UNDEFINED if np.isnan(value) else f"{value:+.{decimals}f}{dagger}"


def _interval(low, high, decimals, sign=""):
    return UNDEFINED if np.isnan(low) else f"{low:{sign}.{decimals}f} to {high:{sign}.{decimals}f}"


def _p(value):
    return UNDEFINED if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


# name of the file -> f(content, methods, domains, remarks) -> Table; the content is comparisons.csv, or the averages
COMPARISONS = {
    f"dg_compare_{metric}": partial(comparison, protocol="dg", metric=metric) for metric in ("auc", "qwk", "macro_f1", "accuracy")
}
REPRODUCTIONS = {
    f"reproduction_{metric}": partial(reproduction, protocol="dg", metric=metric) for metric in ("auc", "accuracy", "macro_f1")
}
