"""Tables of the multimodal report: what must stand together, and where leaky rows may stand."""

import json

import numpy as np
import pytest

from clipdr import DataError
from clipdr.multimodal.report import content, figures, tables


def test_recall_without_its_upper_bound_is_refused(results):
    rows = content.read_rows([results / "models" / "multimodal" / "0"], "retrieval.csv")
    assert {row["mode"] for row in rows} > {"dual", "rerank", "dual+row, in the query"}
    assert len(tables.retrieval_table(rows)) == len(rows)
    incomplete = {key: value for key, value in rows[0].items() if key != "ceiling_5"}
    with pytest.raises(DataError, match="without its ceiling_5"):
        tables.retrieval_table([incomplete])


def test_leaky_row_in_the_main_table_is_refused(results):
    rows = content.read_rows([results / "models" / "multimodal" / "0"], "retrieval.csv")
    with pytest.raises(DataError, match="is leaky"):
        tables.retrieval_table([rows[0] | {"leaky": True}])
    with pytest.raises(DataError, match="not leaky"):
        tables.leaky_table(rows[:1])


def test_model_that_fails_a_sanity_check_is_marked(results):
    rows = content.read_rows([results / "models" / "multimodal" / "0"], "retrieval.csv")
    assert "SANITY CHECK FAILED" in tables.retrieval_table(rows[:1], {"multimodal"})[0]["model"]


def test_leaky_rows_are_labelled_in_table_and_figure(results):
    leaky = content.read_rows([results / "models" / "fused" / "0"], "leaky.csv")
    assert all(row["status"] == "LEAKY" for row in tables.leaky_table(leaky))
    figure = figures.recall_figure([], leaky, True)
    assert "LEAKY" in figure.axes[1].get_title()
    assert "LEAKY" not in figure.axes[0].get_title()


def test_measure_prints_its_interval_in_brackets():
    assert str(tables.percent(0.5, low=0.25, high=0.75)) == "50.0 (25.0 to 75.0)"
    assert str(tables.percent(0.5)) == "50.0"
    assert str(tables.percent(0.5, low=np.nan, high=np.nan)) == "50.0 (no interval)"
    assert tables.percent(None).text == "n/a"


def test_table_holds_numbers_and_intervals():
    rows = [{"method": "a", "qwk %": tables.percent(0.5, low=0.25, high=0.75), "eyes": 21}]
    table = tables.as_table("icdr", rows, ("method",), "Method", "Caption.", synthetic=True)
    cells = json.loads(table.to_json())["cells"]
    assert cells[0] | {"value": 50.0, "low": 25.0, "high": 75.0, "text": "50.0"} == cells[0]
    assert cells[1] | {"value": 21.0, "text": "21"} == cells[1]
    assert table.caption == "SYNTHETIC images: Caption."


def test_table_numbers_equal_rows_and_notes_missing_intervals():
    row = {"method": "a", "qwk %": tables.percent(0.5, low=np.nan, high=np.nan)}
    table = tables.as_table("icdr", [row, row], ("method",), "Method", "Caption.", synthetic=False)
    assert [name for name, _ in table.rows()] == ["a", "a (2)"]
    assert table.notes == (tables.NO_INTERVAL,)
