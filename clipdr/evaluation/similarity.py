"""Similarity matrices: mean cosine of the test images of each true grade with the text of each grade; how ordinal one is; one as a panel.

Input: predictions of the runs. Output: (5, 5) matrices, counts, panels. Shared by the figures of plots/ and the report.
"""

import numpy as np

from clipdr import GRADES, DataError
from clipdr.evaluation.predictions import tested
from clipdr.evaluation.schema import LOGITS

COLUMNS = ["method", "held_out", "seed", "selection", "split", "grade", *LOGITS, "scale"]


def similarity_matrix(predictions):
    """Mean cosine of the test images of each true grade with the text of each grade (Yu et al., 2024, fig. 3), selected checkpoint.

    predictions : rows of one run, with `scale`
    returns       (5, 5) float64, rows = true grade (NaN without images), columns = grade of the text; None for a method without texts
    """
    rows = tested(predictions)
    if rows.empty or rows["scale"].isna().any():
        return None
    cosine = rows[LOGITS].to_numpy(np.float64) / rows["scale"].to_numpy(np.float64)[:, None]
    grade = rows["grade"].to_numpy()
    return np.stack(
        [
            cosine[grade == g].mean(axis=0) if (grade == g).any() else np.full(len(GRADES), np.nan)
            for g in range(len(GRADES))
        ]
    )


def wrong_order(matrix):
    """Adjacent pairs of texts in the wrong order: in row g the cosine must fall with each step away from g.

    matrix  : (5, 5), rows = true grade; a pair with NaN is not counted
    returns   wrong pairs, pairs compared (20 when all are defined)
    """
    steps = np.diff(matrix, axis=1)  # (5, 4): from text k to text k + 1
    towards = np.arange(len(GRADES) - 1)[None, :] < np.arange(len(GRADES))[:, None]
    return int((np.where(towards, steps <= 0, steps >= 0) & ~np.isnan(steps)).sum()), int(
        (~np.isnan(steps)).sum()
    )


def falling_rows(matrix):
    """The ordinality score: rows whose cosine falls with every step away from the true grade, and rows that are defined.

    matrix : (5, 5) as `wrong_order`; a row with NaN is not counted. returns falling rows, rows compared
    """
    rows = [
        wrong_order(np.where(np.arange(len(GRADES))[:, None] == g, matrix, np.nan))
        for g in range(len(GRADES))
    ]
    whole = [wrong for wrong, pairs in rows if pairs == len(GRADES) - 1]
    return whole.count(0), len(whole)


def verdict(matrix):
    """The ordinality of a matrix in words, two lines."""
    (falling, rows), (wrong, pairs) = falling_rows(matrix), wrong_order(matrix)
    return f"ordinal rows: {falling} of {rows}\nmisordered pairs: {wrong} of {pairs}"


def matrices(runs, methods, domains):
    """The runs' similarity matrices, lowest seed.

    runs    : iterable of frames, predictions of one run each; only COLUMNS are read
    returns   {method: {held_out: (5, 5)}} for those of `methods`, in order, that have texts; DataError where one was not run on a domain
    """
    found = {}
    for predictions in runs:
        method, held_out, seed = predictions[["method", "held_out", "seed"]].iloc[0]
        matrix = (
            similarity_matrix(predictions) if method in methods and held_out in domains else None
        )
        if matrix is not None and seed <= found.get((method, held_out), (seed, None))[0]:
            found[method, held_out] = seed, matrix
    result = {}
    for method in methods:
        present = {
            domain: found[method, domain][1] for domain in domains if (method, domain) in found
        }
        if present and len(present) < len(domains):
            raise DataError(
                f"similarity: {method} was not run on {', '.join(d for d in domains if d not in present)}; train it or leave it out"
            )
        if present:
            result[method] = present
    if not result:
        raise DataError(
            "similarity: none of the methods compares images with texts; choose methods with prompts"
        )
    return result


def images(runs, methods, domains):
    """Test images of each held-out domain, one method's: {held_out: number}. runs: as `matrices`, a list"""
    found = {}
    for predictions in runs:
        method, held_out = predictions[["method", "held_out"]].iloc[0]
        if method in methods and held_out in domains:
            found[held_out] = len(tested(predictions))
    return found


def mean(by_domain):
    """Unweighted mean of the matrices of the held-out domains; a cell undefined in one domain is undefined in the mean."""
    return np.mean(list(by_domain.values()), axis=0)


def limits(several):
    """Least and largest cosine of several matrices: the ends of their common colour scale."""
    return np.nanmin([np.nanmin(matrix) for matrix in several]), np.nanmax(
        [np.nanmax(matrix) for matrix in several]
    )
