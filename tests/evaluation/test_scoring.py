"""Scores of a run: values, draws and intervals, independent of row order."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers.simulated_runs import manifest_of, predict

from clipdr.evaluation import scoring
from clipdr.evaluation.aggregate import average, summary
from clipdr.evaluation.metrics import METRICS
from clipdr.evaluation.operating_point import MEASURES
from clipdr.evaluation.schema import PROBABILITIES, SCORES
from clipdr.evaluation.scoring import score
from clipdr.evaluation.statistics import interval, resample


def test_scores_of_a_dg_run_have_the_expected_rows(manifest):
    predictions = predict(manifest, ["SIM_APTOS"])
    scores, draws, _ = score(predictions, manifest, 50)
    assert list(scores.columns) == SCORES
    groups = (
        scores.groupby(["selection", "split"], sort=False)["domain"].unique().map(list).to_dict()
    )
    val = ["pooled", "SIM_IDRID", "SIM_RLDR"]
    assert groups == {
        (s, split): val if split == "val" else ["SIM_APTOS"]
        for s in ("last", "source_val")
        for split in ("test", "val")
    }
    assert scores["metric"].tolist() == list(MEASURES) * 8
    assert set(scores["stratum"]) == {"all"}
    assert scores.loc[scores["split"] == "val", ["low", "high"]].isna().all().all()
    assert {key: part.shape for key, part in draws.items()} == {
        "last/SIM_APTOS": (61, 50),
        "source_val/SIM_APTOS": (61, 50),
    }
    facts = (
        scores.drop_duplicates("domain")
        .set_index("domain")[["n", "clusters", "unit"]]
        .T.to_dict("list")
    )
    assert facts == {
        "SIM_APTOS": [120, 60, "patient"],
        "pooled": [180, 130, "image"],
        "SIM_IDRID": [80, 80, "image"],
        "SIM_RLDR": [100, 50, "patient"],
    }  # fmt: skip


def test_value_draws_and_interval_are_those_of_the_sorted_rows(manifest):
    predictions = predict(manifest, ["SIM_APTOS"])
    scores, draws, _ = score(predictions, manifest, 50)
    rows = predictions[
        (predictions["selection"] == "last") & (predictions["split"] == "test")
    ].sort_values("image")
    patient = rows["image"].map(manifest.set_index("image")["patient"]).to_numpy()
    weight = resample(patient, 50, "SIM_APTOS")
    table = scores[(scores["selection"] == "last") & (scores["split"] == "test")].set_index(
        "metric"
    )
    for index, (name, metric) in enumerate(METRICS.items()):
        grade, probability = rows["grade"].to_numpy(int), rows[PROBABILITIES].to_numpy()
        expected = metric(grade, probability, weight)
        np.testing.assert_array_equal(draws["last/SIM_APTOS"][index], expected)
        assert table.loc[name, "value"] == pytest.approx(metric(grade, probability)[0], abs=1e-12)
        low, high, undefined = interval(expected)
        np.testing.assert_array_equal(table.loc[name, ["low", "high"]].to_numpy(float), [low, high])
        assert table.loc[name, "undefined"] == undefined


def test_row_order_and_blocks_do_not_matter(manifest, monkeypatch):
    predictions = predict(manifest, ["SIM_IDRID"])
    scores, draws, _ = score(predictions, manifest, 30)
    monkeypatch.setattr(scoring, "WEIGHTS_AT_ONCE", 7 * 80)
    again, again_draws, _ = score(
        predictions.iloc[::-1], manifest.sample(frac=1, random_state=1), 30
    )
    pd.testing.assert_frame_equal(scores, again, check_exact=True)
    for key in draws:
        np.testing.assert_array_equal(draws[key], again_draws[key])


def test_methods_share_their_draws(manifest):
    """The same prediction under two method names has the same draws."""
    predictions = predict(manifest, ["SIM_IDRID"])
    a, b = (
        score(predictions.assign(method=name, seed=np.int32(seed)), manifest, 20).draws
        for name, seed in (("erm", 0), ("coop", 5))
    )
    np.testing.assert_array_equal(a["last/SIM_IDRID"], b["last/SIM_IDRID"])


def test_several_test_domains_are_pooled_and_single(manifest):
    predictions = predict(
        manifest, ["SIM_APTOS", "SIM_IDRID"], protocol="esdg", held_out="all_but_SIM_RLDR"
    )
    scores, draws, _ = score(predictions, manifest, 10)
    assert set(draws) == {
        f"{s}/{d}" for s in ("last", "source_val") for d in ("pooled", "SIM_APTOS", "SIM_IDRID")
    }
    pool = scores[(scores["split"] == "test") & (scores["domain"] == "pooled")]
    assert set(pool["n"]) == {200}
    assert set(pool["unit"]) == {"image"}
    assert set(pool["clusters"]) == {140}
    cells = average(scores, {("esdg", "clip_dr", "all_but_SIM_RLDR", 0): draws})
    assert set(cells["n"]) == {200}
    np.testing.assert_array_equal(
        cells.loc[cells["held_out"] != "average", "mean"],
        pool.loc[pool["selection"] == "source_val", "value"],
    )


def test_equal_patients_of_two_domains_differ_except_rldr_and_eyepacs():
    for domains, expected in ((("SIM_APTOS", "SIM_RLDR"), 60 + 50), (("EYEPACS", "RLDR"), 60)):
        manifest = manifest_of(
            dict(zip((*domains, "IDRID"), (120, 100, 30), strict=True)), by_patient=domains
        )
        scores, *_ = score(predict(manifest, list(domains), held_out="all_but_IDRID"), manifest, 2)
        assert set(
            scores.loc[(scores["domain"] == "pooled") & (scores["split"] == "test"), "clusters"]
        ) == {expected}


def test_undefined_metric_stays_undefined(manifest):
    few = manifest[(manifest["domain"] != "SIM_IDRID") | (manifest["grade"] != 4)]
    scores, *_ = score(predict(few, ["SIM_IDRID"]), few, 20)
    test = scores[(scores["split"] == "test") & (scores["selection"] == "last")].set_index("metric")
    assert test.loc[["auc", "recall_4"], ["value", "low", "high"]].isna().all().all()
    assert test.loc["auc", "undefined"] == 20
    assert test.loc[["accuracy", "qwk"], ["value", "low", "high"]].notna().all().all()
    assert np.isnan(
        average(scores).set_index(["held_out", "metric"]).loc[("average", "auc"), "mean"]
    )
    entry = summary(scores)["dg"]["clip_dr"]
    assert entry["auc"] is None
    assert entry["accuracy"] > 0.5
    json.dumps(entry, allow_nan=False)


def test_difference_to_scikit_learn_is_an_error(manifest, monkeypatch):
    monkeypatch.setitem(
        scoring.METRICS,
        "mae",
        lambda grade, probability, weight=None: np.zeros(1 if weight is None else len(weight)),
    )
    with pytest.raises(AssertionError, match=r"mae: METRICS gives .*, scikit-learn"):
        score(predict(manifest, ["SIM_IDRID"]), manifest, 1)
