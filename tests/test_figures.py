"""Figures: the numbers in the axes are the hand-computed ones, what is missing stays missing, equal numbers give equal bytes."""

import numpy as np
import pandas as pd
import pytest
from test_tables import averages

from clipdr import DataError
from clipdr.figures import FIGURES, READS, mean_similarity, scores_by_domain, similarity, similarity_matrix, write, wrong_order

DOMAINS = ["SIM_APTOS", "SIM_IDRID"]


def run(method, held_out, matrix, scale=50.0, seed=0):
    """Predictions of one run in which grade g has two test images, with cosines matrix[g] +- 0.01; a decoy in val and under `last`."""
    rows = []
    for g, cosines in enumerate(matrix):
        for split, selection, shift in (
            ("test", "source_val", 0.01),
            ("test", "source_val", -0.01),
            ("val", "source_val", 9),
            ("test", "last", 9),
        ):
            row = {"method": method, "held_out": held_out, "seed": seed, "selection": selection, "split": split, "grade": g, "scale": scale}
            cosine = np.asarray(cosines) + shift
            rows.append(row | {f"logit_{k}": np.float32((scale if scale == scale else 1) * cosine[k]) for k in range(5)})
    return pd.DataFrame(rows)


def ordered(peak, step):
    """Cosines that fall by step for each grade away from the truth."""
    return peak - step * np.abs(np.arange(5)[:, None] - np.arange(5)[None, :])


A, B = ordered(0.3, 0.02), ordered(0.2, 0.01)


def test_matrix_is_the_mean_cosine_of_the_selected_test_images():
    np.testing.assert_allclose(similarity_matrix(run("clip_dr", "SIM_APTOS", A)), A, atol=1e-6)


def test_a_grade_without_images_stays_undefined():
    predictions = run("clip_dr", "SIM_APTOS", A)
    matrix = similarity_matrix(predictions[predictions["grade"] != 3])
    assert np.isnan(matrix[3]).all() and not np.isnan(np.delete(matrix, 3, axis=0)).any()
    mean = mean_similarity([predictions[predictions["grade"] != 3], run("clip_dr", "SIM_IDRID", B)], ["clip_dr"], DOMAINS)["clip_dr"]
    assert np.isnan(mean[3]).all() and not np.isnan(np.delete(mean, 3, axis=0)).any()
    assert wrong_order(matrix) == (0, 16)


def test_wrong_order_counts_pairs_out_of_twenty():
    assert wrong_order(A) == (0, 20)
    assert wrong_order(-A) == (20, 20)
    assert wrong_order(np.zeros((5, 5))) == (20, 20)  # equal is not falling
    swapped = A.copy()
    swapped[0, [3, 4]] = swapped[0, [4, 3]]
    assert wrong_order(swapped) == (1, 20)
    constant = np.tile([0.1, 0.2, 0.3, 0.2, 0.1], (5, 1))  # right for grade 2; one or two pairs wrong on the way in the other rows
    assert wrong_order(constant) == (2 + 1 + 0 + 1 + 2, 20)


def test_mean_over_domains_is_unweighted_and_of_the_lowest_seed():
    many = pd.concat([run("clip_dr", "SIM_IDRID", B)] * 7)
    runs = [
        run("clip_dr", "SIM_APTOS", 9 * A, seed=2),
        run("clip_dr", "SIM_APTOS", A, seed=1),
        many,
        run("erm", "SIM_APTOS", A, scale=np.nan),
    ]
    means = mean_similarity(runs, ["erm", "clip_dr"], DOMAINS)
    assert list(means) == ["clip_dr"]
    np.testing.assert_allclose(means["clip_dr"], (A + B) / 2, atol=1e-6)


def test_similarity_figure_prints_the_matrix():
    swapped = B.copy()
    swapped[4, [0, 1]] = B[4, 0] + 0.1, B[4, 1]
    runs = [run(m, d, x) for m, d, x in (("clip_dr", "SIM_APTOS", A), ("clip_dr", "SIM_IDRID", B), ("ordinal_clip", "SIM_APTOS", swapped))]
    figure = similarity([*runs, run("ordinal_clip", "SIM_IDRID", swapped)], ["ordinal_clip", "clip_dr"], DOMAINS)
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["ordinal_clip", "clip_dr"]
    for axis, matrix in zip(panels, (swapped, (A + B) / 2), strict=True):
        assert [text.get_text() for text in axis.texts] == [f"{value:.3f}" for value in matrix.ravel()]
        assert axis.get_ylabel() == "true grade" and axis.yaxis_inverted()
    assert [axis.get_xlabel().splitlines()[1] for axis in panels] == [f"misordered adjacent pairs: {n} of 20" for n in (1, 0)]
    assert len({axis.collections[0].get_clim() for axis in panels}) == 1
    assert figure.get_suptitle().startswith("SYNTHETIC images")


def test_similarity_prints_na_for_an_undefined_cell():
    predictions = run("clip_dr", "IDRID", A)
    figure = similarity([predictions[predictions["grade"] != 3]], ["clip_dr"], ["IDRID"])
    assert sorted(text.get_text() for text in figure.axes[0].texts).count("n/a") == 5
    assert "SYNTHETIC" not in figure.get_suptitle()


def test_similarity_without_runs_or_texts_is_refused():
    with pytest.raises(DataError, match="compares images with texts"):
        similarity([run("erm", "SIM_APTOS", A, scale=np.nan)], ["erm"], DOMAINS)
    with pytest.raises(DataError, match="clip_dr was not run on SIM_IDRID"):
        similarity([run("clip_dr", "SIM_APTOS", A)], ["clip_dr"], DOMAINS)


def test_scores_by_domain_draws_means_and_intervals():
    frame = averages({"erm": (0.7, None), "clip_dr": (0.9, np.nan)})
    figure = scores_by_domain(frame, ["erm", "clip_dr"], DOMAINS)
    auc, qwk = figure.axes
    assert (auc.get_ylabel(), qwk.get_ylabel()) == ("AUC (%)", "QWK (%)")
    assert [text.get_text().replace("\n", "") for text in qwk.get_xticklabels()] == [*DOMAINS, "average"]
    erm, clip_dr = auc.containers
    np.testing.assert_allclose(erm.lines[0].get_ydata(), [70])
    np.testing.assert_allclose(clip_dr.lines[0].get_ydata(), [90, np.nan, np.nan])
    np.testing.assert_allclose(erm.lines[2][0].get_segments()[0][:, 1], [65, 74])
    assert erm.lines[0].get_color() != clip_dr.lines[0].get_color() and erm.lines[0].get_marker() != clip_dr.lines[0].get_marker()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["erm", "clip_dr"]
    assert figure.get_suptitle().startswith("SYNTHETIC images") and qwk.get_xlabel() == ""


def test_intervals_by_image_are_marked():
    figure = scores_by_domain(averages({"erm": (0.7, 0.6)}, ["A", "B"], unit="image"), ["erm"], ["A", "B"])
    assert [text.get_text() for text in figure.axes[-1].get_xticklabels()] == ["A*", "B*", "average*"]
    assert "too narrow" in figure.axes[-1].get_xlabel()
    assert "SYNTHETIC" not in figure.get_suptitle()


def test_scores_of_two_protocols_are_refused():
    with pytest.raises(DataError, match="several protocols"):
        scores_by_domain(pd.concat([averages(), averages(protocol="esdg")]), ["erm"], DOMAINS)


def test_equal_numbers_give_equal_files(tmp_path):
    assert list(FIGURES) == list(READS) == ["similarity", "scores_by_domain"]
    sources = {"predictions": [run("clip_dr", d, A) for d in DOMAINS], "averages": averages()}
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name, draw in FIGURES.items():
            write(draw(sources[READS[name]], ["clip_dr"], DOMAINS), name, tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["scores_by_domain.pdf", "scores_by_domain.png", "similarity.pdf", "similarity.png"]
    for name in files:
        first = (tmp_path / "a" / name).read_bytes()
        assert first == (tmp_path / "b" / name).read_bytes()
        assert b"CreationDate" not in first
