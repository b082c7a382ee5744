"""Views of tables: cells with intervals, numbers to sort by, and the row of image counts."""

import numpy as np
from helpers.report_cases import DOMAINS, METHODS, averages, compared

from clipdr.report.tables.benchmark import TABLES
from clipdr.report.tables.comparison import comparison
from clipdr.report.tables.table import Table
from clipdr.report.tables.views import NO_INTERVAL, Cell, cell, of_table


def test_cells_have_texts_intervals_marks_and_numbers():
    view = of_table(TABLES["dg_auc"](averages(), METHODS, DOMAINS))
    assert view.head == ["Method", "SIM_APTOS", "SIM_IDRID", "Average"]
    assert [row[0].text for row in view.body] == METHODS
    assert view.body[2][1] == Cell("90.0 ± 1.2", "85.0 to 94.0", "best", 90.0)
    assert view.numeric == [False, True, True, True]


def test_interval_has_the_decimals_of_its_metric():
    view = of_table(TABLES["dg_mae"](averages(), METHODS, DOMAINS))
    assert view.body[0][1].small == "0.650 to 0.740"


def test_missing_and_undefined_cells_hold_no_number():
    means = {"erm": (0.7, None), "clip_dr": (np.nan, 0.85)}
    view = of_table(TABLES["dg_auc"](averages(means), ["erm", "clip_dr"], DOMAINS))
    assert view.body[0][2] == Cell("X")
    assert view.body[1][1] == Cell("n/a")


def test_image_counts_are_the_last_row():
    view = of_table(TABLES["dg_auc"](averages(), METHODS, DOMAINS))
    assert view.foot == [[Cell("Images", "resampled by"), *[Cell("100", "50 patients")] * 3]]
    view = of_table(TABLES["dg_auc"](averages(unit="image"), METHODS, DOMAINS))
    assert view.foot[0][1] == Cell("100", "image: too narrow")


def test_score_without_interval_is_noted():
    frame = averages()
    assert NO_INTERVAL not in of_table(TABLES["dg_auc"](frame, METHODS, DOMAINS)).notes
    frame.loc[frame["method"] == "erm", ["low", "high"]] = np.nan
    assert NO_INTERVAL in of_table(TABLES["dg_auc"](frame, METHODS, DOMAINS)).notes


def test_columns_without_intervals_need_no_note():
    """Neither p values and printed intervals nor the column of an ablation have one."""
    table = comparison(compared(), ["erm", "coop", "clip_dr"], DOMAINS, protocol="dg", metric="auc")
    assert NO_INTERVAL not in of_table(table).notes
    table = TABLES["ablation"](averages(), METHODS, DOMAINS)
    assert NO_INTERVAL not in of_table(table).notes


def test_interval_column_is_sorted_by_its_lower_end():
    table = comparison(compared(), ["erm", "coop", "clip_dr"], DOMAINS, protocol="dg", metric="auc")
    assert of_table(table).body[0][2] == Cell("-3.0 to +1.0", number=-3.0)


def test_cell_never_prints_a_negative_zero():
    assert cell(-0.001, 1).text == "0.0"
    assert cell(1234.5, 1, "+").text == "+1,234.5"
    assert cell(float("nan")) == Cell("n/a")


def test_table_of_plain_cells_has_no_counts():
    table = Table.of("x", [{"method": "a", "column": "b", "text": "3", "value": 3.0}], "Caption.")
    assert of_table(table).foot == []
    assert of_table(table).body == [[Cell("a"), Cell("3", number=3.0)]]
