"""Leaky protocol: its label in every output, and the demonstration on noise."""

import json

import pandas as pd
import pytest
from helpers.multimodal_toy import built

from clipdr import DataError
from clipdr.multimodal.evaluation import leaky_protocol, score_run


def test_leaky_rows_are_labelled_in_json_and_csv(results):
    folder = results / "models" / "fused" / "0"
    for row in [
        *json.loads((folder / "leaky.json").read_text()),
        *pd.read_csv(folder / "leaky.csv").to_dict("records"),
    ]:
        assert row["leaky"] is True
        assert row["status"] == "LEAKY"
    assert not (folder / "retrieval.csv").exists()


def test_leaky_model_is_refused_by_every_other_mode(results, packed):
    folder = results / "models" / "fused" / "0"
    with pytest.raises(DataError, match="refused by every mode but fused_paper"):
        score_run.classify(folder, packed, results, "SYNTHETIC", 10, "cpu")
    model, datasets = built(packed)
    with pytest.raises(DataError, match="contrast: fused"):
        leaky_protocol.fused_vectors(model, datasets["test"])


def test_fused_protocol_retrieves_noise_and_two_encoders_do_not():
    """A small demonstration: fewer tokens, pairs and steps than the nightly test below."""
    small = {"steps": 150, "batch": 64, "pairs": 256, "lengths": {"image": 5, "text": 4}}
    fused, towers = (
        leaky_protocol.noise_demonstration(**small, fused=fused) for fused in (True, False)
    )
    assert fused["recall_1"] > 0.9
    assert fused["shuffled_recall_1"] > 0.9
    assert fused["leaky"]
    assert towers["recall_1"] < 0.03
    assert not towers["leaky"]


@pytest.mark.nightly
def test_noise_demonstration_at_full_size_shows_the_same():
    """1,627 unseen pairs, 600 and 300 steps (4 CPU minutes)."""
    rows = leaky_protocol.compare_on_noise(steps=600, batch=128, pairs=1627)
    assert rows["fused"]["recall_1"] > 0.9
    assert rows["fused"]["shuffled_recall_1"] > 0.9
    assert rows["two_towers"]["recall_1"] < 5 / 1627
