"""Predictions that must not be scored are refused by row."""

import numpy as np
import pandas as pd
import pytest
from helpers.simulated_runs import predict

from clipdr import DataError
from clipdr.evaluation.predictions import check
from clipdr.evaluation.scoring import score


def broken(predictions, column, value):
    frame = predictions.astype({"grade": "int64"})
    frame.loc[frame.index[3], column] = value
    return frame


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: broken(f, "p2", np.nan), "row 3 .*NaN"),
        (lambda f: broken(f, "logit_1", np.nan), "row 3 .*NaN"),
        (lambda f: broken(f, "p2", 1.5), "row 3 .*sum to 1"),
        (lambda f: broken(f, "grade", 7), r"row 3 .*grade is not 0\.\.4"),
        (lambda f: broken(f, "split", "train"), "row 3 .*split"),
        (
            lambda f: broken(f, "image", "SIM_APTOS/else.png"),
            r"row 3 \(SIM_APTOS/else.png\): not in the manifest",
        ),
        (lambda f: broken(f, "domain", "SIM_DEEPDR"), "row 3 .*domain differs"),
        (lambda f: f.assign(grade=(f["grade"] + 1) % 5), "row 0 .*grade differs"),
        (lambda f: pd.concat([f, f.iloc[:1]]), "row 600 .*second prediction"),
        (lambda f: broken(f, "method", "erm"), "more than one method"),
        (lambda f: f.drop(columns="scale"), "no column scale"),
        (lambda f: f.iloc[:0], "no rows"),
    ],
)
def test_broken_predictions_are_refused_by_row(manifest, damage, message):
    predictions = predict(manifest, ["SIM_APTOS"])
    check(predictions, manifest)
    with pytest.raises(DataError, match=f"runs/p.parquet: {message}"):
        score(damage(predictions), manifest, 1, name="runs/p.parquet")


def test_manifest_that_lists_an_image_twice_is_refused(manifest):
    with pytest.raises(DataError, match="listed twice"):
        score(predict(manifest, ["SIM_APTOS"]), pd.concat([manifest, manifest.iloc[:1]]), 1)
