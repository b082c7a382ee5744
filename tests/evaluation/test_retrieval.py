"""Retrieval scores against brute force over all tie-breakings and re-pairings."""

import itertools

import numpy as np
import pytest

from clipdr import DataError
from clipdr.evaluation import retrieval as r


def matrix(seed, count=5, levels=3):
    """Scores with many ties."""
    return np.random.default_rng(seed).integers(0, levels, (count, count)).astype(float)


def orders(values):
    """Every ranking of the items that agrees with their scores: all ways to break the ties."""
    groups = [
        [item for item in range(len(values)) if values[item] == level]
        for level in sorted(set(values), reverse=True)
    ]
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield [item for part in parts for item in part]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("k", [1, 2, 5])
def test_recall_and_rank_are_the_means_over_all_ways_to_break_ties(seed, k):
    score = matrix(seed)
    for query, values in enumerate(score):
        ranks = [order.index(query) + 1 for order in orders(values)]
        assert r.recall(score, k)[query] == pytest.approx(
            np.mean([rank <= k for rank in ranks]), abs=1e-12
        )
        assert r.ranks(score)[query] == pytest.approx(np.mean(ranks), abs=1e-12)
        assert r.pessimistic(score, k)[query] == (max(ranks) <= k)


@pytest.mark.parametrize("seed", range(12))
def test_equivalent_hit_is_an_equal_item_that_no_tie_can_push_out(seed):
    score, content = matrix(seed), np.random.default_rng(seed).integers(0, 3, 5)
    for k, query in itertools.product((1, 2, 5), range(5)):
        worst = all(
            any(content[item] == content[query] for item in order[:k])
            for order in orders(score[query])
        )
        assert (r.equivalent_rank(score, content)[query] <= k) == worst


def test_upper_bound_is_the_recall_of_perfect_scores():
    content = r.contents(["a", "b", "a", "a", "c", "b"])
    perfect = (content[:, None] == content).astype(float)
    for k in r.K:
        assert r.upper_bound(content, k) == pytest.approx(r.recall(perfect, k).mean(), abs=1e-12)
        assert r.upper_bound(content, k) == pytest.approx(
            sum(min(k, size) for size in (3, 2, 1)) / 6
        )
    # image -> text: expected ties give the same, lost ties leave the texts that occur once
    assert r.recall(perfect.T, 1).mean() == r.upper_bound(content, 1)
    assert r.pessimistic(perfect.T, 1).mean() == 1 / 6


def test_constant_embeddings_score_exactly_chance():
    image = text = np.ones((20, 4))
    for row in r.retrieve(
        image, text, content=np.arange(20), patient=[str(i) for i in range(20)], resamples=10
    ):
        for k in r.K:
            assert row[f"recall_{k}"] == pytest.approx(k / 20, abs=1e-12) == row[f"chance_{k}"]
            assert row[f"skill_{k}"] == pytest.approx(0, abs=1e-12)


def test_equal_vectors_tie_bit_for_bit():
    text = np.random.default_rng(0).normal(size=(37, 19))
    text[20:] = text[3]
    score = r.similarity(np.random.default_rng(1).normal(size=(37, 19)), text)
    assert (score[:, 20:] == score[:, [3]]).all()
    np.testing.assert_allclose(
        score[0], text @ np.random.default_rng(1).normal(size=(37, 19))[0], rtol=1e-12
    )


def test_null_band_is_that_of_all_pairings():
    score, content = matrix(3, 6), np.array([0, 0, 1, 1, 1, 2])
    strict, equal = [], []
    for partner in itertools.permutations(range(6)):
        strict.append(r.expected_hits(r.positions(score), 1)[np.arange(6), list(partner)].mean())
        gallery = np.empty(6, int)
        gallery[list(partner)] = content
        equal.append((r.equivalent_rank(score, content, gallery) <= 1).mean())
    assert np.mean(strict) == pytest.approx(1 / 6)  # strict chance is 1 / N whatever the scores
    by_hand = [np.percentile(strict, r.BAND), np.percentile(equal, r.BAND)]
    np.testing.assert_allclose(r.null_band(score, content, draws=4000)[:, 0], by_hand, atol=0.06)


def test_recall_above_its_upper_bound_is_refused():
    content = np.zeros(6, dtype=np.int64)  # all texts are equal, yet each retrieves its own image
    with pytest.raises(DataError, match=r"R@1 1.0000 exceeds its upper bound 0.1667"):
        r.judge(np.eye(6), content, [str(i) for i in range(6)], resamples=10)


def test_misses_on_the_same_patient_are_counted():
    score = np.array([[1.0, 2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3], [5, 0, 0, 1]])
    assert r.same_patient(score, ["a", "a", "b", "b"]) == pytest.approx(
        2 / 3
    )  # queries 0 and 2 hit the other eye, query 3 another patient
    assert r.same_patient(score, ["", "", "", ""]) == 0
    assert np.isnan(r.same_patient(np.eye(3), ["a", "b", "c"]))


def test_interval_resamples_patients_and_keeps_the_gallery():
    score = np.eye(40)
    score[:20] = 0
    score[:20, 39] = 1  # the first twenty queries miss, and they are one patient
    row = r.judge(score, np.arange(40), ["x"] * 20 + [str(i) for i in range(20)])
    assert row["recall_1"] == 0.5
    assert row["patients"] == 21
    one_patient_each = r.judge(score, np.arange(40), [str(i) for i in range(40)])
    assert row["recall_1_high"] - row["recall_1_low"] > 1.5 * (
        one_patient_each["recall_1_high"] - one_patient_each["recall_1_low"]
    )


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (np.ones((2, 3)), "not \\(N, N\\)"),
        (np.full((2, 2), np.nan), "not finite"),
        (np.ones((0, 0)), "not \\(N, N\\)"),
    ],
)
def test_bad_scores_get_one_clear_line(score, message):
    with pytest.raises(DataError, match=message):
        r.recall(score, 1)
