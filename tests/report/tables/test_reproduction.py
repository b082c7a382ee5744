"""Reproduction tables: published values beside ours."""

import pytest
from helpers.report_cases import DOMAINS, METHODS, averages

from clipdr import DataError
from clipdr.report.tables.notes import Remarks
from clipdr.report.tables.reproduction import published, reproduction

SIX = ["APTOS", "DEEPDR", "FGADR", "IDRID", "MESSIDOR", "RLDR"]


def test_reproduction_sets_the_paper_beside_ours():
    frame = averages({"erm": (0.76,) * 6, "coop": (0.5,) * 6}, domains=SIX, unit="image")
    table = reproduction(frame, ["erm", "gdrnet", "coop"], SIX, protocol="dg", metric="auc")
    line = table.cells[table.cells["method"] == "erm, APTOS"].set_index("column")["text"].to_dict()
    assert line == {
        "Paper": "75.0",
        "Ours": "76.0 ± 1.2",
        "95 % interval": "71.0 to 80.0",
        "Ours - paper": "+1.0",
    }
    assert set(table.cells.loc[table.cells["method"] == "gdrnet, RLDR", "text"]) >= {"X"}
    notes = " ".join(table.notes)
    table = reproduction(
        frame,
        ["erm"],
        SIX,
        Remarks({("erm", "APTOS"): "one source"}, {}),
        protocol="dg",
        metric="auc",
    )
    ours = table.cells[table.cells["column"] == "Ours"].set_index("method")["text"]
    assert (ours["erm, APTOS"], ours["erm, RLDR"], ours["erm, average"]) == (
        "76.0 ± 1.2†",
        "76.0 ± 1.2",
        "76.0 ± 1.2†",
    )
    assert "† Degenerate here: erm (one source)." in table.notes
    assert "Che et al." in notes
    assert "No published value under this protocol: coop" in notes
    assert "by image, interval too narrow" in notes
    with pytest.raises(DataError, match="Leave the table out"):
        reproduction(averages(), METHODS, DOMAINS, protocol="dg", metric="auc")


def test_published_averages_are_means_or_noted():
    facts = published()
    assert not facts.duplicated(["protocol", "method", "held_out", "metric"]).any()
    assert (facts["source"] != "").all()
    for _, part in facts.groupby(["method", "metric"]):
        cells = part[part["held_out"] != "average"]
        printed = part[part["held_out"] == "average"].iloc[0]
        if len(cells):
            assert len(cells) == 6
            assert (
                abs(cells["value"].mean() - printed["value"]) < 0.15
                or "error of the source" in printed["note"]
            )
