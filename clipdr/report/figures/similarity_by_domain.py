"""Similarity matrix of each method on each held-out domain, and their mean.

Input: predictions of the runs. Output: per method a block of panels, all on one colour scale.
"""

from clipdr.evaluation.similarity import images, limits, matrices, mean, verdict
from clipdr.report.figures.similarity_panel import colour_bar, panel, read
from clipdr.report.figures.style import WIDE, domain_kind, domain_label, style, suptitle

TITLE = "Similarity of images and texts by domain"
CAPTION = (
    "Mean cosine of the test images of each true grade with the text of each grade, per "
    "held-out domain."
)
SECTION = "similarity"
PER_IMAGE = False
COUNTED = True
USES_METHODS = True

__all__ = ["plot", "read"]
COLUMNS = 4  # panels side by side
MEAN = "mean"


def plot(runs, methods, domains):
    """Panels: mean cosine x 100 by true grade (rows) and text (columns). runs: as `similarities.matrices`"""
    from matplotlib.figure import Figure

    found = {
        method: by_domain | {MEAN: mean(by_domain)}
        for method, by_domain in matrices(runs, methods, domains).items()
    }
    count = images(runs, methods, domains)
    ends = limits([matrix for by_domain in found.values() for matrix in by_domain.values()])
    rows = -(-(len(domains) + 1) // COLUMNS)
    with style():
        figure = Figure(
            figsize=(WIDE, (2.15 * rows + 0.25) * len(found) + 0.3), layout="constrained"
        )
        blocks = figure.subfigures(len(found), 1, squeeze=False)[:, 0]
        for block, (method, by_domain) in zip(blocks, found.items(), strict=True):
            axes = block.subplots(rows, COLUMNS, squeeze=False)
            for axis in axes.flat[len(by_domain) :]:
                axis.set_visible(False)
            for place, (axis, (name, matrix)) in enumerate(
                zip(axes.flat, by_domain.items(), strict=False)
            ):
                panel(axis, matrix, ends, lambda value: f"{100 * value:.1f}")
                axis.set_title(f"{domain_label(name)} (n={count[name]})" if name in count else name)
                axis.set_xlabel(
                    ("grade of the text\n" if place >= len(by_domain) - COLUMNS else "")
                    + verdict(matrix)
                )
                axis.set_ylabel("true grade" if place % COLUMNS == 0 else "")
            colour_bar(block, axes, shrink=0.6, aspect=25, pad=0.01)
            block.suptitle(f"{method}: cosine x 100", fontsize=8, fontweight="bold")
        suptitle(figure, domains, f"similarity of images and texts by {domain_kind(domains)}")
    return figure
