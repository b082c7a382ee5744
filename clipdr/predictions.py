"""predictions.parquet: its columns, and the check that nothing is scored that is not complete, unique, finite and about a known image.

Input: the file a run wrote, one row per image, selection and split. Output: the same rows, or a DataError naming the file and the row.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from clipdr import GRADES, DataError

RUN = ["protocol", "method", "held_out", "seed"]
LOGITS = [f"logit_{k}" for k in range(len(GRADES))]
PROBABILITIES = [f"p{k}" for k in range(len(GRADES))]
# `scale`: multiplier of the cosine in the logits (float32), NaN for methods without text
COLUMNS = [*RUN, "selection", "split", "image", "domain", "grade", *LOGITS, *PROBABILITIES, "expected_grade", "scale"]


def read(path, columns=None):
    """predictions.parquet -> frame (only `columns`, or all); DataError if there is no such file or it is torn."""
    if not Path(path).is_file():
        raise DataError(f"{path}: missing; train that run first")
    try:
        return pd.read_parquet(path, columns=columns)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a whole parquet file ({str(error).splitlines()[0]}); train that run again") from error


def check(predictions, manifest, name="predictions"):
    """Raises DataError, naming the row, unless the predictions are complete, unique, finite and about images of the manifest."""

    def refuse(bad, what, advice="train the run again"):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(f"{name}: row {row} ({predictions['image'].iloc[row]}): {what}; {advice}")

    missing = [column for column in COLUMNS if column not in predictions]
    if missing or predictions.empty:
        raise DataError(f"{name}: {'no column ' + ', '.join(missing) if missing else 'no rows'}; train the run again")
    for column in RUN:
        if predictions[column].nunique(dropna=False) != 1:
            raise DataError(f"{name}: more than one {column}; score one run at a time")
    probability = predictions[PROBABILITIES].to_numpy(np.float64)
    refuse(predictions[[*LOGITS, *PROBABILITIES, "expected_grade"]].isna().any(axis=1).to_numpy(), "NaN in its prediction")
    refuse((np.abs(probability.sum(axis=1) - 1) > 1e-6) | (probability < 0).any(axis=1), "p0..p4 do not sum to 1, or one is negative")
    refuse(~predictions["grade"].isin(range(len(GRADES))).to_numpy(), "grade is not 0..4")
    refuse(~predictions["split"].isin(["val", "test"]).to_numpy(), "split is neither val nor test")
    refuse(predictions.duplicated(["selection", "split", "image"]).to_numpy(), "second prediction for this image")
    if manifest["image"].duplicated().any():
        raise DataError(f"manifest: {manifest['image'][manifest['image'].duplicated()].iloc[0]} is listed twice; prepare its domain again")
    known = manifest.set_index("image")
    refuse(~predictions["image"].isin(known.index).to_numpy(), "not in the manifest", "prepare its domain, then train again")
    for column in ("grade", "domain"):
        differs = predictions[column].to_numpy() != known[column].reindex(predictions["image"]).to_numpy()
        refuse(differs, f"its {column} differs from the manifest's", "the manifest has changed: train again")
