"""COMPARISONS: every method against one reference method on the same resamples, with p-values corrected for the number of methods.

Input: scores and draws of all runs, as `evaluate.collect` and `collect_draws` read them. Output: comparisons.csv, one row per protocol,
held-out domain (and their average), metric and method.
"""

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.evaluation.aggregate import average, mean_draws, spans
from clipdr.evaluation.operating_point import MEASURES
from clipdr.evaluation.schema import HEADLINE
from clipdr.evaluation.statistics import holm, paired

COMPARISONS = [
    "protocol",
    "held_out",
    "metric",
    "method",
    "reference",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
]
COMPARISONS += [
    "undefined",
    "resamples",
    "n_seeds",
    "n_seeds_reference",
    "n",
    "clusters",
    "unit",
    "selection",
]


def compare(scores, draws, reference, selection=HEADLINE):
    """Paired differences, method - reference, of every metric.

    Seeds and, in the rows of the average, domains are averaged inside each resample, as in the tables: `difference` is that of two cells of
    the tables, `low`, `high` and `p` come from the shared resamples (`statistics.paired`). Seeds are not resampled: the interval is about
    other patients for these trained models. Holm's correction is over the methods compared, for each protocol, held-out domain and metric.

    scores    : rows of all runs (`evaluate.collect`)
    draws     : of all runs (`evaluate.collect_draws`)
    reference : a method
    returns     columns COMPARISONS, in the order of `average`; a cell that either method lacks is absent, an undefined one NaN
    """
    over_resamples = {
        (row["protocol"], row["held_out"], row["method"]): mean_draws(*over, draws, row)
        for row, *over in spans(scores, selection)
    }
    cells = (
        average(scores, selection=selection)
        .set_index(["protocol", "held_out", "method", "metric"])
        .to_dict("index")
    )
    number = {metric: place for place, metric in enumerate(MEASURES)}
    rows = []
    for (protocol, held_out, method, metric), cell in cells.items():
        other = cells.get((protocol, held_out, reference, metric))
        if method == reference or other is None:
            continue
        ours, theirs = (
            over_resamples[protocol, held_out, name][number[metric]] for name in (method, reference)
        )
        test = paired(ours, theirs)._asdict() | {
            "difference": cell["mean"] - other["mean"],
            "resamples": len(ours),
        }
        names = {
            "protocol": protocol,
            "held_out": held_out,
            "metric": metric,
            "method": method,
            "reference": reference,
        }
        facts = {name: cell[name] for name in ("n_seeds", "n", "clusters", "unit", "selection")} | {
            "n_seeds_reference": other["n_seeds"]
        }
        rows.append(names | test | facts)
    table = pd.DataFrame(rows, columns=COMPARISONS)
    corrected = table.groupby(["protocol", "held_out", "metric"])["p"].transform(
        lambda p: holm(p.to_numpy(np.float64))
    )
    return table.assign(p_holm=corrected.astype(np.float64))


def read(path, protocol):
    """comparisons.csv -> its rows of one protocol; DataError if there is no such file or it has other columns."""
    try:
        table = pd.read_csv(
            path,
            keep_default_na=False,
            na_values=dict.fromkeys(["difference", "low", "high", "p", "p_holm"], ""),
        )
    except FileNotFoundError:
        raise DataError(f"{path}: missing; compare the runs first") from None
    if list(table.columns) != COMPARISONS:
        raise DataError(f"{path}: columns are not those of comparisons.csv; compare the runs again")
    return table[table["protocol"] == protocol]
