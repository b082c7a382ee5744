"""Table: its JSON form, intervals in print, and the catalogue that places every table."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers.report_cases import DOMAINS, METHODS, averages, compared

from clipdr import DataError
from clipdr.evaluation.operating_point import MEASURES
from clipdr.report.page import layout
from clipdr.report.tables import catalog, table
from clipdr.report.tables.comparison import comparison
from clipdr.report.tables.table import CELL_COLUMNS, Table, interval_text
from clipdr.report.tables.writers import WRITERS, write


def example(name):
    """A table of the catalogue on known averages, with a missing and an undefined cell."""
    means = {"erm": (0.7, None), "ordinal_clip": (np.nan, 0.8), "clip_dr": (0.9, 0.85)}
    protocol = catalog.TABLES[name].protocol
    frame = averages(means, metrics=MEASURES, protocol=protocol)
    return catalog.TABLES[name](frame, METHODS, DOMAINS)


@pytest.mark.parametrize(
    "name", ["dg", "dg_auc", "dg_mae", "ablation", "selection", "dg_calibration"]
)
def test_json_restores_table_and_all_its_files(name):
    original = example(name)
    restored = Table.from_json(original.to_json())
    assert restored.to_json() == original.to_json()
    for suffix, writer in WRITERS.items():
        assert writer(restored) == writer(original), suffix


def test_json_of_comparison_restores_all_files():
    original = comparison(
        compared(), ["erm", "coop", "clip_dr"], DOMAINS, protocol="dg", metric="auc"
    )
    restored = Table.from_json(original.to_json())
    for suffix, writer in WRITERS.items():
        assert writer(restored) == writer(original), suffix


def test_json_holds_numbers_and_leaves_missing_keys_out():
    content = json.loads(example("dg_auc").to_json())
    assert list(content) == ["name", "protocol", "caption", "corner", "notes", "cells"]
    cell = content["cells"][0]
    assert {
        key: cell[key] for key in ("method", "column", "text", "decimals", "n", "clusters")
    } == {
        "method": "erm",
        "column": "SIM_APTOS",
        "text": "70.0 ± 1.2",
        "decimals": 1,
        "n": 100,
        "clusters": 50,
    }
    assert (cell["value"], cell["low"], cell["high"]) == pytest.approx((70, 65, 74))
    missing = next(one for one in content["cells"] if one["text"] == "X")
    assert not {"value", "low", "n", "mark"} & set(missing)
    assert "table" not in cell
    assert "caption" not in cell


def test_read_returns_written_table_or_none(tmp_path):
    write(example("dg_auc"), tmp_path)
    read = table.read(tmp_path / "dg_auc.json")
    assert read.to_json() == example("dg_auc").to_json()
    assert list(read.cells.columns) == CELL_COLUMNS
    assert table.read(tmp_path / "dg_mae.json") is None


@pytest.mark.parametrize("text", ["", "[]", '{"name": "x"}', '{"cells": 1, "notes": []}'])
def test_read_damaged_file_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "dg.json").write_text(text)
    with pytest.raises(DataError, match=r"dg\.json: .*Write the table again\.") as error:
        table.read(tmp_path / "dg.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("low", "high", "decimals", "sign", "text"),
    [
        (65, 74, 1, "", "65.0 to 74.0"),
        (-3, 1, 1, "+", "-3.0 to +1.0"),
        (-0.04, 0.04, 1, "", "0.0 to 0.0"),
        (0.1234, 0.5, 3, "", "0.123 to 0.500"),
        (np.nan, 1, 1, "", "n/a"),
    ],
)
def test_interval_text_has_its_decimals_and_sign(low, high, decimals, sign, text):
    assert interval_text(low, high, decimals, sign) == text


def test_every_table_states_a_section_of_the_report():
    assert {entry.section for entry in catalog.TABLES.values()} <= set(layout.SECTIONS)
    sections = {name: entry.section for name, entry in catalog.TABLES.items()}
    assert {
        name: sections[name] for name in ("dg", "ablation", "esdg_auc", "reproduction_auc")
    } == (dict.fromkeys(("dg", "ablation", "esdg_auc", "reproduction_auc"), "benchmark"))
    assert sections["dg_compare_auc"] == "comparisons"
    assert sections["dg_recall"] == "grades"
    assert sections["dg_referable"] == sections["dg_sensitivity"] == "referable"
    assert sections["dg_calibration"] == "calibration"
    assert sections["selection"] == "selection"


def test_unknown_table_is_refused():
    with pytest.raises(DataError, match="'dg_nothing' is unknown"):
        catalog.entry("dg_nothing")


def test_columns_that_are_absent_count_as_missing():
    cells = pd.DataFrame([{"method": "a", "column": "n", "text": "3", "mark": ""}])
    plain, complete = Table("x", cells, "Caption."), Table.of("x", cells, "Caption.")
    assert plain.to_json() == complete.to_json()
