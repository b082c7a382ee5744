"""Tables of runs with leakage are marked everywhere."""

import json

import numpy as np
import pandas as pd

from clipdr.report.tables import notes, writers
from clipdr.report.tables import table as table_module


def test_tables_of_leaky_runs_are_marked_in_every_format(tmp_path):
    cells = pd.DataFrame(
        {column: [""] for column in ["column", "text", *table_module.CSV_COLUMNS]}
        | {"method": ["erm"], "column": ["IDRID"], "text": ["50.0"]}
    )
    for column in (
        "value",
        "se",
        "low",
        "high",
        "n_seeds",
        "n",
        "clusters",
        "resamples",
        "undefined",
    ):
        cells[column] = np.nan
    table = table_module.Table(
        "dg_auc", cells.assign(caption="AUC."), "AUC.", ("Seeds: 1.",), protocol="dg"
    )
    runs = [tmp_path / "runs" / "dg" / "erm" / domain / "0" for domain in ("IDRID", "APTOS")]
    (tmp_path / "gate" / "dg").mkdir(parents=True)
    (tmp_path / "gate" / "dg" / "IDRID.json").write_text(
        json.dumps({"verdict": "3 pairs (3 near)"})
    )
    verdicts = notes.leakage_verdicts(tmp_path, runs)
    assert verdicts == {"IDRID": "3 pairs (3 near)", "APTOS": None}
    assert notes.leakage_verdicts(tmp_path, []) == {}
    writers.write(notes.with_leakage(table, verdicts), tmp_path)
    for suffix in (".csv", ".md", ".tex"):
        assert "LEAKY: AUC." in (tmp_path / f"dg_auc{suffix}").read_text()
    for suffix in (".md", ".tex"):
        assert "IDRID: 3 pairs (3 near)" in (tmp_path / f"dg_auc{suffix}").read_text()
        assert "not checked: APTOS" in (tmp_path / f"dg_auc{suffix}").read_text()
    assert notes.with_leakage(table, {"IDRID": "", "APTOS": ""}).caption == "AUC."
