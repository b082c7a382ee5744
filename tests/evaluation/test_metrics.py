"""Metrics against worked examples, scikit-learn and exact fractions; weights and row order."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
from helpers.oracles import GRADE, PROBABILITY
from hypothesis import given, settings
from hypothesis import strategies as st

from clipdr import DataError
from clipdr.evaluation import metrics
from clipdr.evaluation.metrics import METRICS, confusion, reference

# Oracle 1: grades of the RLDR files (rows) and EyePACS (columns) of the same 1593 images.
ORACLE_1 = np.array(
    [
        [33, 43, 86, 2, 2],
        [25, 120, 180, 10, 2],
        [9, 21, 681, 178, 40],
        [0, 0, 24, 64, 11],
        [0, 0, 5, 2, 55],
    ]
)


def from_matrix(matrix):
    """Confusion counts -> grades and one-hot probabilities."""
    cell = np.repeat(np.arange(25), matrix.ravel())
    return cell // 5, np.eye(5)[cell % 5]


@st.composite
def tables(draw, every_grade=False):
    """Random grades and probabilities in tenths, so that ties are common; at times few grades."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    present = np.arange(5) if every_grade else rng.choice(5, draw(st.integers(1, 5)), replace=False)
    n = draw(st.integers(5 if every_grade else 1, 60))
    grade = np.concatenate([present, rng.choice(present, n)])[: max(n, len(present))]
    tenths = rng.multinomial(
        draw(st.sampled_from([2, 10, 1000])), rng.dirichlet(np.ones(5)), len(grade)
    )
    return grade, tenths / tenths.sum(axis=1, keepdims=True)


def exact_auc(grade, probability):
    """Hand-Till by counting pairs in fractions; None where a grade is absent."""
    if len(set(grade)) < 5:
        return None
    total = Fraction(0)
    for j in range(5):
        for k in set(range(5)) - {j}:
            a, b = probability[grade == j, j][:, None], probability[grade == k, j][None, :]
            total += Fraction(int(2 * (a > b).sum() + (a == b).sum()), 2 * a.size * b.size)
    return total / 20


def exact(grade, probability):
    """The other metrics in fractions, None where undefined."""
    h = probability.argmax(axis=1)
    m = [[int(((grade == i) & (h == j)).sum()) for j in range(5)] for i in range(5)]
    rows, columns, n = (
        [sum(row) for row in m],
        [sum(row[j] for row in m) for j in range(5)],
        len(grade),
    )
    cells = [(i, j) for i in range(5) for j in range(5)]
    disagreement = sum(Fraction(rows[i] * columns[j] * (i - j) ** 2, n) for i, j in cells)
    f1 = [
        Fraction(2 * m[c][c], rows[c] + columns[c]) if rows[c] + columns[c] else None
        for c in range(5)
    ]
    return {
        "accuracy": Fraction(sum(m[c][c] for c in range(5)), n),
        "macro_f1": None if None in f1 else sum(f1) / 5,
        "qwk": 1 - sum(Fraction(m[i][j] * (i - j) ** 2) for i, j in cells) / disagreement
        if disagreement
        else None,
        "mae": Fraction(sum(abs(i - j) * m[i][j] for i, j in cells), n),
        **{f"recall_{c}": Fraction(m[c][c], rows[c]) if rows[c] else None for c in range(5)},
    }


def test_metrics_have_their_names_in_order():
    assert list(METRICS) == [
        "auc",
        "accuracy",
        "macro_f1",
        "qwk",
        "mae",
        "mae_expected",
        *(f"recall_{c}" for c in range(5)),
    ]


def test_metrics_of_a_confusion_matrix_equal_known_values():
    grade, probability = from_matrix(ORACLE_1)
    assert len(grade) == 1593
    assert (confusion(grade, probability)[0] == ORACLE_1).all()
    printed = {"accuracy": 0.5982423, "macro_f1": 0.4917947, "qwk": 0.5542610, "mae": 0.5047081}
    assert {name: round(METRICS[name](grade, probability)[0], 7) for name in printed} == printed


def test_metrics_of_seven_images_equal_values_by_hand():
    value = {name: metric(GRADE, PROBABILITY)[0] for name, metric in METRICS.items()}
    assert value["auc"] == pytest.approx(0.80625, abs=1e-15)
    assert value["accuracy"] == pytest.approx(3 / 7, abs=1e-15)
    assert value["macro_f1"] == pytest.approx(0.4, abs=1e-15)
    assert round(value["qwk"], 7) == 0.8444444
    assert value["mae"] == pytest.approx(4 / 7, abs=1e-15)
    assert value["mae_expected"] == pytest.approx(
        np.mean([0.75, 0.15, 0.25, 0.65, 1.15, 0.5, 1.15]), abs=1e-15
    )
    assert [value[f"recall_{c}"] for c in range(5)] == [0.5, 0, 0.5, 0, 1]


@settings(max_examples=500, deadline=None)
@given(tables())
def test_metrics_equal_exact_fractions_and_scikit_learn(table):
    grade, probability = table
    truth = {"auc": exact_auc(grade, probability), **exact(grade, probability)}
    for name, metric in METRICS.items():
        value = metric(grade, probability)
        assert value.shape == (1,)
        assert value.dtype == np.float64
        if name in truth and truth[name] is None:
            assert np.isnan(value[0]), name
        else:
            assert value[0] == pytest.approx(float(truth.get(name, value[0])), abs=1e-12), name
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # scikit-learn warns of grades that only one side has
                assert value[0] == pytest.approx(reference(name, grade, probability), abs=1e-12), (
                    name
                )


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(0, 2**32 - 1), st.sampled_from([1, 40, 2**17]))
def test_weights_equal_copied_rows_in_blocks_of_any_size(table, seed, block):
    grade, probability = table
    weight = np.random.default_rng(seed).integers(0, 4, (7, len(grade))).astype(np.uint16)
    weight[0], weight[1, weight[1] == 0] = 1, 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "BLOCK", block)
        weighted = {name: metric(grade, probability, weight) for name, metric in METRICS.items()}
    for name, metric in METRICS.items():
        copied = [
            metric(np.repeat(grade, row), np.repeat(probability, row, axis=0))[0] for row in weight
        ]
        np.testing.assert_allclose(weighted[name], copied, rtol=0, atol=1e-12, err_msg=name)
        np.testing.assert_array_equal(
            weighted[name][0], metric(grade, probability)[0], err_msg=name
        )


def test_no_image_is_undefined():
    for name, metric in METRICS.items():
        assert np.isnan(metric(np.array([], int), np.empty((0, 5)))).tolist() == [True], name
        assert np.isnan(metric(GRADE, PROBABILITY, np.zeros((2, 7), np.uint16))).all(), name


def test_metric_is_undefined_only_in_resamples_that_lack_a_grade():
    weight = np.ones((3, 7), np.uint16)
    weight[1, 4] = 0  # the only image of grade 4, and the only one predicted so
    assert np.isnan(METRICS["auc"](GRADE, PROBABILITY, weight)).tolist() == [False, True, False]
    assert np.isnan(METRICS["macro_f1"](GRADE, PROBABILITY, weight)).tolist() == [
        False,
        True,
        False,
    ]
    assert np.isnan(METRICS["recall_4"](GRADE, PROBABILITY, weight)).tolist() == [
        False,
        True,
        False,
    ]
    assert not np.isnan(METRICS["qwk"](GRADE, PROBABILITY, weight)).any()


def test_images_of_a_single_grade_leave_most_metrics_undefined():
    grade, probability = np.full(9, 2), np.eye(5)[np.full(9, 2)]
    value = {name: metric(grade, probability)[0] for name, metric in METRICS.items()}
    assert {name for name in value if np.isnan(value[name])} == {
        "auc",
        "macro_f1",
        "qwk",
        "recall_0",
        "recall_1",
        "recall_3",
        "recall_4",
    }
    assert (value["accuracy"], value["mae"], value["recall_2"]) == (1, 0, 1)


def test_constant_prediction_has_chance_auc_and_no_kappa():
    grade = np.repeat(np.arange(5), [50, 10, 20, 10, 10])
    probability = np.tile([0.5, 0.1, 0.2, 0.1, 0.1], (100, 1))
    assert METRICS["auc"](grade, probability)[0] == 0.5
    assert METRICS["qwk"](grade, probability)[0] == 0
    assert METRICS["accuracy"](grade, probability)[0] == 0.5


@pytest.mark.parametrize("batch", [1, 7, 64, 400])
def test_batches_and_row_order_do_not_matter(batch):
    rng = np.random.default_rng(batch)
    grade, probability = (
        rng.choice(5, 400, p=[0.45, 0.1, 0.25, 0.1, 0.1]),
        rng.dirichlet(np.ones(5), 400),
    )
    order = rng.permutation(400)
    pieces = [order[i : i + batch] for i in range(0, 400, batch)]
    rows = np.concatenate(pieces)
    whole = {name: metric(grade, probability)[0] for name, metric in METRICS.items()}
    back = np.argsort(rows)
    assert {
        name: metric(grade[rows][back], probability[rows][back])[0]
        for name, metric in METRICS.items()
    } == whole
    for name, metric in METRICS.items():
        assert metric(grade[rows], probability[rows])[0] == pytest.approx(whole[name], abs=1e-12)
    if batch == 64:  # control: the average over batches differs
        per_batch = np.nanmean(
            [METRICS["auc"](grade[piece], probability[piece])[0] for piece in pieces]
        )
        assert abs(per_batch - whole["auc"]) > 1e-3


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="shape"):
        METRICS["auc"](np.array([0, 1]), np.full((2, 4), 0.25))
    with pytest.raises(DataError, match="finite"):
        METRICS["auc"](np.array([0, 1]), np.full((2, 5), np.nan))
    with pytest.raises(DataError, match=r"0\.\.4"):
        METRICS["qwk"](np.array([0, 5]), np.full((2, 5), 0.2))
    with pytest.raises(DataError, match="weights"):
        METRICS["qwk"](np.array([0, 1]), np.full((2, 5), 0.2), np.ones((3, 4)))
