"""Mean similarity matrix of each method over the held-out domains (Yu et al., 2024, fig. 3).

Input: predictions of the runs. Output: panels side by side, one per method with texts, on one
colour scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipdr.evaluation.similarity import images, limits, matrices, mean, verdict
from clipdr.report.figures import similarity_panel
from clipdr.report.figures.similarity_panel import colour_bar, panel
from clipdr.report.figures.style import WIDTH, domain_kind, figure_style, set_domains_title

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Mean similarity of images and texts"
CAPTION = (
    "Mean cosine of the test images of each true grade with the text of each grade, "
    "averaged over the held-out domains."
)
SECTION = "similarity"
PER_IMAGE = False
COUNTED = True
USES_METHODS = True

read = similarity_panel.read


def plot(runs: Sequence[pd.DataFrame], methods: Sequence[str], domains: Sequence[str]) -> Figure:
    """Plot one panel per method: mean cosine by true grade (rows) and text (columns).

    Args:
        runs: As `read` returns them.
        methods: Methods, in the order of the panels; those without texts have none.
        domains: Held-out domains.

    Raises:
        DataError: As `clipdr.evaluation.similarity.matrices`.
    """
    from matplotlib.figure import Figure

    means = {
        method: mean(by_domain) for method, by_domain in matrices(runs, methods, domains).items()
    }
    columns = min(len(means), 2)
    rows = -(-len(means) // columns)
    with figure_style():
        size = (WIDTH * (0.1 + 0.45 * columns), 2.5 * rows + 0.2)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis in axes.flat[len(means) :]:
            axis.set_visible(False)
        for axis, (method, matrix) in zip(axes.flat, means.items(), strict=False):
            panel(axis, matrix, limits(means.values()), "{:.3f}".format)
            axis.set_title(method)
            axis.set_xlabel(f"grade of the text\n{verdict(matrix)}")
            axis.set_ylabel("true grade")
        colour_bar(figure, axes, shrink=0.7, aspect=18, pad=0.02)
        kind = domain_kind(domains) + ("s" if len(domains) > 1 else "")
        count = sum(images(runs, methods, domains).values())
        title = f"mean of {len(domains)} {kind}, n = {count}"
        set_domains_title(figure, domains, title, "\n" if columns == 1 else " ")
    return figure
