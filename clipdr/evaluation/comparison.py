"""Compares every method with a reference method on the same resamples of patients.

Input: scores and draws of all runs, as `aggregate.collect` and `collect_draws` read them. Output:
comparisons.csv, one row per protocol, held-out domain (and their average), metric and method.
p-values are corrected for the number of methods (Holm, 1979).
"""

from pathlib import Path

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.evaluation.aggregate import Draws, average, mean_draws, spans
from clipdr.evaluation.operating_point import MEASURES
from clipdr.evaluation.schema import HEADLINE
from clipdr.evaluation.statistics import holm, paired

# Columns of comparisons.csv. `difference` is method minus reference; `p_holm` is corrected.
COMPARISONS = [
    *("protocol", "held_out", "metric", "method", "reference"),
    *("difference", "low", "high", "p", "p_holm", "undefined", "resamples"),
    *("n_seeds", "n_seeds_reference", "n", "clusters", "unit", "selection"),
]


def compare(
    scores: pd.DataFrame, draws: Draws, reference: str, selection: str = HEADLINE
) -> pd.DataFrame:
    """Compute paired differences, method - reference, of every metric.

    Seeds and, in the rows of the average, domains are averaged inside each resample, as in the
    tables. `difference` is that of two cells of the tables. `low`, `high` and `p` come from the
    shared resamples (`statistics.paired`). Seeds are not resampled: the interval is about other
    patients for these trained models. Holm's correction is over the methods compared, for each
    protocol, held-out domain and metric.

    Args:
        scores: Rows of all runs (`aggregate.collect`).
        draws: Draws of all runs (`aggregate.collect_draws`).
        reference: Name of a method.
        selection: Rule of selection.

    Returns:
        Columns COMPARISONS, in the order of `average`. A cell that either method lacks is absent;
        an undefined one is NaN.
    """
    over_resamples = {
        (span.row["protocol"], span.row["held_out"], span.row["method"]): mean_draws(span, draws)
        for span in spans(scores, selection)
    }
    cells = (
        average(scores, selection=selection)
        .set_index(["protocol", "held_out", "method", "metric"])
        .to_dict("index")
    )
    index = {metric: i for i, metric in enumerate(MEASURES)}
    rows = []
    for (protocol, held_out, method, metric), cell in cells.items():
        other = cells.get((protocol, held_out, reference, metric))
        if method == reference or other is None:
            continue
        draws_method, draws_reference = (
            over_resamples[protocol, held_out, name][index[metric]] for name in (method, reference)
        )
        test = paired(draws_method, draws_reference)._asdict() | {
            "difference": cell["mean"] - other["mean"],
            "resamples": len(draws_method),
        }
        names = {
            "protocol": protocol,
            "held_out": held_out,
            "metric": metric,
            "method": method,
            "reference": reference,
        }
        facts = {name: cell[name] for name in ("n_seeds", "n", "clusters", "unit", "selection")}
        rows.append(names | test | facts | {"n_seeds_reference": other["n_seeds"]})
    table = pd.DataFrame(rows, columns=COMPARISONS)
    corrected = table.groupby(["protocol", "held_out", "metric"])["p"].transform(
        lambda p: holm(p.to_numpy(np.float64))
    )
    return table.assign(p_holm=corrected.astype(np.float64))


def read(path: str | Path, protocol: str) -> pd.DataFrame:
    """Read the rows of one protocol from comparisons.csv.

    Returns:
        Columns COMPARISONS.

    Raises:
        DataError: If there is no such file or it has other columns.
    """
    try:
        table = pd.read_csv(
            path,
            keep_default_na=False,
            na_values=dict.fromkeys(["difference", "low", "high", "p", "p_holm"], ""),
        )
    except FileNotFoundError:
        raise DataError(f"{path}: missing. Compare the runs first.") from None
    if list(table.columns) != COMPARISONS:
        raise DataError(
            f"{path}: columns are not those of comparisons.csv. Compare the runs again."
        )
    return table[table["protocol"] == protocol]
