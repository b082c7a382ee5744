"""Tables: marks, ties, missing and undefined cells, the SYNTHETIC caption, and text that must stay text in Excel and LaTeX."""

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from helpers.report_cases import DOMAINS, MEANS, METHODS, averages, compared

from clipdr import DataError
from clipdr.data import splits
from clipdr.data.domains import is_synthetic
from clipdr.data.protocols import HELD_OUT
from clipdr.evaluation.operating_point import MEASURES
from clipdr.report.labels import PROTOCOLS
from clipdr.report.page import run_tables
from clipdr.report.page.views import printed_table
from clipdr.report.tables.benchmark import TABLES, Remarks, by_domain, remarks
from clipdr.report.tables.clinical import TABLES as CLINICAL
from clipdr.report.tables.comparison import comparison
from clipdr.report.tables.reproduction import published, reproduction
from clipdr.report.tables.writers import to_csv, to_html, to_latex, to_markdown, write


def texts(table, column):
    return table.cells[table.cells["column"] == column].set_index("method")["text"].to_dict()


def marks(table, column):
    return table.cells[table.cells["column"] == column].set_index("method")["mark"].to_dict()


def test_names():
    protocols = ("dg", "esdg", "lodo_crossval", "within")
    by_metric = (
        "",
        "_auc",
        "_accuracy",
        "_macro_f1",
        "_qwk",
        "_mae",
        "_sensitivity",
        "_specificity",
    )
    of_protocols = [f"{protocol}{metric}" for protocol in protocols for metric in by_metric]
    assert list(TABLES) == [*of_protocols, "ablation", "selection", "esdg_targets"]
    assert set(PROTOCOLS) == set(splits.PROTOCOLS) == set(HELD_OUT)


def test_domains_by_methods_in_the_order_asked_for():
    table = TABLES["dg_auc"](averages(), METHODS[::-1], DOMAINS[::-1])
    assert list(dict.fromkeys(table.cells["column"])) == ["SIM_IDRID", "SIM_APTOS", "Average"]
    assert list(dict.fromkeys(table.cells["method"])) == METHODS[::-1]
    assert texts(table, "SIM_APTOS") == {
        "clip_dr": "90.0 ± 1.2",
        "ordinal_clip": "80.0 ± 1.2",
        "erm": "70.0 ± 1.2",
    }
    assert texts(table, "Average")["ordinal_clip"] == "77.5 ± 1.2"
    assert marks(table, "Average") == {"clip_dr": "best", "ordinal_clip": "second", "erm": ""}


def test_headline_has_the_four_metrics():
    table = TABLES["dg"](averages(), METHODS, DOMAINS)
    assert list(dict.fromkeys(table.cells["column"])) == ["AUC", "ACC", "F1", "QWK"]
    assert set(table.cells["held_out"]) == {"average"}
    assert texts(table, "QWK")["erm"] == "65.0 ± 1.2"


def test_lowest_mae_is_best_in_grades_with_three_decimals():
    table = TABLES["dg_mae"](averages(), METHODS, DOMAINS)
    assert texts(table, "SIM_IDRID")["erm"] == "0.600 ± 0.012"
    assert marks(table, "SIM_IDRID") == {"erm": "best", "ordinal_clip": "second", "clip_dr": ""}
    assert "lower is better" in table.caption


def test_what_prints_alike_is_marked_alike():
    table = TABLES["dg_auc"](
        averages({"erm": (0.90004, 0.5), "ordinal_clip": (0.89996, 0.4), "clip_dr": (0.8, 0.4)}),
        METHODS,
        DOMAINS,
    )
    assert marks(table, "SIM_APTOS") == {"erm": "best", "ordinal_clip": "best", "clip_dr": "second"}
    assert marks(table, "SIM_IDRID") == {
        "erm": "best",
        "ordinal_clip": "second",
        "clip_dr": "second",
    }


def test_one_method_alone_is_not_the_best():
    assert set(TABLES["dg_auc"](averages({"erm": (0.9, 0.8)}), ["erm"], DOMAINS).cells["mark"]) == {
        ""
    }


def test_missing_is_x_and_undefined_is_na_and_neither_is_ranked():
    table = TABLES["dg_auc"](
        averages({"erm": (0.7, None), "ordinal_clip": (np.nan, 0.8), "clip_dr": (0.9, 0.7)}),
        METHODS,
        DOMAINS,
    )
    assert texts(table, "SIM_IDRID")["erm"] == "X" and texts(table, "Average")["erm"] == "X"
    assert (
        texts(table, "SIM_APTOS")["ordinal_clip"] == "n/a"
        and texts(table, "Average")["ordinal_clip"] == "n/a"
    )
    assert marks(table, "SIM_APTOS") == {"erm": "second", "ordinal_clip": "", "clip_dr": "best"}
    assert set(marks(table, "Average").values()) == {""}
    assert "X: not run." in table.notes and "n/a: undefined." in table.notes
    frame = pd.read_csv(io.StringIO(to_csv(table)), keep_default_na=False).set_index(
        ["method", "held_out"]
    )["value"]
    assert (
        frame["erm", "SIM_IDRID"] == "X"
        and frame["ordinal_clip", "SIM_APTOS"] == "n/a"
        and frame["clip_dr", "SIM_APTOS"] == "90.0000"
    )


def test_a_method_that_never_ran_is_a_row_of_x():
    table = TABLES["dg"](averages(), [*METHODS, "coop"], DOMAINS)
    assert set(table.cells.loc[table.cells["method"] == "coop", "text"]) == {"X"}


def test_an_average_over_fewer_domains_than_the_table_is_x():
    table = TABLES["dg"](averages(), METHODS, [*DOMAINS, "SIM_RLDR"])
    assert set(table.cells["text"]) == {"X"}


def test_an_average_over_more_domains_than_the_table_is_refused():
    with pytest.raises(DataError, match="SIM_IDRID too"):
        TABLES["dg"](averages(), METHODS, ["SIM_APTOS"])


def test_a_degenerate_cell_is_marked_with_its_reason_and_not_ranked():
    said = Remarks(
        {("clip_dr", "SIM_IDRID"): "one source, its penalty is 0"}, {"erm": "domain_class"}
    )
    table = TABLES["dg_auc"](averages(), METHODS, DOMAINS, said)
    assert (
        texts(table, "SIM_IDRID")["clip_dr"] == "85.0 ± 1.2†"
        and texts(table, "Average")["clip_dr"] == "87.5 ± 1.2†"
    )
    assert texts(table, "SIM_APTOS")["clip_dr"] == "90.0 ± 1.2"
    assert marks(table, "SIM_IDRID") == {"erm": "second", "ordinal_clip": "best", "clip_dr": ""}
    assert marks(table, "SIM_APTOS")["clip_dr"] == "best"
    assert "† clip_dr, not itself here and not ranked: one source, its penalty is 0." in table.notes
    assert "Balanced batches: erm (by domain and class)." in table.notes
    assert_latex_is_sound(to_latex(table), 3, 4)
    frame = pd.read_csv(io.StringIO(to_csv(table)), keep_default_na=False).set_index(
        ["method", "held_out"]
    )["degenerate"]
    assert (
        frame["clip_dr", "SIM_IDRID"]
        == frame["clip_dr", "average"]
        == "one source, its penalty is 0"
        and frame["erm", "SIM_IDRID"] == ""
    )


def test_remarks_are_read_from_run_folders(tmp_path):
    for method, held_out, sampler, why in (
        ("fishr", "all_but_A", "domain", "one source"),
        ("erm", "all_but_A", "none", ""),
    ):
        run = tmp_path / "esdg" / method / held_out / "0"
        run.mkdir(parents=True)
        (run / "settings.json").write_text(json.dumps({"training": {"sampler": sampler}}))
        (run / "provenance.json").write_text(json.dumps({"degenerate": why}))
    said = remarks(sorted(tmp_path.glob("*/*/*/*")))
    assert said == Remarks({("fishr", "all_but_A"): "one source"}, {"fishr": "domain"})


def test_swad_stands_in_the_headlines_place_and_is_named():
    rows = averages()
    rows.loc[rows["method"] == "erm", "selection"] = "swad"
    table = TABLES["dg_auc"](rows, METHODS, DOMAINS)
    assert texts(table, "SIM_APTOS")["erm"] == "70.0 ± 1.2"
    assert any(note.startswith("Selection: erm: swad (") for note in table.notes)
    assert any(
        note.startswith("Selection: ordinal_clip, clip_dr: source_val (") for note in table.notes
    )


def test_selection_puts_the_rules_side_by_side_and_marks_the_oracle():
    better = {method: tuple(value + 0.03 for value in values) for method, values in MEANS.items()}
    rows = pd.concat(
        [
            averages(),
            averages().assign(selection="last"),
            averages(better).assign(selection="oracle"),
        ]
    )
    table = TABLES["selection"](rows, METHODS, DOMAINS)
    assert list(dict.fromkeys(table.cells["column"])) == [
        "source val",
        "last",
        "oracle (cheats)",
        "oracle - source val",
    ]
    assert texts(table, "oracle - source val") == dict.fromkeys(METHODS, "+3.0")
    assert marks(table, "source val")["clip_dr"] == "best" and set(
        marks(table, "oracle (cheats)").values()
    ) == {""}
    assert any("CHEATING" in note for note in table.notes)
    assert list(dict.fromkeys(table.cells["method"])) == METHODS
    for writer in (to_csv, to_markdown, to_latex):
        assert "oracle" in writer(table)
    without = TABLES["selection"](rows[rows["selection"] != "oracle"], METHODS, DOMAINS)
    assert list(dict.fromkeys(without.cells["column"])) == ["source val", "last"]


def test_ablation_has_the_difference_to_the_first_row():
    table = TABLES["ablation"](averages(), ["clip_dr", "ordinal_clip", "erm"], DOMAINS)
    assert texts(table, "Δ AUC") == {"clip_dr": "+0.0", "ordinal_clip": "-10.0", "erm": "-22.5"}
    assert list(dict.fromkeys(table.cells["column"])) == ["AUC", "ACC", "F1", "QWK", "Δ AUC"]
    missing = TABLES["ablation"](averages({"clip_dr": (0.9, 0.8)}), ["clip_dr", "erm"], DOMAINS)
    assert texts(missing, "Δ AUC") == {"clip_dr": "+0.0", "erm": "X"}
    assert_latex_is_sound(to_latex(table), 3, 6)


def test_several_selections_are_refused():
    both = pd.concat([averages(), averages().assign(selection="last")])
    with pytest.raises(DataError, match="several selections"):
        TABLES["dg"](both, METHODS, DOMAINS)


def test_other_protocols_are_left_out():
    both = pd.concat(
        [averages(protocol="esdg", domains=["all_but_APTOS", "all_but_IDRID"]), averages()]
    )
    assert texts(TABLES["dg_auc"](both, METHODS, DOMAINS), "SIM_APTOS")["erm"] == "70.0 ± 1.2"
    table = by_domain(
        both, METHODS, ["all_but_APTOS", "all_but_IDRID"], protocol="esdg", metric="auc"
    )
    assert table.name == "esdg_auc" and texts(table, "IDRID")["erm"] == "60.0 ± 1.2"
    assert "trained on one domain, the column" in table.caption


def test_one_seed_shows_no_spread_and_says_so():
    table = TABLES["dg_auc"](averages(seeds=1), METHODS, DOMAINS)
    assert texts(table, "SIM_APTOS")["erm"] == "70.0"
    assert any(note.startswith("Seeds: 1; no spread") for note in table.notes)
    first = pd.read_csv(io.StringIO(to_csv(table))).iloc[0]
    assert (first["low"], first["high"], first["n_seeds"]) == (65.0, 74.0, 1) and np.isnan(
        first["se"]
    )


def test_notes_say_selection_unit_resamples_and_seeds():
    notes = " ".join(TABLES["dg"](averages(unit="image"), METHODS, DOMAINS).notes)
    for part in (
        "source_val",
        "2000 bootstrap resamples",
        "SIM_APTOS, SIM_IDRID by image: interval too narrow",
        "Seeds: 3; mean ± standard error",
    ):
        assert part in notes
    assert "too narrow" not in " ".join(TABLES["dg"](averages(), METHODS, DOMAINS).notes)


@pytest.mark.parametrize("name", TABLES)
def test_synthetic_stands_first_in_every_format(name):
    protocol = TABLES[name].keywords["protocol"]
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
        "SYNTHETIC" in writer(real) for writer in (to_csv, to_markdown, to_latex, to_html)
    )


def test_synthetic_names():
    assert is_synthetic("SIM_RLDR") and is_synthetic("all_but_SIM_RLDR")
    assert (
        not is_synthetic("RLDR")
        and not is_synthetic("all_but_RLDR")
        and not is_synthetic("OUR_HOSPITAL")
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
    assert "'=cmd|'/C calc'!A0" in set(frame["method"]) and "'=1+1" in set(frame["held_out"])
    assert (frame.loc[frame["held_out"] == "'@B", "value"] == "-20.0000").all()


def assert_latex_is_sound(text, rows, columns):
    """Balanced braces and environments, the same number of cells in every row, no bare special character, only known commands."""
    plain = re.sub(r"\\[\\&%$#_{}]", "", text)
    depth = 0
    for c in plain:
        depth += (c == "{") - (c == "}")
        assert depth >= 0
    assert depth == 0
    assert (
        re.findall(r"\\begin\{(\w+)\}", text)
        == re.findall(r"\\end\{(\w+)\}", text)[::-1]
        == ["table", "tabular"]
    )
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(lines) == rows + 1
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}
    assert not re.search(r"[#%^~<>±]", plain), "bare special character"
    assert "_" not in plain.replace(r"\label{tab:dg_auc}", "")
    assert plain.count("$") % 2 == 0
    allowed = "begin end centering caption label scriptsize setlength tabcolsep toprule midrule bottomrule textbf underline pm par smallskip"
    allowed += " dag Delta parbox linewidth textbackslash textasciitilde textasciicircum textless textgreater"
    assert set(re.findall(r"\\([A-Za-z]+)", text)) <= set(allowed.split())


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


def test_write_leaves_four_equal_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in ("a", "b"):
        write(TABLES["dg"](averages(), METHODS, DOMAINS), tmp_path / folder)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "dg.csv",
        "dg.html",
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
    assert (
        not page.elements & {"script", "img", "svg", "b", "a", "iframe", "object", "link"}
        and not page.active
    )
    shown = {text.strip() for text in page.texts}
    assert {name.strip() for name in hostile} <= shown  # as written, escaped once
    assert "<b>A</b>" in shown


def test_html_marks_the_best_and_tells_intervals():
    text = to_html(TABLES["dg_auc"](averages(), METHODS, DOMAINS))
    assert (
        '<span style="font-weight:bold" title="95 % interval 85.00 to 94.00">90.0 ± 1.2</span>'
        in text
    )
    assert "http" not in text.replace("http://www.w3.org", "")


def test_recall_and_referable_tables():
    frame = averages(metrics=MEASURES)
    recall = CLINICAL["dg_recall"](frame, METHODS, DOMAINS)
    assert list(dict.fromkeys(recall.cells["column"])) == ["0", "1", "2", "3", "4"]
    assert texts(recall, "3")["clip_dr"] == "87.5 ± 1.2" and recall.caption.startswith(
        "SYNTHETIC images: Recall per grade"
    )
    referable = CLINICAL["dg_referable"](frame, METHODS, DOMAINS)
    assert set(referable.cells["metric"]) == {
        "referable_auc",
        "sensitivity",
        "specificity",
        "sensitivity_at_spec90",
    }
    assert marks(referable, "AUC")["clip_dr"] == "best" and set(
        marks(referable, "Sensitivity").values()
    ) == {""}
    for part in (
        "IDx-DR sensitivity 87.2 %",
        "EyeArt 96 %",
        "Oracle",
        "source validation set of the same run",
    ):
        assert part in " ".join(referable.notes)


def test_calibration_has_a_row_before_and_one_after_the_temperature():
    frame = averages(metrics=MEASURES)
    frame.loc[frame["metric"].str.endswith("_t"), "mean"] -= 0.1
    table = CLINICAL["dg_calibration"](frame, METHODS, DOMAINS)
    assert list(dict.fromkeys(table.cells["method"])) == [
        name for method in METHODS for name in (method, f"{method} (T)")
    ]
    assert len(set(table.cells["column"])) == 9
    assert (texts(table, "ECE ≥2")["erm"], texts(table, "ECE ≥2")["erm (T)"]) == (
        "65.0 ± 1.2",
        "55.0 ± 1.2",
    )
    assert marks(table, "RPS")["erm (T)"] == "best"  # lower is better
    assert r"ECE $\geq$2" in to_latex(table)


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
    assert table.name == "dg_compare_auc" and list(dict.fromkeys(table.cells["method"])) == [
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
    said = Remarks({("erm", "SIM_IDRID"): "one source, its penalty is 0"}, {})
    table = comparison(rows, ["coop", "erm", "clip_dr"], DOMAINS, said, protocol="dg", metric="auc")
    of = {name: list(part["text"]) for name, part in table.cells.groupby("method")}
    assert (of["erm"][0], of["coop"][0]) == ("-2.0†", "-2.0")
    assert "† Not itself here: erm (one source, its penalty is 0)." in table.notes
    assert set(table.cells.loc[table.cells["method"] == "erm", "degenerate"]) == {
        "one source, its penalty is 0"
    }
    write(table, tmp_path)
    assert (
        printed_table(tmp_path, "dg_compare_auc").body[1][1].small == "-3.0 to 1.0"
    )  # as many decimals as the value, with its dagger
    with pytest.raises(DataError, match="no average of qwk"):
        comparison(rows[rows["metric"] == "auc"], METHODS, DOMAINS, protocol="dg", metric="qwk")


def test_comparisons_of_the_page_say_which_method_is_not_itself(tmp_path):

    compared().to_csv(tmp_path / "comparisons.csv", index=False)
    views = run_tables.comparisons(
        tmp_path / "comparisons.csv", "dg", Remarks({("erm", "SIM_IDRID"): "one source"}, {})
    )
    caution = "Not itself here: erm (one source)."
    assert views[0].caption.startswith("Mean of the held-out domains: method minus clip_dr")
    assert [caution in view.notes for view in views] == [
        True,
        False,
        True,
    ]  # the mean, SIM_APTOS, SIM_IDRID


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
    assert "† Not itself here: erm (one source)." in table.notes
    assert (
        "Che et al." in notes
        and "No published value under this protocol: coop" in notes
        and "by image, interval too narrow" in notes
    )
    with pytest.raises(DataError, match="leave the table out"):
        reproduction(averages(), METHODS, DOMAINS, protocol="dg", metric="auc")


def test_published_averages_are_the_means_of_their_cells_or_say_so():
    facts = published()
    assert (
        not facts.duplicated(["protocol", "method", "held_out", "metric"]).any()
        and (facts["source"] != "").all()
    )
    for _, part in facts.groupby(["method", "metric"]):
        cells = part[part["held_out"] != "average"]
        printed = part[part["held_out"] == "average"].iloc[0]
        if len(cells):
            assert len(cells) == 6
            assert (
                abs(cells["value"].mean() - printed["value"]) < 0.15
                or "error of the source" in printed["note"]
            )
