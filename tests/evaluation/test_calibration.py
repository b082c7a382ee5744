"""Calibration and referable DR against a worked example, scikit-learn and exact counts."""

import json
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from helpers.oracles import GRADE, PROBABILITY
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from clipdr.evaluation import calibration as module
from clipdr.evaluation import metrics
from clipdr.evaluation.calibration import (
    BINS,
    CALIBRATION,
    calibration,
    cumulative,
    exceeds,
    reliability,
    sums,
    temper,
    temperature,
)
from clipdr.evaluation.operating_point import (
    CLINICAL,
    MEASURES,
    REFERABLES,
    clinical,
    document,
    fit,
    frozen_threshold,
    points,
    referable,
)


@st.composite
def tables(draw):
    """Random grades and probabilities, some in tenths for ties and edges, some of few grades."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    present = rng.choice(5, draw(st.integers(1, 5)), replace=False)
    grade = rng.choice(present, draw(st.integers(1, 60)))
    parts = rng.multinomial(
        draw(st.sampled_from([2, 15, 1000])), rng.dirichlet(np.ones(5)), len(grade)
    )
    return grade, parts / parts.sum(axis=1, keepdims=True)


def simulated(n=400, seed=0, sharpness=3.0):
    rng = np.random.default_rng(seed)
    grade = rng.choice(5, n, p=[0.4, 0.15, 0.2, 0.15, 0.1])
    logits = rng.normal(size=(n, 5)) + sharpness * np.eye(5)[grade]
    return grade, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_measures_have_unique_names_in_order():
    assert len(MEASURES) == len(set(MEASURES)) == 61
    assert list(clinical(fit(GRADE, PROBABILITY), GRADE, PROBABILITY)) == list(MEASURES[11:])
    assert tuple(calibration(GRADE, PROBABILITY)) == CALIBRATION
    assert tuple(referable(GRADE, PROBABILITY, 0.5)) == REFERABLES


def test_calibration_of_seven_images_equals_values_by_hand():
    value = {
        name: round(float(number[0]), 7) for name, number in calibration(GRADE, PROBABILITY).items()
    }
    assert [value[f"brier_{k}"] for k in (1, 2, 3, 4)] == [
        0.1182143,
        0.1150000,
        0.0900000,
        0.0575000,
    ]
    assert value["rps"] == 0.0951786
    # by hand: q_4 is .05 four times (bin 1), .10, .15 and .40, each alone in its bin; one event,
    # at .40
    assert value["ece_4"] == round((4 * 0.05 + 0.10 + 0.15 + 0.60) / 7, 7)
    assert value["bias_4"] == round((4 * 0.05 + 0.10 + 0.15 + 0.40 - 1) / 7, 7)


@settings(max_examples=200, deadline=None)
@given(tables())
def test_calibration_equals_scikit_learn(table):
    grade, probability = table
    ours, q = calibration(grade, probability), cumulative(probability)
    for k in (1, 2, 3, 4):
        event, score = (grade >= k).astype(int), q[:, k - 1]
        assert ours[f"brier_{k}"][0] == pytest.approx(
            sk.brier_score_loss(event, score, pos_label=1), abs=1e-12
        )
        assert ours[f"bias_{k}"][0] == pytest.approx(score.mean() - event.mean(), abs=1e-12)
        observed, predicted = calibration_curve(event, score, n_bins=BINS)
        points_of_curve = reliability(grade, probability, k)
        np.testing.assert_allclose(
            points_of_curve[:, :2], np.stack([predicted, observed], axis=1), atol=1e-12
        )
        assert points_of_curve[:, 2].sum() == len(grade)
        ece = (points_of_curve[:, 2] / len(grade) * np.abs(predicted - observed)).sum()
        assert ours[f"ece_{k}"][0] == pytest.approx(ece, abs=1e-12)
    assert ours["rps"][0] == pytest.approx(
        np.mean([ours[f"brier_{k}"][0] for k in (1, 2, 3, 4)]), abs=1e-12
    )


def test_bins_are_closed_on_the_right():
    """Q on an edge belongs to the bin below it; 0 to the first bin, 1 to the last."""
    q = np.array([0, 1 / 15, np.nextafter(1 / 15, 1), 14 / 15, 1])
    probability = np.zeros((5, 5))
    probability[:, 0], probability[:, 4] = 1 - q, q
    assert list(reliability(np.zeros(5, int), probability, 4)[:, 2]) == [2, 1, 1, 1]


@settings(max_examples=200, deadline=None)
@given(tables(), st.floats(0, 1))
def test_referable_equals_scikit_learn_and_counts(table, threshold):
    grade, probability = table
    event, score = grade >= 2, cumulative(probability)[:, 1]
    ours = {
        name: float(value[0]) for name, value in referable(grade, probability, threshold).items()
    }
    hit = score >= threshold
    if event.any():
        assert ours["sensitivity"] == pytest.approx(sk.recall_score(event, hit), abs=1e-12)
    if not event.all():
        assert ours["specificity"] == pytest.approx(sk.recall_score(~event, ~hit), abs=1e-12)
    assert np.isnan(ours["sensitivity"]) == (not event.any())
    assert np.isnan(ours["specificity"]) == event.all()
    if event.any() and not event.all():
        assert ours["referable_auc"] == pytest.approx(sk.roc_auc_score(event, score), abs=1e-12)
        _, sensitivity, cut = sk.roc_curve(event, score, drop_intermediate=False)
        allowed = [
            10 * int((~event & (score < one)).sum()) >= 9 * int((~event).sum()) for one in cut
        ]
        assert ours["sensitivity_at_spec90"] == pytest.approx(sensitivity[allowed].max(), abs=1e-12)
    else:
        assert np.isnan(ours["referable_auc"])
        assert np.isnan(ours["sensitivity_at_spec90"])
    for k in (1, 2, 3, 4):
        event, hit = grade >= k, cumulative(probability)[:, k - 1] >= 0.5
        for name, kind, called in (("sensitivity", event, hit), ("specificity", ~event, ~hit)):
            if kind.any():
                assert ours[f"{name}_half_{k}"] == pytest.approx(
                    sk.recall_score(kind, called, zero_division=0), abs=1e-12
                )
            else:
                assert np.isnan(ours[f"{name}_half_{k}"])


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(0, 2**32 - 1), st.sampled_from([1, 40, 2**17]))
def test_weights_equal_copied_rows_in_blocks_of_any_size(table, seed, block):
    grade, probability = table
    point = fit(grade, probability)
    weight = np.random.default_rng(seed).integers(0, 4, (7, len(grade))).astype(np.uint16)
    weight[0], weight[1, weight[1] == 0] = 1, 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "BLOCK", block)
        weighted = clinical(point, grade, probability, weight)
    copied = [
        clinical(point, np.repeat(grade, row), np.repeat(probability, row, axis=0))
        for row in weight
    ]
    for name in weighted:
        np.testing.assert_allclose(
            weighted[name], [one[name][0] for one in copied], rtol=0, atol=1e-12, err_msg=name
        )


@pytest.mark.parametrize("batch", [1, 7, 64, 400])
def test_order_of_rows_and_batches_do_not_matter_to_the_last_bit(batch):
    grade, probability = simulated()
    order = np.random.default_rng(batch).permutation(400)
    rows = np.concatenate([order[i : i + batch] for i in range(0, 400, batch)])
    point = fit(grade, probability)
    weight = np.random.default_rng(1).integers(0, 4, (9, 400)).astype(np.uint16)
    whole = clinical(point, grade, probability, weight)
    mixed = clinical(point, grade[rows], probability[rows], weight[:, rows])
    for name in whole:
        np.testing.assert_array_equal(whole[name], mixed[name], err_msg=name)


def test_sums_equal_those_of_exact_fractions():
    """A plain product of the same numbers differs in its last bits, and with the order of rows."""
    rng = np.random.default_rng(0)
    values, weight = rng.uniform(-1, 1, (300, 4)), rng.integers(0, 5, (3, 300)).astype(np.uint16)
    exact = [
        [
            sum(Fraction(int(w)) * Fraction(v) for w, v in zip(row, column, strict=True))
            for column in values.T
        ]
        for row in weight
    ]
    np.testing.assert_allclose(
        sums(values, weight), np.array(exact, dtype=float), rtol=0, atol=1e-13
    )
    np.testing.assert_array_equal(sums(values), sums(values[::-1].copy()))
    np.testing.assert_array_equal(
        sums(values, weight), sums(values[::-1].copy(), weight[:, ::-1].copy())
    )


def test_no_image_is_undefined():
    for value in clinical(fit(GRADE, PROBABILITY), np.array([], int), np.empty((0, 5))).values():
        assert np.isnan(value).tolist() == [True]
    for value in clinical(
        fit(GRADE, PROBABILITY), GRADE, PROBABILITY, np.zeros((2, 7), np.uint16)
    ).values():
        assert np.isnan(value).tolist() == [True, True]


def test_operating_point_without_validation_images_is_undefined():
    point = fit(np.array([], int), np.empty((0, 5)))
    assert np.isnan([point.temperature, point.threshold, point.threshold_t]).all()
    assert (
        point.n,
        point.referable,
    ) == (0, 0)
    value = clinical(point, GRADE, PROBABILITY)
    undefined = {name for name in CLINICAL if np.isnan(value[name][0])}
    assert undefined == {"sensitivity", "specificity"}
    assert all(np.isnan(value[f"{name}_t"][0]) for name in CLINICAL)
    assert document({"last": point})["last"]["temperature"] is None
    json.dumps(document({"last": point}), allow_nan=False)


def test_operating_point_without_referable_images_has_no_threshold():
    few = GRADE < 2
    point = fit(GRADE[few], PROBABILITY[few])
    assert point.temperature > 0
    assert np.isnan(point.threshold)
    assert np.isnan(point.threshold_t)


@settings(max_examples=200, deadline=None)
@given(tables())
def test_frozen_threshold_is_the_largest_that_is_sensitive_enough(table):
    """By trying every score; the next larger score misses more than a tenth."""
    grade, probability = table
    assume((grade >= 2).any())
    score, event = cumulative(probability)[:, 1], grade >= 2
    enough = [
        cut for cut in score if 10 * int((event & (score >= cut)).sum()) >= 9 * int(event.sum())
    ]
    threshold = frozen_threshold(grade, probability)
    assert threshold == max(enough)
    assert referable(grade, probability, threshold)["sensitivity"][0] >= 0.9 - 1e-12


def test_frozen_threshold_with_nine_of_ten_detected_is_accepted():
    """0.9 as a float is above nine tenths, but 9 of 10, 18 of 20 and 27 of 30 must pass."""
    for tens in (1, 2, 3, 7):
        probability = np.zeros((10 * tens, 5))
        probability[:, 4] = np.linspace(0.1, 0.9, 10 * tens)
        probability[:, 0] = 1 - probability[:, 4]
        assert frozen_threshold(np.full(10 * tens, 3), probability) == probability[tens, 4]


def test_temperature_recovers_a_known_one():
    """Grades are sampled from p and the model predicts p at a temperature, which T recovers."""
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(5), 40_000)
    grade = (probability.cumsum(axis=1) < rng.random((40_000, 1))).sum(axis=1)
    for factor in (0.25, 1.0, 3.0):
        assert temperature(grade, temper(probability, factor)) == pytest.approx(
            1 / factor, rel=0.03
        )


@settings(max_examples=60, deadline=None)
@given(tables())
def test_temperature_has_the_least_loss_of_the_range(table):
    grade, probability = table
    best = temperature(grade, probability)
    assert 0.05 <= best <= 20

    def loss(t):
        log = np.log(np.maximum(probability, np.finfo(float).tiny)) / t
        return (np.logaddexp.reduce(log, axis=1) - log[np.arange(len(grade)), grade]).mean()

    tried = min(loss(t) for t in np.geomspace(0.05, 20, 400))
    assert loss(best) <= tried + 1e-9 * max(1, abs(tried))


def test_temperature_of_extreme_predictions_is_an_end_of_the_range():
    certain = np.eye(5)[GRADE] * 0.9 + 0.02
    assert temperature(GRADE, certain) == 0.05
    assert temperature(GRADE, np.roll(certain, 1, axis=1)) == 20
    assert temperature(GRADE, np.full((7, 5), 0.2)) == 1


def test_tempering_equals_softmax_of_scaled_logits():
    np.testing.assert_allclose(temper(PROBABILITY, 1), PROBABILITY, atol=1e-15)
    np.testing.assert_allclose(
        temper(PROBABILITY, 0.5),
        PROBABILITY**2 / (PROBABILITY**2).sum(axis=1, keepdims=True),
        atol=1e-15,
    )
    logits = np.random.default_rng(0).normal(size=(20, 5)) * 8
    softmax = [np.exp(logits / t) / np.exp(logits / t).sum(axis=1, keepdims=True) for t in (1, 2.5)]
    np.testing.assert_allclose(temper(softmax[0], 2.5), softmax[1], rtol=1e-12)
    assert np.isfinite(temper(np.eye(5), 20)).all()
    assert (temper(np.eye(5), 0.05) == np.eye(5)).all()


def test_tempering_improves_an_overconfident_model():
    grade, probability = simulated(4000, sharpness=1.0)
    sharp = temper(probability, 0.3)
    point = fit(grade, sharp)
    value = {name: float(one[0]) for name, one in clinical(point, grade, sharp).items()}
    assert point.temperature > 2
    assert value["rps_t"] < value["rps"]
    assert all(value[f"ece_{k}_t"] < value[f"ece_{k}"] for k in (1, 2, 3, 4))


def test_points_are_fixed_on_validation_alone():
    """Other test grades, other test probabilities: the same temperature and thresholds."""
    grade, probability = simulated()
    frame = pd.DataFrame(probability, columns=[f"p{k}" for k in range(5)]).assign(
        grade=grade, selection="last", split="val"
    )
    frame.loc[200:, "split"] = "test"
    fitted = points(frame)
    assert fitted == {"last": fit(grade[:200], probability[:200])}
    noise = frame.copy()
    noise.loc[200:, "grade"] = np.random.default_rng(1).integers(0, 5, 200)
    noise.loc[200:, [f"p{k}" for k in range(5)]] = np.random.default_rng(2).dirichlet(
        np.ones(5), 200
    )
    assert points(noise) == fitted


def test_cumulative_probabilities_and_events_equal_values_by_hand():
    np.testing.assert_allclose(cumulative(PROBABILITY)[1], [0.65, 0.35, 0.10, 0.05])
    assert exceeds([0, 2, 4]).tolist() == [[False] * 4, [True, True, False, False], [True] * 4]
    assert (cumulative(np.full((1, 5), 0.2 + 1e-12)) <= 1).all()
    assert module.EDGES[-1] == 1


def test_measures_after_the_temperature_use_tempered_probabilities():
    grade, probability = simulated(seed=3, sharpness=1.0)
    point = fit(grade[:200], probability[:200])
    tempered = temper(probability, point.temperature)
    assert point.threshold_t == frozen_threshold(grade[:200], tempered[:200]) != point.threshold
    value = {name: one[0] for name, one in clinical(point, grade[200:], probability[200:]).items()}
    expected = referable(grade[200:], tempered[200:], point.threshold_t) | calibration(
        grade[200:], tempered[200:]
    )
    assert {name: value[f"{name}_t"] for name in CLINICAL} == {
        name: one[0] for name, one in expected.items()
    }
    assert value["sensitivity"] > 0.8
    assert value["sensitivity_t"] > 0.8
