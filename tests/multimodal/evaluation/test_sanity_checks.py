"""Controls, canaries and the report of the multimodal system: checks M7, M8, M10, M14 and M15 of its specification.

The expensive ones read a finished study (workflow/studies/multimodal.yaml): CLIPDR_MULTIMODAL names its results folder, else they run it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.multimodal_toy import ALL, TINY, built, pack
from helpers.paths import ROOT

from clipdr import DataError
from clipdr.multimodal import run as jobs
from clipdr.multimodal.evaluation import baselines, grading, leaky_protocol, score_run
from clipdr.multimodal.report import figures, page, tables
from clipdr.multimodal.settings import settings
from clipdr.report.page import sections

ONLY = dict.fromkeys(ALL, 0.0)
LEAKY = {
    "contrast": "fused",
    "inputs": "none",
    "lr": 2e-3,
    "tower_lr": 1e-3,
    "batch_size": 24,
    "losses": ONLY | {"it": 1.0},
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def results(packed, tmp_path_factory):
    """Results of an honest and of a leaky tiny model, by the jobs that the verbs call."""
    results = tmp_path_factory.mktemp("results")
    honest = settings(TINY | {"inputs": "history", "losses": ALL, "rerank": 5})
    for name, setting in {
        "multimodal": honest,
        "image_only": settings(TINY | {"inputs": "none", "losses": ONLY | {"grading": 1.0}}),
    }.items():
        folder = results / "models" / name / "0"
        jobs.train(folder, setting, 0, packed, "tiny", "cpu")
        score_run.classify(folder, packed, results, "SYNTHETIC", 50, "cpu")
    folder = results / "models" / "fused" / "0"
    jobs.train(folder, settings(TINY | LEAKY | {"epochs": 40}), 0, packed, "tiny", "cpu")
    score_run.retrieve(results / "models" / "multimodal" / "0", packed, 50, "cpu")
    score_run.retrieve(folder, packed, 50, "cpu")
    return results


def test_m7_honest_modes_pass_the_canaries(results, packed):
    rows = score_run.control(
        results / "models" / "multimodal" / "0", packed, results, "SYNTHETIC", 50, "cpu"
    )
    assert {(row["canary"], row["mode"]) for row in rows} == {
        ("K1", "dual"), ("K2", "dual"), ("K2", "rerank"), ("K3", "dual"), ("K4", "all"), ("K5", "all"),
    }  # fmt: skip
    assert all(row["passed"] for row in rows), rows
    missing = json.loads((results / "models" / "multimodal" / "0" / "missingness.json").read_text())
    assert set(missing) == {"icdr", "sdrg"} and 0 <= missing["icdr"]["auroc_any_retinopathy"] <= 1


def test_m7_the_leaky_protocol_fails_them_and_is_labelled_everywhere(results, packed):
    """It retrieves pairs that were wrong from the start, and noise; JSON, CSV, table and figure title say LEAKY."""
    folder = results / "models" / "fused" / "0"
    rows = score_run.control(folder, packed, results, "SYNTHETIC", 50, "cpu")
    assert {row["canary"]: row["passed"] for row in rows} == {
        "K1": False,
        "K2": False,
        "K3": False,
    }, rows
    for row in [
        *json.loads((folder / "leaky.json").read_text()),
        *pd.read_csv(folder / "leaky.csv").to_dict("records"),
    ]:
        assert row["leaky"] is True and row["status"] == "LEAKY"
    assert not (folder / "retrieval.csv").exists()
    leaky = page.read_rows([folder], "leaky.csv")
    assert all(row["status"] == "LEAKY" for row in tables.leaky_table(leaky))
    figure = figures.recall_figure([], leaky, True)
    assert "LEAKY" in figure.axes[1].get_title() and "LEAKY" not in figure.axes[0].get_title()
    with pytest.raises(DataError, match="refused by every mode but fused_paper"):
        score_run.classify(folder, packed, results, "SYNTHETIC", 10, "cpu")
    model, visits = built(packed)
    with pytest.raises(DataError, match="contrast: fused"):
        leaky_protocol.fused_vectors(model, visits["test"])


def test_m8_small_the_fused_protocol_retrieves_noise_and_two_towers_do_not():
    """The demonstration in small: fewer tokens, pairs and steps. The whole of it is the nightly test below."""
    small = {"steps": 150, "batch": 64, "pairs": 256, "lengths": {"image": 5, "text": 4}}
    fused, towers = (
        leaky_protocol.noise_demonstration(**small, fused=fused) for fused in (True, False)
    )
    assert fused["recall_1"] > 0.9 and fused["shuffled_recall_1"] > 0.9 and fused["leaky"]
    assert towers["recall_1"] < 0.03 and not towers["leaky"]


def test_m14_a_recall_without_its_ceiling_is_refused(results):
    rows = page.read_rows([results / "models" / "multimodal" / "0"], "retrieval.csv")
    assert {row["mode"] for row in rows} > {"dual", "rerank", "dual+row, in the query"} and len(
        tables.retrieval_table(rows)
    ) == len(rows)
    with pytest.raises(DataError, match="without its ceiling_5"):
        tables.retrieval_table(
            [{key: value for key, value in rows[0].items() if key != "ceiling_5"}]
        )
    with pytest.raises(DataError, match="is leaky"):
        tables.retrieval_table([rows[0] | {"leaky": True}])
    with pytest.raises(DataError, match="honest row"):
        tables.leaky_table(rows[:1])
    assert "CANARY FAILED" in tables.retrieval_table(rows[:1], {"multimodal"})[0]["model"]


def test_m14_a_claim_without_the_four_controls_is_refused(results, packed):
    score_run.control(
        results / "models" / "multimodal" / "0", packed, results, "SYNTHETIC", 50, "cpu"
    )
    draws = page.draws_of(results, "brset_icdr", "SYNTHETIC")
    said, rows = page.claim(draws, "multimodal")
    verdict = baselines.helps(
        {name.replace("multimodal_shuffled", "shuffled"): one for name, one in draws.items()}
    )["helps"]
    assert ("do NOT show" in said) != verdict and len(rows) == 5
    for name in ("image_only", "structured_gb", "missingness", "multimodal_shuffled_at_test"):
        with pytest.raises(DataError, match="needs all of"):
            page.claim({key: value for key, value in draws.items() if key != name}, "multimodal")


def test_the_rule_of_the_claim():
    """Helps only if it beats the photograph and the row, and shuffled rows lose the gain."""
    rng, place = np.random.default_rng(0), baselines.MEASURES.index("qwk")

    def draws(mean):
        made = np.zeros((len(baselines.MEASURES), 400))
        made[place] = mean + rng.normal(0, 0.01, 400)
        return made

    means = {
        "multimodal": 0.8,
        "image_only": 0.6,
        "structured_gb": 0.5,
        "missingness": 0.1,
        "shuffled_at_test": 0.55,
    }
    assert baselines.helps({name: draws(mean) for name, mean in means.items()})["helps"]
    for change in ({"image_only": 0.8}, {"structured_gb": 0.81}, {"shuffled_at_test": 0.75}):
        assert not baselines.helps({name: draws(mean) for name, mean in (means | change).items()})[
            "helps"
        ], change


def test_the_report_is_one_offline_file_that_says_what_it_is(results, packed):
    jobs.write_text(
        results / "noise.json",
        jobs.as_json(
            {
                "fused": leaky_protocol.noise_demonstration(2, 8, 20),
                "two_towers": leaky_protocol.noise_demonstration(1, 8, 20, fused=False),
            }
        ),
    )
    folders = [results / "models" / name / "0" for name in ("multimodal", "image_only", "fused")]
    page.write(folders, "SYNTHETIC", packed, results)
    text = (results / "report.html").read_text()
    for said in (
        "99.94",
        "LEAKY",
        "SYNTHETIC",
        "C_1 %",
        "null band",
        "missingness",
        "lookup",
        "K5",
        "data:image/jpeg",
        "not run",
    ):
        assert said in text, said
    assert "http://" not in text.replace("http://www.w3.org", "") and "<script" not in text
    for name in ("retrieval", "leaky", "icdr", "sdrg"):
        assert set(pd.read_csv(results / "tables" / f"multimodal_{name}.csv")["trained_on"]) == {
            "SYNTHETIC"
        }, name
    assert all(
        "SYNTHETIC" in (results / "figures" / f"multimodal_{name}.svg").read_text()
        for name in ("recall", "curves")
    )
    section = sections.read(results / "section.json")
    assert section.words[0].startswith("SYNTHETIC") and any(
        "99.94" in said for said in section.words
    )
    assert [view.caption.split(":")[0] for view in section.tables] == ["SYNTHETIC images"] * len(
        section.tables
    )
    heads = {head for view in section.tables for head in view.head}
    assert {"R@1 %", "C_1 %", "chance R@1 %", "honest ceiling C_1 % of these texts"} <= heads
    assert section.figures[0].alt == "recall of each mode beside its ceiling"
    page.write(folders, "SYNTHETIC", packed, results, photographs=False)
    assert "data:image/jpeg" not in (results / "report.html").read_text()


def test_predictions_are_the_common_file_of_two_protocols(results):
    for scale in ("icdr", "sdrg"):
        run = results / "runs" / f"brset_{scale}" / "multimodal" / "SYNTHETIC" / "0"
        assert {
            "settings.json",
            "scores.csv",
            "history.csv",
            "predictions.parquet",
            "model.safetensors",
        } <= {p.name for p in run.iterdir()}
    curves = pd.read_csv(results / "models" / "multimodal" / "0" / "curves.csv")
    assert set(curves["share"]) == {0, 0.25, 0.5, 0.75, 1} and set(curves["modality"]) == {"row"}
    with pytest.raises(DataError, match="no trained model"):
        jobs.load(results / "models" / "none" / "0", results, "grading")


def test_transfer_reads_no_row_and_tunes_nothing(results, packed):
    rows = score_run.transfer(results / "models" / "multimodal" / "0", packed, "tiny", 20, "cpu")
    assert {row["mode"] for row in rows} == {"dual", "rerank"} and all(
        row["ceiling_1"] >= row["recall_1"] for row in rows
    )
    assert (results / "models" / "multimodal" / "0" / "transfer_tiny.csv").is_file()


def test_balanced_accuracy_and_auroc_agree_with_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    rng = np.random.default_rng(1)
    grade, probability = rng.integers(0, 4, 60), rng.dirichlet(np.ones(5), 60)  # no grade 4
    found = {name: of(grade, probability)[0] for name, of in grading.FURTHER.items()}
    assert (
        abs(found["balanced_accuracy"] - balanced_accuracy_score(grade, probability.argmax(1)))
        < 1e-12
    )
    hand = np.mean([roc_auc_score(grade == g, probability[:, g]) for g in range(4)])
    assert abs(found["auroc"] - hand) < 1e-12


@pytest.mark.nightly
def test_m8_the_whole_noise_demonstration():
    """As specified: 1,627 unseen pairs, 600 and 300 steps (4 CPU minutes)."""
    fused, towers = (
        leaky_protocol.noise_demonstration(),
        leaky_protocol.noise_demonstration(steps=300, fused=False),
    )
    assert fused["recall_1"] > 0.9 and fused["shuffled_recall_1"] > 0.9
    assert towers["recall_1"] < 5 / 1627


@pytest.fixture(scope="session")
def study():
    """Results folder of the finished study."""
    if "CLIPDR_MULTIMODAL" in os.environ:
        return Path(os.environ["CLIPDR_MULTIMODAL"])
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "multimodal",
        "--cores",
        "2",
        "--configfile",
        "workflow/studies/multimodal.yaml",
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    return ROOT / "results" / "multimodal"


@pytest.mark.nightly
def test_m10_skill_on_synthetic_eyes(study):
    rows = {name: {} for name in ("retrieval", "clip", "permuted")}
    for name, found in rows.items():
        for row in page.read_rows([study / "models" / name / "0"], "retrieval.csv"):
            found[row["mode"], row["direction"]] = row
    dual = rows["retrieval"]["dual", "text_to_image"]
    assert (
        dual["n"] >= 200
        and dual["recall_1"] >= 20 * dual["chance_1"]
        and dual["recall_1"] < dual["ceiling_1"]
    )
    assert dual["recall_1_low"] <= dual["recall_1"] <= dual["recall_1_high"]
    assert ("dual", "text_to_image") in rows["clip"]
    for row in rows["permuted"].values():
        assert all(
            row[f"null_{k}_low"] - 1e-12 <= row[f"recall_{k}"] <= row[f"null_{k}_high"] + 1e-12
            for k in (1, 5, 10)
        ), row


@pytest.mark.nightly
def test_m15_history_helps_and_shuffled_rows_do_not(study):
    draws = page.draws_of(study, "brset_icdr", "SYNTHETIC")
    gain = baselines.difference(draws, "multimodal", "image_only")
    assert gain.low > 0
    for name in ("multimodal_shuffled_at_test", "shuffled_rows"):
        assert not baselines.difference(draws, name, "image_only").low > 0
    assert page.claim(draws, "multimodal")[0].startswith("multimodal: several modalities help")
