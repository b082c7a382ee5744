"""Tables of the report about the study: paired comparisons and leakage."""

from helpers.report_cases import compared

from clipdr.report.page import study_tables
from clipdr.report.tables.notes import Remarks


def test_comparisons_name_degenerate_methods(tmp_path):

    compared().to_csv(tmp_path / "comparisons.csv", index=False)
    views = study_tables.comparisons(
        tmp_path / "comparisons.csv", "dg", Remarks({("erm", "SIM_IDRID"): "one source"}, {})
    )
    caution = "Degenerate here: erm (one source)."
    assert views[0].caption.startswith("Mean of the held-out domains: method minus clip_dr")
    assert [caution in view.notes for view in views] == [
        True,
        False,
        True,
    ]  # the mean, SIM_APTOS, SIM_IDRID


def test_fold_without_leakage_report_is_named(tmp_path):
    view = study_tables.folds(tmp_path, "dg", ["IDRID"])
    assert [cell.text for cell in view.body[0]] == ["IDRID", *["X"] * 6]
    assert view.notes == ["IDRID: leakage not checked (IDRID.json is missing; run `clipdr gate`)."]
