"""Benchmark tables: order, marks, ties, missing and undefined cells, and what is refused."""

import io

import numpy as np
import pandas as pd
import pytest
from helpers.report_cases import (
    DOMAINS,
    MEANS,
    METHODS,
    assert_latex_is_sound,
    averages,
    marks,
    texts,
)

from clipdr import DataError
from clipdr.data import splits
from clipdr.data.domains import is_synthetic
from clipdr.data.protocols import HELD_OUT
from clipdr.report.labels import PROTOCOLS
from clipdr.report.tables.benchmark import TABLES, by_domain
from clipdr.report.tables.notes import Remarks
from clipdr.report.tables.writers import to_csv, to_latex, to_markdown


def test_catalogue_names_every_benchmark_table():
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


def test_mae_lowest_is_best_with_three_decimals():
    table = TABLES["dg_mae"](averages(), METHODS, DOMAINS)
    assert texts(table, "SIM_IDRID")["erm"] == "0.600 ± 0.012"
    assert marks(table, "SIM_IDRID") == {"erm": "best", "ordinal_clip": "second", "clip_dr": ""}
    assert "lower is better" in table.caption


def test_values_that_print_alike_are_marked_alike():
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


def test_missing_is_x_undefined_is_na_neither_ranked():
    table = TABLES["dg_auc"](
        averages({"erm": (0.7, None), "ordinal_clip": (np.nan, 0.8), "clip_dr": (0.9, 0.7)}),
        METHODS,
        DOMAINS,
    )
    assert texts(table, "SIM_IDRID")["erm"] == "X"
    assert texts(table, "Average")["erm"] == "X"
    assert texts(table, "SIM_APTOS")["ordinal_clip"] == "n/a"
    assert texts(table, "Average")["ordinal_clip"] == "n/a"
    assert marks(table, "SIM_APTOS") == {"erm": "second", "ordinal_clip": "", "clip_dr": "best"}
    assert set(marks(table, "Average").values()) == {""}
    assert "X: not run." in table.notes
    assert "n/a: undefined." in table.notes
    frame = pd.read_csv(io.StringIO(to_csv(table)), keep_default_na=False).set_index(
        ["method", "held_out"]
    )["value"]
    assert frame["erm", "SIM_IDRID"] == "X"
    assert frame["ordinal_clip", "SIM_APTOS"] == "n/a"
    assert frame["clip_dr", "SIM_APTOS"] == "90.0000"


def test_method_that_never_ran_is_a_row_of_x():
    table = TABLES["dg"](averages(), [*METHODS, "coop"], DOMAINS)
    assert set(table.cells.loc[table.cells["method"] == "coop", "text"]) == {"X"}


def test_average_over_fewer_domains_is_x():
    table = TABLES["dg"](averages(), METHODS, [*DOMAINS, "SIM_RLDR"])
    assert set(table.cells["text"]) == {"X"}


def test_average_over_more_domains_is_refused():
    with pytest.raises(DataError, match="averages also include SIM_IDRID"):
        TABLES["dg"](averages(), METHODS, ["SIM_APTOS"])


def test_degenerate_cell_is_marked_and_not_ranked():
    remarks = Remarks(
        {("clip_dr", "SIM_IDRID"): "one source, its penalty is 0"}, {"erm": "domain_class"}
    )
    table = TABLES["dg_auc"](averages(), METHODS, DOMAINS, remarks)
    assert texts(table, "SIM_IDRID")["clip_dr"] == "85.0 ± 1.2†"
    assert texts(table, "Average")["clip_dr"] == "87.5 ± 1.2†"
    assert texts(table, "SIM_APTOS")["clip_dr"] == "90.0 ± 1.2"
    assert marks(table, "SIM_IDRID") == {"erm": "second", "ordinal_clip": "best", "clip_dr": ""}
    assert marks(table, "SIM_APTOS")["clip_dr"] == "best"
    assert (
        "† clip_dr is degenerate here and not ranked (one source, its penalty is 0)." in table.notes
    )
    assert "Balanced batches: erm (by domain and class)." in table.notes
    assert_latex_is_sound(to_latex(table), 3, 4)
    frame = pd.read_csv(io.StringIO(to_csv(table)), keep_default_na=False).set_index(
        ["method", "held_out"]
    )["degenerate"]
    assert (
        frame["clip_dr", "SIM_IDRID"]
        == frame["clip_dr", "average"]
        == "one source, its penalty is 0"
    )
    assert frame["erm", "SIM_IDRID"] == ""


def test_swad_replaces_headline_and_is_named():
    rows = averages()
    rows.loc[rows["method"] == "erm", "selection"] = "swad"
    table = TABLES["dg_auc"](rows, METHODS, DOMAINS)
    assert texts(table, "SIM_APTOS")["erm"] == "70.0 ± 1.2"
    assert any(note.startswith("Selection: erm: swad (") for note in table.notes)
    assert any(
        note.startswith("Selection: ordinal_clip, clip_dr: source_val (") for note in table.notes
    )


def test_selection_sets_rules_side_by_side():
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
        "oracle (upper bound)",
        "oracle - source val",
    ]
    assert texts(table, "oracle - source val") == dict.fromkeys(METHODS, "+3.0")
    assert marks(table, "source val")["clip_dr"] == "best"
    assert set(marks(table, "oracle (upper bound)").values()) == {""}
    assert any("UPPER BOUND" in note for note in table.notes)
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
    assert table.name == "esdg_auc"
    assert texts(table, "IDRID")["erm"] == "60.0 ± 1.2"
    assert "trained on one domain, the column" in table.caption


def test_synthetic_domains_are_recognised_by_name():
    assert is_synthetic("SIM_RLDR")
    assert is_synthetic("all_but_SIM_RLDR")
    assert not is_synthetic("RLDR")
    assert not is_synthetic("all_but_RLDR")
    assert not is_synthetic("OUR_HOSPITAL")
