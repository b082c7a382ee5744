"""Multi-label metrics under resampling weights."""

import numpy as np
from sklearn import metrics as sk

from clipdr.pretrain.evaluation import (
    multilabel,
)


def test_metrics_with_weights_equal_scikit_learn():
    rng = np.random.default_rng(0)
    finding, score = (
        rng.integers(0, 2, (60, 3)),
        rng.integers(0, 9, (60, 3)).astype(float),
    )  # with ties
    weight = np.concatenate([np.ones((1, 60)), rng.integers(0, 4, (5, 60))])
    for name, reference in {
        "macro_auroc": sk.roc_auc_score,
        "macro_map": sk.average_precision_score,
    }.items():
        values, count = multilabel.macro(multilabel.METRICS[name], finding, score, weight)
        expected = [
            np.mean([reference(finding[:, c], score[:, c], sample_weight=row) for c in range(3)])
            for row in weight
        ]
        assert count == 3
        assert np.abs(values - expected).max() < 1e-12


def test_macro_leaves_out_and_counts_an_undefined_finding():
    finding, score = (
        np.array([[0, 1], [1, 1], [0, 1]]),
        np.array([[0.1, 0.5], [0.9, 0.5], [0.2, 0.5]]),
    )
    value, count = multilabel.macro(multilabel.METRICS["macro_auroc"], finding, score)
    assert value[0] == 1
    assert count == 1
    value, count = multilabel.macro(multilabel.METRICS["macro_map"], finding[:, 1:], score[:, 1:])
    assert np.isnan(value[0])
    assert count == 0
