"""HTML tables beside each other in one page: the style of one holds for that table alone."""

import re

import pandas as pd
import pytest
from helpers.chromium import Browser, found

from clipdr.report.tables.table import CSV_COLUMNS, Table
from clipdr.report.tables.writers import scoped, to_html

PLAIN = "<table id='plain' style='border-collapse: collapse'><tr id='row'><td id='cell'>1</td></tr></table><p id='text'>words</p>"
LOOKS = (
    "border-top-style",
    "background-color",
    "font-family",
    "padding-top",
    "margin-top",
    "text-align",
)


def table(name):
    cells = [
        {
            "column": "AUC",
            "text": "90.0",
            "method": "erm",
            "mark": "best",
            "value": 90.0,
            "low": 85.0,
            "high": 94.0,
        }
    ]
    frame = pd.DataFrame(cells, columns=["column", "text", *CSV_COLUMNS]).assign(
        table=name, caption="AUC (%)."
    )
    return Table(name, frame, "AUC (%).", ("Seeds: 1.",))


def test_every_selector_is_below_the_table():
    css = re.search("<style>(.*?)</style>", to_html(table("dg_auc")), re.S)[1]
    selectors = [
        one.strip() for heads in re.findall(r"([^{}]+)\{", css) for one in heads.split(",")
    ]
    assert len(selectors) > 50 and all(re.match(r"#table-dg_auc[ .]", one) for one in selectors)


def test_what_is_scoped_already_stays_and_rules_keep_their_bodies():
    assert scoped("#a td, th { color: red; }\n tr{x: 1,2}", "#a").split("\n")[1:] == [
        "#a td, #a th { color: red; }",
        "#a tr {x: 1,2}",
    ]


@pytest.mark.skipif(
    found() is None, reason="no Chromium: apt-get install chromium, or name one in CLIPDR_CHROMIUM"
)
def test_two_tables_restyle_neither_each_other_nor_the_page(tmp_path):
    """Computed styles of a plain table, and of the first great table, with and without a second one beside them."""
    style = "<style>tr { background-color: rgb(1, 2, 3); } td { border: 1px solid; padding: 7px; } p { margin: 9px; }</style>"
    looks = f"(one) => {{ const style = getComputedStyle(one); return {list(LOOKS)}.map((name) => style.getPropertyValue(name)); }}"
    plain, first = [], []
    with Browser() as browser:
        for one, two in (
            ("", ""),
            (to_html(table("one")), ""),
            (to_html(table("one")), to_html(table("two"))),
        ):
            path = tmp_path / "page.html"
            path.write_text(
                f"<!DOCTYPE html><html><head>{style}</head><body>{one}{PLAIN}{two}</body></html>"
            )
            browser.open(path)
            plain.append(
                browser.js(f"[...document.querySelectorAll('#row, #cell, #text')].map({looks})")
            )
            first.append(browser.js(f"[...document.querySelectorAll('#table-one *')].map({looks})"))
    assert plain[0] == plain[1] == plain[2]
    assert (
        plain[0][0][1] == "rgb(1, 2, 3)" and plain[0][1][0] == "solid" and plain[0][1][3] == "7px"
    )
    assert first[0] == [] and len(first[1]) > 5 and first[1] == first[2]
