"""Mean similarity matrix of each method over the held-out domains (Yu et al., 2024, fig. 3).

Input: predictions of the runs. Output: panels side by side, one per method with texts, on one colour scale.
"""

from clipdr.evaluation.similarity import images, limits, matrices, mean, verdict
from clipdr.report.figures.similarity_panel import colour_bar, panel, read
from clipdr.report.figures.style import WIDTH, domain_kind, style, suptitle

TITLE = "Mean similarity of images and texts"
CAPTION = (
    "Mean cosine of the test images of each true grade with the text of each grade, "
    "averaged over the held-out domains."
)
SECTION = "similarity"
PER_IMAGE = False
COUNTED = True
USES_METHODS = True

__all__ = ["plot", "read"]


def plot(runs, methods, domains):
    """One panel per method: mean cosine by true grade (rows) and text (columns). runs: as `similarities.matrices`"""
    from matplotlib.figure import Figure

    means = {
        method: mean(by_domain) for method, by_domain in matrices(runs, methods, domains).items()
    }
    columns = min(len(means), 2)
    rows = -(-len(means) // columns)
    with style():
        figure = Figure(
            figsize=(WIDTH * (0.1 + 0.45 * columns), 2.5 * rows + 0.2), layout="constrained"
        )
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis in axes.flat[len(means) :]:
            axis.set_visible(False)
        for axis, (method, matrix) in zip(axes.flat, means.items(), strict=False):
            panel(axis, matrix, limits(means.values()), "{:.3f}".format)
            axis.set_title(method)
            axis.set_xlabel(f"grade of the text\n{verdict(matrix)}")
            axis.set_ylabel("true grade")
        colour_bar(figure, axes, shrink=0.7, aspect=18, pad=0.02)
        over = f"mean of {len(domains)} {domain_kind(domains)}{'s' if len(domains) > 1 else ''}, n = {sum(images(runs, methods, domains).values())}"
        suptitle(figure, domains, over, "\n" if columns == 1 else " ")
    return figure
