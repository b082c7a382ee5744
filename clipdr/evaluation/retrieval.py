"""Cross-modal retrieval, scored so that it cannot flatter: strict recall, ties broken at random, beside the most any scorer could reach.

Input: unit vectors (or a score matrix) of pairs, what each text says, whose it is. Output: a row of recalls, ceilings, bands per direction.
Serves both sister systems. Only unimodal vectors may come here: a vector that has seen its partner is not retrieval but copying.
"""

from typing import NamedTuple

import numpy as np

from clipdr import DataError
from clipdr.data.manifest import clusters
from clipdr.evaluation.statistics import interval, resample

K = (1, 5, 10)
BAND = (0.5, 99.5)  # percentiles of the null band
REPAIRINGS = 1000
SLACK = 1e-9  # a strict recall may pass its ceiling by rounding only
DIRECTIONS = ("text_to_image", "image_to_text")


class Places(NamedTuple):
    """Where each item of a gallery stands for each query: the score matrix reduced to counts, both (N, N) int32."""

    above: np.ndarray  # items with a strictly higher score
    tied: np.ndarray  # items with the same score, itself included


def contents(values):
    """What each text says, as numbers: (N,) hashable values -> (N,) int64; equal values get equal numbers, in order of first appearance."""
    number = {}
    return np.array([number.setdefault(value, len(number)) for value in values], dtype=np.int64)


def similarity(query, gallery):
    """Dot products in float64, (N, E) and (M, E) -> (N, M); equal vectors get bit-equal scores, so that a tie stays a tie."""
    query, query_row = np.unique(np.asarray(query, dtype=np.float64), axis=0, return_inverse=True)
    gallery, gallery_row = np.unique(
        np.asarray(gallery, dtype=np.float64), axis=0, return_inverse=True
    )
    return (query @ gallery.T)[query_row.reshape(-1)][:, gallery_row.reshape(-1)]


def places(score):
    """(N, N) float64, row = query, true item on the diagonal -> Places. Raises DataError for another shape, a score not finite."""
    score = np.asarray(score, dtype=np.float64)
    if score.ndim != 2 or score.shape[0] != score.shape[1] or not len(score):
        raise DataError(
            f"retrieval: the scores are {score.shape}, not queries x as many items; give every query its true item"
        )
    if not np.isfinite(score).all():
        raise DataError("retrieval: a score is not finite; look at the embeddings of the run")
    above, tied = np.empty(score.shape, np.int32), np.empty(score.shape, np.int32)
    for row, values in enumerate(score):
        rising = np.sort(values)
        upto = np.searchsorted(rising, values, "right")
        above[row], tied[row] = len(values) - upto, upto - np.searchsorted(rising, values, "left")
    return Places(above, tied)


def expected_hits(place, k):
    """Probability to be among the first k, ties broken at random: clip((k - above) / tied, 0, 1), Places -> float64, same shape."""
    return np.clip((k - place.above) / place.tied, 0, 1)


def true_places(score):
    """Places of the true items only, both (N,)."""
    place = places(score)
    return Places(place.above.diagonal(), place.tied.diagonal())


def recall(score, k):
    """Strict Recall@k of each query, expected over random tie-breaking: (N, N) -> (N,) float64 in [0, 1]; its mean is the headline."""
    return expected_hits(true_places(score), k)


def pessimistic(score, k):
    """Strict Recall@k of each query, every tie lost: (N, N) -> (N,) bool. No optimistic form: constant embeddings would score 1."""
    place = true_places(score)
    return place.above + place.tied <= k


def ranks(score):
    """Expected rank of each true item, 1 = first: (N, N) -> (N,) float64, above + (tied + 1) / 2."""
    place = true_places(score)
    return place.above + (place.tied + 1) / 2


def ceiling(content, k):
    """The largest strict Recall@k that any scorer of the content can expect: queries that say the same get the same ranking.

    content: (N,) numbers of `contents` -> float in (0, 1], sum over distinct contents of min(k, how often) / N
    """
    return float(np.minimum(k, np.bincount(content)).sum() / len(content))


def equivalent_rank(score, content, gallery=None):
    """Rank of the first item that says what the query says, every other item winning its ties.

    Secondary: a hub image that many queries find gives untrained networks up to 26 % at rank 1, so it is read beside its null band only.

    score   : (N, N) float64
    content : (N,) int64 of the queries
    gallery : (N,) int64 of the items, default the same (a re-paired table has another order)
    returns   (N,) int64, 1 = first
    """
    same = content[:, None] == (content if gallery is None else gallery)
    best = np.where(same, score, -np.inf).max(1, keepdims=True)
    return 1 + ((score >= best) & ~same).sum(1)


def null_band(score, content, seed=0, draws=REPAIRINGS):
    """What the same scores give when texts and images are paired at random: "at chance" means inside this band.

    A binomial band would be too narrow, since equal queries hit together.

    returns  (2, len(K), 2) float64: strict and equivalent recall, by k, percentiles 0.5 and 99.5 over the re-pairings
    """
    hits, generator = [expected_hits(places(score), k) for k in K], np.random.default_rng(seed)
    rows, drawn = np.arange(len(score)), np.empty((draws, 2, len(K)))
    for draw in range(draws):
        partner = generator.permutation(len(score))  # query i now belongs to item partner[i]
        gallery = np.empty_like(content)
        gallery[partner] = content
        drawn[draw, 0] = [hit[rows, partner].mean() for hit in hits]
        drawn[draw, 1] = (equivalent_rank(score, content, gallery)[:, None] <= K).mean(0)
    return np.moveaxis(np.percentile(drawn, BAND, axis=0), 0, -1)


def same_patient(score, patient):
    """Share of strict misses whose first item is of the query's own patient; NaN without a miss. patient: (N,) str, "" = unknown."""
    patient = np.asarray(patient, dtype=object)
    missed = 1 - recall(score, 1)
    first = score == score.max(1, keepdims=True)
    np.fill_diagonal(first, False)
    own = (patient[:, None] == patient) & (patient != "")
    share = (first & own).sum(1) / np.maximum(first.sum(1), 1)
    return float((missed * share).sum() / missed.sum()) if missed.sum() else float("nan")


def judge(score, content, patient, key="test", resamples=2000):
    """Everything that must be printed together of one direction, as one row.

    score   : (N, N) float64, row = query, true item on the diagonal; the gallery is the WHOLE split
    content : (N,) int64, of everything in the query
    patient : (N,) str; the interval draws query patients, the gallery stays
    returns   n, patients, contents, median_rank, same_patient_misses, equivalent_chance_1;
              and for each k: recall_k, recall_k_low, recall_k_high, ceiling_k, chance_k,
              skill_k = (recall - chance) / (ceiling - chance), null_k_low, null_k_high,
              equivalent_k, equivalent_k_null_low, equivalent_k_null_high
    raises    DataError if a strict recall passes its ceiling: something in the scores has seen the answer
    """
    count = len(content)
    if not len(score) == count == len(patient):
        raise DataError(
            f"retrieval: {len(score)} queries, {count} contents and {len(patient)} patients; they must be as many"
        )
    weight, place = resample(patient, resamples, key), true_places(score)
    equal, band = equivalent_rank(score, content), null_band(score, content)
    row = {
        "n": count,
        "patients": int(clusters(patient).max()) + 1,
        "contents": int(content.max()) + 1,
    }
    for k, (strict, alike) in zip(K, band.swapaxes(0, 1), strict=True):
        hit, most, chance = expected_hits(place, k), ceiling(content, k), min(k, count) / count
        value = float(hit.mean())
        if value > most + SLACK:
            raise DataError(
                f"retrieval: R@{k} {value:.4f} passes its ceiling {most:.4f}; no scorer of these texts can: look for a leak"
            )
        low, high, _ = interval(weight @ hit / weight.sum(1))
        row |= {
            f"recall_{k}": value,
            f"recall_{k}_low": low,
            f"recall_{k}_high": high,
            f"ceiling_{k}": most,
            f"chance_{k}": chance,
        }
        row |= {f"skill_{k}": (value - chance) / (most - chance) if most > chance else float("nan")}
        row |= {
            f"null_{k}_low": strict[0],
            f"null_{k}_high": strict[1],
            f"equivalent_{k}": float((equal <= k).mean()),
        }
        row |= {f"equivalent_{k}_null_low": alike[0], f"equivalent_{k}_null_high": alike[1]}
    row["equivalent_chance_1"] = float(((np.bincount(content) / count) ** 2).sum())
    return row | {
        "median_rank": float(np.median(place.above + (place.tied + 1) / 2)),
        "same_patient_misses": same_patient(score, patient),
    }


def retrieve(image, text, *, content, patient, key="test", resamples=2000):
    """Both directions of one split.

    image, text : (N, E) float, row i of one belongs to row i of the other; each made from its own modality alone
    returns       two rows of `judge`, text -> image first, each with its `direction`
    """
    score = similarity(text, image)
    matrices = zip(DIRECTIONS, (score, score.T), strict=True)
    return [
        {"direction": direction} | judge(matrix, content, patient, key, resamples)
        for direction, matrix in matrices
    ]
