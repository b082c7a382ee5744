"""Writers of tables: SYNTHETIC in every format, text that stays text in every format."""

import io
import re
from html import unescape
from html.parser import HTMLParser

import pandas as pd
import pytest
from helpers.report_cases import DOMAINS, METHODS, assert_latex_is_sound, averages

from clipdr.evaluation.operating_point import MEASURES
from clipdr.report.tables.benchmark import TABLES
from clipdr.report.tables.writers import to_csv, to_html, to_json, to_latex, to_markdown, write


@pytest.mark.parametrize("name", TABLES)
def test_synthetic_is_first_in_every_format(name):
    protocol = TABLES[name].protocol
    table = TABLES[name](averages(metrics=MEASURES, protocol=protocol), METHODS, DOMAINS)
    assert table.caption.startswith("SYNTHETIC images:")
    assert "SYNTHETIC images:" in to_html(table)
    assert to_markdown(table).startswith("**SYNTHETIC images:")
    assert r"\caption{SYNTHETIC images:" in to_latex(table)
    assert (
        pd.read_csv(io.StringIO(to_csv(table)))["caption"].str.startswith("SYNTHETIC images:").all()
    )
    mixed = TABLES[name](
        averages(metrics=MEASURES, domains=["SIM_APTOS", "APTOS"], protocol=protocol),
        METHODS,
        ["SIM_APTOS", "APTOS"],
    )
    assert mixed.caption.startswith("SYNTHETIC images:")
    real = TABLES[name](
        averages(metrics=MEASURES, domains=["IDRID", "APTOS"], protocol=protocol),
        METHODS,
        ["IDRID", "APTOS"],
    )
    assert not any(
        "SYNTHETIC" in writer(real) for writer in (to_csv, to_markdown, to_latex, to_html, to_json)
    )


HOSTILE = [
    "=cmd|'/C calc'!A0",
    "+1",
    "-1+2",
    "@SUM(A1)",
    "\t=1",
    r"\input{/etc/passwd}",
    "a_b & c%d #1 ${x}^~",
    "<script>alert(1)</script>",
    "a|b",
]


def test_no_cell_of_the_csv_is_a_formula():
    table = TABLES["dg_auc"](
        averages(dict.fromkeys(HOSTILE, (0.7, -0.2)), domains=["=1+1", "@B"]),
        HOSTILE,
        ["=1+1", "@B"],
    )
    frame = pd.read_csv(io.StringIO(to_csv(table)), dtype=str, keep_default_na=False)
    for column in frame:
        for text in frame[column]:
            assert not re.match(r"[=+\-@\t\r]", text) or re.fullmatch(r"-?\d+\.\d+", text), (
                column,
                text,
            )
    assert "'=cmd|'/C calc'!A0" in set(frame["method"])
    assert "'=1+1" in set(frame["held_out"])
    assert (frame.loc[frame["held_out"] == "'@B", "value"] == "-20.0000").all()


def test_latex_is_sound_whatever_the_names():
    table = TABLES["dg_auc"](
        averages(dict.fromkeys(HOSTILE, (0.7, -0.2)), domains=["A_B", "C&D"]),
        HOSTILE,
        ["A_B", "C&D"],
    )
    text = to_latex(table)
    assert_latex_is_sound(text, len(HOSTILE), 4)
    assert r"\textbackslash{}input\{/etc/passwd\}" in text
    assert r"$-$20.0 $\pm$ 1.2" in text
    ranked = to_latex(TABLES["dg_auc"](averages(), METHODS, DOMAINS))
    assert_latex_is_sound(ranked, 3, 4)
    assert (
        r"clip\_dr & \textbf{90.0 $\pm$ 1.2} & \textbf{85.0 $\pm$ 1.2} & \textbf{87.5 $\pm$ 1.2} \\"
        in ranked
    )
    assert r"\underline{80.0 $\pm$ 1.2}" in ranked


def test_markdown_is_a_table_whatever_the_names():
    text = to_markdown(
        TABLES["dg_auc"](averages(dict.fromkeys(HOSTILE, (0.7, 0.6))), HOSTILE, DOMAINS)
    )
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == len(HOSTILE) + 2
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {5}
    assert "<script>" not in re.sub(r"\\<", "", text)
    ranked = to_markdown(TABLES["dg_auc"](averages(), METHODS, DOMAINS))
    assert "| clip\\_dr | **90.0 ± 1.2** | **85.0 ± 1.2** | **87.5 ± 1.2** |" in ranked
    assert "<u>80.0 ± 1.2</u>" in ranked


def test_write_leaves_five_equal_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in ("a", "b"):
        write(TABLES["dg"](averages(), METHODS, DOMAINS), tmp_path / folder)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "dg.csv",
        "dg.html",
        "dg.json",
        "dg.md",
        "dg.tex",
    ]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


class Reader(HTMLParser):
    """Elements of a page, texts of its cells, and attributes that could run or load something."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.active = set(), [""], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.texts.append("")
        self.active += [
            pair for pair in attrs if pair[0].startswith("on") or pair[0] in ("src", "href")
        ]

    def handle_data(self, data):
        self.texts[-1] += data

    def handle_endtag(self, tag):
        self.texts.append("")


def test_no_cell_of_the_html_is_markup():
    hostile = [
        *HOSTILE,
        "<img src=x onerror=alert(1)>",
        "javascript:alert(1)",
        "&lt;b&gt;",
        '"><svg onload=alert(1)>',
    ]
    frame = averages(dict.fromkeys(hostile, (0.7, -0.2)), domains=["<b>A</b>", "=1+1"])
    page = Reader(to_html(TABLES["dg_auc"](frame, hostile, ["<b>A</b>", "=1+1"])))
    assert not page.elements & {"script", "img", "svg", "b", "a", "iframe", "object", "link"}
    assert not page.active
    texts = {text.strip() for text in page.texts}
    assert {name.strip() for name in hostile} <= texts  # as written, escaped once
    assert "<b>A</b>" in texts


def test_html_marks_best_and_shows_intervals():
    text = to_html(TABLES["dg_auc"](averages(), METHODS, DOMAINS))
    assert '<span class="best">90.0 ± 1.2</span><small>85.0 to 94.0</small>' in text
    assert '<span class="second">80.0 ± 1.2</span>' in text
    assert not re.search("https?:", text)


def test_html_has_its_own_style_and_runs_nothing():
    text = to_html(TABLES["dg_auc"](averages(), METHODS, DOMAINS))
    assert text.startswith("<!DOCTYPE html>")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert policy in unescape(text)
    assert text.count("<style>") == 1
    assert "<script" not in text
    assert "<title>dg_auc</title>" in text
