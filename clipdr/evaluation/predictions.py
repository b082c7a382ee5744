"""predictions.parquet: its columns, and the check that nothing is scored that is not complete, unique, finite and about a known image.

Input: the file a run wrote, one row per image, selection and split. Output: the same rows, or a DataError naming the file and the row.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from clipdr import GRADES, DataError
from clipdr.evaluation.schema import AS_HEADLINE, COLUMNS, HEADLINE, LOGITS, PROBABILITIES, RUN


def probabilities(logits):
    """(N, 5) float32 logits -> (N, 5) float64 probabilities, rows sum to 1."""
    import torch  # here: scoring and the report import this module and need no torch

    return torch.from_numpy(logits).double().softmax(1).numpy()


def table(key, selection, split, part, logits, scale):
    """Rows of predictions.parquet: one per image of a part. logits: (N, 5) float32."""
    probability = probabilities(logits)
    frame = pd.DataFrame(
        {name: [value] * len(part) for name, value in key.items()}
        | {"selection": selection, "split": split}
    )
    frame["seed"] = frame["seed"].astype("int32")
    for name in ("image", "domain"):
        frame[name] = part[name].to_numpy()
    frame["grade"] = part["grade"].to_numpy().astype("int8")
    grades = range(len(GRADES))
    frame[[f"logit_{k}" for k in grades]] = logits
    frame[[f"p{k}" for k in grades]] = probability
    frame["expected_grade"] = probability @ np.arange(len(GRADES), dtype=np.float64)
    frame["scale"] = np.float32(scale)
    return frame


def tested(predictions):
    """Rows of the test images under the headline's rule of selection."""
    return predictions[
        (predictions["split"] == "test") & predictions["selection"].isin(AS_HEADLINE[HEADLINE])
    ]


def read(path, columns=None):
    """predictions.parquet -> frame (only `columns`, or all); DataError if there is no such file or it is torn."""
    if not Path(path).is_file():
        raise DataError(f"{path}: missing; train that run first")
    try:
        return pd.read_parquet(path, columns=columns)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: not a whole parquet file ({str(error).splitlines()[0]}); train that run again"
        ) from error


def check(predictions, manifest, name="predictions"):
    """Raises DataError, naming the row, unless the predictions are complete, unique, finite and about images of the manifest."""

    def refuse(bad, what, advice="train the run again"):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"{name}: row {row} ({predictions['image'].iloc[row]}): {what}; {advice}"
            )

    missing = [column for column in COLUMNS if column not in predictions]
    if missing or predictions.empty:
        raise DataError(
            f"{name}: {'no column ' + ', '.join(missing) if missing else 'no rows'}; train the run again"
        )
    for column in RUN:
        if predictions[column].nunique(dropna=False) != 1:
            raise DataError(f"{name}: more than one {column}; score one run at a time")
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
        raise DataError(
            f"manifest: {manifest['image'][manifest['image'].duplicated()].iloc[0]} is listed twice; prepare its domain again"
        )
    known = manifest.set_index("image")
    refuse(
        ~predictions["image"].isin(known.index).to_numpy(),
        "not in the manifest",
        "prepare its domain, then train again",
    )
    for column in ("grade", "domain"):
        differs = (
            predictions[column].to_numpy() != known[column].reindex(predictions["image"]).to_numpy()
        )
        refuse(
            differs,
            f"its {column} differs from the manifest's",
            "the manifest has changed: train again",
        )
