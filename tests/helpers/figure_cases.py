"""Predictions with known similarity matrices and probabilities, for the tests of figures."""

import numpy as np
import pandas as pd

from clipdr.evaluation.schema import PROBABILITIES


def similarity_run(method, held_out, matrix, scale=50.0, seed=0):
    """Return predictions of one run in which grade g has two test images.

    Their cosines are matrix[g] +- 0.01. Rows of the split val and of the rule `last` are decoys.
    """
    rows = []
    for g, cosines in enumerate(matrix):
        for split, selection, shift in (
            ("test", "source_val", 0.01),
            ("test", "source_val", -0.01),
            ("val", "source_val", 9),
            ("test", "last", 9),
        ):
            row = {
                "method": method,
                "held_out": held_out,
                "seed": seed,
                "selection": selection,
                "split": split,
                "grade": g,
                "scale": scale,
            }
            cosine = np.asarray(cosines) + shift
            rows.append(
                row
                | {
                    f"logit_{k}": np.float32((scale if scale == scale else 1) * cosine[k])
                    for k in range(5)
                }
            )
    return pd.DataFrame(rows)


def ordered(peak, step):
    """Return cosines that fall by step for each grade away from the truth."""
    return peak - step * np.abs(np.arange(5)[:, None] - np.arange(5)[None, :])


A, B = ordered(0.3, 0.02), ordered(0.2, 0.01)


def predicted(method, held_out, probability, grade):
    """Return test rows of one run as the figures read them."""
    frame = pd.DataFrame(np.asarray(probability, float), columns=PROBABILITIES)
    return frame.assign(
        method=method, held_out=held_out, selection="source_val", split="test", grade=grade
    )


MANY = [f"method_{number:02d}" for number in range(26)]
