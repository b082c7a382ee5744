"""Reliability curves."""

import numpy as np
import pandas as pd
from helpers.figure_cases import predicted

from clipdr.evaluation.schema import PROBABILITIES
from clipdr.report.figures import (
    reliability,
)


def test_reliability_prints_the_ece_of_the_averages():
    probability = np.tile([0.4, 0.1, 0.1, 0.2, 0.2], (6, 1))
    rows = predicted("erm", "A", probability, [0, 0, 1, 2, 3, 4])
    rows = rows.assign(**{f"t{name}": rows[name] for name in PROBABILITIES})
    records = [
        {
            "held_out": "average",
            "method": "erm",
            "metric": f"ece_{k}{t}",
            "mean": 0.1 * k + (0.01 if t else 0),
        }
        for k in (1, 2, 3, 4)
        for t in ("", "_t")
    ]
    figure = reliability.plot((rows, pd.DataFrame(records)), ["erm"], ["A"])
    assert [axis.texts[0].get_text() for axis in figure.axes] == [
        f"ECE {10 * k}.0 → {10 * k + 1}.0" for k in (1, 2, 3, 4)
    ]
    x, y = figure.axes[0].collections[0].get_offsets()[0]
    np.testing.assert_allclose((x, y), (0.6, 4 / 6))
