"""Further metrics of grading, against scikit-learn."""

import numpy as np
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from clipdr.multimodal.evaluation import grading


def test_balanced_accuracy_and_auroc_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    grade, probability = rng.integers(0, 4, 60), rng.dirichlet(np.ones(5), 60)  # no grade 4
    values = {name: metric(grade, probability)[0] for name, metric in grading.FURTHER.items()}
    reference = balanced_accuracy_score(grade, probability.argmax(1))
    assert abs(values["balanced_accuracy"] - reference) < 1e-12
    reference = np.mean([roc_auc_score(grade == g, probability[:, g]) for g in range(4)])
    assert abs(values["auroc"] - reference) < 1e-12
