"""Error gallery: the test images with the largest error per held-out domain.

Input: predictions of the runs, manifests and stores. Output: plain values for the template, with
embedded images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.artifacts.run_folder import Run, RunFolder, first_seed
from clipdr.data.manifest import open_store
from clipdr.evaluation import predictions, schema
from clipdr.evaluation.predictions import tested
from clipdr.report import html

THUMBNAIL = 192  # pixels, largest side of an image in the gallery
ERROR_COLUMNS = ["selection", "split", "image", "grade", *schema.PROBABILITIES, "expected_grade"]


def errors(
    runs: Sequence[Run], manifests: Mapping[str, pd.DataFrame], store: Path, count: int
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Find the worst errors of one method.

    Args:
        runs: Runs of the method; the lowest seed is read.
        manifests: {domain: manifest}.
        store: Folder of the packed images.
        count: Images per held-out domain, 0 for none.

    Returns:
        {protocol: {held-out name: images}}, |expected grade - grade| from large to small, ties by
        name. Each image has the keys image, source (data URI), grade, predicted, expected and
        shares (probability of each grade).

    Raises:
        DataError: If a predicted image is not in the manifest of its domain.
    """
    worst: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for folder in first_seed([run.folder for run in runs]) if count else ():
        rows = tested(predictions.read(folder / "predictions.parquet", ERROR_COLUMNS))
        error = (rows["expected_grade"] - rows["grade"]).abs()
        rows = rows.assign(error=error).sort_values(["error", "image"], ascending=[False, True])
        images = [_error(row, manifests, store) for row in rows.head(count).to_dict("records")]
        run = RunFolder(folder)
        worst.setdefault(run.protocol, {})[run.held_out] = images
    return worst


def _error(
    row: Mapping[str, Any], manifests: Mapping[str, pd.DataFrame], store: Path
) -> dict[str, Any]:
    """One image of the gallery. row: of its predictions."""
    domain = row["image"].partition("/")[0]
    manifest = manifests.get(domain)
    rows = [] if manifest is None else manifest.index[manifest["image"] == row["image"]]
    if manifest is None or len(rows) != 1:
        raise DataError(
            f"{row['image']}: predicted, but not in the manifest of {domain}. Train that run again."
        )
    shares = [float(row[column]) for column in schema.PROBABILITIES]
    pixels = open_store(store / f"{domain}.npy", manifest)[rows[0]]
    return {
        "image": row["image"],
        "source": html.thumbnail_uri(pixels, THUMBNAIL),
        "grade": int(row["grade"]),
        "predicted": int(np.argmax(shares)),
        "expected": float(row["expected_grade"]),
        "shares": shares,
    }
