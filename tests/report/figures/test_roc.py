"""ROC curves of referable DR."""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from clipdr.report.figures import (
    roc,
)


def test_operating_point_lies_on_the_roc_curve():
    rng = np.random.default_rng(0)
    event, score = rng.random(60) < 0.4, rng.random(60).round(1)
    x, y, _ = roc_curve(event, score, drop_intermediate=False)
    np.testing.assert_allclose(roc.curve(event, score), np.stack([x, y], axis=1))
    rows = pd.DataFrame({"method": "erm", "held_out": "A", "grade": 2 * event, "q": score})
    reached = {
        "sensitivity": (score >= 0.5)[event].mean(),
        "specificity": (score < 0.5)[~event].mean(),
    }
    averages_ = pd.DataFrame(
        [
            {"method": "erm", "held_out": "A", "metric": name, "mean": value}
            for name, value in reached.items()
        ]
    )
    axis = roc.plot((rows, averages_), ["erm"], ["A"]).axes[0]
    curve, mark = axis.lines[0].get_xydata(), axis.lines[1].get_xydata()[0]
    assert np.abs(curve - mark).sum(axis=1).min() < 1e-9
    assert axis.get_title() == f"A\n60 images, {event.sum()} referable"


def test_roc_labels_the_lowest_panel_of_each_column():
    """Four domains in three columns: two columns end in the first row."""
    rows = pd.concat(
        [
            pd.DataFrame(
                {
                    "method": "erm",
                    "held_out": name,
                    "grade": [0, 2, 0, 4],
                    "q": [0.1, 0.9, 0.4, 0.3],
                }
            )
            for name in "ABCD"
        ]
    )
    reached = pd.DataFrame(
        {"method": "erm", "held_out": list("ABCD"), "metric": "sensitivity", "mean": 0.5}
    )
    panels = roc.plot((rows, reached), ["erm"], list("ABCD")).axes[:4]
    assert [bool(axis.get_xlabel()) for axis in panels] == [False, True, True, True]
    assert [axis.xaxis.get_tick_params()["labelbottom"] for axis in panels[1:]] == [True] * 3
