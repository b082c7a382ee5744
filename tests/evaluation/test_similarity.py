"""Similarity matrices, their mean and their order."""

import numpy as np
import pandas as pd
from helpers.figure_cases import A, B, similarity_run
from helpers.report_cases import DOMAINS

from clipdr.evaluation.similarity import (
    falling_rows,
    matrices,
    mean,
    similarity_matrix,
    wrong_order,
)


def test_similarity_matrix_is_the_mean_cosine_of_selected_test_images():
    np.testing.assert_allclose(
        similarity_matrix(similarity_run("clip_dr", "SIM_APTOS", A)), A, atol=1e-6
    )


def test_similarity_matrix_of_an_absent_grade_is_undefined():
    predictions = similarity_run("clip_dr", "SIM_APTOS", A)
    matrix = similarity_matrix(predictions[predictions["grade"] != 3])
    assert np.isnan(matrix[3]).all()
    assert not np.isnan(np.delete(matrix, 3, axis=0)).any()
    both = mean(
        matrices(
            [predictions[predictions["grade"] != 3], similarity_run("clip_dr", "SIM_IDRID", B)],
            ["clip_dr"],
            DOMAINS,
        )["clip_dr"]
    )
    assert np.isnan(both[3]).all()
    assert not np.isnan(np.delete(both, 3, axis=0)).any()
    assert falling_rows(matrix) == (4, 4)
    assert wrong_order(matrix) == (0, 16)


def test_wrong_order_counts_pairs_out_of_twenty():
    assert wrong_order(A) == (0, 20)
    assert wrong_order(-A) == (20, 20)
    assert wrong_order(np.zeros((5, 5))) == (20, 20)  # equal is not falling
    swapped = A.copy()
    swapped[0, [3, 4]] = swapped[0, [4, 3]]
    assert wrong_order(swapped) == (1, 20)
    constant = np.tile(
        [0.1, 0.2, 0.3, 0.2, 0.1], (5, 1)
    )  # right for grade 2; one or two pairs wrong on the way in the other rows
    assert wrong_order(constant) == (2 + 1 + 0 + 1 + 2, 20)
    assert falling_rows(constant) == (1, 5)
    assert falling_rows(A) == (5, 5)
    assert falling_rows(swapped) == (4, 5)


def test_mean_over_domains_is_unweighted_and_of_the_lowest_seed():
    many = pd.concat([similarity_run("clip_dr", "SIM_IDRID", B)] * 7)
    runs = [
        similarity_run("clip_dr", "SIM_APTOS", 9 * A, seed=2),
        similarity_run("clip_dr", "SIM_APTOS", A, seed=1),
        many,
        similarity_run("erm", "SIM_APTOS", A, scale=np.nan),
    ]
    by_method = matrices(runs, ["erm", "clip_dr"], DOMAINS)
    assert list(by_method) == ["clip_dr"]
    assert list(by_method["clip_dr"]) == DOMAINS
    np.testing.assert_allclose(mean(by_method["clip_dr"]), (A + B) / 2, atol=1e-6)
