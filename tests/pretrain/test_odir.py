"""Pre-training on ODIR (nightly, real images): loss, linear probe and zero-shot detection."""

import pandas as pd
import pytest
from helpers.paths import REALDATA

from clipdr.pretrain import run
from clipdr.pretrain.data import packing, patient_sources, patients_table
from clipdr.pretrain.evaluation import (
    finding_scores,
    linear_probe,
    prompted,
)
from clipdr.pretrain.settings import rules


@pytest.fixture(scope="module")
def odir(tmp_path_factory):
    """Three runs of the preset `small`, two CPU-minutes each: [(run folder, table, data)]."""
    if not (REALDATA / "odir").is_dir():
        pytest.skip("no ODIR")
    data, runs = tmp_path_factory.mktemp("odir"), []
    packed = packing.pack(patient_sources.odir(REALDATA / "odir"), REALDATA / "odir", data, 96, 1)
    for seed in range(3):
        path = data / "patients" / f"odir_{seed}.csv"
        patients_table.write(patients_table.finish(packed, seed), path, seed)
        run.train(data / str(seed), path, data, rules("small", {"seed": seed}))
        runs.append((data / str(seed), patients_table.read(path), data))
    return runs


@pytest.mark.nightly
@pytest.mark.realdata
def test_loss_on_odir_decreases(odir):
    """The loss falls by more than 1 nat and stays above its lower bound."""
    for folder, _, _ in odir:
        history = pd.read_csv(folder / "history.csv")
        assert history["loss"].iloc[-1] < history["loss"].iloc[0] - 1.0
        assert history["loss"].iloc[-1] > sum(
            history[f"floor_{level}"].iloc[-1] for level in ("left", "right", "patient")
        )


@pytest.mark.nightly
@pytest.mark.realdata
def test_probe_on_odir_beats_random_weights(odir):
    """Macro mAP is higher by 0.05, with a paired interval above 0; macro AUROC is higher."""
    tables, draws = [], []
    for seed, (folder, table, data) in enumerate(odir):
        features = {}
        for weights in linear_probe.WEIGHTS:
            model, settings = run.load(folder, weights)
            embedded = run.embed(model, table, data, settings)
            features[weights] = linear_probe.both_eyes(embedded.raw, embedded.present)
        rows, resampled = linear_probe.probe(
            features, table, list(patient_sources.ODIR_LABELS), f"test/{seed}"
        )
        tables.append(rows)
        draws.append(resampled)
    together = finding_scores.average_seeds(tables, draws).set_index(
        ["network", "against", "metric"]
    )
    print(together)
    assert together.loc[("trained", "random", "macro_map"), "value"] >= 0.05
    assert together.loc[("trained", "random", "macro_map"), "low"] > 0
    assert together.loc[("trained", "random", "macro_auroc"), "value"] > 0


@pytest.mark.nightly
@pytest.mark.realdata
def test_zero_shot_on_odir_detects_diabetic_retinopathy(odir):
    """The interval of the AUROC of D from prompts lies above 0.5."""
    for folder, table, data in odir:
        model, settings = run.load(folder)
        zero, _ = prompted.score_prompts(
            model, settings, table, data, list(patient_sources.ODIR_LABELS), "en", "patient", [], 42
        )
        row = zero[(zero["input"] == "both eyes") & (zero["label"] == "D")].iloc[0]
        assert row["low"] > 0.5
