"""Aggregates scores over seeds and held-out domains. All tables and figures read these averages.

Input: scores.csv and draws.npz of run folders (`clipdr.evaluation.scoring`). Output: averages, and
the summary for `dvc metrics show`.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.artifacts.run_folder import RunFolder
from clipdr.evaluation.operating_point import MEASURES
from clipdr.evaluation.schema import (
    AVERAGE,
    AVERAGES,
    DTYPES,
    HEADLINE,
    POOLED,
    RUN,
    SCORES,
    rules_of,
)
from clipdr.evaluation.statistics import interval, standard_error

SUMMARY = ("auc", "accuracy", "macro_f1", "qwk", "mae")  # metrics of summary.json

# (protocol, method, held_out, seed) -> {"selection/domain": (metrics, R) float64}
Draws = Mapping[tuple[str, str, str, int], Mapping[str, np.ndarray]]


class Span(NamedTuple):
    """What one average is over.

    Attributes:
        row: protocol, method, held_out and selection of the average.
        cells: Rows of scores of the method, one per metric, seed and held-out domain.
        domains: Held-out domains averaged.
        seeds: Seeds averaged.
    """

    row: dict[str, str]
    cells: pd.DataFrame
    domains: list[str]
    seeds: list[int]


def average(
    scores: pd.DataFrame,
    draws: Draws | None = None,
    selection: str = HEADLINE,
    domain: str | None = None,
) -> pd.DataFrame:
    """Average scores over seeds, and over held-out domains.

    A cell of a run is its test pool where there are several test domains, else its one test
    domain. A row with held_out "average" is the unweighted mean over all held-out domains that any
    method of the protocol was run on, over the seeds that have them all. It is absent if there is
    no such seed. Missing cells are absent, and an undefined cell makes its means undefined. Seeds
    are averaged inside each resample, and so are domains.

    Args:
        scores: Rows of all runs, columns SCORES (`collect`).
        draws: Draws of all runs (`collect_draws`). None: low and high are NaN.
        selection: Rule of selection. For the headline, runs under SWAD enter with their rule, which
            their rows name.
        domain: Test domain to average instead of the pool.

    Returns:
        Columns AVERAGES. `se` is over seeds, NaN for one. `n` and `clusters` count an image of
        several pools once.

    Raises:
        DataError: If methods were scored on different images, or draws are missing.
    """
    tests = _test_rows(scores)
    rows = [
        span.row | numbers
        for span in spans(scores, selection, domain)
        for numbers in _means(span, draws, tests)
    ]
    return pd.DataFrame(rows, columns=AVERAGES)


def spans(
    scores: pd.DataFrame, selection: str = HEADLINE, domain: str | None = None
) -> Iterator[Span]:
    """Yield what `average` averages: per method every held-out domain, then their mean.

    Args:
        scores: As in `average`.
        selection: As in `average`.
        domain: As in `average`.
    """
    cells = _cells(scores, selection, domain)
    for (protocol, method), group in cells.groupby(["protocol", "method"], sort=False):
        everywhere = list(dict.fromkeys(cells.loc[cells["protocol"] == protocol, "held_out"]))
        seeds = {
            held_out: sorted(rows["seed"].unique())
            for held_out, rows in group.groupby("held_out", sort=False)
        }
        common = sorted(
            set.intersection(*(set(seeds.get(held_out, [])) for held_out in everywhere))
        )
        wanted = [
            (held_out, [held_out], seeds[held_out]) for held_out in everywhere if held_out in seeds
        ]
        if common:
            wanted.append((AVERAGE, everywhere, common))
        for name, domains, of_seeds in wanted:
            row = {
                "protocol": protocol,
                "method": method,
                "held_out": name,
                "selection": group["selection"].iloc[0],
            }
            yield Span(row, group, domains, of_seeds)


def mean_draws(span: Span, draws: Draws | None) -> np.ndarray:
    """Average draws over seeds and held-out domains inside each resample.

    Args:
        span: One of `spans`.
        draws: As in `average`. None gives R = 0.

    Returns:
        (metrics, R) float64, rows in the order of MEASURES.

    Raises:
        DataError: If a run has no draws, or another number of resamples than the others.
    """
    if draws is None:
        return np.empty((len(MEASURES), 0))
    row, arrays = span.row, []
    for held_out, domain in _domain_facts(span)["domain"].items():
        for seed in span.seeds:
            run = (row["protocol"], row["method"], str(held_out), int(seed))
            key = f"{row['selection']}/{domain}"
            if key not in draws.get(run, {}):
                raise DataError(
                    f"draws: {'/'.join(map(str, run))} has none for {key}. Score that run again."
                )
            arrays.append(draws[run][key])
    if len({array.shape for array in arrays}) > 1:
        raise DataError(
            f"draws: runs of {row['protocol']}/{row['method']} have different numbers of "
            "resamples. Score them again."
        )
    return np.mean(arrays, axis=0)


def summary(
    scores: pd.DataFrame, selection: str = HEADLINE
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Average the metrics of SUMMARY over held-out domains and seeds, for `dvc metrics show`.

    Args:
        scores: As in `average`.
        selection: As in `average`.

    Returns:
        {protocol: {method: {metric: mean}}}. An undefined mean, and that of a method with missing
        cells, is None (null in JSON).
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


def collect(run_folders: Iterable[str | Path]) -> pd.DataFrame:
    """Read scores.csv of run folders.

    Args:
        run_folders: Paths of run folders.

    Returns:
        Their rows in the order given, columns SCORES.

    Raises:
        DataError: If there is no folder, or a file is missing or has other columns.
    """
    frames = []
    for path in (Path(folder) / "scores.csv" for folder in run_folders):
        if not path.is_file():
            raise DataError(f"{path}: missing. Score that run first.")
        frames.append(read_scores(path))
    if not frames:
        raise DataError("collect: no run folders are given. Train and score first.")
    return pd.concat(frames, ignore_index=True)


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read one scores.csv.

    Returns:
        Columns SCORES with the dtypes of DTYPES.

    Raises:
        DataError: If it has other columns.
    """
    frame = pd.read_csv(
        path,
        dtype=DTYPES,
        keep_default_na=False,
        na_values=dict.fromkeys(["value", "low", "high"], ""),
    )
    if list(frame.columns) != SCORES:
        raise DataError(f"{path}: columns are not those of scores.csv. Score that run again.")
    return frame


def collect_draws(
    run_folders: Iterable[str | Path], selection: str | None = HEADLINE
) -> dict[tuple[str, str, str, int], dict[str, np.ndarray]]:
    """Read draws.npz of run folders, for `average`.

    Args:
        run_folders: Paths of run folders, .../PROTOCOL/METHOD/HELD_OUT/SEED.
        selection: Rule of selection whose draws are read. None: all.

    Returns:
        {(protocol, method, held_out, seed): {"selection/domain": (metrics, R) float64}}.

    Raises:
        DataError: If a file is missing.
    """
    result = {}
    for folder in map(Path, run_folders):
        path = folder / "draws.npz"
        if not path.is_file():
            raise DataError(f"{path}: missing. Score that run first.")
        with np.load(path) as stored:
            wanted = [
                key
                for key in stored.files
                if selection is None or key.split("/")[0] in rules_of(selection)
            ]
            result[RunFolder(folder).key] = {key: stored[key] for key in wanted}
    return result


def _means(span: Span, draws: Draws | None, tests: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield, per metric, the columns of AVERAGES that `span.row` lacks."""
    domains, seeds = span.domains, span.seeds
    facts = _domain_facts(span)
    if len(domains) > 1:
        facts = _once(facts, tests)
    values = span.cells.set_index(["metric", "seed", "held_out"])["value"].to_dict()
    over_resamples = mean_draws(span, draws)
    units = set(facts["unit"])
    count = {
        "n": facts["n"].sum(),
        "clusters": facts["clusters"].sum(),
        "unit": units.pop() if len(units) == 1 else "mixed",
        "n_domains": len(domains),
        "resamples": over_resamples.shape[1],
    }
    for metric, of_metric in zip(MEASURES, over_resamples, strict=True):
        by_seed = np.array(
            [np.mean([values[metric, seed, held_out] for held_out in domains]) for seed in seeds]
        )
        bounds = dict(zip(("low", "high", "undefined"), interval(of_metric), strict=True))
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


def _once(facts: pd.DataFrame, tests: pd.DataFrame) -> pd.DataFrame:
    """Replace pools by their test domains, because the pools of two esdg sources share most."""
    pools = facts[facts["domain"] == POOLED].reset_index()[["protocol", "method", "held_out"]]
    members = tests[tests["domain"] != POOLED].merge(pools)
    return pd.concat([facts[facts["domain"] != POOLED], members]).drop_duplicates("domain")


def _test_rows(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of the test split, of all its images."""
    return scores[(scores["split"] == "test") & (scores["stratum"] == "all")]


def _cells(scores: pd.DataFrame, selection: str, domain: str | None = None) -> pd.DataFrame:
    """The rows that stand for a run: its test pool, its only test domain, or `domain`.

    All methods and seeds of a cell have the same images, else DataError.
    """
    test = _test_rows(scores)
    test = test[test["selection"].isin(rules_of(selection))]
    pooled = (
        test.groupby(RUN)["domain"].transform(lambda domain: (domain == POOLED).any()).astype(bool)
    )
    cells = test[test["domain"] == domain] if domain else test[~pooled | (test["domain"] == POOLED)]
    twice = cells.duplicated([*RUN, "metric"])
    if twice.any():
        raise DataError(
            f"scores: {'/'.join(map(str, cells.loc[twice, RUN].iloc[0]))} occurs twice. "
            "Collect each run once."
        )
    for (protocol, held_out), rows in cells.groupby(["protocol", "held_out"]):
        if len(rows[["n", "clusters"]].drop_duplicates()) > 1:
            raise DataError(
                f"scores: runs of {protocol} on {held_out} have different test images. "
                "Train them on the same manifests."
            )
    return cells


def _domain_facts(span: Span) -> pd.DataFrame:
    """One row per held-out domain, in order: domain (of its test rows), n, clusters, unit."""
    return span.cells.drop_duplicates("held_out").set_index("held_out").loc[span.domains]
