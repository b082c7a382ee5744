"""Recall@K with ties broken at random, and its upper bound given duplicate texts.

Input: unit vectors (or a score matrix) of pairs, and the content and patient of each text. Output:
a row of recalls, upper bounds and null bands per direction. Only unimodal vectors may be scored
here, because a vector computed from both modalities contains its answer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from clipdr import DataError
from clipdr.data.manifest import clusters
from clipdr.evaluation.statistics import interval, resample

K = (1, 5, 10)
BAND = (0.5, 99.5)  # percentiles of the null band
REPAIRINGS = 1000
SLACK = 1e-9  # a strict recall may exceed its upper bound by rounding only
DIRECTIONS = ("text_to_image", "image_to_text")


class Positions(NamedTuple):
    """Position of each item of a gallery for each query, as counts.

    Attributes:
        above: (N, N) int32, items with a strictly higher score.
        tied: (N, N) int32, items with the same score, itself included.
    """

    above: np.ndarray
    tied: np.ndarray


def contents(values: Iterable[Hashable]) -> np.ndarray:
    """Number the contents of texts.

    Args:
        values: (N,) hashable contents.

    Returns:
        (N,) int64; equal values get equal numbers, in order of first appearance.
    """
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(value, len(number)) for value in values], dtype=np.int64)


def similarity(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Compute dot products in float64.

    Args:
        query: (N, E).
        gallery: (M, E).

    Returns:
        (N, M) float64. Equal vectors get bit-equal scores, so that a tie stays a tie.
    """
    query, query_row = np.unique(np.asarray(query, dtype=np.float64), axis=0, return_inverse=True)
    gallery, gallery_row = np.unique(
        np.asarray(gallery, dtype=np.float64), axis=0, return_inverse=True
    )
    return (query @ gallery.T)[query_row.reshape(-1)][:, gallery_row.reshape(-1)]


def positions(score: np.ndarray) -> Positions:
    """Reduce scores to the positions of the items.

    Args:
        score: (N, N) float64, row = query, true item on the diagonal.

    Raises:
        DataError: If the shape is another or a score is not finite.
    """
    score = np.asarray(score, dtype=np.float64)
    if score.ndim != 2 or score.shape[0] != score.shape[1] or not len(score):
        raise DataError(
            f"retrieval: the scores have shape {score.shape}, not (N, N). "
            "Give every query its true item."
        )
    if not np.isfinite(score).all():
        raise DataError("retrieval: a score is not finite. Check the embeddings of the run.")
    above, tied = np.empty(score.shape, np.int32), np.empty(score.shape, np.int32)
    for row, values in enumerate(score):
        rising = np.sort(values)
        upto = np.searchsorted(rising, values, "right")
        above[row], tied[row] = len(values) - upto, upto - np.searchsorted(rising, values, "left")
    return Positions(above, tied)


def expected_hits(position: Positions, k: int) -> np.ndarray:
    """Compute the probability to be among the first k, ties broken at random.

    Args:
        position: Counts of any shape.
        k: Length of the list.

    Returns:
        clip((k - above) / tied, 0, 1), float64 of the same shape.
    """
    return np.clip((k - position.above) / position.tied, 0, 1)


def true_positions(score: np.ndarray) -> Positions:
    """Return the positions of the true items only, both (N,)."""
    position = positions(score)
    return Positions(position.above.diagonal(), position.tied.diagonal())


def recall(score: np.ndarray, k: int) -> np.ndarray:
    """Compute the strict Recall@k of each query, expected over random tie-breaking.

    Args:
        score: (N, N), row = query, true item on the diagonal.
        k: Length of the list.

    Returns:
        (N,) float64 in [0, 1]. Their mean is the reported recall.
    """
    return expected_hits(true_positions(score), k)


def pessimistic(score: np.ndarray, k: int) -> np.ndarray:
    """Compute the strict Recall@k of each query with every tie lost.

    There is no optimistic form, because constant embeddings would score 1.

    Args:
        score: (N, N), row = query, true item on the diagonal.
        k: Length of the list.

    Returns:
        (N,) bool.
    """
    position = true_positions(score)
    return position.above + position.tied <= k


def ranks(score: np.ndarray) -> np.ndarray:
    """Compute the expected rank of each true item, above + (tied + 1) / 2.

    Args:
        score: (N, N), row = query, true item on the diagonal.

    Returns:
        (N,) float64, 1 = first.
    """
    position = true_positions(score)
    return position.above + (position.tied + 1) / 2


def upper_bound(content: np.ndarray, k: int) -> float:
    """Compute the largest strict Recall@k that any scorer of the content can expect.

    Queries with the same content get the same ranking.

    Args:
        content: (N,) numbers of `contents`.
        k: Length of the list.

    Returns:
        Sum over distinct contents of min(k, how often) / N, in (0, 1].
    """
    return float(np.minimum(k, np.bincount(content)).sum() / len(content))


def equivalent_rank(
    score: np.ndarray, content: np.ndarray, gallery: np.ndarray | None = None
) -> np.ndarray:
    """Compute the rank of the first item with the query's content, which loses all ties.

    This is secondary. A hub image that is first for many queries gives untrained networks up to
    26 % at rank 1, so compare it with its null band only.

    Args:
        score: (N, N) float64.
        content: (N,) int64 of the queries.
        gallery: (N,) int64 of the items. None: the same (a re-paired table has another order).

    Returns:
        (N,) int64, 1 = first.
    """
    same = content[:, None] == (content if gallery is None else gallery)
    best = np.where(same, score, -np.inf).max(1, keepdims=True)
    return 1 + ((score >= best) & ~same).sum(1)


def null_band(
    score: np.ndarray, content: np.ndarray, seed: int = 0, draws: int = REPAIRINGS
) -> np.ndarray:
    """Compute recalls of the same scores when texts and images are paired at random.

    A recall inside this band is at chance. A binomial band would be too narrow, because equal
    queries hit together.

    Args:
        score: (N, N) float64.
        content: (N,) int64 of the queries.
        seed: Seed of the pairings.
        draws: Number of pairings.

    Returns:
        (2, len(K), 2) float64: strict and equivalent recall, by k, percentiles 0.5 and 99.5 over
        the pairings.
    """
    hits, generator = [expected_hits(positions(score), k) for k in K], np.random.default_rng(seed)
    rows, recalls = np.arange(len(score)), np.empty((draws, 2, len(K)))
    for draw in range(draws):
        partner = generator.permutation(len(score))  # query i now belongs to item partner[i]
        gallery = np.empty_like(content)
        gallery[partner] = content
        recalls[draw, 0] = [hit[rows, partner].mean() for hit in hits]
        recalls[draw, 1] = (equivalent_rank(score, content, gallery)[:, None] <= K).mean(0)
    return np.moveaxis(np.percentile(recalls, BAND, axis=0), 0, -1)


def same_patient(score: np.ndarray, patient: Sequence[str] | np.ndarray) -> float:
    """Compute the share of strict misses whose first item is of the query's own patient.

    Args:
        score: (N, N) float64.
        patient: (N,) str, "" = unknown.

    Returns:
        A share in [0, 1]; NaN without a miss.
    """
    patient = np.asarray(patient, dtype=object)
    missed = 1 - recall(score, 1)
    first = score == score.max(1, keepdims=True)
    np.fill_diagonal(first, False)
    own = (patient[:, None] == patient) & (patient != "")
    share = (first & own).sum(1) / np.maximum(first.sum(1), 1)
    return float((missed * share).sum() / missed.sum()) if missed.sum() else float("nan")


def judge(
    score: np.ndarray,
    content: np.ndarray,
    patient: Sequence[str] | np.ndarray,
    key: str = "test",
    resamples: int = 2000,
) -> dict[str, Any]:
    """Compute all numbers of one direction that are reported together, as one row.

    Args:
        score: (N, N) float64, row = query, true item on the diagonal. The gallery is the whole
            split.
        content: (N,) int64, of everything in the query.
        patient: (N,) str. The interval resamples query patients; the gallery stays.
        key: Name of the test set, for `statistics.resample`.
        resamples: Number of resamples.

    Returns:
        n, patients, contents, median_rank, same_patient_misses, equivalent_chance_1; and for each
        k: recall_k, recall_k_low, recall_k_high, ceiling_k (the upper bound), chance_k,
        skill_k = (recall - chance) / (bound - chance), null_k_low, null_k_high, equivalent_k,
        equivalent_k_null_low, equivalent_k_null_high.

    Raises:
        DataError: If a strict recall exceeds its upper bound, because then the scores contain the
            answer.
    """
    count = len(content)
    if not len(score) == count == len(patient):
        raise DataError(
            f"retrieval: {len(score)} queries, {count} contents and {len(patient)} patients differ "
            "in number. Give each query its content and patient."
        )
    weight, position = resample(patient, resamples, key), true_positions(score)
    equal, band = equivalent_rank(score, content), null_band(score, content)
    row: dict[str, Any] = {
        "n": count,
        "patients": int(clusters(patient).max()) + 1,
        "contents": int(content.max()) + 1,
    }
    for k, (strict, alike) in zip(K, band.swapaxes(0, 1), strict=True):
        hit, bound = expected_hits(position, k), upper_bound(content, k)
        chance = min(k, count) / count
        value = float(hit.mean())
        if value > bound + SLACK:
            raise DataError(
                f"retrieval: R@{k} {value:.4f} exceeds its upper bound {bound:.4f}. "
                "Look for leakage."
            )
        low, high, _ = interval(weight @ hit / weight.sum(1))
        row |= {
            f"recall_{k}": value,
            f"recall_{k}_low": low,
            f"recall_{k}_high": high,
            f"ceiling_{k}": bound,
            f"chance_{k}": chance,
        }
        skill = (value - chance) / (bound - chance) if bound > chance else float("nan")
        row |= {f"skill_{k}": skill}
        row |= {
            f"null_{k}_low": strict[0],
            f"null_{k}_high": strict[1],
            f"equivalent_{k}": float((equal <= k).mean()),
        }
        row |= {f"equivalent_{k}_null_low": alike[0], f"equivalent_{k}_null_high": alike[1]}
    row["equivalent_chance_1"] = float(((np.bincount(content) / count) ** 2).sum())
    return row | {
        "median_rank": float(np.median(position.above + (position.tied + 1) / 2)),
        "same_patient_misses": same_patient(score, patient),
    }


def retrieve(
    image: np.ndarray,
    text: np.ndarray,
    *,
    content: np.ndarray,
    patient: Sequence[str] | np.ndarray,
    key: str = "test",
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """Score both directions of one split.

    Args:
        image: (N, E) float, made from images alone.
        text: (N, E) float, made from texts alone; row i belongs to row i of `image`.
        content: As in `judge`.
        patient: As in `judge`.
        key: As in `judge`.
        resamples: As in `judge`.

    Returns:
        Two rows of `judge`, text -> image first, each with its `direction`.
    """
    score = similarity(text, image)
    matrices = zip(DIRECTIONS, (score, score.T), strict=True)
    return [
        {"direction": direction} | judge(matrix, content, patient, key, resamples)
        for direction, matrix in matrices
    ]
