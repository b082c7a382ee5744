"""Linear probe: the choice of the strength, against scikit-learn."""

import numpy as np
import pytest
import torch

from clipdr import DataError
from clipdr.methods.base import Source


def test_choice_without_a_grade_in_validation_is_refused(prepared):
    for name in ("zero_shot", "linear_probe"):
        method, rows = prepared(name)
        rows["val"].grade[rows["val"].grade == 4] = 3
        with pytest.raises(DataError, match="undefined"):
            method.begin(Source(rows["train"], rows["val"], 2, 8))


def test_linear_probe_takes_strength_of_best_source_validation(prepared):
    method, rows = prepared("linear_probe", options={"strengths": [1e-6, 1.0, 100.0]})
    assert method.chosen["C"] in (1.0, 100.0)
    from sklearn.linear_model import LogisticRegression

    train, test = (next(rows[part].chunks(1000)) for part in ("train", "test"))
    unit = [
        torch.nn.functional.normalize(part.image, dim=1).double().numpy() for part in (train, test)
    ]
    reference = (
        LogisticRegression(C=method.chosen["C"], max_iter=1000)
        .fit(unit[0], train.grade)
        .predict_proba(unit[1])
    )
    assert np.abs(method(test.image).detach().softmax(1).numpy() - reference).max() < 1e-5
