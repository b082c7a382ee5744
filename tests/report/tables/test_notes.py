"""Notes below tables: selection, seeds, intervals, and remarks read from run folders."""

import io
import json

import numpy as np
import pandas as pd
from helpers.report_cases import DOMAINS, METHODS, averages, texts

from clipdr.report.tables.benchmark import TABLES
from clipdr.report.tables.notes import Remarks, remarks
from clipdr.report.tables.writers import to_csv


def test_remarks_are_read_from_run_folders(tmp_path):
    for method, held_out, sampler, why in (
        ("fishr", "all_but_A", "domain", "one source"),
        ("erm", "all_but_A", "none", ""),
    ):
        run = tmp_path / "esdg" / method / held_out / "0"
        run.mkdir(parents=True)
        (run / "settings.json").write_text(json.dumps({"training": {"sampler": sampler}}))
        (run / "provenance.json").write_text(json.dumps({"degenerate": why}))
    assert remarks(sorted(tmp_path.glob("*/*/*/*"))) == Remarks(
        {("fishr", "all_but_A"): "one source"}, {"fishr": "domain"}
    )


def test_one_seed_shows_no_spread():
    table = TABLES["dg_auc"](averages(seeds=1), METHODS, DOMAINS)
    assert texts(table, "SIM_APTOS")["erm"] == "70.0"
    assert any(note.startswith("Seeds: 1; no spread") for note in table.notes)
    first = pd.read_csv(io.StringIO(to_csv(table))).iloc[0]
    assert (first["low"], first["high"], first["n_seeds"]) == (65.0, 74.0, 1)
    assert np.isnan(first["se"])


def test_notes_state_selection_unit_resamples_and_seeds():
    notes = " ".join(TABLES["dg"](averages(unit="image"), METHODS, DOMAINS).notes)
    for part in (
        "source_val",
        "2000 bootstrap resamples",
        "SIM_APTOS, SIM_IDRID by image: interval too narrow",
        "Seeds: 3; mean ± standard error",
    ):
        assert part in notes
    assert "too narrow" not in " ".join(TABLES["dg"](averages(), METHODS, DOMAINS).notes)
