"""Figure of scores by held-out domain."""

import numpy as np
import pandas as pd
import pytest
from helpers.report_cases import DOMAINS, averages

from clipdr import DataError
from clipdr.report.figures import (
    scores_by_domain,
)


def test_scores_by_domain_plots_means_and_intervals():
    frame = averages({"erm": (0.7, None), "clip_dr": (0.9, np.nan)})
    figure = scores_by_domain.plot(frame, ["erm", "clip_dr"], DOMAINS)
    auc, qwk = figure.axes
    assert (auc.get_ylabel(), qwk.get_ylabel()) == ("AUC (%)", "QWK (%)")
    assert [text.get_text().replace("\n", "") for text in qwk.get_xticklabels()] == [
        *DOMAINS,
        "average",
    ]
    erm, clip_dr = auc.containers
    np.testing.assert_allclose(erm.lines[0].get_ydata(), [70])
    np.testing.assert_allclose(clip_dr.lines[0].get_ydata(), [90, np.nan, np.nan])
    np.testing.assert_allclose(erm.lines[2][0].get_segments()[0][:, 1], [65, 74])
    assert erm.lines[0].get_color() != clip_dr.lines[0].get_color()
    assert erm.lines[0].get_marker() != clip_dr.lines[0].get_marker()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["erm", "clip_dr"]
    assert figure.get_suptitle().startswith("SYNTHETIC images")
    assert qwk.get_xlabel() == ""


def test_scores_by_domain_marks_intervals_by_image():
    figure = scores_by_domain.plot(
        averages({"erm": (0.7, 0.6)}, ["A", "B"], unit="image"), ["erm"], ["A", "B"]
    )
    assert [text.get_text() for text in figure.axes[-1].get_xticklabels()] == [
        "A*",
        "B*",
        "average*",
    ]
    assert "too narrow" in figure.axes[-1].get_xlabel()
    assert "SYNTHETIC" not in figure.get_suptitle()


def test_scores_by_domain_of_two_protocols_are_refused():
    with pytest.raises(DataError, match="several protocols"):
        scores_by_domain.plot(pd.concat([averages(), averages(protocol="esdg")]), ["erm"], DOMAINS)
