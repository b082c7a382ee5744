"""Tables of the multimodal report: what must stand together, and where leaky rows may stand."""

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
