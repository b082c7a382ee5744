"""Tables of the paired comparison: differences, intervals, both p, and degenerate methods."""

import io

import numpy as np
import pandas as pd
import pytest
from helpers.report_cases import DOMAINS, METHODS, compared

from clipdr import DataError
from clipdr.report.tables import table as table_module
from clipdr.report.tables import views
from clipdr.report.tables.comparison import comparison
from clipdr.report.tables.notes import Remarks
from clipdr.report.tables.writers import to_csv, write


def test_comparison_prints_difference_interval_and_both_p(tmp_path):

    rows = compared()
    rows.loc[(rows["method"] == "coop"), ["low", "high", "p", "p_holm"]] = np.nan
    table = comparison(
        rows.assign(unit="mixed"),
        ["coop", "erm", "erm_lvt", "clip_dr"],
        DOMAINS,
        protocol="dg",
        metric="auc",
    )
    assert table.name == "dg_compare_auc"
    assert list(dict.fromkeys(table.cells["method"])) == [
        "coop",
        "erm",
        "erm_lvt",
    ]
    of = {name: list(part["text"]) for name, part in table.cells.groupby("method")}
    assert of == {
        "coop": ["-2.0", "n/a", "n/a", "n/a"],
        "erm": ["-2.0", "-3.0 to +1.0", "0.004", "0.010"],
        "erm_lvt": ["X"] * 4,
    }
    notes = " ".join(table.notes)
    for part in (
        "in part by image: too narrow",
        "these 3 methods",
        "X: not run",
        "over 5 % of the resamples lack a grade",
    ):
        assert part in notes
    csv = pd.read_csv(io.StringIO(to_csv(table)), keep_default_na=False)
    assert list(csv.loc[csv["method"] == "erm", "value"]) == ["-2.0000", "", "0.0040", "0.0100"]
    remarks = Remarks({("erm", "SIM_IDRID"): "one source, its penalty is 0"}, {})
    table = comparison(
        rows, ["coop", "erm", "clip_dr"], DOMAINS, remarks, protocol="dg", metric="auc"
    )
    of = {name: list(part["text"]) for name, part in table.cells.groupby("method")}
    assert (of["erm"][0], of["coop"][0]) == ("-2.0†", "-2.0")
    assert "† Degenerate here: erm (one source, its penalty is 0)." in table.notes
    assert set(table.cells.loc[table.cells["method"] == "erm", "degenerate"]) == {
        "one source, its penalty is 0"
    }
    write(table, tmp_path)
    assert (
        views.of_table(table_module.read(tmp_path / "dg_compare_auc.json")).body[1][1].small
        == "-3.0 to 1.0"
    )  # as many decimals as the value, with its dagger
    with pytest.raises(DataError, match="no average of qwk"):
        comparison(rows[rows["metric"] == "auc"], METHODS, DOMAINS, protocol="dg", metric="qwk")
