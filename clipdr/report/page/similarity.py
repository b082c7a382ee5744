"""TODO"""

import numpy as np

from clipdr import GRADES
from clipdr.artifacts.run_folder import RunFolder, by_protocol, first_seed
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
from clipdr.report.page.views import cell


def similarities(runs):
    """{protocol: similarity matrices} of every protocol that has any, as `matrices_of` gives them."""
    found = {protocol: matrices_of(part) for protocol, part in by_protocol(runs).items()}
    return {protocol: groups for protocol, groups in found.items() if groups}


def matrices_of(runs):
    """Similarity matrices of the methods with texts that were run on all held-out domains, the mean over domains first, lowest seed.

    runs    : of one protocol
    returns [{held_out, matrices: [{method, wrong, pairs, falling, rows: [{grade, photographs, cells: [{text, share, say, true}]}]}]}];
            share: 0..1 within the range of all matrices shown; [] where no method has texts
    """
    found, held = {}, list(dict.fromkeys(run.held_out for run in runs))
    for folder in first_seed([run.folder for run in runs]):
        rows = predictions.read(folder / "predictions.parquet", COLUMNS)
        matrix, (_, method, held_out, _) = similarity_matrix(rows), RunFolder(folder).key
        if matrix is not None:
            found.setdefault(method, {})[held_out] = (
                matrix,
                np.bincount(tested(rows)["grade"], minlength=len(GRADES)),
            )
    found = {
        method: {name: parts[name] for name in held}
        for method, parts in found.items()
        if set(parts) == set(held)
    }
    if not found:
        return []
    title = f"mean of {len(held)} {'source' if runs[0].protocol == 'esdg' else 'held-out'} domains"
    for parts in found.values():
        parts[title] = (
            mean({name: part[0] for name, part in parts.items()}),
            np.sum([part[1] for part in parts.values()], axis=0),
        )
    ends = limits([part[0] for parts in found.values() for part in parts.values()])
    return [
        {
            "held_out": name,
            "matrices": [
                _matrix(method, name, *parts[name], ends) for method, parts in found.items()
            ],
        }
        for name in [title, *held]
    ]


def _matrix(method, held_out, matrix, counts, ends):
    low, high = ends
    rows = []
    for grade, line in enumerate(matrix):
        cells = []
        for text, value in enumerate(line):
            printed = cell(value, 3).text
            say = f"{method}, {held_out}: true grade {grade} ({GRADES[grade]}), text of grade {text} ({GRADES[text]}): "
            say += f"mean cosine {printed}; n = {int(counts[grade]):,} photographs"
            share = 0.0 if np.isnan(value) or high == low else float((value - low) / (high - low))
            cells.append(
                {"text": printed, "share": round(share, 3), "say": say, "true": grade == text}
            )
        rows.append({"grade": grade, "photographs": int(counts[grade]), "cells": cells})
    (wrong, pairs), (falling, whole) = wrong_order(matrix), falling_rows(matrix)
    return {
        "method": method,
        "wrong": wrong,
        "pairs": pairs,
        "falling": falling,
        "whole": whole,
        "rows": rows,
    }
