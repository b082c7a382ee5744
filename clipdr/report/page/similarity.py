"""Similarity matrices of the report: mean cosine of images and texts by grade.

Input: predictions of the runs. Output: plain values for the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clipdr import GRADES
from clipdr.artifacts.run_folder import Run, RunFolder, by_protocol, first_seed
from clipdr.evaluation import predictions
from clipdr.evaluation.predictions import tested
from clipdr.evaluation.similarity import (
    COLUMNS,
    falling_rows,
    limits,
    mean,
    similarity_matrix,
    wrong_order,
)
from clipdr.report.tables.views import cell


def similarities(runs: Sequence[Run]) -> dict[str, list[dict[str, Any]]]:
    """Similarity matrices by protocol, as `matrices_of` returns them."""
    groups = {protocol: matrices_of(part) for protocol, part in by_protocol(runs).items()}
    return {protocol: group for protocol, group in groups.items() if group}


def matrices_of(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Similarity matrices of the methods with texts, lowest seed.

    Args:
        runs: Runs of one protocol. Methods that lack a held-out domain are left out.

    Returns:
        One group per held-out name, the mean over them first; [] where no method has texts. A group
        has the keys held_out and matrices. A matrix has the keys method, wrong and pairs
        (misordered adjacent pairs and pairs), falling and whole (ordinal rows and rows), and rows.
        A row has the keys grade, images and cells. A cell has the keys text (as printed), share (0
        to 1 within the range of all matrices), label (in words) and true (whether the text is that
        of the true grade).
    """
    held = list(dict.fromkeys(run.held_out for run in runs))
    parts: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for folder in first_seed([run.folder for run in runs]):
        rows = predictions.read(folder / "predictions.parquet", COLUMNS)
        matrix, run = similarity_matrix(rows), RunFolder(folder)
        if matrix is not None:
            counts = np.bincount(tested(rows)["grade"], minlength=len(GRADES))
            parts.setdefault(run.method, {})[run.held_out] = (matrix, counts)
    parts = {
        method: {name: by_name[name] for name in held}
        for method, by_name in parts.items()
        if set(by_name) == set(held)
    }
    if not parts:
        return []
    title = f"mean of {len(held)} {'source' if runs[0].protocol == 'esdg' else 'held-out'} domains"
    for by_name in parts.values():
        matrices = {name: matrix for name, (matrix, _) in by_name.items()}
        counts = np.sum([counts for _, counts in by_name.values()], axis=0)
        by_name[title] = (mean(matrices), counts)
    ends = limits([matrix for by_name in parts.values() for matrix, _ in by_name.values()])
    return [
        {
            "held_out": name,
            "matrices": [
                _matrix(method, name, *by_name[name], ends) for method, by_name in parts.items()
            ],
        }
        for name in [title, *held]
    ]


def _matrix(
    method: str, held_out: str, matrix: np.ndarray, counts: np.ndarray, ends: tuple[float, float]
) -> dict[str, Any]:
    """One matrix for the template. counts: (5,) images per true grade; ends: range of colours."""
    low, high = ends
    rows = []
    for grade, line in enumerate(matrix):
        cells = []
        for text, value in enumerate(line):
            printed = cell(value, 3).text
            label = f"{method}, {held_out}: true grade {grade} ({GRADES[grade]}), "
            label += f"text of grade {text} ({GRADES[text]}): "
            label += f"mean cosine {printed}; n = {int(counts[grade]):,} images"
            share = 0.0 if np.isnan(value) or high == low else float((value - low) / (high - low))
            cells.append(
                {"text": printed, "share": round(share, 3), "label": label, "true": grade == text}
            )
        rows.append({"grade": grade, "images": int(counts[grade]), "cells": cells})
    (wrong, pairs), (falling, whole) = wrong_order(matrix), falling_rows(matrix)
    return {
        "method": method,
        "wrong": wrong,
        "pairs": pairs,
        "falling": falling,
        "whole": whole,
        "rows": rows,
    }
