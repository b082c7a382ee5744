"""Figure of similarity matrices by domain."""

from helpers.figure_cases import A, B, similarity_run
from helpers.report_cases import DOMAINS

from clipdr.report.figures import (
    similarity_by_domain,
)


def test_similarity_by_domain_plots_each_domain_and_the_mean():
    runs = [similarity_run("clip_dr", "SIM_APTOS", A), similarity_run("clip_dr", "SIM_IDRID", B)]
    figure = similarity_by_domain.plot(runs, ["clip_dr"], DOMAINS)
    panels = [axis for axis in figure.subfigs[0].axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["SIM_APTOS (n=10)", "SIM_IDRID (n=10)", "mean"]
    assert [text.get_text() for text in panels[2].texts] == [
        f"{100 * value:.1f}" for value in ((A + B) / 2).ravel()
    ]
    assert "ordinal rows: 5 of 5" in panels[0].get_xlabel()
