"""Training curves."""

import numpy as np
import pandas as pd
import pytest
from helpers.figure_cases import MANY

from clipdr import DataError
from clipdr.report.figures import (
    style,
    training,
)


def test_training_curves_ring_the_selected_checkpoint():
    history = pd.DataFrame(
        {
            "epoch": [1.0, 2.0],
            "loss": [2.0, 1.0],
            "val_loss": [1.5, 1.2],
            "val_auc": [0.7, 0.8],
            "selected": [False, True],
        }
    )
    histories = history.assign(method="erm", held_out="A")
    figure = training.plot(histories, ["linear_probe", "erm"], ["A"])
    assert [axis.get_title() for axis in figure.axes] == ["erm", "", ""]
    np.testing.assert_allclose(figure.axes[2].lines[0].get_ydata(), [70, 80])
    np.testing.assert_allclose(figure.axes[2].collections[0].get_offsets(), [[2, 80]])
    with pytest.raises(DataError, match="trains step by step"):
        training.plot(histories, ["linear_probe"], ["A"])


def test_training_curves_of_many_methods_fill_two_blocks():
    steps = {
        "epoch": [1.0, 2.0],
        "loss": [2.0, 1.0],
        "val_loss": [1.5, 1.2],
        "val_auc": [0.7, 0.8],
        "selected": [False, True],
    }
    histories = pd.concat(
        [pd.DataFrame(steps).assign(method=method, held_out="A") for method in MANY[:8]]
    )
    figure = training.plot(histories, MANY[:8], ["A"])
    assert figure.get_figwidth() <= 1.5 * style.WIDE
    titles = [axis.get_title() for axis in figure.axes if axis.get_visible() and axis.get_title()]
    assert titles == MANY[:8]
    assert len([axis for axis in figure.axes if axis.get_visible()]) == 24
    for axis in (
        axis
        for axis in figure.axes
        if axis.get_visible() and axis.get_ylabel() == "source validation AUC (%)"
    ):
        np.testing.assert_allclose(axis.lines[0].get_ydata(), [70, 80])
