"""Comparisons with a reference method: the same numbers as the tables, from shared draws."""

import numpy as np
import pandas as pd
import pytest

from clipdr import DataError
from clipdr.evaluation.aggregate import average
from clipdr.evaluation.comparison import COMPARISONS, compare
from clipdr.evaluation.operating_point import MEASURES
from clipdr.evaluation.schema import SCORES
from clipdr.evaluation.statistics import holm, paired

DOMAINS = ("SIM_APTOS", "SIM_IDRID")
METHODS = ("erm", "coop", "clip_dr")
EDGE = {"erm": -0.05, "coop": -0.002, "clip_dr": 0.0}


def study(methods=METHODS, seeds=(0, 1), resamples=400, undefined=()):
    """Scores and draws of a simulated study; draws of one resample share a shift.

    undefined: (method, metric).
    """
    rows, draws = [], {}
    for held_out in DOMAINS:
        shift = np.random.default_rng(len(held_out)).normal(0, 0.03, (len(MEASURES), resamples))
        for method in methods:
            for seed in seeds:
                rng = np.random.default_rng((seed, METHODS.index(method), len(held_out)))
                value = 0.7 + EDGE[method] + 0.001 * rng.normal(size=len(MEASURES))
                resampled = value[:, None] + shift + rng.normal(0, 0.005, shift.shape)
                for index, metric in enumerate(MEASURES):
                    if (method, metric) in undefined:
                        value[index], resampled[index] = np.nan, np.nan
                draws["dg", method, held_out, seed] = {f"source_val/{held_out}": resampled}
                run = {
                    "protocol": "dg",
                    "method": method,
                    "held_out": held_out,
                    "seed": seed,
                    "selection": "source_val",
                    "split": "test",
                }
                facts = {
                    "domain": held_out,
                    "stratum": "all",
                    "n": 80,
                    "clusters": 40,
                    "undefined": 0,
                    "unit": "patient",
                }
                rows += [
                    run | facts | {"metric": metric, "value": one}
                    for metric, one in zip(MEASURES, value, strict=True)
                ]
    return pd.DataFrame(rows).reindex(columns=SCORES), draws


@pytest.fixture(scope="module")
def study_and_table():
    scores, draws = study()
    return scores, draws, compare(scores, draws, "clip_dr")


def test_comparison_has_the_expected_columns_and_rows(study_and_table):
    table = study_and_table[2]
    assert list(table.columns) == COMPARISONS
    assert set(table["method"]) == {"erm", "coop"}
    assert set(table["reference"]) == {"clip_dr"}
    assert set(table["held_out"]) == {*DOMAINS, "average"}
    assert len(table) == 2 * 3 * len(MEASURES)
    assert not table.duplicated(["protocol", "held_out", "metric", "method"]).any()
    assert set(table["resamples"]) == {400}
    assert set(table["n_seeds"]) == set(table["n_seeds_reference"]) == {2}


def test_difference_is_that_of_two_cells_of_the_tables(study_and_table):
    scores, draws, table = study_and_table
    cells = average(scores, draws).set_index(["held_out", "method", "metric"])["mean"]
    for row in table.itertuples():
        expected = (
            cells[row.held_out, row.method, row.metric] - cells[row.held_out, "clip_dr", row.metric]
        )
        assert row.difference == pytest.approx(expected, abs=1e-15)


def test_interval_and_p_come_from_averages_of_shared_draws(study_and_table):
    _, draws, table = study_and_table
    table = table.set_index(["held_out", "method", "metric"])
    index = MEASURES.index("qwk")

    def mean(method, domains):
        return np.mean(
            [draws["dg", method, d, s][f"source_val/{d}"][index] for d in domains for s in (0, 1)],
            axis=0,
        )

    for held_out, domains in (("SIM_IDRID", ["SIM_IDRID"]), ("average", DOMAINS)):
        expected = paired(mean("erm", domains), mean("clip_dr", domains))
        row = table.loc[(held_out, "erm", "qwk")]
        assert (row["low"], row["high"], row["p"]) == pytest.approx(
            (expected.low, expected.high, expected.p), abs=1e-12
        )
    assert (
        table.loc[("average", "erm", "auc"), "p"]
        < 0.05
        < table.loc[("average", "coop", "auc"), "p"]
    )


def test_shared_draws_make_the_interval_narrow(study_and_table):
    """Control: the same scores with separately permuted draws have wide intervals."""
    scores, draws, table = study_and_table
    rng = np.random.default_rng(9)
    torn = {
        run: {key: rng.permuted(one, axis=1) for key, one in parts.items()}
        for run, parts in draws.items()
    }
    wide = compare(scores, torn, "clip_dr")
    assert ((table["high"] - table["low"]) < 0.6 * (wide["high"] - wide["low"])).all()


def test_holm_is_over_the_methods_of_each_metric_and_domain(study_and_table):
    for _, rows in study_and_table[2].groupby(["held_out", "metric"]):
        np.testing.assert_array_equal(rows["p_holm"], holm(rows["p"]))
        assert (rows["p_holm"] >= rows["p"]).all()


def test_undefined_stays_undefined_and_is_not_counted():
    table = compare(*study(undefined=[("coop", "auc")]), "clip_dr").set_index(
        ["held_out", "method", "metric"]
    )
    assert (
        table.loc[("average", "coop", "auc"), ["difference", "low", "high", "p", "p_holm"]]
        .isna()
        .all()
    )
    assert table.loc[("average", "coop", "auc"), "undefined"] == 400
    assert (
        table.loc[("average", "erm", "auc"), "p_holm"] == table.loc[("average", "erm", "auc"), "p"]
    )


def test_cells_that_one_of_the_two_lacks_are_absent():
    scores, draws = study()
    assert compare(scores[scores["method"] != "clip_dr"], draws, "clip_dr").empty
    assert (
        list(compare(scores[scores["method"] == "clip_dr"], draws, "clip_dr").columns)
        == COMPARISONS
    )
    part = compare(
        scores[(scores["method"] != "erm") | (scores["held_out"] == "SIM_APTOS")], draws, "clip_dr"
    )
    assert set(part.loc[part["method"] == "erm", "held_out"]) == {"SIM_APTOS"}


def test_different_resamples_cannot_be_paired():
    scores, draws = study()
    for held_out in DOMAINS:
        for seed in (0, 1):
            draws["dg", "erm", held_out, seed][f"source_val/{held_out}"] = np.zeros(
                (len(MEASURES), 7)
            )
    with pytest.raises(DataError, match="cannot be paired"):
        compare(scores, draws, "clip_dr")
