"""Clinical tables: recall per grade, referable DR, and calibration."""

from helpers.report_cases import DOMAINS, METHODS, averages, marks, texts

from clipdr.evaluation.operating_point import MEASURES
from clipdr.report.tables.clinical import TABLES
from clipdr.report.tables.writers import to_latex


def test_recall_and_referable_tables():
    frame = averages(metrics=MEASURES)
    recall = TABLES["dg_recall"](frame, METHODS, DOMAINS)
    assert list(dict.fromkeys(recall.cells["column"])) == ["0", "1", "2", "3", "4"]
    assert texts(recall, "3")["clip_dr"] == "87.5 ± 1.2"
    assert recall.caption.startswith("SYNTHETIC images: Recall per grade")
    referable = TABLES["dg_referable"](frame, METHODS, DOMAINS)
    assert set(referable.cells["metric"]) == {
        "referable_auc",
        "sensitivity",
        "specificity",
        "sensitivity_at_spec90",
    }
    assert marks(referable, "AUC")["clip_dr"] == "best"
    assert set(marks(referable, "Sensitivity").values()) == {""}
    for part in (
        "IDx-DR sensitivity 87.2 %",
        "EyeArt 96 %",
        "Oracle",
        "source validation set of the same run",
    ):
        assert part in " ".join(referable.notes)


def test_calibration_has_rows_before_and_after_temperature():
    frame = averages(metrics=MEASURES)
    frame.loc[frame["metric"].str.endswith("_t"), "mean"] -= 0.1
    table = TABLES["dg_calibration"](frame, METHODS, DOMAINS)
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
