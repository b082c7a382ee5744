"""Confusion matrices."""

import numpy as np
from helpers.figure_cases import predicted

from clipdr.report.figures import (
    confusion,
)


def test_confusion_counts_the_most_probable_grade():
    probability = np.eye(5)[[0, 0, 1, 2, 2, 4]]
    matrix = confusion.confusion(predicted("erm", "X", probability, [0, 1, 1, 2, 3, 4]))
    expected = np.zeros((5, 5), int)
    expected[[0, 1, 1, 2, 3, 4], [0, 0, 1, 2, 2, 4]] = 1
    np.testing.assert_array_equal(matrix, expected)
    figure = confusion.plot(
        predicted("erm", "X", probability, [0, 1, 1, 2, 2, 4]), ["erm"], ["IDRID"]
    )
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[5:7] == ["50", "50"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][3] == "3\nn=0"
    assert len(texts) == 20  # no image of grade 3: its row prints nothing, not 0 %
