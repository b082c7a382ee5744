"""Seven images with grades and probabilities whose metrics are worked out by hand."""

import numpy as np

GRADE = np.array([0, 1, 2, 3, 4, 2, 0])
PROBABILITY = np.array(
    [
        [0.60, 0.20, 0.10, 0.05, 0.05],
        [0.35, 0.30, 0.25, 0.05, 0.05],
        [0.10, 0.30, 0.40, 0.15, 0.05],
        [0.05, 0.10, 0.45, 0.25, 0.15],
        [0.05, 0.05, 0.30, 0.20, 0.40],
        [0.20, 0.40, 0.20, 0.10, 0.10],
        [0.30, 0.40, 0.20, 0.05, 0.05],
    ]
)
