"""Scoring of a model folder, and transfer to another data set."""

import pandas as pd
import pytest

from clipdr import DataError
from clipdr.multimodal import run
from clipdr.multimodal.evaluation.transfer import transfer


def test_predictions_are_run_folders_of_two_protocols(results):
    for scale in ("icdr", "sdrg"):
        folder = results / "runs" / f"brset_{scale}" / "multimodal" / "SYNTHETIC" / "0"
        assert {
            "settings.json",
            "scores.csv",
            "history.csv",
            "predictions.parquet",
            "model.safetensors",
        } <= {path.name for path in folder.iterdir()}
    curves = pd.read_csv(results / "models" / "multimodal" / "0" / "curves.csv")
    assert set(curves["share"]) == {0, 0.25, 0.5, 0.75, 1}
    assert set(curves["modality"]) == {"row"}


def test_model_folder_without_a_model_is_refused(results):
    with pytest.raises(DataError, match="trained model"):
        run.load(results / "models" / "none" / "0", results, "grading")


def test_transfer_scores_dual_and_rerank_below_the_upper_bound(results, packed):
    folder = results / "models" / "multimodal" / "0"
    rows = transfer(folder, packed, "tiny", 20, "cpu")
    assert {row["mode"] for row in rows} == {"dual", "rerank"}
    assert all(row["ceiling_1"] >= row["recall_1"] for row in rows)
    assert (folder / "transfer_tiny.csv").is_file()
