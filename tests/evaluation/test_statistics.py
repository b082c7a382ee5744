"""Resamples of patients, intervals, paired tests and DeLong; coverage and size by simulation."""

import math
import runpy
import sys
from itertools import combinations

import numpy as np
import pytest
from helpers.paths import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from clipdr import DataError
from clipdr.data.manifest import clusters
from clipdr.evaluation.statistics import delong, holm, interval, paired, resample, standard_error

sys.path.insert(0, str(ROOT / "benchmarks"))  # for its `from _harness import`
SIMULATION = runpy.run_path(str(ROOT / "benchmarks" / "bench_intervals.py"))

PATIENTS = np.array([f"p{i // 2}" for i in range(40)] + ["", "", "p3"])


def test_resample_keeps_rows_of_a_patient_together():
    weight = resample(PATIENTS, 300, "APTOS")
    assert weight.shape == (300, 43)
    assert weight.dtype == np.uint16
    for patient in set(PATIENTS) - {""}:
        rows = np.flatnonzero(patient == PATIENTS)
        assert (weight[:, rows] == weight[:, rows[:1]]).all(), patient
    assert (weight[:, 40] != weight[:, 41]).any()


def test_resample_has_as_many_clusters_as_there_are():
    cluster = clusters(PATIENTS)
    assert cluster.max() + 1 == 22
    first = [np.flatnonzero(cluster == c)[0] for c in range(22)]
    assert (resample(PATIENTS, 300, "APTOS")[:, first].sum(axis=1) == 22).all()
    assert resample(PATIENTS, 4000, "APTOS").mean() == pytest.approx(1, abs=0.02)


def test_draws_depend_on_the_key_and_the_number_of_the_resample_alone():
    whole = resample(PATIENTS, 10, "IDRID")
    assert (whole == resample(PATIENTS, 10, "IDRID")).all()
    assert (whole[4:] == resample(PATIENTS, 6, "IDRID", start=4)).all()
    assert (whole != resample(PATIENTS, 10, "FGADR")).any()
    assert len(np.unique(whole, axis=0)) == 10
    renamed = np.array([f"x{p}" if p else "" for p in PATIENTS])
    assert (whole == resample(renamed, 10, "IDRID")).all()


def test_draws_do_not_change_between_versions():
    """A changed stream would silently change every interval in print."""
    assert resample(np.array(["a", "b", "c", "d"]), 3, "APTOS").tolist() == [
        [0, 1, 2, 1],
        [2, 1, 1, 0],
        [1, 1, 1, 1],
    ]


def test_resample_of_nothing_is_refused():
    with pytest.raises(DataError, match="APTOS"):
        resample(np.array([], dtype=str), 3, "APTOS")


@settings(max_examples=100, deadline=None)
@given(st.integers(40, 400), st.integers(0, 400), st.integers(0, 2**32 - 1))
def test_undefined_resamples_are_left_out_and_counted(count, undefined, seed):
    undefined = min(undefined, count)
    rng = np.random.default_rng(seed)
    draws = rng.normal(size=count)
    draws[rng.choice(count, undefined, replace=False)] = np.nan
    low, high, counted = interval(draws)
    assert counted == undefined
    if undefined > 0.05 * count:
        assert np.isnan(low)
        assert np.isnan(high)
    else:
        assert (low, high) == tuple(np.nanpercentile(draws, [2.5, 97.5]))


def test_interval_without_draws_is_undefined():
    low, high, undefined = interval(np.array([]))
    assert np.isnan(low)
    assert np.isnan(high)
    assert undefined == 0


def test_standard_error_equals_values_by_hand():
    assert standard_error([1.0, 2.0, 4.0]) == pytest.approx(np.sqrt(7 / 3) / np.sqrt(3))
    assert np.isnan(standard_error([1.0]))
    assert np.isnan(standard_error([]))
    assert np.isnan(standard_error([1.0, np.nan]))


def test_paired_difference_and_p_equal_values_by_hand():
    a = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
    b = np.array(
        [0.4, 0.6, 0.5, 0.9, 0.5]
    )  # differences 0.1, 0, 0.2, -0.1, 0.4: two <= 0, four >= 0
    result = paired(a, b)
    assert result.difference == pytest.approx(0.12)
    assert (result.low, result.high) == tuple(np.percentile(a - b, [2.5, 97.5]))
    assert (result.p, result.undefined) == (1, 0)  # 2 (2 + 1) / (5 + 1)
    assert paired(np.arange(1, 40), np.zeros(39)).p == 2 / 40
    back = paired(b, a)
    assert (back.difference, back.low, back.high) == pytest.approx(
        (-result.difference, -result.high, -result.low)
    )
    assert back.p == result.p


@settings(max_examples=100, deadline=None)
@given(st.integers(20, 300), st.floats(-3, 3), st.integers(0, 2**32 - 1))
def test_p_below_five_percent_means_an_interval_without_zero(count, shift, seed):
    """The test inverts the interval: they disagree at most where the added ones decide."""
    draws = np.random.default_rng(seed).normal(shift, 1, count)
    result = paired(draws, np.zeros(count))
    beyond = min((draws <= 0).sum(), (draws >= 0).sum())
    assert result.p == min(1, 2 * (beyond + 1) / (count + 1))
    if result.p <= 0.05:
        assert result.low > 0 or result.high < 0


def test_paired_with_equal_draws_has_no_difference():
    draws = np.random.default_rng(0).normal(size=100)
    assert paired(draws, draws) == (0, 0, 0, 1, 0)


def test_paired_leaves_out_and_counts_undefined_draws():
    a, b = np.ones(100), np.zeros(100)
    a[:3], b[2:5] = np.nan, np.nan
    assert paired(a, b) == (1, 1, 1, 2 / 96, 5)
    b[50] = np.nan
    assert paired(a, b)[4] == 6
    assert np.isnan(paired(a, b)[:4]).all()
    assert np.isnan(paired([], [])[:4]).all()
    with pytest.raises(DataError, match="cannot be paired"):
        paired(a, b[:50])


def test_holm_equals_values_by_hand():
    """Holm (1979): the smallest of m times m, the next times m - 1, in ascending order."""
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.02, 0.9]), [0.03, np.nan, 0.04, 0.9])
    assert holm([0.7, 0.8]).tolist() == [1, 1]
    assert holm([]).shape == (0,)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=8))
def test_holm_is_the_closed_test_of_bonferroni(p):
    """Independent definition: the largest Bonferroni p of all sets that contain the hypothesis."""
    sets = [subset for size in range(1, len(p) + 1) for subset in combinations(range(len(p)), size)]
    closed = [
        max(min(1, len(s) * min(p[i] for i in s)) for s in sets if one in s)
        for one in range(len(p))
    ]
    np.testing.assert_allclose(holm(p), closed, rtol=1e-12)


def placements(event, scores):
    """DeLong (1988) as printed: AUCs and covariance by placement values in a double loop."""
    x, y = scores[:, event], scores[:, ~event]
    m, n = x.shape[1], y.shape[1]
    v10, v01 = np.zeros((2, m)), np.zeros((2, n))
    for k in range(2):
        for i in range(m):
            for j in range(n):
                wins = 1.0 if x[k, i] > y[k, j] else 0.5 if x[k, i] == y[k, j] else 0.0
                v10[k, i] += wins / n
                v01[k, j] += wins / m
    auc = v10.mean(axis=1)
    s10 = (v10 - auc[:, None]) @ (v10 - auc[:, None]).T / (m - 1)
    s01 = (v01 - auc[:, None]) @ (v01 - auc[:, None]).T / (n - 1)
    return auc, s10 / m + s01 / n


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 40), st.sampled_from([3, 20, 10**6]), st.integers(0, 2**32 - 1))
def test_delong_equals_the_double_loop(count, levels, seed):
    """Also with ties: scores have few levels."""
    rng = np.random.default_rng(seed)
    event = np.concatenate([[True, True, False, False], rng.random(count) < 0.4])
    scores = rng.integers(0, levels, (2, len(event))) / levels + 0.3 * event
    result = delong(event, *scores)
    auc, covariance = placements(event, scores)
    np.testing.assert_allclose([result.auc_a, result.auc_b], auc, rtol=0, atol=1e-10)
    np.testing.assert_allclose(result.covariance, covariance, rtol=0, atol=1e-10)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance > 1e-12:
        z = (auc[0] - auc[1]) / math.sqrt(variance)
        assert result.p == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=1e-10)


def test_delong_with_one_class_or_equal_scores_is_undefined():
    event, score = np.array([True, False, True, False]), np.array([0.9, 0.2, 0.4, 0.3])
    same = delong(event, score, score)
    assert same.auc_a == same.auc_b == 1
    assert np.isnan(same.p)
    alone = delong(event[:2], score[:2], score[:2])
    assert alone.auc_a == 1
    assert np.isnan(alone.covariance).all()
    assert np.isnan(alone.p)
    assert np.isnan(delong(np.array([True, True]), score[:2], score[:2])[0])
    with pytest.raises(DataError, match="finite"):
        delong(event, score, np.full(4, np.nan))


def test_delong_agrees_with_bootstrap_on_independent_images():
    from clipdr.evaluation.calibration import cumulative
    from clipdr.evaluation.operating_point import referable

    grade, probability, _ = SIMULATION["eyes"](1500, np.random.default_rng(5), methods=2)
    grade, probability = grade[::2], probability[:, ::2]  # one eye of each patient
    weight = resample(np.full(len(grade), ""), 800, "independent")
    draws = [referable(grade, one, 0.5, weight)["referable_auc"] for one in probability]
    test = delong(grade >= 2, *(cumulative(one)[:, 1] for one in probability))
    deviation = np.sqrt(
        [
            test.covariance[0, 0],
            test.covariance[1, 1],
            test.covariance.sum() - 4 * test.covariance[0, 1],
        ]
    )
    np.testing.assert_allclose(
        [draws[0].std(), draws[1].std(), (draws[0] - draws[1]).std()], deviation, rtol=0.1
    )


def assert_patients_cover_better(sets, resamples, low, high):
    share, width = SIMULATION["coverage"](sets, resamples)
    for name in ("auc", "qwk"):
        assert low <= share[name, "patient"] <= high, share
        assert share[name, "image"] < share[name, "patient"], share
        assert width[name, "patient"] > width[name, "image"]


def test_intervals_by_patient_cover_better_than_by_image():
    assert_patients_cover_better(sets=250, resamples=200, low=0.9, high=0.99)


@pytest.mark.nightly
def test_intervals_by_patient_cover_better_than_by_image_at_length():
    assert_patients_cover_better(sets=2000, resamples=1000, low=0.93, high=0.97)


def test_paired_test_seldom_rejects_equal_methods():
    share = SIMULATION["false_positives"](sets=120, resamples=200)
    for name in ("auc", "qwk", "accuracy", "macro_f1"):
        assert share[name, "patient"] <= 0.1, share


@pytest.mark.nightly
def test_paired_test_has_its_nominal_size_at_length():
    share = SIMULATION["false_positives"](sets=2000, resamples=1000)
    for name in ("auc", "qwk", "accuracy", "macro_f1"):
        assert 0.04 <= share[name, "patient"] <= 0.06, share
        assert share[name, "image"] > share[name, "patient"], share
