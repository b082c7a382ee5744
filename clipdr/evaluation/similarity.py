"""Similarity matrices: mean cosine of the test images of each grade with the text of each grade.

Input: predictions of the runs. Output: (5, 5) matrices and counts of their ordinality. The figures
and the report share them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from clipdr import GRADES, DataError
from clipdr.evaluation.predictions import tested
from clipdr.evaluation.schema import LOGITS

COLUMNS = ["method", "held_out", "seed", "selection", "split", "grade", *LOGITS, "scale"]


def similarity_matrix(predictions: pd.DataFrame) -> np.ndarray | None:
    """Compute the similarity matrix of a run's selected checkpoint (Yu et al., 2024, fig. 3).

    Args:
        predictions: Rows of one run, with `scale`.

    Returns:
        (5, 5) float64, rows = true grade (NaN without images), columns = grade of the text; None
        for a method without texts.
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


def wrong_order(matrix: np.ndarray) -> tuple[int, int]:
    """Count adjacent pairs of texts in the wrong order.

    In row g the cosine must fall with each step away from g.

    Args:
        matrix: (5, 5), rows = true grade. A pair with NaN is not counted.

    Returns:
        Wrong pairs and pairs compared (20 when all are defined).
    """
    steps = np.diff(matrix, axis=1)  # (5, 4): from text k to text k + 1
    towards = np.arange(len(GRADES) - 1)[None, :] < np.arange(len(GRADES))[:, None]
    return int((np.where(towards, steps <= 0, steps >= 0) & ~np.isnan(steps)).sum()), int(
        (~np.isnan(steps)).sum()
    )


def falling_rows(matrix: np.ndarray) -> tuple[int, int]:
    """Count ordinal rows: those whose cosine falls with every step away from the true grade.

    Args:
        matrix: (5, 5) as in `wrong_order`. A row with NaN is not counted.

    Returns:
        Ordinal rows and rows compared.
    """
    rows = [
        wrong_order(np.where(np.arange(len(GRADES))[:, None] == g, matrix, np.nan))
        for g in range(len(GRADES))
    ]
    whole = [wrong for wrong, pairs in rows if pairs == len(GRADES) - 1]
    return whole.count(0), len(whole)


def verdict(matrix: np.ndarray) -> str:
    """Return the ordinality of a matrix in words, two lines."""
    (falling, rows), (wrong, pairs) = falling_rows(matrix), wrong_order(matrix)
    return f"ordinal rows: {falling} of {rows}\nmisordered pairs: {wrong} of {pairs}"


def matrices(
    runs: Iterable[pd.DataFrame], methods: Sequence[str], domains: Sequence[str]
) -> dict[str, dict[str, np.ndarray]]:
    """Compute the similarity matrices of runs, lowest seed.

    Args:
        runs: Predictions of one run each; only COLUMNS are read.
        methods: Methods that count, in order.
        domains: Held-out domains.

    Returns:
        {method: {held_out: (5, 5)}} for the methods that have texts.

    Raises:
        DataError: If a method lacks a domain, or no method has texts.
    """
    lowest: dict[tuple[str, str], tuple[int, np.ndarray]] = {}
    for predictions in runs:
        method, held_out, seed = predictions[["method", "held_out", "seed"]].iloc[0]
        matrix = (
            similarity_matrix(predictions) if method in methods and held_out in domains else None
        )
        if matrix is None:
            continue
        key = method, held_out
        if key not in lowest or seed <= lowest[key][0]:
            lowest[key] = seed, matrix
    result = {}
    for method in methods:
        present = {
            domain: lowest[method, domain][1] for domain in domains if (method, domain) in lowest
        }
        if present and len(present) < len(domains):
            missing = ", ".join(domain for domain in domains if domain not in present)
            raise DataError(
                f"similarity: {method} was not run on {missing}. Train it or leave it out."
            )
        if present:
            result[method] = present
    if not result:
        raise DataError(
            "similarity: none of the methods compares images with texts. "
            "Choose methods with prompts."
        )
    return result


def images(
    runs: Iterable[pd.DataFrame], methods: Sequence[str], domains: Sequence[str]
) -> dict[str, int]:
    """Count the test images of each held-out domain, of one method: {held_out: number}.

    Args:
        runs: As in `matrices`.
        methods: As in `matrices`.
        domains: As in `matrices`.
    """
    count = {}
    for predictions in runs:
        method, held_out = predictions[["method", "held_out"]].iloc[0]
        if method in methods and held_out in domains:
            count[held_out] = len(tested(predictions))
    return count


def mean(by_domain: Mapping[str, np.ndarray]) -> np.ndarray:
    """Average matrices over held-out domains, unweighted; a cell undefined in one is undefined."""
    return np.mean(list(by_domain.values()), axis=0)


def limits(several: Iterable[np.ndarray]) -> tuple[float, float]:
    """Return the least and largest cosine of matrices, the ends of their common colour scale."""
    several = list(several)
    return np.nanmin([np.nanmin(matrix) for matrix in several]), np.nanmax(
        [np.nanmax(matrix) for matrix in several]
    )
