"""Similarity matrix of each method on each held-out domain, and their mean.

Input: predictions of the runs. Output: per method a block of panels, all on one colour scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipdr.evaluation.similarity import images, limits, matrices, mean, verdict
from clipdr.report.figures import similarity_panel
from clipdr.report.figures.similarity_panel import colour_bar, panel
from clipdr.report.figures.style import (
    WIDE,
    domain_kind,
    domain_label,
    figure_style,
    set_domains_title,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Similarity of images and texts by domain"
CAPTION = (
    "Mean cosine of the test images of each true grade with the text of each grade, per "
    "held-out domain."
)
SECTION = "similarity"
PER_IMAGE = False
COUNTED = True
USES_METHODS = True

COLUMNS = 4  # panels side by side
MEAN = "mean"

read = similarity_panel.read


def plot(runs: Sequence[pd.DataFrame], methods: Sequence[str], domains: Sequence[str]) -> Figure:
    """Plot mean cosine x 100 by true grade (rows) and text (columns), a panel per domain.

    Args:
        runs: As `read` returns them.
        methods: Methods, in the order of the blocks; those without texts have none.
        domains: Held-out domains, in the order of the panels.

    Raises:
        DataError: As `clipdr.evaluation.similarity.matrices`.
    """
    from matplotlib.figure import Figure

    by_method = {
        method: by_domain | {MEAN: mean(by_domain)}
        for method, by_domain in matrices(runs, methods, domains).items()
    }
    count = images(runs, methods, domains)
    ends = limits([matrix for by_domain in by_method.values() for matrix in by_domain.values()])
    rows = -(-(len(domains) + 1) // COLUMNS)
    with figure_style():
        size = (WIDE, (2.15 * rows + 0.25) * len(by_method) + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        blocks = figure.subfigures(len(by_method), 1, squeeze=False)[:, 0]
        for block, (method, by_domain) in zip(blocks, by_method.items(), strict=True):
            axes = block.subplots(rows, COLUMNS, squeeze=False)
            for axis in axes.flat[len(by_domain) :]:
                axis.set_visible(False)
            for index, (axis, (name, matrix)) in enumerate(
                zip(axes.flat, by_domain.items(), strict=False)
            ):
                panel(axis, matrix, ends, lambda value: f"{100 * value:.1f}")
                axis.set_title(f"{domain_label(name)} (n={count[name]})" if name in count else name)
                lowest = index >= len(by_domain) - COLUMNS
                axis.set_xlabel(("grade of the text\n" if lowest else "") + verdict(matrix))
                axis.set_ylabel("true grade" if index % COLUMNS == 0 else "")
            colour_bar(block, axes, shrink=0.6, aspect=25, pad=0.01)
            block.suptitle(f"{method}: cosine x 100", fontsize=8, fontweight="bold")
        set_domains_title(
            figure, domains, f"similarity of images and texts by {domain_kind(domains)}"
        )
    return figure
