"""What scores of many runs come to: means over seeds and held-out domains, the single source of tables and figures.

Input: scores.csv and draws.npz of run folders (clipdr.evaluation.scoring). Output: averages, and the summary for `dvc metrics show`.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.artifacts.run_folder import RunFolder
from clipdr.evaluation.operating_point import MEASURES
from clipdr.evaluation.schema import (
    AS_HEADLINE,
    AVERAGE,
    AVERAGES,
    DTYPES,
    HEADLINE,
    POOLED,
    RUN,
    SCORES,
)
from clipdr.evaluation.statistics import interval, standard_error

SUMMARY = ("auc", "accuracy", "macro_f1", "qwk", "mae")  # metrics of summary.json


def average(scores, draws=None, selection=HEADLINE, domain=None):
    """Means over seeds, and over held-out domains: the single source of tables and figures.

    A cell of a run is its test pool where there are several test domains, else its one test domain; or `domain`, if one is asked for.
    A row with held_out "average" is the unweighted mean over all held-out domains that any method of the protocol was run on, over the
    seeds that have them all; it is absent if there is no such seed. Missing cells are absent; an undefined cell makes its means undefined.
    Seeds are averaged inside each resample, and so are domains.

    scores  : rows of all runs (`collect`)
    draws   : (protocol, method, held_out, seed) -> draws of the run (`collect_draws`), or None: low and high are NaN
    selection : a rule; for the headline, runs under SWAD enter with theirs, and say so in their rows' `selection`
    returns   columns AVERAGES; se over seeds, NaN for one; n and clusters count a photograph of several pools once;
              DataError if methods were scored on different images
    """
    tests = _tests(scores)
    rows = [
        row | numbers
        for row, *over in spans(scores, selection, domain)
        for numbers in _means(*over, draws, row, tests)
    ]
    return pd.DataFrame(rows, columns=AVERAGES)


def spans(scores, selection=HEADLINE, domain=None):
    """What `average` averages. Yields row (protocol, method, held_out, selection), the cells of its method, held-out domains, seeds."""
    cells = _cells(scores, selection, domain)
    for (protocol, method), group in cells.groupby(["protocol", "method"], sort=False):
        everywhere = list(dict.fromkeys(cells.loc[cells["protocol"] == protocol, "held_out"]))
        seeds = {
            held_out: sorted(part["seed"].unique())
            for held_out, part in group.groupby("held_out", sort=False)
        }
        common = sorted(
            set.intersection(*(set(seeds.get(held_out, [])) for held_out in everywhere))
        )
        wanted = [
            (held_out, [held_out], seeds[held_out]) for held_out in everywhere if held_out in seeds
        ]
        for name, domains, over in wanted + ([(AVERAGE, everywhere, common)] if common else []):
            row = {
                "protocol": protocol,
                "method": method,
                "held_out": name,
                "selection": group["selection"].iloc[0],
            }
            yield row, group, domains, over


def _means(group, domains, seeds, draws, row, tests):
    """Yields a dict per metric: the rest of a row of AVERAGES. group: cells of one method; domains, seeds: averaged over."""
    facts = _facts(group, domains)
    if len(domains) > 1:
        facts = _once(facts, tests)
    values = group.set_index(["metric", "seed", "held_out"])["value"].to_dict()
    over_resamples = mean_draws(group, domains, seeds, draws, row)
    units = set(facts["unit"])
    count = {
        "n": facts["n"].sum(),
        "clusters": facts["clusters"].sum(),
        "unit": units.pop() if len(units) == 1 else "mixed",
        "n_domains": len(domains),
        "resamples": over_resamples.shape[1],
    }
    for metric, drawn in zip(MEASURES, over_resamples, strict=True):
        by_seed = np.array(
            [np.mean([values[metric, seed, held_out] for held_out in domains]) for seed in seeds]
        )
        bounds = dict(zip(("low", "high", "undefined"), interval(drawn), strict=True))
        yield (
            {
                "metric": metric,
                "mean": by_seed.mean(),
                "se": standard_error(by_seed),
                "n_seeds": len(seeds),
            }
            | bounds
            | count
        )


def _once(facts, tests):
    """Rows of `_facts` -> one row per test domain behind them: the pools of two esdg sources share most domains, to be counted once."""
    pools = facts[facts["domain"] == POOLED].reset_index()[["protocol", "method", "held_out"]]
    parts = tests[tests["domain"] != POOLED].merge(pools)
    return pd.concat([facts[facts["domain"] != POOLED], parts]).drop_duplicates("domain")


def _tests(scores):
    """The rows of what was tested, not validated, in whole."""
    return scores[(scores["split"] == "test") & (scores["stratum"] == "all")]


def _cells(scores, selection, domain=None):
    """The rows that stand for a run, its test pool, only test domain or `domain`; the same images for all methods and seeds of a cell."""
    rules, test = AS_HEADLINE.get(selection, (selection,)), _tests(scores)
    test = test[test["selection"].isin(rules)]
    pooled = (
        test.groupby(RUN)["domain"].transform(lambda domain: (domain == POOLED).any()).astype(bool)
    )
    cells = test[test["domain"] == domain] if domain else test[~pooled | (test["domain"] == POOLED)]
    twice = cells.duplicated([*RUN, "metric"])
    if twice.any():
        raise DataError(
            f"scores: {'/'.join(map(str, cells.loc[twice, RUN].iloc[0]))} occurs twice; collect each run once"
        )
    for (protocol, held_out), part in cells.groupby(["protocol", "held_out"]):
        if len(part[["n", "clusters"]].drop_duplicates()) > 1:
            raise DataError(
                f"scores: runs of {protocol} on {held_out} have different test images; train them on the same manifests"
            )
    return cells


def _facts(group, domains):
    """One row per held-out domain, in order: domain (name of its test part), n, clusters, unit."""
    return group.drop_duplicates("held_out").set_index("held_out").loc[domains]


def mean_draws(group, domains, seeds, draws, row):
    """(metrics, R), rows in the order of MEASURES: mean over seeds and held-out domains inside each resample.

    row, group, domains, seeds: as `spans` yields them; draws: as `average`, None gives R = 0.
    DataError if a run has none, or another number of resamples than the others.
    """
    if draws is None:
        return np.empty((len(MEASURES), 0))
    drawn = []
    for held_out, part in _facts(group, domains)["domain"].items():
        for seed in seeds:
            run, key = (
                (row["protocol"], row["method"], held_out, int(seed)),
                f"{row['selection']}/{part}",
            )
            if key not in draws.get(run, {}):
                raise DataError(
                    f"draws: none of {'/'.join(map(str, run))} for {key}; score that run again"
                )
            drawn.append(draws[run][key])
    if len({one.shape for one in drawn}) > 1:
        raise DataError(
            f"draws: runs of {row['protocol']}/{row['method']} have different numbers of resamples; score them again"
        )
    return np.mean(drawn, axis=0)


def summary(scores, selection=HEADLINE):
    """protocol -> method -> metric -> mean over held-out domains and seeds, for `dvc metrics show`.

    Undefined, and the mean of a method with missing cells, are None (null in JSON).
    """
    averages = average(scores, selection=selection)
    means = (
        averages[averages["held_out"] == AVERAGE]
        .set_index(["protocol", "method", "metric"])["mean"]
        .dropna()
    )
    result = {}
    for protocol, method in dict.fromkeys(
        zip(averages["protocol"], averages["method"], strict=True)
    ):
        entry = {metric: means.get((protocol, method, metric)) for metric in SUMMARY}
        result.setdefault(protocol, {})[method] = {
            metric: None if mean is None else float(mean) for metric, mean in entry.items()
        }
    return result


def collect(run_dirs):
    """Run folders -> the rows of their scores.csv, in the order given; DataError naming a file that is missing or has other columns."""
    frames = []
    for path in (Path(folder) / "scores.csv" for folder in run_dirs):
        if not path.is_file():
            raise DataError(f"{path}: missing; score that run first")
        frames.append(read_scores(path))
    if not frames:
        raise DataError("collect: no run folders given; train and score first")
    return pd.concat(frames, ignore_index=True)


def read_scores(path):
    """scores.csv -> frame with the dtypes of DTYPES."""
    frame = pd.read_csv(
        path,
        dtype=DTYPES,
        keep_default_na=False,
        na_values=dict.fromkeys(["value", "low", "high"], ""),
    )
    if list(frame.columns) != SCORES:
        raise DataError(f"{path}: columns are not those of scores.csv; score that run again")
    return frame


def collect_draws(run_dirs, selection=HEADLINE):
    """Run folders .../{protocol}/{method}/{held_out}/{seed} -> draws of each run under one selection (None: all), for `average`."""
    result = {}
    for folder in map(Path, run_dirs):
        path = folder / "draws.npz"
        if not path.is_file():
            raise DataError(f"{path}: missing; score that run first")
        with np.load(path) as stored:
            wanted = [
                key
                for key in stored.files
                if selection is None
                or key.split("/")[0] in AS_HEADLINE.get(selection, (selection,))
            ]
            result[RunFolder(folder).key] = {key: stored[key] for key in wanted}
    return result
