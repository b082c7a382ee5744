"""Retrieval of a trained run: above chance for true pairs, at chance for permuted ones."""

import json

import numpy as np
import pandas as pd
from helpers import patients as cohort

from clipdr.evaluation.retrieval import null_band, similarity
from clipdr.pretrain import run
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.evaluation import (
    retrieval,
)
from clipdr.pretrain.settings import rules


def test_retrieval_of_held_out_patients_exceeds_the_null_band(trained):
    """Recall at 5 is above the null band, and recall at 1 at most its upper bound."""
    data, folder, table = trained
    model, settings = run.load(folder)
    test = table[table["split"] != "train"].reset_index(drop=True)
    embedded = run.embed(model, test, data, settings)
    rows = pd.DataFrame(
        retrieval.score_levels(
            embedded.image,
            embedded.text,
            embedded.member,
            embedded.content,
            patients_table.patients(test),
        )
    )
    assert len(rows) == 6
    assert set(rows["level"]) == {"left", "right", "patient"}
    assert (rows["recall_5"] > rows["null_5_high"]).all()
    assert (rows["recall_1"] <= rows["ceiling_1"] + 1e-9).all()


def test_report_retrieves_its_patient_twenty_times_above_chance(tmp_path):
    """200 held-out patients with 64 different reports: 20 times chance is a recall of 10 %.

    The upper bound of recall at 1 is 32 %.
    """
    splits = ["train"] * 320 + ["val"] * 40 + ["test"] * 200
    path = cohort.make(tmp_path, patients=560, names=tuple(cohort.PLACES), splits=splits)
    run.train(
        tmp_path / "run",
        path,
        tmp_path,
        rules("small", cohort.TINY | {"epochs": 12, "batch_size": 32}),
    )
    model, settings = run.load(tmp_path / "run")
    table = patients_table.read(path)
    test = table[table["split"] == "test"].reset_index(drop=True)
    embedded = run.embed(model, test, tmp_path, settings)
    rows = retrieval.score_levels(
        embedded.image,
        embedded.text,
        embedded.member,
        embedded.content,
        patients_table.patients(test),
    )
    row = next(
        row for row in rows if row["level"] == "patient" and row["direction"] == "text_to_image"
    )
    print(
        {key: round(row[key], 4) for key in ("n", "recall_1", "ceiling_1", "chance_1", "skill_1")}
    )
    assert row["n"] == 200
    assert row["recall_1"] >= 20 * row["chance_1"]
    assert row["ceiling_1"] > 0.25


def test_retrieval_with_permuted_test_reports_is_at_chance(trained):
    """Recall of a randomly paired table lies inside the null band."""
    data, folder, table = trained
    model, settings = run.load(folder)
    embedded, patient = run.embed(model, table, data, settings), patients_table.patients(table)
    rows = retrieval.score_levels(
        embedded.image, embedded.text, embedded.member, embedded.content, patient, permute=5
    )
    assert all(
        row[f"null_{k}_low"] <= row[f"recall_{k}"] <= row[f"null_{k}_high"]
        for row in rows
        for k in (1, 5, 10)
    )


def test_retrieval_after_training_on_permuted_reports_is_at_chance(tmp_path):
    """True test pairs of a model trained on permuted reports lie inside the null band."""
    path = cohort.make(tmp_path, patients=60)
    run.train(
        tmp_path / "run",
        path,
        tmp_path,
        rules("small", cohort.TINY | {"permute": True, "epochs": 10}),
    )
    model, settings = run.load(tmp_path / "run")
    table = patients_table.read(path)
    test = table[table["split"] != "train"].reset_index(drop=True)
    embedded = run.embed(model, test, tmp_path, settings)
    for row in retrieval.score_levels(
        embedded.image,
        embedded.text,
        embedded.member,
        embedded.content,
        patients_table.patients(test),
    ):
        assert all(
            row[f"null_{k}_low"] <= row[f"recall_{k}"] <= row[f"null_{k}_high"] for k in (1, 5, 10)
        )


def test_examples_name_pairs_with_their_ranks(trained, tmp_path):
    data, folder, table = trained
    model, settings = run.load(folder)
    embedded = run.embed(model, table, data, settings)
    chosen = retrieval.choose_examples(embedded.image[2], embedded.text[2], table)
    retrieval.write_examples(tmp_path / "examples.json", chosen, data)
    examples = json.loads((tmp_path / "examples.json").read_text())["examples"]
    assert len(examples) == 12
    assert all(len(row["found"]) == 3 and row["rank"] >= 1 for row in examples)
    assert any(answer["true"] for row in examples for answer in row["found"])


def test_null_band_contains_chance():
    rng = np.random.default_rng(0)
    score = similarity(rng.normal(size=(40, 8)), rng.normal(size=(40, 8)))
    low, high = null_band(score, np.arange(40))[0][0]
    assert low <= 1 / 40 <= high
