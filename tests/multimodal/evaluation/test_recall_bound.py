"""Recall with ties, and its upper bound, against enumeration and published counts."""

from itertools import product

import numpy as np
import pytest

from clipdr import DataError
from clipdr.evaluation.retrieval import (
    K,
    contents,
    equivalent_rank,
    pessimistic,
    ranks,
    recall,
    upper_bound,
)
from clipdr.multimodal.data import label_files
from clipdr.multimodal.evaluation import recall_bound


def reference(score, content, k):
    """Expected, pessimistic and equivalent hits of each query, by counting."""
    n = len(score)
    expected, worst, alike = [], [], []
    for i in range(n):
        above, tied = sum(score[i] > score[i, i]), sum(score[i] == score[i, i])
        positions = above + np.arange(1, tied + 1)  # each equally probable
        expected.append(np.mean(positions <= k))
        worst.append(float(positions[-1] <= k))
        best = max(score[i, j] for j in range(n) if content[j] == content[i])
        before = sum(score[i, j] >= best for j in range(n) if content[j] != content[i])
        alike.append(1 + before <= k)
    return expected, np.array(worst, bool), alike


def test_recall_with_ties_equals_a_brute_force_reference():
    rng = np.random.default_rng(5)
    for _ in range(30):
        n = int(rng.integers(3, 9))
        score = rng.integers(0, 4, (n, n)).astype(float)
        content = contents(rng.integers(0, 3, n).tolist())
        for k in K:
            expected, worst, alike = reference(score, content, k)
            assert np.abs(recall(score, k) - expected).max() <= 1e-12
            assert np.array_equal(pessimistic(score, k), worst)
            assert np.array_equal(equivalent_rank(score, content) <= k, alike)
            counts = [content.tolist().count(value) for value in set(content.tolist())]
            counted = sum(min(k, count) for count in counts) / n
            assert abs(upper_bound(content, k) - counted) <= 1e-12
        mean_ranks = [
            np.mean(sum(s > s[i]) + np.arange(1, sum(s == s[i]) + 1)) for i, s in enumerate(score)
        ]
        assert np.abs(ranks(score) - mean_ranks).max() <= 1e-12


def test_upper_bound_equals_the_best_of_all_scorers():
    """With pessimistic ties, image -> text reaches only the share of contents that occur once."""
    content = contents(["a", "a", "b"])
    best = {"expected": 0.0, "worst": 0.0}
    for levels in product(range(3), repeat=6):  # scores of 3 images x 2 distinct texts
        table = np.array(levels, float).reshape(3, 2)[:, content]
        best["expected"] = max(best["expected"], recall(table, 1).mean())
        best["worst"] = max(best["worst"], pessimistic(table, 1).mean())
    assert abs(best["expected"] - upper_bound(content, 1)) < 1e-12
    assert abs(best["worst"] - 1 / 3) < 1e-12


def test_upper_bounds_of_an_unknown_source_are_refused(tmp_path):
    with pytest.raises(DataError, match="source 'brsett' is unknown"):
        recall_bound.upper_bounds_of("labels.csv", "brsett", tmp_path)


@pytest.mark.realdata
def test_upper_bounds_of_odir_equal_the_counts(realdata):
    eyes = label_files.odir(realdata / "odir" / "full_df.csv")
    rows = {row["content"]: row for row in recall_bound.upper_bounds(eyes) if row["part"] == "all"}
    for name, distinct, wanted in (
        ("keywords", 56, (3.5, 11.1, 17.6)),
        ("keywords + age, sex, eye", None, (55.9, 95.3, 99.5)),
    ):
        assert distinct in (None, rows[name]["distinct"])
        for k, value in zip(K, wanted, strict=True):
            assert abs(100 * rows[name][f"ceiling_{k}"] - value) < 0.06
