"""Reads, makes and checks predictions.parquet: one row per image, selection and split of a run.

The columns are those of `clipdr.evaluation.schema`. Nothing is scored that is not complete, unique,
finite and about a known image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clipdr import GRADES, DataError
from clipdr.evaluation.schema import COLUMNS, HEADLINE, LOGITS, PROBABILITIES, RUN, rules_of


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Compute the softmax in float64.

    Args:
        logits: (N, 5) float32.

    Returns:
        (N, 5) float64, rows sum to 1.
    """
    import torch  # here, because scoring and the report import this module and need no torch

    return torch.from_numpy(logits).double().softmax(1).numpy()


def table(
    key: Mapping[str, Any],
    selection: str,
    split: str,
    images: pd.DataFrame,
    logits: np.ndarray,
    scale: float,
) -> pd.DataFrame:
    """Make rows of predictions.parquet, one per image.

    Args:
        key: {column of RUN: value} of the run.
        selection: Rule of model selection.
        split: "val" or "test".
        images: Manifest rows of the images; image, domain and grade are read.
        logits: (N, 5) float32.
        scale: Multiplier of the cosine in the logits; NaN for a method without text.

    Returns:
        Columns COLUMNS.
    """
    probability = probabilities(logits)
    frame = pd.DataFrame(
        {name: [value] * len(images) for name, value in key.items()}
        | {"selection": selection, "split": split}
    )
    frame["seed"] = frame["seed"].astype("int32")
    for name in ("image", "domain"):
        frame[name] = images[name].to_numpy()
    frame["grade"] = images["grade"].to_numpy().astype("int8")
    frame[LOGITS] = logits
    frame[PROBABILITIES] = probability
    frame["expected_grade"] = probability @ np.arange(len(GRADES), dtype=np.float64)
    frame["scale"] = np.float32(scale)
    return frame


def tested(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of test images under the headline's rule of selection."""
    return predictions[
        (predictions["split"] == "test") & predictions["selection"].isin(rules_of(HEADLINE))
    ]


def read(path: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read predictions.parquet.

    Args:
        path: The file.
        columns: Columns to read. None: all.

    Raises:
        DataError: If there is no such file or it is incomplete.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: missing. Train that run first.")
    try:
        return pd.read_parquet(path, columns=columns)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: not a whole parquet file ({str(error).splitlines()[0]}). "
            "Train that run again."
        ) from error


def check(predictions: pd.DataFrame, manifest: pd.DataFrame, name: str = "predictions") -> None:
    """Refuse predictions that must not be scored.

    Args:
        predictions: Rows of one run.
        manifest: Rows of the manifest (image, grade, domain) for every image predicted.
        name: File, for messages.

    Raises:
        DataError: If the predictions are not complete, unique, finite and about images of the
            manifest. The message names the row.
    """

    def refuse(bad: np.ndarray, what: str, advice: str = "Train the run again.") -> None:
        """Raise DataError about the first bad row, if there is one."""
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            image = predictions["image"].iloc[row]
            raise DataError(f"{name}: row {row} ({image}): {what}. {advice}")

    _check_columns(predictions, name)
    probability = predictions[PROBABILITIES].to_numpy(np.float64)
    refuse(
        predictions[[*LOGITS, *PROBABILITIES, "expected_grade"]].isna().any(axis=1).to_numpy(),
        "NaN in its prediction",
    )
    refuse(
        (np.abs(probability.sum(axis=1) - 1) > 1e-6) | (probability < 0).any(axis=1),
        "p0..p4 do not sum to 1, or one is negative",
    )
    refuse(~predictions["grade"].isin(range(len(GRADES))).to_numpy(), "grade is not 0..4")
    refuse(~predictions["split"].isin(["val", "test"]).to_numpy(), "split is neither val nor test")
    refuse(
        predictions.duplicated(["selection", "split", "image"]).to_numpy(),
        "second prediction for this image",
    )
    if manifest["image"].duplicated().any():
        image = manifest["image"][manifest["image"].duplicated()].iloc[0]
        raise DataError(f"manifest: {image} is listed twice. Prepare its domain again.")
    by_image = manifest.set_index("image")
    refuse(
        ~predictions["image"].isin(by_image.index).to_numpy(),
        "not in the manifest",
        "Prepare its domain, then train again.",
    )
    for column in ("grade", "domain"):
        expected = by_image[column].reindex(predictions["image"]).to_numpy()
        refuse(
            predictions[column].to_numpy() != expected,
            f"its {column} differs from the manifest's",
            "Train again, because the manifest has changed.",
        )


def _check_columns(predictions: pd.DataFrame, name: str) -> None:
    """Refuse missing columns, no rows, and rows of several runs."""
    missing = [column for column in COLUMNS if column not in predictions]
    if missing or predictions.empty:
        what = f"no column {', '.join(missing)}" if missing else "no rows"
        raise DataError(f"{name}: {what}. Train the run again.")
    for column in RUN:
        if predictions[column].nunique(dropna=False) != 1:
            raise DataError(f"{name}: more than one {column}. Score one run at a time.")
