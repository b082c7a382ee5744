"""Figure of mean similarity matrices."""

import numpy as np
import pytest
from helpers.figure_cases import A, B, similarity_run
from helpers.report_cases import DOMAINS

from clipdr import DataError
from clipdr.artifacts.run_folder import first_seed
from clipdr.report.figures import (
    similarity,
)


def test_similarity_figure_prints_the_matrix():
    swapped = B.copy()
    swapped[4, [0, 1]] = B[4, 0] + 0.1, B[4, 1]
    runs = [
        similarity_run(m, d, x)
        for m, d, x in (
            ("clip_dr", "SIM_APTOS", A),
            ("clip_dr", "SIM_IDRID", B),
            ("ordinal_clip", "SIM_APTOS", swapped),
        )
    ]
    figure = similarity.plot(
        [*runs, similarity_run("ordinal_clip", "SIM_IDRID", swapped)],
        ["ordinal_clip", "clip_dr"],
        DOMAINS,
    )
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["ordinal_clip", "clip_dr"]
    for axis, matrix in zip(panels, (swapped, (A + B) / 2), strict=True):
        assert [text.get_text() for text in axis.texts] == [
            f"{value:.3f}" for value in matrix.ravel()
        ]
        assert axis.get_ylabel() == "true grade"
        assert axis.yaxis_inverted()
    assert [axis.get_xlabel().splitlines()[1:] for axis in panels] == [
        [f"ordinal rows: {5 - n} of 5", f"misordered pairs: {n} of 20"] for n in (1, 0)
    ]
    assert len({axis.collections[0].get_clim() for axis in panels}) == 1
    assert figure.get_suptitle().startswith("SYNTHETIC images")


def test_similarity_figure_prints_na_for_an_undefined_cell():
    predictions = similarity_run("clip_dr", "IDRID", A)
    figure = similarity.plot([predictions[predictions["grade"] != 3]], ["clip_dr"], ["IDRID"])
    assert sorted(text.get_text() for text in figure.axes[0].texts).count("n/a") == 5
    assert "SYNTHETIC" not in figure.get_suptitle()


def test_similarity_figure_without_runs_or_texts_is_refused():
    with pytest.raises(DataError, match="compares images with texts"):
        similarity.plot([similarity_run("erm", "SIM_APTOS", A, scale=np.nan)], ["erm"], DOMAINS)
    with pytest.raises(DataError, match="clip_dr was not run on SIM_IDRID"):
        similarity.plot([similarity_run("clip_dr", "SIM_APTOS", A)], ["clip_dr"], DOMAINS)


def test_first_seed_keeps_the_lowest_seed_of_each_run():
    folders = [
        f"r/dg/{method}/{domain}/{seed}" for method in "ab" for domain in "XY" for seed in (10, 2)
    ]
    assert [str(path) for path in first_seed(folders)] == [
        f"r/dg/{method}/{domain}/2" for method in "ab" for domain in "XY"
    ]
