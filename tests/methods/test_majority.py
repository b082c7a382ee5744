"""Majority: grade shares of the source training images."""

import numpy as np
import torch

from clipdr.evaluation import predictions as predictions_module
from clipdr.methods.base import Source
from clipdr.training.loop import predict


def test_majority_predicts_grade_shares_of_source_training_images(prepared_source):
    method, rows, _ = prepared_source("majority", frozen=True)
    rows["train"].grade[:15] = 2
    method.begin(Source(rows["train"], rows["val"], 2, 8))
    share = np.bincount(rows["train"].grade, minlength=5) / len(rows["train"])
    probability = predictions_module.probabilities(predict(method, rows["test"]))
    assert np.allclose(probability, share, atol=1e-6)
    assert (probability.argmax(1) == 2).all()
    assert method.parameter_groups() == {}
    rows["train"].grade[rows["train"].grade == 4] = 3
    method.begin(Source(rows["train"], rows["val"], 2, 8))
    assert torch.isfinite(method.log_share).all()
    assert method.log_share.softmax(0)[4] < 1e-30
