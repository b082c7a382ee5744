"""Figure of paired differences."""

import pandas as pd
import pytest
from helpers.figure_cases import MANY
from helpers.report_cases import DOMAINS, compared

from clipdr import DataError
from clipdr.report.figures import (
    differences,
    style,
)
from clipdr.report.tables.notes import Remarks


def test_differences_plot_intervals_and_fill_significant_marks():
    figure = differences.plot(compared(), ["clip_dr", "coop", "erm"], DOMAINS)
    auc = figure.axes[0]
    assert "difference in AUC to clip_dr" in auc.get_xlabel()
    segments = [
        line.get_xdata()
        for line in auc.lines
        if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"
    ]
    assert [list(map(float, segment)) for segment in segments[:6]] == [[-3.0, 1.0]] * 6
    filled = [
        line.get_markerfacecolor() != "white"
        for line in auc.lines
        if line.get_marker() in ("o", "D")
    ]
    assert filled == [False] * 3 + [True] * 3  # coop, then erm
    title = (
        "SYNTHETIC images: method minus clip_dr, 95 % intervals, resampled by patients, "
        "n\u00a0=\u00a0100 images"
    )
    assert figure.get_suptitle() == title
    with pytest.raises(DataError, match="no comparison"):
        differences.plot(compared(), ["clip_dr"], DOMAINS)


def test_degenerate_method_is_named_in_the_title():
    figure = differences.plot(compared(), ["clip_dr", "coop", "erm"], DOMAINS)
    title = figure.get_suptitle()
    remarks = Remarks(
        {("erm", "SIM_IDRID"): "its first epoch, 50% of the budget, sees no grade"}, {}
    )
    style.add_caution(figure, remarks.caution(["clip_dr", "coop"], DOMAINS))
    assert figure.get_suptitle() == title
    style.add_caution(figure, remarks.caution(["clip_dr", "coop", "erm"], DOMAINS))
    assert (
        figure.get_suptitle()
        == f"{title}\nDegenerate here: erm (its first epoch, 50% of the budget, sees no grade)."
    )
    remarks = Remarks(
        {
            ("erm", "SIM_IDRID"): "one source",
            ("coop", "SIM_APTOS"): "one source",
            ("clip_dr", "SIM_IDRID"): "no grade",
        },
        {},
    )
    assert remarks.caution(["clip_dr", "coop", "erm"], DOMAINS) == [
        "Degenerate here: clip_dr (no grade); coop, erm (one source)."
    ]


def test_differences_of_many_methods_show_averages_and_fit_a_page():
    rows = compared()
    rows = pd.concat([rows[rows["method"] == "erm"].assign(method=method) for method in MANY])
    figure = differences.plot(rows, ["clip_dr", *MANY], ["SIM_APTOS", "SIM_IDRID"])
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == MANY
    assert "mean of 2 held-out domains" in " ".join(figure.get_suptitle().split())
    assert figure.get_figheight() < 10
