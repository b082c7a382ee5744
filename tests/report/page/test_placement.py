"""Placement: every table and figure states its section; names place nothing."""

import pytest

from clipdr import DataError
from clipdr.report.figures import catalog
from clipdr.report.page import layout, placement


def test_every_figure_states_a_section_of_the_report():
    sections = {name: placement.figure_section(name) for name in catalog.FIGURES}
    assert set(sections.values()) <= set(layout.SECTIONS)
    assert sections["roc"] == "referable"
    assert sections["reliability"] == "calibration"
    assert sections["differences"] == "comparisons"
    assert sections["cam"] == "maps"


def test_names_are_grouped_by_section_in_order():
    groups = placement.by_section(
        ["dg_auc", "selection", "dg", "dg_referable"], placement.table_section
    )
    assert list(groups) == list(layout.SECTIONS)
    assert groups["benchmark"] == ["dg_auc", "dg"]
    assert groups["selection"] == ["selection"]
    assert groups["referable"] == ["dg_referable"]
    assert groups["calibration"] == []


def test_unknown_names_are_refused():
    for section_of in (placement.table_section, placement.figure_section):
        with pytest.raises(DataError, match="nothing"):
            placement.by_section(["nothing"], section_of)


def test_requested_sections_are_those_of_the_catalogues():
    requested = placement.requested_sections()
    assert requested <= set(layout.SECTIONS)
    assert {"benchmark", "comparisons", "similarity", "training"} <= requested
    assert not {"data", "environment", "tripod"} & requested


def test_sections_have_their_titles():
    assert layout.SECTIONS["selection"].title == "Model selection"
    assert layout.SECTIONS["leaks"].title == "Leakage"
