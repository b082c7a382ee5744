"""Resamples of patients, intervals, standard errors, and whether the intervals cover the truth (R11)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipdr import DataError
from clipdr.metrics import METRICS
from clipdr.statistics import clusters, interval, resample, standard_error

PATIENTS = np.array([f"p{i // 2}" for i in range(40)] + ["", "", "p3"])


def test_rows_of_a_patient_are_drawn_together_and_unknown_patients_alone():
    weight = resample(PATIENTS, 300, "APTOS")
    assert weight.shape == (300, 43) and weight.dtype == np.uint16
    for patient in set(PATIENTS) - {""}:
        rows = np.flatnonzero(patient == PATIENTS)
        assert (weight[:, rows] == weight[:, rows[:1]]).all(), patient
    assert (weight[:, 40] != weight[:, 41]).any()


def test_as_many_clusters_are_drawn_as_there_are():
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
    assert resample(np.array(["a", "b", "c", "d"]), 3, "APTOS").tolist() == [[0, 1, 2, 1], [2, 1, 1, 0], [1, 1, 1, 1]]


def test_nothing_to_resample():
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
        assert np.isnan(low) and np.isnan(high)
    else:
        assert (low, high) == tuple(np.nanpercentile(draws, [2.5, 97.5]))


def test_no_draws_no_interval():
    low, high, undefined = interval(np.array([]))
    assert np.isnan(low) and np.isnan(high) and undefined == 0


def test_standard_error():
    assert standard_error([1.0, 2.0, 4.0]) == pytest.approx(np.sqrt(7 / 3) / np.sqrt(3))
    assert np.isnan(standard_error([1.0])) and np.isnan(standard_error([])) and np.isnan(standard_error([1.0, np.nan]))


def eyes(patients, rng):
    """Two eyes a patient: severity and model score share most of their randomness -> grade (N,), probability (N, 5), patient (N,)."""
    severity = np.repeat(rng.normal(size=patients), 2) * 0.9 + rng.normal(size=2 * patients) * 0.44
    seen = severity + 0.7 * np.repeat(rng.normal(size=patients), 2) + 0.3 * rng.normal(size=2 * patients)
    edges = np.array([-0.4, 0.1, 0.8, 1.3])
    distance = (seen[:, None] - np.array([-0.9, -0.15, 0.45, 1.05, 1.8])) ** 2
    probability = np.exp(-2 * distance) + 1e-12
    return np.digitize(severity, edges), probability / probability.sum(axis=1, keepdims=True), np.repeat(np.arange(patients).astype(str), 2)


def coverage(sets, resamples, patients=150, names=("auc", "qwk")):
    """Share of 95 % intervals that contain the truth -> {(metric, cluster): share}, and their mean widths."""
    truth_grade, truth_probability, _ = eyes(400_000, np.random.default_rng(1))
    truth = {name: METRICS[name](truth_grade, truth_probability)[0] for name in names}
    hit, width = {}, {}
    for number in range(sets):
        grade, probability, patient = eyes(patients, np.random.default_rng((2, number)))
        for cluster, who in (("patient", patient), ("image", np.full(len(patient), ""))):
            weight = resample(who, resamples, f"set {number}")
            for name in names:
                low, high, _ = interval(METRICS[name](grade, probability, weight))
                hit.setdefault((name, cluster), []).append(low <= truth[name] <= high)
                width.setdefault((name, cluster), []).append(high - low)
    return {key: np.mean(value) for key, value in hit.items()}, {key: np.mean(value) for key, value in width.items()}


def assert_patients_cover_better(sets, resamples, slack):
    share, width = coverage(sets, resamples)
    print({key: (round(float(share[key]), 4), round(float(width[key]), 4)) for key in share})
    for name in ("auc", "qwk"):
        assert abs(share[name, "patient"] - 0.95) < abs(share[name, "image"] - 0.95)
        assert abs(share[name, "patient"] - 0.95) <= slack
        assert width[name, "patient"] > width[name, "image"]


def test_intervals_by_patient_cover_better_than_by_image():
    assert_patients_cover_better(sets=250, resamples=200, slack=0.05)


@pytest.mark.nightly
def test_intervals_by_patient_cover_better_than_by_image_at_length():
    assert_patients_cover_better(sets=2000, resamples=1000, slack=0.02)
